//! Durations, as users write them.

use std::time::Duration;

/// The longest session lifetime: one year. Longer ones are typing errors.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads `90s`, `1h30m`, `250ms` or a plain number of seconds.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it must be a duration such as 90s, 30m or 1h30m, at most a year".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            // A number alone is seconds, as in every field of Kubernetes whose name ends with Seconds.
            "" if digits == text.len() => 1_000,
            _ => return Err(wrong()),
        };
        let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?);
        total = total.checked_add(part).filter(|sum| *sum <= MAX_DURATION).ok_or_else(wrong)?;
        rest = next;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("0", 0), ("90", 90_000), ("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("2h", 7_200_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "h",
            "1d",
            "1h30",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999s",
            "18446744073709551615h",
            "9999h1ms😀",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_duration_panics(text in "\\PC{0,20}|([0-9]{1,22}(h|m|s|ms)?){1,3}") {
            if let Ok(duration) = parse_duration(&text) {
                proptest::prop_assert!(duration <= MAX_DURATION);
            }
        }
    }
}
