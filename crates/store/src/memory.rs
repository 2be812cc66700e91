//! The memory backend: the same contract with nothing on disk. For tests, the simulator, and `up` without a
//! data directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::{Committed, Entry, Loaded, Table};
use crate::engine::{Engine, Job};
use crate::error::Result;
use crate::grouped::{Grouped, Limits};

/// A backend that keeps its records in memory alone.
pub fn memory() -> Result<Grouped> {
    Grouped::start(MemoryEngine::default(), Limits::default())
}

/// Records in a map.
#[derive(Default)]
pub struct MemoryEngine {
    revision: u64,
    records: BTreeMap<(Table, String), (u64, Vec<u8>)>,
}

impl Engine for MemoryEngine {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn load(&mut self) -> Result<Loaded> {
        let entries = self.records.iter().map(|((table, key), (revision, value))| Entry {
            table: *table,
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        });
        Ok(Loaded { revision: self.revision, entries: entries.collect() })
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        Ok(self.records.get(&(table, key.to_owned())).map(|(revision, _)| *revision))
    }

    fn write(&mut self, group: &[Committed]) -> Result<()> {
        for commit in group {
            for write in commit.writes.iter() {
                let id = (write.table, write.key.clone());
                match &write.value {
                    Some(value) => drop(self.records.insert(id, (commit.revision, value.clone()))),
                    None => drop(self.records.remove(&id)),
                }
            }
            self.revision = commit.revision;
        }
        Ok(())
    }

    fn snapshot(&mut self, path: &Path) -> Result<Job> {
        let (loaded, path) = (self.load()?, path.to_path_buf());
        Ok(Box::new(move || crate::log::write_copy(&path, &loaded)))
    }

    fn compact(&mut self) -> Result<Job> {
        Ok(Box::new(|| Ok(())))
    }
}
