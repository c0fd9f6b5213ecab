//! Columns that line up.

use std::io::{self, Write};

use super::{Colour, Style, plain};

/// Between two columns.
const GAP: &str = "  ";

/// Rows below a header. Cells are escaped when they come in; the last column is not padded.
pub(crate) struct Table {
    header: &'static [&'static str],
    rows: Vec<Vec<(String, Option<Colour>)>>,
}

impl Table {
    pub(crate) fn new(header: &'static [&'static str]) -> Self {
        Self { header, rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [(String, Option<Colour>); N]) {
        debug_assert_eq!(N, self.header.len());
        self.rows.push(cells.into_iter().map(|(text, colour)| (plain(&text).into_owned(), colour)).collect());
    }

    pub(crate) fn write(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].0.chars().count());
            cells.chain([self.header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        let header = self.header.iter().map(|name| (*name, Some(Colour::Dim)));
        line(out, style, header, &widths)?;
        for row in &self.rows {
            line(out, style, row.iter().map(|(text, colour)| (text.as_str(), *colour)), &widths)?;
        }
        Ok(())
    }
}

fn line<'a>(
    out: &mut impl Write,
    style: Style,
    cells: impl ExactSizeIterator<Item = (&'a str, Option<Colour>)>,
    widths: &[usize],
) -> io::Result<()> {
    let last = cells.len() - 1;
    for (column, (text, colour)) in cells.enumerate() {
        let padding = if column == last { 0 } else { widths[column] - text.chars().count() };
        let painted = colour.map_or_else(|| text.to_owned(), |colour| style.paint(colour, text));
        let gap = if column == last { "" } else { GAP };
        write!(out, "{painted}{:padding$}{gap}", "")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_cells_are_escaped() {
        let mut table = Table::new(&["A", "LONG", "C"]);
        table.row([("äöü".into(), None), ("x".into(), Some(Colour::Red)), ("end".into(), None)]);
        table.row([("\x1b".into(), None), ("y".into(), None), ("e".into(), None)]);
        let mut out = Vec::new();
        table.write(&mut out, Style::none()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A       LONG  C\näöü     x     end\n\\u{1b}  y     e\n");
    }
}
