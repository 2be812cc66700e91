//! The embedded engine: an append-only log of commits, and snapshots that bound it.
//!
//! ```text
//! DIR/lock, DIR/format        see data_dir.rs
//! DIR/snapshot-<revision>     every record at that revision
//! DIR/log-<revision>          the commits after that revision; the last one is appended to
//! ```
//! A group of commits is one frame, one write and one fdatasync. When the last log has outgrown the snapshot it
//! is sealed, and a job merges the sealed files into a new snapshot beside the running commits. In memory there
//! are only keys and revisions (for guards); values are in the files.

mod codec;
mod engine;
mod merge;
mod replay;

use std::path::Path;

pub use engine::{LogEngine, LogLimits};
pub(crate) use merge::write_copy;

use crate::error::Result;
use crate::grouped::{Grouped, Limits};

/// The durable backend in directory `dir`, which this process then holds alone.
pub fn embedded(dir: &Path) -> Result<Grouped> {
    Grouped::start(LogEngine::open(dir, LogLimits::default())?, Limits::default())
}
