//! Log events: append-only streams of bounded, durable segments.
//!
//! ```text
//! DIR/<stream id, 32 hex digits>/<segment>.log      see segment.rs
//! ```
//! - `append` returns when the events are written to the operating system: they survive the end of this process,
//!   however it ends, and are read back at once. They survive a power loss after [`Segments::sync`], which the
//!   owner calls every so often (a log line is not worth a disk flush, a second of them is).
//! - A full disk makes `append` fail with `Full`; nothing else is affected.
//! - All streams together stay under a bound: the segment that was written longest ago goes first.
//! - No file is kept open, and a stream's last segment is only read when the stream is first used: thousands of
//!   streams cost a directory listing.
//!
//! One process at a time may use the directory: it lies beside a record store, whose lock covers it.

mod read;
mod segment;
mod stream;
mod types;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::UNIX_EPOCH;

pub use types::{BadPosition, Direction, Event, Found, Page, Position, Query, Stats, StreamId};

use crate::error::{Result, StoreError};
use crate::files;
use read::Reader;
use stream::Stream;

/// The bounds of a log store.
#[derive(Debug, Clone, Copy)]
pub struct SegmentLimits {
    /// All files together; the oldest segments are removed beyond it.
    pub total_bytes: u64,
    /// A segment is sealed at this size. One append is never split over two.
    pub segment_bytes: u64,
    /// Events are framed, indexed and read in chunks of about this size.
    pub chunk_bytes: usize,
    /// The largest sum of messages of one append.
    pub append_bytes: usize,
}

impl Default for SegmentLimits {
    fn default() -> SegmentLimits {
        SegmentLimits {
            total_bytes: 1 << 30,
            segment_bytes: 1 << 20,
            chunk_bytes: 32 << 10,
            append_bytes: 16 << 20,
        }
    }
}

/// Which segment: ordered by when it was last written (milliseconds since the Unix epoch).
type ByAge = (i64, StreamId, u64);

/// The sum over all streams. This and the map of streams are locked after a stream, never before one.
#[derive(Default)]
struct Totals {
    bytes: u64,
    by_age: BTreeSet<ByAge>,
    /// Every segment's length and age.
    segments: HashMap<StreamId, BTreeMap<u64, (u64, i64)>>,
    /// Streams with unflushed events, and the first segment that has some.
    unsynced: HashMap<StreamId, u64>,
}

impl Totals {
    /// Notes a segment's length and age.
    fn set(&mut self, id: StreamId, first: u64, bytes: u64, age_ms: i64) {
        self.forget(id, first);
        self.segments.entry(id).or_default().insert(first, (bytes, age_ms));
        self.by_age.insert((age_ms, id, first));
        self.bytes += bytes;
    }

    fn forget(&mut self, id: StreamId, first: u64) {
        let Some(segments) = self.segments.get_mut(&id) else { return };
        if let Some((bytes, age_ms)) = segments.remove(&first) {
            self.by_age.remove(&(age_ms, id, first));
            self.bytes -= bytes;
        }
        if segments.is_empty() {
            self.segments.remove(&id);
        }
    }
}

/// A directory of log streams.
pub struct Segments {
    dir: PathBuf,
    limits: SegmentLimits,
    streams: Mutex<HashMap<StreamId, Arc<Mutex<Stream>>>>,
    totals: Mutex<Totals>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Segments {
    /// Opens `dir`, creating it if need be.
    pub fn open(dir: &Path, limits: SegmentLimits) -> Result<Segments> {
        files::create_dir(dir)?;
        let (mut streams, mut totals) = (HashMap::new(), Totals::default());
        for name in files::names(dir)? {
            if name.ends_with(stream::DELETED) {
                fs::remove_dir_all(dir.join(&name)).map_err(StoreError::at("removing", &dir.join(&name)))?;
            }
            let Some(id) = u128::from_str_radix(&name, 16).ok().filter(|_| name.len() == 32).map(StreamId)
            else {
                continue;
            };
            let stream = Stream::open(dir.join(&name), limits.chunk_bytes)?;
            for segment in stream.segments() {
                let age_ms = segment
                    .stats
                    .last_ingestion_ms
                    .unwrap_or_else(|| modified_ms(&stream.dir().join(segment.name())));
                totals.set(id, segment.first, segment.stats.file_bytes, age_ms);
            }
            streams.insert(id, Arc::new(Mutex::new(stream)));
        }
        let (streams, totals) = (Mutex::new(streams), Mutex::new(totals));
        Ok(Segments { dir: dir.to_path_buf(), limits, streams, totals })
    }

    /// Appends events in the order of their arrival; a stream begins with its first event. See the module about
    /// durability. On an error nothing was appended.
    pub fn append(&self, id: StreamId, events: &[Event]) -> Result<()> {
        let bytes = events.iter().map(|event| event.message.len()).sum();
        let max_bytes = self.limits.append_bytes;
        if bytes > max_bytes {
            return Err(StoreError::TooLarge { bytes, max_bytes });
        }
        if events.is_empty() {
            return Ok(());
        }
        loop {
            let stream = self.stream_to_append(id);
            let mut stream = locked(&stream);
            // Deleted between the look-up and the lock: the next look-up gives a new stream.
            if !stream.is_deleted() {
                stream.append(events, &self.limits)?;
                self.note_append(id, &stream);
                break;
            }
        }
        self.enforce_total(id);
        Ok(())
    }

    fn stream_to_append(&self, id: StreamId) -> Arc<Mutex<Stream>> {
        let dir = || self.dir.join(format!("{:032x}", id.0));
        let new = || Arc::new(Mutex::new(Stream::new(dir(), self.limits.chunk_bytes)));
        locked(&self.streams).entry(id).or_insert_with(new).clone()
    }

    fn note_append(&self, id: StreamId, stream: &Stream) {
        let mut totals = locked(&self.totals);
        // The segment before may have lost an interrupted write, or been sealed.
        if let Some(segment) = stream.segments().last() {
            let age_ms = segment.stats.last_ingestion_ms.unwrap_or(0);
            totals.set(id, segment.first, segment.stats.file_bytes, age_ms);
            totals.unsynced.entry(id).or_insert(segment.first);
        }
    }

    /// Removes the oldest segments until all fit; never the one that `current` appends to. A segment that cannot
    /// be removed is left alone: the append that led here has succeeded.
    fn enforce_total(&self, current: StreamId) {
        loop {
            let (id, first) = {
                let totals = locked(&self.totals);
                if totals.bytes <= self.limits.total_bytes {
                    return;
                }
                let newest = totals.segments.get(&current).and_then(|segments| segments.keys().next_back());
                let removable = |(_, id, first): &&ByAge| {
                    !(*id == current && Some(first) == newest)
                        && totals
                            .segments
                            .get(id)
                            .and_then(|all| all.get(first))
                            .is_some_and(|(bytes, _)| *bytes > 0)
                };
                match totals.by_age.iter().find(removable) {
                    Some((_, id, first)) => (*id, *first),
                    None => return,
                }
            };
            if self.remove_segments(id, |_| Ok(vec![first])).is_err() {
                return;
            }
        }
    }

    /// Removes the segments of a stream that `choose` names by their first sequence.
    fn remove_segments(
        &self,
        id: StreamId,
        choose: impl FnOnce(&mut Stream) -> Result<Vec<u64>>,
    ) -> Result<()> {
        let Some(stream) = locked(&self.streams).get(&id).cloned() else {
            return Ok(());
        };
        let mut stream = locked(&stream);
        for first in choose(&mut stream)? {
            let removed = stream.remove(first);
            // Also when it failed: what cannot be removed must not be tried for ever.
            locked(&self.totals).forget(id, first);
            removed?;
        }
        Ok(())
    }

    /// One page of one stream. A stream that has no events gives an empty page.
    pub fn read(&self, id: StreamId, query: &Query) -> Result<Page> {
        self.scan(&[id], query)
    }

    /// One page of several streams, merged by time.
    pub fn scan(&self, ids: &[StreamId], query: &Query) -> Result<Page> {
        let mut reader = Reader::new(query);
        let ids: BTreeSet<StreamId> = ids.iter().copied().collect();
        for id in ids {
            self.with(id, &mut |stream| reader.add(id, stream))?;
        }
        reader.page(|id, run| self.with(id, run))
    }

    fn with(&self, id: StreamId, run: &mut dyn FnMut(&mut Stream) -> Result<()>) -> Result<()> {
        let stream = locked(&self.streams).get(&id).cloned();
        match stream {
            Some(stream) => read::unless_gone(run(&mut locked(&stream))),
            None => Ok(()),
        }
    }

    /// What is known of a stream; `None` when nothing was ever appended to it.
    pub fn stats(&self, id: StreamId) -> Result<Option<Stats>> {
        let stream = locked(&self.streams).get(&id).cloned();
        stream.map(|stream| locked(&stream).stats()).transpose()
    }

    /// All streams that have a directory, in order: for removing those that no record knows any more.
    pub fn streams(&self) -> Vec<StreamId> {
        let mut ids: Vec<StreamId> = locked(&self.streams).keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        locked(&self.totals).bytes
    }

    /// Removes a stream and its events; one that is absent is no error. Sequences begin anew after it.
    pub fn delete(&self, id: StreamId) -> Result<()> {
        let Some(stream) = locked(&self.streams).get(&id).cloned() else { return Ok(()) };
        // An append that is under way ends first; what it wrote is deleted too.
        let mut stream = locked(&stream);
        if stream.is_deleted() {
            return Ok(());
        }
        stream.delete()?;
        let mut totals = locked(&self.totals);
        let firsts: Vec<u64> =
            totals.segments.get(&id).map(|all| all.keys().copied().collect()).unwrap_or_default();
        firsts.into_iter().for_each(|first| totals.forget(id, first));
        totals.unsynced.remove(&id);
        drop(totals);
        locked(&self.streams).remove(&id);
        Ok(())
    }

    /// Removes what happened before `before_ms`, in whole segments: younger events in the same segment keep an
    /// older one until they expire too.
    pub fn trim(&self, id: StreamId, before_ms: i64) -> Result<()> {
        self.remove_segments(id, |stream| stream.expired(before_ms))
    }

    /// Flushes all that was appended before this call to the device.
    pub fn sync(&self) -> Result<()> {
        let unsynced = std::mem::take(&mut locked(&self.totals).unsynced);
        let mut unsynced = unsynced.into_iter();
        while let Some((id, from)) = unsynced.next() {
            let Some(stream) = locked(&self.streams).get(&id).cloned() else { continue };
            // Appends go on while the device is busy: the stream is held only for opening the files.
            let files = locked(&stream).files(from);
            if let Err(error) = files.and_then(|files| files.iter().try_for_each(sync_file)) {
                let mut totals = locked(&self.totals);
                for (id, from) in unsynced.chain([(id, from)]) {
                    let noted = totals.unsynced.entry(id).or_insert(from);
                    *noted = from.min(*noted);
                }
                return Err(error);
            }
        }
        files::sync_dir(&self.dir)
    }
}

fn sync_file(file: &fs::File) -> Result<()> {
    file.sync_data().map_err(|error| StoreError::io("syncing a log stream", error))
}

/// When a file was last written, in milliseconds since the Unix epoch; 0 when that cannot be told.
fn modified_ms(path: &Path) -> i64 {
    let modified = path.metadata().and_then(|metadata| metadata.modified()).ok();
    let since_epoch = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since_epoch.map_or(0, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
