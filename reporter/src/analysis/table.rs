//! The CSV files of `metrics/`: columns of numbers by name. It knows no file and no column.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;

/// Rows that are read; beyond this the rest is ignored and said so.
const ROWS_MAX: usize = 4_000_000;

/// A table; every cell that is empty or no number is NaN in [`Table::number`].
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: HashMap<String, usize>,
    rows: Vec<csv::StringRecord>,
    /// Rows whose number of fields differs from the header's; they are left out. A file that was
    /// cut short while a line was written has one.
    pub bad_rows: usize,
}

impl Table {
    /// Reads a file; one that is absent is an empty table.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| format!("{}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
        }
    }

    /// Reads a text with a header line.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let header = reader.headers()?.clone();
        let columns =
            header.iter().enumerate().map(|(index, name)| (name.to_owned(), index)).collect();
        let mut table = Self { columns, ..Self::default() };
        for row in reader.records().take(ROWS_MAX) {
            match row {
                Ok(row) if row.len() == header.len() => table.rows.push(row),
                Ok(_) | Err(_) => table.bad_rows += 1,
            }
        }
        Ok(table)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A cell as text; empty if the column does not exist.
    pub fn text(&self, row: usize, column: &str) -> &str {
        let cell = self.columns.get(column).and_then(|&index| self.rows.get(row)?.get(index));
        cell.unwrap_or("")
    }

    /// A cell as a number; NaN if there is none.
    pub fn number(&self, row: usize, column: &str) -> f64 {
        self.text(row, column).trim().parse().unwrap_or(f64::NAN)
    }

    /// The time of a row, 0 if it has none.
    pub fn at_ns(&self, row: usize) -> u64 {
        self.text(row, "at_ns").trim().parse().unwrap_or(0)
    }

    /// How much a counter grew between the first and the last row in `[from_ns, to_ns]`; none if
    /// fewer than two rows have it. A counter that fell (a restart) counts from zero again.
    pub fn growth(&self, column: &str, from_ns: u64, to_ns: u64) -> Option<f64> {
        let mut before: Option<f64> = None;
        let mut grown = None;
        for row in 0..self.len() {
            let value = self.number(row, column);
            if value.is_nan() || !(from_ns..=to_ns).contains(&self.at_ns(row)) {
                continue;
            }
            if let Some(before) = before {
                let step = if value >= before { value - before } else { value };
                *grown.get_or_insert(0.0) += step;
            }
            before = Some(value);
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_left_out_and_counted() {
        let table = Table::parse("at_ns,a,b\n1,2,x\n2,,y\n3,4").expect("parses");
        assert_eq!((table.len(), table.bad_rows), (2, 1));
        assert_eq!(table.number(0, "a"), 2.0);
        assert!(table.number(1, "a").is_nan() && table.number(0, "none").is_nan());
        assert_eq!(table.text(1, "b"), "y");
    }

    #[test]
    fn growth_survives_a_restart_and_needs_two_rows() {
        let table = Table::parse("at_ns,n\n1,100\n2,130\n3,5\n4,9\n").expect("parses");
        assert_eq!(table.growth("n", 1, 4), Some(39.0));
        assert_eq!(table.growth("n", 1, 1), None);
        assert_eq!(table.growth("n", 2, 3), Some(5.0));
    }
}
