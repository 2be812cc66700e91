//! Reading the files of a directory back, in order.

use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};
use crate::frame::Frames;
use crate::log::codec::{self, Record};

/// The files that make up the records: a snapshot and the logs after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSet {
    /// The revision of the snapshot, if there is one.
    pub(crate) snapshot: Option<u64>,
    /// The logs by the revision they follow, in order; the last is the active one.
    pub(crate) logs: Vec<u64>,
}

pub(crate) fn snapshot_path(dir: &Path, revision: u64) -> PathBuf {
    dir.join(format!("snapshot-{revision:016x}"))
}

pub(crate) fn log_path(dir: &Path, revision: u64) -> PathBuf {
    dir.join(format!("log-{revision:016x}"))
}

impl FileSet {
    /// What is in `dir`, and the names of files that are left over from an interrupted merge.
    pub(crate) fn find(dir: &Path) -> Result<(FileSet, Vec<String>)> {
        let (mut snapshots, mut logs, mut leftover) = (Vec::new(), Vec::new(), Vec::new());
        for name in crate::files::names(dir)? {
            let revision_after = |prefix| u64::from_str_radix(name.strip_prefix(prefix)?, 16).ok();
            if let Some(revision) = revision_after("snapshot-") {
                snapshots.push(revision);
            } else if let Some(revision) = revision_after("log-") {
                // An empty one says nothing, and may be left from a sealing that failed half-way.
                match dir.join(&name).metadata().map_err(StoreError::at("reading", dir))?.len() {
                    0 => leftover.push(name),
                    _ => logs.push(revision),
                }
            } else if name.ends_with(".part") {
                leftover.push(name);
            }
        }
        let snapshot = snapshots.iter().copied().max();
        let start = snapshot.unwrap_or(0);
        let name_of = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        leftover
            .extend(snapshots.iter().filter(|r| **r < start).filter_map(|r| name_of(snapshot_path(dir, *r))));
        leftover.extend(logs.iter().filter(|r| **r < start).filter_map(|r| name_of(log_path(dir, *r))));
        logs.retain(|revision| *revision >= start);
        logs.sort_unstable();
        Ok((FileSet { snapshot, logs }, leftover))
    }
}

/// How far a log could be read.
pub(crate) struct LogEnd {
    /// The revision of its last commit.
    pub(crate) revision: u64,
    /// The end of its last valid frame.
    pub(crate) offset: u64,
    /// Whether bytes of an interrupted write follow.
    pub(crate) torn: bool,
}

/// Reads a snapshot. `visit` gets each record and the offset of its value in the file.
pub(crate) fn snapshot(dir: &Path, revision: u64, mut visit: impl FnMut(Record<'_>, u64)) -> Result<()> {
    let path = snapshot_path(dir, revision);
    let mut frames = Frames::open(&path, revision)?;
    let mut whole = false;
    while let Some((body, body_offset)) = frames.next()? {
        let on_commit = |commit_revision, writes| {
            let more = !whole;
            whole = writes == 0 && commit_revision == revision;
            more
        };
        let read = codec::read(body, on_commit, |record| {
            let value_offset = body_offset + record.value.map_or(0, |(_, at)| at as u64);
            visit(record, value_offset);
        });
        if read.is_none() {
            return Err(frames.damaged("the frame before this holds no records"));
        }
    }
    if whole && frames.offset() == frames.file_bytes() {
        return Ok(());
    }
    Err(frames.damaged("the snapshot ends here, before its last record"))
}

/// Reads a log whose first commit follows `revision`. `visit` as for [`snapshot`].
pub(crate) fn log(dir: &Path, revision: u64, mut visit: impl FnMut(Record<'_>, u64)) -> Result<LogEnd> {
    let path = log_path(dir, revision);
    let mut frames = Frames::open(&path, revision)?;
    let mut last = revision;
    while let Some((body, body_offset)) = frames.next()? {
        let on_commit = |commit_revision, _| {
            let consecutive = commit_revision == last + 1;
            last = commit_revision;
            consecutive
        };
        let read = codec::read(body, on_commit, |record| {
            let value_offset = body_offset + record.value.map_or(0, |(_, at)| at as u64);
            visit(record, value_offset);
        });
        if read.is_none() {
            return Err(frames.damaged("the frame before this holds no consecutive commits"));
        }
    }
    let torn = frames.offset() < frames.file_bytes();
    if torn && !frames.ends_torn()? {
        return Err(frames.damaged("unreadable, but valid commits follow"));
    }
    Ok(LogEnd { revision: last, offset: frames.offset(), torn })
}

/// Reads all files of `set`, oldest first. `visit` gets the number of the file (0 is the snapshot, 1 the first
/// log), each record, and the offset of its value in that file. Only the last log may end torn. Returns the end
/// of the last log, or, without any, the snapshot's revision at offset 0.
pub(crate) fn all(
    dir: &Path,
    set: &FileSet,
    mut visit: impl FnMut(usize, Record<'_>, u64),
) -> Result<LogEnd> {
    let mut end = LogEnd { revision: set.snapshot.unwrap_or(0), offset: 0, torn: false };
    if let Some(revision) = set.snapshot {
        snapshot(dir, revision, |record, offset| visit(0, record, offset))?;
    }
    for (index, revision) in set.logs.iter().enumerate() {
        if end.torn || end.revision != *revision {
            let what = format!(
                "{} should follow revision {}: a log is missing or cut",
                log_path(dir, *revision).display(),
                end.revision
            );
            return Err(StoreError::Corrupt { what });
        }
        end = log(dir, *revision, |record, offset| visit(index + 1, record, offset))?;
    }
    Ok(end)
}
