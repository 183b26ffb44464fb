//! Rows for people: a Markdown table, as `docs/benchmarks.md` has it.

use super::row::{Better, Row};

const HEAD: [&str; 9] = ["row", "value", "better", "peer", "peer's value", "ratio", "n", "p95", "p99"];

pub fn of(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<_> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let rule = format!("|{}|\n", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    let mut text: Vec<_> = lines.iter().map(|line| aligned(line, &widths)).collect();
    text.insert(1, rule);
    text.concat()
}

fn cells(row: &Row) -> [String; 9] {
    let better = match row.better {
        Better::Lower => "lower",
        Better::Higher => "higher",
    };
    let or_none = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let peer = row.peer.clone().unwrap_or_else(|| "–".to_owned());
    let value = format!("{} {}", row.value, row.unit);
    let (peer_value, ratio) = (or_none(row.peer_value), or_none(row.ratio));
    let (n, p95, p99) = (row.n.to_string(), row.p95.to_string(), row.p99.to_string());
    [row.name.clone(), value.trim_end().to_owned(), better.to_owned(), peer, peer_value, ratio, n, p95, p99]
}

fn aligned(line: &[String; 9], widths: &[usize]) -> String {
    let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} ")).collect();
    format!("|{}|\n", cells.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Samples;

    #[test]
    fn a_table_can_be_read_and_pasted() {
        let rows = [
            r#"{"name":"log.c1","unit":"/s","better":"higher","samples":[5000],"peer":"raw","peer_samples":[4000]}"#,
            r#"{"name":"load","unit":"","better":"lower","samples":[0.5]}"#,
        ];
        let rows = rows.map(|said| Row::of(&serde_json::from_str::<Samples>(said).unwrap(), "m").unwrap());
        let expected = "\
| row    | value   | better | peer | peer's value | ratio | n | p95  | p99  |
|--------|---------|--------|------|--------------|-------|---|------|------|
| log.c1 | 5000 /s | higher | raw  | 4000         | 1.25  | 1 | 5000 | 5000 |
| load   | 0.5     | lower  | –    | –            | –     | 1 | 0.5  | 0.5  |
";
        assert_eq!(of(&rows), expected);
    }
}
