//! What a bench says in the end: tables for people and, as the last line of stdout, one JSON object
//! for programs.
//!
//! ```text
//! stdout   where it was measured · tables · {"bench": …, keys …, "context": {…}}
//! --output                                  the same JSON object
//! ```
//!
//! The keys of each bench are listed in the README and never change their meaning.

use std::{fs, io::Write, path::Path};

use anyhow::Context as _;
use comfy_table::{CellAlignment, presets::NOTHING};
use serde_json::{Map, Value, json};

use crate::machine::Machine;

/// Figures and tables of one run.
#[derive(Debug)]
pub(crate) struct Report {
    bench: &'static str,
    figures: Map<String, Value>,
    tables: Vec<Table>,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self {
            bench,
            figures: Map::new(),
            tables: Vec::new(),
            notes: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// A measured number, rounded to four decimals.
    pub(crate) fn number(&mut self, key: &str, value: f64) {
        self.value(key, rounded(value));
    }

    pub(crate) fn count(&mut self, key: &str, value: u64) {
        self.value(key, json!(value));
    }

    /// Anything else. A key is given once.
    pub(crate) fn value(&mut self, key: &str, value: Value) {
        let before = self.figures.insert(key.to_owned(), value);
        assert!(before.is_none(), "key {key} is reported once");
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// A sentence below the tables.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Something that must not be: it is printed, and the program exits non-zero.
    pub(crate) fn failure(&mut self, failure: impl Into<String>) {
        self.failures.push(failure.into());
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Writes everything to `out` and the JSON object to the file `output` as well.
    pub(crate) fn print(
        &self,
        machine: &Machine,
        out: &mut impl Write,
        output: Option<&Path>,
    ) -> anyhow::Result<()> {
        let line = self.json(machine).to_string();
        writeln!(out, "memorygate-bench {} · {machine}", self.bench)?;
        for table in &self.tables {
            writeln!(out, "\n{}", table.text())?;
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        for failure in &self.failures {
            writeln!(out, "\nfailed: {failure}")?;
        }
        writeln!(out, "\n{line}")?;
        out.flush()?;
        if let Some(path) = output {
            fs::write(path, format!("{line}\n"))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn json(&self, machine: &Machine) -> Value {
        let mut object = self.figures.clone();
        object.insert("bench".to_owned(), json!(self.bench));
        object.insert("context".to_owned(), machine.json());
        Value::Object(object)
    }
}

/// A number as it goes into the JSON object: four decimals, as nothing here is measured finer.
pub(crate) fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}

/// A caption, a header and rows. The first column is text, the others are numbers.
#[derive(Debug)]
pub(crate) struct Table {
    caption: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(caption: impl Into<String>, header: [&str; N]) -> Self {
        Self {
            caption: caption.into(),
            header: header.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// Panics unless the row is as long as the header.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(
            cells.len(),
            self.header.len(),
            "a row has a cell for each column"
        );
        self.rows.push(cells);
    }

    fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_preset(NOTHING)
            .set_header(&self.header)
            .add_rows(&self.rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
        format!("{}\n{}", self.caption, lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("quality");
        report.number("recall_at_10", 0.812_345_6);
        report.count("questions", 997);
        let mut table = Table::new("By retriever", ["retriever", "recall@10"]);
        table.row(["vector".to_owned(), ".466".to_owned()]);
        table.row(["full".to_owned(), ".8123".to_owned()]);
        report.table(table);
        report
    }

    fn printed(report: &Report, output: Option<&Path>) -> String {
        let mut out = Vec::new();
        report.print(&Machine::example(), &mut out, output).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_line_is_one_json_object_with_the_keys() {
        let text = printed(&report(), None);
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["bench"], "quality");
        assert_eq!(last["recall_at_10"], 0.8123);
        assert_eq!(last["questions"], 997);
        assert_eq!(last["context"]["cores"], 2);
    }

    #[test]
    fn tables_read_well_and_come_first() {
        let text = printed(&report(), None);
        assert!(
            text.starts_with(
                "memorygate-bench quality · 2 cores, Example CPU, 4096 MiB memory, Linux 6.1, load 0.25, \
                 commit abc1234\n\n\
                 By retriever\n \
                 retriever  recall@10\n \
                 vector          .466\n \
                 full           .8123\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_output_file_holds_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quality.json");
        let text = printed(&report(), Some(&path));
        assert_eq!(
            fs::read_to_string(path).unwrap().trim_end(),
            text.lines().last().unwrap()
        );
    }

    #[test]
    fn failures_are_printed_before_the_last_line() {
        let mut report = report();
        report.failure("3 acknowledged memories are lost");
        assert_eq!(report.failures().len(), 1);
        let text = printed(&report, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[lines.len() - 3],
            "failed: 3 acknowledged memories are lost"
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let path = Path::new("/nowhere/at/all.json");
        let error = report()
            .print(&Machine::example(), &mut Vec::new(), Some(path))
            .unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/at/all.json"),
            "{error}"
        );
    }
}
