//! A table of words, as wide as its longest words.

use crate::screen::{Mood, Screen};

/// Its rows have as many cells as its head.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut table = Self { rows: Vec::new() };
        table.row(head);
        table
    }

    pub(crate) fn row(&mut self, cells: &[&str]) {
        let cells = cells.iter().map(|cell| (*cell).to_owned());
        self.rows.push(cells.collect());
    }

    pub(crate) fn show(&self, screen: &Screen) -> anyhow::Result<()> {
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                let gap = self.width(column) + 3 - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', gap));
            }
            let line = line.trim_end();
            match number {
                0 => screen.line(&screen.paint(Mood::Faint, line))?,
                _ => screen.line(line)?,
            }
        }
        Ok(())
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}
