//! Everything that can go wrong in this crate, in words a user can act on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything here.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why something was not stored or not found. Cheap to clone: one failed write fails many tickets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// A guard did not hold: the record has another revision than the writer had read (`None`: absent).
    Conflict {
        /// Table of the record.
        table: u8,
        /// Key of the record.
        key: String,
        /// The revision the writer had read.
        expected: Option<u64>,
        /// The revision that is there.
        found: Option<u64>,
    },
    /// The batch does not carry the next revision: an earlier batch failed, or two writers share one backend.
    OutOfOrder {
        /// The revision the next batch must carry.
        expected: u64,
        /// The revision it carried.
        got: u64,
    },
    /// Another process has the data directory open.
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that has it, where it could be read.
        pid: Option<u32>,
    },
    /// The directory was written by a newer release.
    NewerFormat {
        /// The data directory.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format this release reads.
        supported: u32,
    },
    /// A watch asked for commits that are no longer kept; load again and watch from there.
    Compacted {
        /// The watch may start after this revision at the earliest.
        oldest: u64,
    },
    /// No space is left on the device (or a quota is used up). Nothing acknowledged is lost.
    Full {
        /// What was being done.
        doing: String,
    },
    /// The operating system refused.
    Io {
        /// What was being done.
        doing: String,
        /// Its kind, for callers that tell "not found" from the rest.
        kind: io::ErrorKind,
        /// The system's words.
        text: String,
    },
    /// Stored bytes are not what was written.
    Corrupt {
        /// Which file, where, and what is wrong with it.
        what: String,
    },
    /// One batch or event is larger than what can be stored.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The largest size that is accepted.
        max_bytes: usize,
    },
    /// The backend was closed.
    Closed,
}

impl StoreError {
    /// Wraps a system error with what was being done; recognises a full disk.
    pub fn io(doing: impl Into<String>, error: io::Error) -> StoreError {
        let doing = doing.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { doing },
            kind => StoreError::Io { doing, kind, text: error.to_string() },
        }
    }

    /// As [`StoreError::io`], for an operation on one path: `at("opening", path)`.
    pub fn at(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let doing = format!("{verb} {}", path.display());
        move |error| StoreError::io(doing, error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Conflict { table, key, expected, found } => write!(
                f,
                "record {table}/{key} was changed by someone else: expected {}, found {}",
                Revision(*expected),
                Revision(*found)
            ),
            StoreError::OutOfOrder { expected, got } => {
                write!(f, "commit out of order: the next revision is {expected}, the batch carries {got}")
            }
            StoreError::Locked { path, pid } => {
                write!(f, "data directory {} is in use", path.display())?;
                match pid {
                    Some(pid) => write!(f, " by process {pid}: stop that process")?,
                    None => write!(f, " by another process: stop it")?,
                }
                write!(f, " (`roadstead down`) or choose another --data-dir")
            }
            StoreError::NewerFormat { path, found, supported } => write!(
                f,
                "data directory {} has format {found}, this release reads formats up to {supported}: \
                 use the newer release that wrote it, or another --data-dir",
                path.display()
            ),
            StoreError::Compacted { oldest } => {
                write!(
                    f,
                    "the commits asked for are no longer kept: the oldest start is after revision {oldest}"
                )
            }
            StoreError::Full { doing } => {
                write!(f, "no space left while {doing}: free some space; nothing acknowledged is lost")
            }
            StoreError::Io { doing, text, .. } => write!(f, "{doing}: {text}"),
            StoreError::Corrupt { what } => write!(f, "stored data is damaged: {what}"),
            StoreError::TooLarge { bytes, max_bytes } => {
                write!(f, "{bytes} bytes are too many to store at once: at most {max_bytes}")
            }
            StoreError::Closed => write!(f, "the store is closed"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A revision in a sentence.
struct Revision(Option<u64>);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(revision) => write!(f, "revision {revision}"),
            None => write!(f, "no record"),
        }
    }
}
