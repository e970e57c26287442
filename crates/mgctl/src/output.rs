//! The one place where `mgctl` writes: results to standard output, everything else to standard
//! error.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, Table, presets};
use memorygate_client::{Mutation, Position, TimeMs, time};
use serde::Serialize;

use crate::{args::Form, style::Style};

pub(crate) struct Output {
    pub(crate) form: Form,
    pub(crate) style: Style,
    /// Ages are told as of this time.
    pub(crate) now: TimeMs,
}

impl Output {
    pub(crate) fn to_terminal(form: Form) -> Self {
        Self {
            form,
            style: Style::of_stdout(),
            now: time::now(),
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    pub(crate) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// A line of text.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")
    }

    /// One JSON document on a line.
    pub(crate) fn json(&self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(document).map_err(io::Error::other)?;
        self.line(&text)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(bytes)
    }

    /// A table with a head; the columns as wide as they must be.
    pub(crate) fn table(&self, head: &[&str], rows: Vec<Vec<Cell>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(head.iter().map(|h| Cell::new(self.style.dim(h))));
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// A remark that is no result.
    pub(crate) fn note(&self, text: &str) {
        // Nobody is there to be told that standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// What a change of one memory did; `done` is what to call it.
    pub(crate) fn mutation(&self, mutation: &Mutation, done: &str) -> io::Result<()> {
        if self.is_json() {
            return self.json(&MutationRecord {
                key: mutation.key.to_string(),
                version: mutation.version,
                changed: mutation.changed,
                position: mutation.position.into(),
            });
        }
        let key = mutation.key;
        match (mutation.changed, mutation.version) {
            (false, _) => self.line(&format!("unchanged {key}: there was nothing to do")),
            (true, 0) => self.line(&format!("{done} {key}")),
            (true, version) => self.line(&format!("{done} {key}, now version {version}")),
        }
    }
}

#[derive(Serialize)]
struct MutationRecord {
    key: String,
    version: u64,
    changed: bool,
    position: PositionRecord,
}

/// A position as JSON.
#[derive(Serialize)]
pub(crate) struct PositionRecord {
    cluster_id: String,
    group: u32,
    index: u64,
}

impl From<Position> for PositionRecord {
    fn from(position: Position) -> Self {
        Self {
            cluster_id: format!("{:032x}", position.cluster_id),
            group: position.group,
            index: position.index,
        }
    }
}
