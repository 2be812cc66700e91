//! The narrow contract that every record store keeps, and the values that cross it.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::history::Watch;
use crate::ticket::Ticket;

/// Number of a table. The numbers and their meaning belong to the `state` crate.
pub type Table = u8;

/// One stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its table.
    pub table: Table,
    /// Its key, unique in the table.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// The revision of the commit that wrote it last.
    pub revision: u64,
}

/// Everything stored, at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The last committed revision; 0 when nothing was ever committed.
    pub revision: u64,
    /// All records, ordered by table and key.
    pub entries: Vec<Entry>,
}

/// What a commit relies on: the revision of a record it has read (`None`: the record is absent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Table of the record.
    pub table: Table,
    /// Key of the record.
    pub key: String,
    /// The revision it must still have.
    pub expected: Option<u64>,
}

/// One change: a new value, or `None` to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Table of the record.
    pub table: Table,
    /// Key of the record.
    pub key: String,
    /// The new bytes, or `None` to delete the record.
    pub value: Option<Vec<u8>>,
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Exactly one more than the revision of the batch submitted before it. When a batch fails, those queued
    /// behind it (which were decided on top of it) therefore fail too, with `OutOfOrder`; the submitter goes
    /// back to [`Backend::durable_revision`] and decides again from there.
    pub revision: u64,
    /// All must hold, or the batch fails with `Conflict` and changes nothing.
    pub guards: Vec<Guard>,
    /// The changes, in order: of two writes to one key the last wins.
    pub writes: Vec<Write>,
}

/// One durable commit, as a watch delivers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its revision.
    pub revision: u64,
    /// Its changes.
    pub writes: Arc<[Write]>,
}

/// A function that is told each new durable revision.
pub type DurableListener = Box<dyn Fn(u64) + Send + Sync>;

/// A store of records. Every method may be called from any thread.
pub trait Backend: Send + Sync {
    /// All records and the last revision, after every batch submitted before this call.
    fn load(&self) -> Result<Loaded>;

    /// Submits a batch and returns at once. The ticket resolves when the batch is durable (synced to the
    /// device) or has failed. Batches are written in the order of submission; those that wait together share one
    /// sync. The queue is not bounded: its bound is the number of callers that wait for their tickets.
    fn commit(&self, batch: Batch) -> Ticket;

    /// The last revision that is durable.
    fn durable_revision(&self) -> u64;

    /// Calls `listener` with each new durable revision, on the writer's thread: it must only wake someone.
    fn on_durable(&self, listener: DurableListener);

    /// The commits after revision `after`, in order, each exactly once. Fails with `Compacted` when the
    /// history no longer reaches back that far.
    fn watch(&self, after: u64) -> Result<Watch>;

    /// Writes a consistent copy into the new directory `path`, which [`crate::embedded`] can open.
    fn snapshot(&self, path: &Path) -> Result<()>;

    /// Gives back the space of overwritten and deleted records now, and waits for it.
    fn compact(&self) -> Result<()>;

    /// Writes what is queued, releases the directory. Later calls fail with `Closed`. May be called twice. In a callback
    /// of a commit it returns at once, and what it says is done after the callback.
    fn close(&self) -> Result<()>;
}
