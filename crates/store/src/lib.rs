//! What must be durable: records with revisions, segments of log events, and blobs.
//!
//! This crate knows bytes, keys and revisions; it knows no record type, no protocol and no clock.
//! - [`Backend`] keeps the records of the control plane. Two kinds: [`memory()`] and [`embedded()`]. One
//!   conformance suite (`tests/conformance`) holds both to the same contract.
//! - [`segments`] keeps log events, one bounded append-only stream per log stream.
//! - [`blobs`] keeps image bytes under their digest.
//!
//! Which engine the embedded backend uses, and why, is in this crate's README.md.

mod backend;
pub mod blobs;
mod data_dir;
mod engine;
mod error;
mod files;
mod frame;
mod grouped;
mod history;
mod log;
mod memory;
pub mod segments;
mod ticket;

pub use backend::{Backend, Batch, Committed, DurableListener, Entry, Guard, Loaded, Table, Write};
pub use data_dir::FORMAT;
pub use engine::{Engine, Job};
pub use error::{Result, StoreError};
pub use grouped::{Grouped, Limits};
pub use history::Watch;
pub use log::{LogEngine, LogLimits, embedded};
pub use memory::{MemoryEngine, memory};
pub use ticket::Ticket;
