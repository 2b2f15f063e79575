//! Columns of text.

use std::time::SystemTime;

use super::row::{Count, Row, UNKNOWN, short_duration};

const GAP: &str = "   ";

/// One line a session.
pub(super) fn sessions(rows: &[Row], now: SystemTime) -> Vec<String> {
    let cells = rows.iter().map(|row| {
        [
            row.server.namespace.clone(),
            row.server.name.clone(),
            row.short(),
            row.pod().unwrap_or(UNKNOWN).to_owned(),
            row.age(now).map_or_else(|| UNKNOWN.to_owned(), short_duration),
            row.session.expires_in.map_or_else(|| UNKNOWN.to_owned(), short_duration),
        ]
    });
    aligned(["NAMESPACE", "SERVER", "SESSION", "POD", "AGE", "EXPIRES IN"], cells)
}

/// One line a pod.
pub(super) fn pods(counts: &[Count]) -> Vec<String> {
    let cells = counts.iter().map(|count| {
        [
            count.server.namespace.clone(),
            count.server.name.clone(),
            count.pod.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            count.sessions.to_string(),
        ]
    });
    aligned(["NAMESPACE", "SERVER", "POD", "SESSIONS"], cells)
}

/// A header and rows, each column as wide as its widest cell. All cells are ASCII.
fn aligned<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let all: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    all.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
            cells.join(GAP).trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::row::counts;
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [row("a-long-name", "1", Some("a-long-name-0")), row("web", "2", None)];
        let now = UNIX_EPOCH + Duration::from_secs(1090);
        let (one, other) = (rows[0].short(), rows[1].short());
        assert_eq!(
            sessions(&rows, now),
            [
                "NAMESPACE   SERVER        SESSION    POD             AGE     EXPIRES IN".to_owned(),
                format!("shop        a-long-name   {one}   a-long-name-0   1m30s   1m"),
                format!("shop        web           {other}   ?               ?       1m"),
            ]
        );
        assert_eq!(
            pods(&counts(&rows)),
            [
                "NAMESPACE   SERVER        POD             SESSIONS",
                "shop        a-long-name   a-long-name-0   1",
                "shop        web           ?               1",
            ]
        );
    }
}
