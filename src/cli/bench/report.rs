//! What a measurement comes to: a table in Markdown, which terminals show as well, or the same as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

/// A column: its name in the JSON, its heading in the table, and how many decimals its numbers have there.
pub type Column = (&'static str, &'static str, usize);

pub struct Report {
    name: &'static str,
    columns: &'static [Column],
    rows: Vec<Vec<Json>>,
}

impl Report {
    pub fn new(name: &'static str, columns: &'static [Column]) -> Report {
        Report { name, columns, rows: Vec::new() }
    }

    /// Adds a row with one value for each column.
    pub fn add(&mut self, row: Vec<Json>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// One JSON object on one line.
    pub fn json(&self) -> String {
        let row = |row: &Vec<Json>| -> Map<String, Json> {
            self.columns.iter().zip(row).map(|((key, ..), value)| ((*key).to_owned(), value.clone())).collect()
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        format!("{}\n", json!({ "bench": self.name, "rows": rows }))
    }

    pub fn markdown(&self) -> String {
        let mut lines: Vec<Vec<String>> = vec![self.columns.iter().map(|(_, heading, _)| (*heading).into()).collect()];
        let cells = |row: &Vec<Json>| {
            let cell = |((.., decimals), value): (&Column, &Json)| match value {
                Json::Number(number) if number.is_f64() => {
                    grouped(&format!("{:.*}", *decimals, number.as_f64().unwrap_or(0.0)))
                }
                Json::Number(number) => grouped(&number.to_string()),
                Json::String(text) => text.clone(),
                // it does not apply
                Json::Null => "-".to_owned(),
                other => other.to_string(),
            };
            self.columns.iter().zip(row).map(cell).collect()
        };
        lines.extend(self.rows.iter().map(cells));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        for (n, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                // writing to a String cannot fail
                let _ = write!(out, "| {cell:>width$} ");
            }
            out.push_str("|\n");
            if n == 0 {
                for width in &widths {
                    let _ = write!(out, "| {}: ", "-".repeat(width.saturating_sub(1)));
                }
                out.push_str("|\n");
            }
        }
        out
    }
}

/// A number with a comma after each three digits before the point.
fn grouped(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut out = String::with_capacity(number.len() + 4);
    for (at, digit) in number.char_indices() {
        if at > 0 && at < whole && (whole - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("fanout", &[("transport", "transport", 0), ("rate", "deliveries/s", 1)]);
        report.add(vec!["sse".into(), 1_234_567.26.into()]);
        report.add(vec!["ws".into(), 12.into()]);
        report
    }

    #[test]
    fn the_table_is_markdown_with_aligned_columns() {
        let lines = [
            "| transport | deliveries/s |",
            "| --------: | -----------: |",
            "|       sse |  1,234,567.3 |",
            "|        ws |           12 |",
        ];
        assert_eq!(report().markdown().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn the_json_names_each_value() {
        let json: Json = serde_json::from_str(&report().json()).expect("JSON");
        assert_eq!(json["bench"], "fanout");
        assert_eq!(json["rows"][0]["rate"], 1_234_567.26);
        assert_eq!(json["rows"][1]["transport"], "ws");
    }
}
