//! Medians and percentiles.

/// The value below which `share` (0 to 1) of the values lie; 0 where there are none. Sorts.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    // Truncation is wanted, and the index is within the slice.
    let index = ((last as f64) * share).round() as usize;
    values.get(index).copied().unwrap_or_default()
}

/// The median; 0 where there are no values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    percentile(&mut values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_whatever_the_order() {
        assert_eq!(median([9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn percentiles_reach_both_ends() {
        let mut values: Vec<f64> = (1..=101).map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.0), 1.0);
        assert_eq!(percentile(&mut values, 0.99), 100.0);
        assert_eq!(percentile(&mut values, 1.0), 101.0);
    }
}
