//! Tables as Docker prints them: columns at least ten wide, three spaces apart, the last one as long as it is.

pub use crate::sys::errors::printable;
use std::fmt::Write;

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Rows of cells; a header is a row like any other.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row. Control characters of its cells are shown as escapes.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// The table as text, with a newline after every line.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for cells in &self.rows {
            for (column, cell) in cells.iter().enumerate().take(cells.len().saturating_sub(1)) {
                let width = cell.chars().count() + PADDING;
                match widths.get_mut(column) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width.max(MIN_WIDTH)),
                }
            }
        }
        let mut out = String::new();
        for cells in &self.rows {
            if let Some((last, padded)) = cells.split_last() {
                for (cell, width) in padded.iter().zip(&widths) {
                    // Writing to a string cannot go wrong.
                    let _ = write!(out, "{cell:<width$}");
                }
                out.push_str(last);
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_string()).collect()
    }

    #[test]
    fn layout() {
        let mut table = Table::default();
        table.row(strings(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]));
        assert_eq!(table.render(), "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
        table.row(strings(&["centos", "latest", "5d0da3dc9764", "6 months ago", "231MB"]));
        let expected = "REPOSITORY   TAG       IMAGE ID       CREATED        SIZE\n\
                        centos       latest    5d0da3dc9764   6 months ago   231MB\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn volumes_and_empty_last_column() {
        let mut table = Table::default();
        table.row(strings(&["DRIVER", "VOLUME NAME"]));
        table.row(strings(&["local", ""]));
        assert_eq!(table.render(), "DRIVER    VOLUME NAME\nlocal     \n");
        let mut bare = Table::default();
        bare.row(strings(&["a", "é", "c"]));
        bare.row(strings(&["only"]));
        bare.row(Vec::new());
        assert_eq!(bare.render(), "a         é         c\nonly\n\n");
    }

    #[test]
    fn hostile_cells() {
        for (raw, shown) in [
            ("a\tb\nc", "a\\tb\\nc"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("naïve 漢字", "naïve 漢字"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}txt", "\\u{202e}txt"),
        ] {
            assert_eq!(printable(raw), shown);
        }
    }

    proptest! {
        #[test]
        fn a_row_is_one_line(rows in prop::collection::vec(prop::collection::vec(any::<String>(), 0..4), 0..4)) {
            let mut table = Table::default();
            table.row(strings(&["A", "B"]));
            let count = rows.len();
            rows.into_iter().for_each(|row| table.row(row));
            prop_assert_eq!(table.render().lines().count(), count + 1);
        }
    }
}
