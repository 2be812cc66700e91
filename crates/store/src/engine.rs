//! What a storage engine must do for [`crate::Grouped`], which does everything else: queue, group commit,
//! order, guards, watches. An engine is owned by one thread.

use std::path::Path;

use crate::backend::{Committed, Loaded, Table};
use crate::error::Result;

/// Long work that does not hold up commits: it is run on a thread of its own, and joined before the engine is
/// dropped.
pub type Job = Box<dyn FnOnce() -> Result<()> + Send>;

/// Durable key-value storage driven by one writer thread.
pub trait Engine: Send + 'static {
    /// The last committed revision.
    fn revision(&self) -> u64;

    /// All records and the last revision.
    fn load(&mut self) -> Result<Loaded>;

    /// The revision of one record, `None` when it is absent.
    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>>;

    /// Writes commits, with consecutive revisions, and syncs them to the device. On an error none of them is
    /// kept, and a later call may succeed.
    fn write(&mut self, group: &[Committed]) -> Result<()>;

    /// Prepares a consistent copy into the new directory `path`; the job writes it.
    fn snapshot(&mut self, path: &Path) -> Result<Job>;

    /// Prepares to give back the space of what was overwritten or deleted; the job does it.
    fn compact(&mut self) -> Result<Job>;

    /// Asked after each group: work this engine wants done beside the commits, such as a compaction that is due.
    fn upkeep(&mut self) -> Option<Job> {
        None
    }
}
