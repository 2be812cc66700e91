//! The files of one stream: appending, sealing, removing. No file is kept open between calls.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cut::cut;

use super::SegmentLimits;
use super::segment::{self, Chunk, Segment};
use super::types::{Event, Stats};
use crate::error::{Result, StoreError};
use crate::files;

/// The extension of a directory that is being deleted.
pub(super) const DELETED: &str = "deleted";

/// One stream. Which segments there are is known at once; the last one is read when it is first needed.
pub(super) struct Stream {
    dir: PathBuf,
    /// See `SegmentLimits`.
    chunk_bytes: usize,
    /// By first sequence. The last one may be open for appending; the others are sealed, except after a crash.
    segments: BTreeMap<u64, Segment>,
    /// Whether the unsealed segments were scanned and repaired.
    ready: bool,
    /// A failed write may have left bytes behind the end of the last segment.
    dirty: bool,
    /// Its directory is gone; whoever still holds this looks the stream up again.
    deleted: bool,
}

impl Stream {
    /// A stream in `dir`, which may not exist yet.
    pub(super) fn new(dir: PathBuf, chunk_bytes: usize) -> Stream {
        Stream { dir, chunk_bytes, segments: BTreeMap::new(), ready: true, dirty: false, deleted: false }
    }

    /// Finds the segments of an existing stream by their names.
    pub(super) fn open(dir: PathBuf, chunk_bytes: usize) -> Result<Stream> {
        let mut segments = BTreeMap::new();
        for name in files::names(&dir)? {
            let path = dir.join(&name);
            let file_bytes = path.metadata().map_err(StoreError::at("reading", &path))?.len();
            if let Some(segment) = Segment::from_name(&name, file_bytes) {
                segments.insert(segment.first, segment);
            }
        }
        Ok(Stream { dir, chunk_bytes, segments, ready: false, dirty: false, deleted: false })
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values()
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, segment: &Segment) -> PathBuf {
        self.dir.join(segment.name())
    }

    /// Scans the segments whose names do not say what is in them, and cuts an interrupted write off the last.
    pub(super) fn make_ready(&mut self) -> Result<()> {
        if self.ready {
            return Ok(());
        }
        let last = self.segments.last_key_value().map(|(first, _)| *first);
        let dir = self.dir.clone();
        for segment in self.segments.values_mut().filter(|segment| !segment.sealed) {
            let path = dir.join(segment.name());
            let end = segment.scan(&path, self.chunk_bytes)?;
            if Some(segment.first) == last && end < segment.stats.file_bytes {
                cut(&path, end)?;
                segment.stats.file_bytes = end;
            }
        }
        self.ready = true;
        Ok(())
    }

    /// The index of a segment, scanned if need be; empty when the segment is gone.
    pub(super) fn chunks(&mut self, first: u64) -> Result<Vec<Chunk>> {
        let dir = self.dir.clone();
        let Some(segment) = self.segments.get_mut(&first) else { return Ok(Vec::new()) };
        if segment.chunks.is_none() {
            segment.scan(&dir.join(segment.name()), self.chunk_bytes)?;
        }
        Ok(segment.chunks.clone().unwrap_or_default())
    }

    /// The events of one chunk with their sequences; none when the segment is gone.
    pub(super) fn read(&self, first: u64, chunk: &Chunk, visit: impl FnMut(u64, Event)) -> Result<()> {
        match self.segments.get(&first) {
            Some(segment) => segment::read_chunk(&self.path(segment), first, chunk, visit),
            None => Ok(()),
        }
    }

    /// Whether [`Stream::delete`] was called.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Removes all files: at once by a renaming, so that no crash leaves half a stream.
    pub(super) fn delete(&mut self) -> Result<()> {
        let away = self.dir.with_extension(DELETED);
        // Left over from an earlier deletion that was interrupted.
        let _ = fs::remove_dir_all(&away);
        match fs::rename(&self.dir, &away) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::at("removing", &self.dir)(error));
            }
            _ => {}
        }
        cut!("store.segment.put-aside");
        // What cannot be removed now is removed at the next opening.
        let _ = fs::remove_dir_all(&away);
        self.deleted = true;
        self.segments.clear();
        Ok(())
    }

    /// Appends events to the last segment; begins a new one when that is full. On an error nothing is appended.
    pub(super) fn append(&mut self, events: &[Event], limits: &SegmentLimits) -> Result<()> {
        self.make_ready()?;
        self.begin_segment(limits.segment_bytes)?;
        let Some(mut last) = self.segments.last_entry() else { return Ok(()) };
        let segment = last.get_mut();
        let path = self.dir.join(segment.name());
        let offset = segment.stats.file_bytes;
        let (bytes, frames) =
            segment::encode(events, segment.end(), offset, segment.first, limits.chunk_bytes)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::at("opening", &path))?;
        if self.dirty {
            file.set_len(offset).map_err(StoreError::at("repairing", &path))?;
            self.dirty = false;
        }
        if let Err(error) = file.write_all_at(&bytes, offset) {
            // If this fails too, the next append begins with it.
            self.dirty = file.set_len(offset).is_err();
            return Err(StoreError::at("appending to", &path)(error));
        }
        cut!("store.segment.appended");
        segment.stats.file_bytes += bytes.len() as u64;
        events.iter().for_each(|event| segment.stats.count(event));
        let chunks = segment.chunks.get_or_insert_default();
        frames.into_iter().for_each(|frame| segment::index(chunks, frame, self.chunk_bytes));
        Ok(())
    }

    /// Makes the last segment one that can be appended to.
    fn begin_segment(&mut self, segment_bytes: u64) -> Result<()> {
        if self.segments.is_empty() {
            // Made durable by `sync`, like what will be in it.
            fs::create_dir_all(&self.dir).map_err(StoreError::at("creating", &self.dir))?;
        }
        let full = |segment: &Segment| segment.sealed || segment.stats.file_bytes >= segment_bytes;
        if self.segments.last_key_value().is_some_and(|(_, segment)| !full(segment)) {
            return Ok(());
        }
        self.seal()?;
        let end = self.segments.last_key_value().map_or(0, |(_, segment)| segment.end());
        self.segments.insert(end, Segment::new(end));
        Ok(())
    }

    /// Names the last segment after what is in it.
    fn seal(&mut self) -> Result<()> {
        let dirty = self.dirty;
        let Some(mut last) = self.segments.last_entry() else { return Ok(()) };
        let segment = last.get_mut();
        if segment.sealed || segment.stats.events == 0 {
            return Ok(());
        }
        let path = self.dir.join(segment.name());
        if dirty {
            cut(&path, segment.stats.file_bytes)?;
            self.dirty = false;
        }
        segment.sealed = true;
        let renamed = fs::rename(&path, self.dir.join(segment.name()));
        cut!("store.segment.sealed");
        segment.sealed = renamed.is_ok();
        renamed.map_err(StoreError::at("sealing", &path))
    }

    /// Removes one segment. The sequences of later events go on where they would have.
    pub(super) fn remove(&mut self, first: u64) -> Result<()> {
        self.make_ready()?;
        let Some(segment) = self.segments.get(&first) else { return Ok(()) };
        let (path, end) = (self.path(segment), segment.end());
        let last = self.segments.last_key_value().is_some_and(|(last, _)| *last == first);
        if last && end > first {
            // Remembers where the sequence is. It needs no byte of a full disk beyond its name; if even that fails,
            // only old page tokens are affected.
            let _ = fs::write(self.dir.join(Segment::new(end).name()), b"");
            self.segments.insert(end, Segment::new(end));
            self.dirty = false;
        }
        if !last || end > first {
            files::remove(&path)?;
            self.segments.remove(&first);
        }
        Ok(())
    }

    /// The first sequences of the segments in which every event happened before `before_ms`.
    pub(super) fn expired(&mut self, before_ms: i64) -> Result<Vec<u64>> {
        self.make_ready()?;
        let expired =
            |segment: &&Segment| segment.stats.last_event_ms.is_some_and(|last_ms| last_ms < before_ms);
        Ok(self.segments.values().filter(expired).map(|segment| segment.first).collect())
    }

    /// What is known of the stream.
    pub(super) fn stats(&mut self) -> Result<Stats> {
        self.make_ready()?;
        let mut stats = Stats::default();
        self.segments.values().for_each(|segment| stats.add(&segment.stats));
        Ok(stats)
    }

    /// The files of the segments from `from` on, to be flushed without holding the stream.
    pub(super) fn files(&self, from: u64) -> Result<Vec<fs::File>> {
        let written =
            self.segments.range(from..).map(|(_, segment)| segment).filter(|s| s.stats.file_bytes > 0);
        let mut paths: Vec<PathBuf> = written.map(|segment| self.path(segment)).collect();
        if !self.segments.is_empty() {
            // The directory too: there the files have their names.
            paths.push(self.dir.clone());
        }
        paths.iter().map(|path| fs::File::open(path).map_err(StoreError::at("opening", path))).collect()
    }
}

fn cut(path: &Path, end: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(end)).map_err(StoreError::at("cutting an interrupted write from", path))
}
