//! The engine itself: opens a directory, appends groups, seals logs.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use cut::cut;

use crate::backend::{Committed, Entry, Loaded, Table};
use crate::data_dir::DataDir;
use crate::engine::{Engine, Job};
use crate::error::{Result, StoreError};
use crate::files;
use crate::frame;
use crate::log::codec;
use crate::log::merge;
use crate::log::replay::{self, FileSet, log_path, snapshot_path};

/// When the log is compacted.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// The active log is sealed and merged when it is at least this long and longer than the snapshot.
    pub seal_bytes: u64,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { seal_bytes: 8 << 20 }
    }
}

/// The directory and its files, shared with the jobs that merge them.
struct Dir {
    data_dir: DataDir,
    /// Which files there are, and the length of the snapshot in bytes.
    files: Mutex<(FileSet, u64)>,
    /// Held by the one job that merges or copies.
    merging: Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The append-only log engine. Use it through [`crate::embedded`].
pub struct LogEngine {
    dir: Arc<Dir>,
    limits: LogLimits,
    revision: u64,
    index: HashMap<Table, HashMap<String, u64>>,
    active: Active,
    /// What opening read, for the first `load`; gone with the first write.
    opened: Option<Loaded>,
    frame: Vec<u8>,
}

/// The log grows by so many zeros at a time (or by less, where it is sealed earlier), and frames are written over them: a sync then has no new length to
/// write, only data. The zeros are cut off when the log is sealed or closed; after a crash they are like any
/// other torn tail.
const EXTEND_BYTES: u64 = 1 << 20;

/// The log that is appended to.
struct Active {
    file: File,
    path: PathBuf,
    /// The revision it follows, which is also the number its frames are sealed with.
    number: u64,
    /// The end of what is durable.
    end: u64,
    /// The length of the file: zeros follow `end`, see [`EXTEND_BYTES`].
    file_bytes: u64,
    extend_bytes: u64,
    /// A failed write may have left bytes after `end`: they must go before the next write.
    dirty: bool,
}

impl Active {
    fn open(dir: &Path, number: u64, end: u64, limits: &LogLimits) -> Result<Active> {
        let path = log_path(dir, number);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::at("opening", &path))?;
        let file_bytes = file.metadata().map_err(StoreError::at("reading", &path))?.len();
        files::sync_dir(dir)?;
        let extend_bytes = EXTEND_BYTES.min(limits.seal_bytes);
        Ok(Active { file, path, number, end, file_bytes, extend_bytes, dirty: false })
    }

    fn append(&mut self, frame: &[u8]) -> Result<()> {
        if self.dirty {
            self.repair()?;
        }
        let end = self.end + frame.len() as u64;
        if end > self.file_bytes {
            self.extend(end);
            cut!("store.append.extended");
        }
        let appended = self.file.write_all_at(frame, self.end).and_then(|()| {
            cut!("store.append.written");
            self.file.sync_data()
        });
        if let Err(error) = appended {
            self.dirty = true;
            // The commit has failed already; if this fails too, the next append begins with it.
            let _ = self.repair();
            return Err(StoreError::at("appending to", &self.path)(error));
        }
        cut!("store.append.synced");
        self.end = end;
        self.file_bytes = self.file_bytes.max(end);
        Ok(())
    }

    /// Puts zeros behind where the next frame will end. On a disk too full for that, frames do without.
    fn extend(&mut self, end: u64) {
        let zeros = [0; 64 << 10];
        let to = end + self.extend_bytes;
        let mut at = self.file_bytes;
        while at < to {
            let count = (to - at).min(zeros.len() as u64);
            if self.file.write_all_at(&zeros[..count as usize], at).is_err() {
                // Gives back what was got, for the frame itself and for whoever else needs it.
                let _ = self.file.set_len(self.file_bytes);
                return;
            }
            at += count;
        }
        self.file_bytes = to;
    }

    /// Cuts off what is not a durable frame.
    fn repair(&mut self) -> Result<()> {
        let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_data());
        cut.map_err(StoreError::at("cutting an interrupted write from", &self.path))?;
        self.file_bytes = self.end;
        self.dirty = false;
        Ok(())
    }
}

impl Drop for LogEngine {
    fn drop(&mut self) {
        // Space is given back; if it fails, the next opening does it.
        let _ = self.active.repair();
    }
}

impl LogEngine {
    /// Opens `dir`, creating it if need be; repairs what a crash has left.
    pub fn open(dir: &Path, limits: LogLimits) -> Result<LogEngine> {
        let data_dir = DataDir::open(dir)?;
        let (mut set, leftover) = FileSet::find(dir)?;
        for name in leftover {
            files::remove(&dir.join(name))?;
        }
        let (loaded, end) = read_all(dir, &set)?;
        if set.logs.is_empty() {
            set.logs.push(loaded.revision);
        }
        let number = set.logs.last().copied().unwrap_or(loaded.revision);
        let mut active = Active::open(dir, number, end.offset, &limits)?;
        if end.torn {
            active.repair()?;
        }
        let snapshot_bytes = match set.snapshot {
            Some(revision) => {
                let path = snapshot_path(dir, revision);
                path.metadata().map_err(StoreError::at("reading", &path))?.len()
            }
            None => 0,
        };
        let mut index: HashMap<Table, HashMap<String, u64>> = HashMap::new();
        for entry in &loaded.entries {
            index.entry(entry.table).or_default().insert(entry.key.clone(), entry.revision);
        }
        Ok(LogEngine {
            dir: Arc::new(Dir {
                data_dir,
                files: Mutex::new((set, snapshot_bytes)),
                merging: Mutex::new(()),
            }),
            limits,
            revision: loaded.revision,
            index,
            active,
            opened: Some(loaded),
            frame: Vec::new(),
        })
    }

    /// Starts a new log, so that all before it can be merged. Does nothing while the active one is empty.
    fn seal(&mut self) -> Result<()> {
        if self.active.end == 0 {
            return Ok(());
        }
        // Only the last log may end with anything but a frame.
        self.active.repair()?;
        cut!("store.seal.trimmed");
        self.active = Active::open(self.dir.data_dir.path(), self.revision, 0, &self.limits)?;
        cut!("store.seal.opened");
        locked(&self.dir.files).0.logs.push(self.revision);
        Ok(())
    }

    fn compaction(&self) -> Job {
        let dir = self.dir.clone();
        Box::new(move || {
            let _merging = locked(&dir.merging);
            compact(&dir)
        })
    }
}

impl Engine for LogEngine {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn load(&mut self) -> Result<Loaded> {
        if let Some(loaded) = self.opened.take() {
            return Ok(loaded);
        }
        // No job may remove a file while it is read.
        let _merging = locked(&self.dir.merging);
        let set = locked(&self.dir.files).0.clone();
        if self.active.dirty {
            self.active.repair()?;
        }
        Ok(read_all(self.dir.data_dir.path(), &set)?.0)
    }

    fn revision_of(&self, table: Table, key: &str) -> Result<Option<u64>> {
        Ok(self.index.get(&table).and_then(|keys| keys.get(key)).copied())
    }

    fn write(&mut self, group: &[Committed]) -> Result<()> {
        self.frame.clear();
        frame::begin(&mut self.frame);
        for commit in group {
            codec::put_commit(&mut self.frame, commit.revision, commit.writes.len());
            for write in commit.writes.iter() {
                codec::put_write(&mut self.frame, write.table, &write.key, write.value.as_deref());
            }
        }
        frame::seal(&mut self.frame, self.active.end, self.active.number)?;
        self.active.append(&self.frame)?;
        // One large group must not hold its memory for ever.
        self.frame.shrink_to(1 << 20);
        self.opened = None;
        for commit in group {
            for write in commit.writes.iter() {
                let keys = self.index.entry(write.table).or_default();
                match &write.value {
                    Some(_) => drop(keys.insert(write.key.clone(), commit.revision)),
                    None => drop(keys.remove(&write.key)),
                }
            }
            self.revision = commit.revision;
        }
        Ok(())
    }

    fn snapshot(&mut self, path: &Path) -> Result<Job> {
        self.seal()?;
        let (dir, target) = (self.dir.clone(), path.to_path_buf());
        Ok(Box::new(move || {
            let _merging = locked(&dir.merging);
            let set = locked(&dir.files).0.clone();
            merge::begin_copy(&target)?;
            merge::merge(dir.data_dir.path(), &set, &target)?;
            merge::complete_copy(&target)
        }))
    }

    fn compact(&mut self) -> Result<Job> {
        self.seal()?;
        Ok(self.compaction())
    }

    fn upkeep(&mut self) -> Option<Job> {
        let snapshot_bytes = locked(&self.dir.files).1;
        let due = self.active.end >= self.limits.seal_bytes.max(snapshot_bytes);
        // While a merge runs, the active log just grows.
        if !due || self.dir.merging.try_lock().is_err() {
            return None;
        }
        // A disk too full for a new log is no reason to fail a commit: the active log goes on.
        self.seal().ok().map(|()| self.compaction())
    }
}

/// Merges all sealed logs into the snapshot and removes them. The caller holds `merging`.
fn compact(dir: &Dir) -> Result<()> {
    let path = dir.data_dir.path();
    let set = locked(&dir.files).0.clone();
    let Some((active, sealed)) = set.logs.split_last().filter(|(_, sealed)| !sealed.is_empty()) else {
        return Ok(());
    };
    let snapshot_bytes = merge::merge(path, &set, path)?;
    {
        let mut files = locked(&dir.files);
        files.0.snapshot = Some(*active);
        files.0.logs.retain(|revision| revision >= active);
        files.1 = snapshot_bytes;
    }
    cut!("store.compact.merged");
    // What cannot be removed now is removed at the next opening.
    for revision in sealed {
        files::remove(&log_path(path, *revision))?;
        cut!("store.compact.log-removed");
    }
    match set.snapshot {
        Some(revision) => files::remove(&snapshot_path(path, revision)),
        None => Ok(()),
    }
}

/// Reads every record, and where the last log ends.
fn read_all(dir: &Path, set: &FileSet) -> Result<(Loaded, replay::LogEnd)> {
    let mut records: BTreeMap<(Table, String), (u64, Vec<u8>)> = BTreeMap::new();
    let end = replay::all(dir, set, |_, record, _| {
        let id = (record.table, record.key.to_owned());
        match record.value {
            Some((value, _)) => drop(records.insert(id, (record.revision, value.to_vec()))),
            None => drop(records.remove(&id)),
        }
    })?;
    let entries = records.into_iter();
    let entries =
        entries.map(|((table, key), (revision, value))| Entry { table, key, value, revision }).collect();
    Ok((Loaded { revision: end.revision, entries }, end))
}
