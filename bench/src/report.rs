//! What a benchmark tells: a table with a row per figure and a column per program, as Markdown.

use std::fmt;
use std::path::PathBuf;

/// A table of figures.
#[derive(Debug, Default)]
pub struct Report {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Report {
    /// A table: what the rows are, then the programs, ours first.
    pub fn new(head: &[&str]) -> Report {
        Report { head: head.iter().map(|cell| (*cell).to_owned()).collect(), ..Report::default() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for (at, row) in all().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                write!(f, "| {:<width$} ", row.get(column).map_or("", String::as_str))?;
            }
            writeln!(f, "|")?;
            if at == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let mark = if column == 0 { "-" } else { ":" };
                    write!(f, "|{}{mark}", "-".repeat(width + 1))?;
                }
                writeln!(f, "|")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// Puts a table between the marks of its benchmark in BENCHMARKS.md.
pub fn write(name: &str, table: &str) -> Result<(), String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.parent().unwrap_or(&root).join("BENCHMARKS.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let written = replace(&page, name, table)
        .ok_or_else(|| format!("{} has no marks <!-- {name} --> … <!-- /{name} -->", path.display()))?;
    std::fs::write(&path, written).map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(page: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_and_is_put_between_its_marks() {
        let mut report = Report::new(&["", "ours", "theirs"]);
        report.row(["CPU", "1 µs", "2 µs"]);
        report.note("Quiet machine.");
        let text = report.to_string();
        assert_eq!(
            text,
            "|     | ours | theirs |\n|-----|-----:|-------:|\n| CPU | 1 µs | 2 µs   |\n\nQuiet machine.\n"
        );
        let page = "# A\n<!-- api -->\nold\n<!-- /api -->\nB\n";
        assert_eq!(replace(page, "api", "new\n").unwrap(), "# A\n<!-- api -->\n\nnew\n\n<!-- /api -->\nB\n");
        assert_eq!(replace(page, "run", "new"), None);
    }
}
