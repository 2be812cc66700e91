//! Merging sealed files into one snapshot: compaction, and copies.
//!
//! Works from the files alone, so it runs beside the commits; its memory is keys and offsets, not values.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cut::cut;

use crate::backend::{Loaded, Table};
use crate::data_dir;
use crate::error::{Result, StoreError};
use crate::files;
use crate::frame;
use crate::log::codec;
use crate::log::replay::{self, FileSet, log_path, snapshot_path};

/// A frame of a snapshot is closed at this size.
const FRAME_BYTES: usize = 256 << 10;

/// Writes a snapshot file, under another name until it is whole and synced.
struct SnapshotWriter {
    dir: PathBuf,
    revision: u64,
    part: PathBuf,
    file: File,
    offset: u64,
    frame: Vec<u8>,
}

impl SnapshotWriter {
    fn create(dir: &Path, revision: u64) -> Result<SnapshotWriter> {
        let part = snapshot_path(dir, revision).with_extension("part");
        let file = File::create(&part).map_err(StoreError::at("creating", &part))?;
        let mut frame = Vec::with_capacity(FRAME_BYTES + (4 << 10));
        frame::begin(&mut frame);
        Ok(SnapshotWriter { dir: dir.to_path_buf(), revision, part, file, offset: 0, frame })
    }

    fn record(&mut self, revision: u64, table: Table, key: &str, value: &[u8]) -> Result<()> {
        codec::put_commit(&mut self.frame, revision, 1);
        codec::put_write(&mut self.frame, table, key, Some(value));
        if self.frame.len() >= FRAME_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        frame::seal(&mut self.frame, self.offset, self.revision)?;
        self.file.write_all(&self.frame).map_err(StoreError::at("writing", &self.part))?;
        self.offset += self.frame.len() as u64;
        self.frame.clear();
        frame::begin(&mut self.frame);
        Ok(())
    }

    /// Ends the snapshot and gives it its name, durably. Returns its length.
    fn finish(mut self) -> Result<u64> {
        codec::put_commit(&mut self.frame, self.revision, 0);
        self.flush()?;
        cut!("store.merge.written");
        self.file.sync_all().map_err(StoreError::at("syncing", &self.part))?;
        cut!("store.merge.synced");
        let path = snapshot_path(&self.dir, self.revision);
        fs::rename(&self.part, &path).map_err(StoreError::at("naming", &path))?;
        cut!("store.merge.named");
        files::sync_dir(&self.dir)?;
        Ok(self.offset)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing under this name; after a failure its space is given back at once.
        let _ = fs::remove_file(&self.part);
    }
}

/// Merges the sealed files of `set` (all but its last log) into one snapshot in `target`; returns its length.
pub(crate) fn merge(dir: &Path, set: &FileSet, target: &Path) -> Result<u64> {
    let Some((active, sealed)) = set.logs.split_last() else {
        return Err(StoreError::Corrupt { what: format!("{} has no active log", dir.display()) });
    };
    let sealed = FileSet { snapshot: set.snapshot, logs: sealed.to_vec() };
    let mut live: BTreeMap<(Table, String), Place> = BTreeMap::new();
    replay::all(dir, &sealed, |file, record, offset| {
        let id = (record.table, record.key.to_owned());
        match record.value {
            Some((value, _)) => {
                live.insert(id, Place { revision: record.revision, file, offset, bytes: value.len() });
            }
            None => drop(live.remove(&id)),
        }
    })?;
    let mut paths = vec![sealed.snapshot.map(|revision| snapshot_path(dir, revision))];
    paths.extend(sealed.logs.iter().map(|revision| Some(log_path(dir, *revision))));
    let open = |path: &Option<PathBuf>| match path {
        Some(path) => File::open(path).map(Some).map_err(StoreError::at("opening", path)),
        None => Ok(None),
    };
    let sources = paths.iter().map(open).collect::<Result<Vec<_>>>()?;

    let mut writer = SnapshotWriter::create(target, *active)?;
    let mut value = Vec::new();
    for ((table, key), place) in &live {
        value.resize(place.bytes, 0);
        if let Some(Some(file)) = sources.get(place.file) {
            let reading = || format!("reading {table}/{key} of {}", dir.display());
            file.read_exact_at(&mut value, place.offset).map_err(|e| StoreError::io(reading(), e))?;
        }
        writer.record(place.revision, *table, key, &value)?;
    }
    writer.finish()
}

/// Where a live value lies.
struct Place {
    revision: u64,
    file: usize,
    offset: u64,
    bytes: usize,
}

/// Makes the new directory `target` for a copy; it becomes one that can be opened with [`complete_copy`].
pub(crate) fn begin_copy(target: &Path) -> Result<()> {
    files::create_dir(target)?;
    match files::names(target)?.first() {
        None => Ok(()),
        Some(name) => {
            let text = format!("it is not empty: it holds {name:?}");
            let doing = format!("copying to {}", target.display());
            Err(StoreError::Io { doing, kind: std::io::ErrorKind::DirectoryNotEmpty, text })
        }
    }
}

/// Marks a copy as whole. Without this it is refused when opened.
pub(crate) fn complete_copy(target: &Path) -> Result<()> {
    data_dir::write_format(target)
}

/// Writes records that are in memory as a new directory.
pub(crate) fn write_copy(target: &Path, loaded: &Loaded) -> Result<()> {
    begin_copy(target)?;
    let mut writer = SnapshotWriter::create(target, loaded.revision)?;
    for entry in &loaded.entries {
        writer.record(entry.revision, entry.table, &entry.key, &entry.value)?;
    }
    writer.finish()?;
    complete_copy(target)
}
