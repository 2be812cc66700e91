//! The journal of a group: each start and exit of its containers, one JSON line each, on disk before it is told.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The container's index.
    pub container: usize,
    /// Its how-manieth run, from 1.
    pub run: u32,
    /// When.
    pub at_ms: i64,
    /// What.
    pub what: What,
}

/// See [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It runs.
    Started {
        /// The runtime's id.
        runtime_id: String,
        /// Its first process.
        pid: i32,
    },
    /// It is over.
    Exited {
        /// The exit code, 128+n after signal n.
        code: i32,
        /// The kernel killed one of its processes for want of memory.
        out_of_memory: bool,
    },
}

/// The journal, open for writing.
pub struct Journal {
    file: File,
    /// What could not be written yet (a full disk), in order.
    pending: Vec<u8>,
}

impl Journal {
    /// Opens the journal in a group's folder.
    ///
    /// # Errors
    /// Those of opening the file.
    pub fn open(dir: &Path) -> io::Result<Journal> {
        let file = File::options().append(true).create(true).open(dir.join("journal"))?;
        Ok(Journal { file, pending: Vec::new() })
    }

    /// Writes a record durably. On a full disk it is kept in memory and [`Journal::retry`] writes it.
    pub fn write(&mut self, record: &Record) {
        self.pending.extend(serde_json::to_vec(record).unwrap_or_default());
        self.pending.push(b'\n');
        self.retry();
    }

    /// Tries again to write what is pending. True if nothing is.
    pub fn retry(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(written) if written > 0 => drop(self.pending.drain(..written)),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                _ => return false,
            }
            if self.pending.is_empty() {
                // A failure to sync is one that a second attempt does not mend: the record is in the file.
                let _ = self.file.sync_data();
            }
        }
        true
    }
}

/// Reads the journal in a group's folder; a line cut short by a crash of the machine is left out.
pub fn read(dir: &Path) -> Vec<Record> {
    let text = std::fs::read(dir.join("journal")).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_and_a_torn_line_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let started = What::Started { runtime_id: "r-1".into(), pid: 7 };
        let first = Record { container: 0, run: 1, at_ms: 5, what: started };
        let second =
            Record { container: 0, run: 1, at_ms: 9, what: What::Exited { code: 137, out_of_memory: true } };
        journal.write(&first);
        journal.write(&second);
        journal.file.write_all(b"{\"container\":0,\"ru").unwrap();
        assert_eq!(read(dir.path()), vec![first, second]);
        assert_eq!(read(&dir.path().join("none")), vec![]);
    }
}
