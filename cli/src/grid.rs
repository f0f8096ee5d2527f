//! Tables in text: columns as wide as their widest cell, and the grid of a matrix.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Rows of cells, two spaces between the columns.
pub(crate) fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.as_ref().get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Clients down, servers across; a cell holds the marks of its results (client, server, mark) in their order. A pod that is the
/// client of no result has no row.
pub(crate) fn matrix<'a>(pods: &'a [String], results: impl Iterator<Item = (&'a str, &'a str, String)>) -> String {
    let mut cells: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (from, to, mark) in results {
        cells.entry((from, to)).or_default().push(mark);
    }
    let mut rows = vec![vec!["FROM \\ TO".to_owned()]];
    rows[0].extend(pods.iter().cloned());
    for from in pods.iter().filter(|from| cells.keys().any(|(client, _)| client == from)) {
        let mut row = vec![from.clone()];
        row.extend(pods.iter().map(|to| cells.get(&(from, to)).map_or(String::new(), |marks| marks.join(" "))));
        rows.push(row);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_down_and_servers_across() {
        let pods = ["a".to_owned(), "bbb".to_owned()];
        let results =
            [("a", "a", "+80"), ("a", "bbb", "-80"), ("a", "bbb", "+81")].map(|(f, t, m)| (f, t, m.to_owned()));
        let expected = "FROM \\ TO  a    bbb\na          +80  -80 +81\n";
        assert_eq!(matrix(&pods, results.into_iter()), expected);
    }
}
