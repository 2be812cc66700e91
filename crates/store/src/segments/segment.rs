//! One segment file: its name, its frames, its sparse index.
//!
//! ```text
//! frame body: first sequence u64 | event…
//! event:      timestamp i64 | ingestion i64 | length u32 | message     (little-endian)
//! ```
//! A segment that is appended to is named `<first sequence>.log`. When it is full it is renamed so that its name
//! says what is in it: `<first sequence>-<events>-<first timestamp>-<last timestamp>-<last ingestion>-<message
//! bytes>.log`, all hexadecimal. So a directory of thousands of segments is opened by listing it.

use std::path::Path;

use super::types::{Event, Stats};
use crate::error::Result;
use crate::frame::{self, Frames};

/// What an event takes beside its message.
const EVENT_HEAD_BYTES: usize = 20;

/// A run of frames that is indexed and read as one: where it lies and which times are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
}

/// Adds a frame to an index: to its last chunk while that is small, else as a new one. So many small appends need
/// no more memory, and no more reads, than few large ones.
pub(super) fn index(chunks: &mut Vec<Chunk>, frame: Chunk, chunk_bytes: usize) {
    match chunks.last_mut() {
        Some(last) if last.end == frame.start && frame.end - last.start <= chunk_bytes as u64 => {
            last.end = frame.end;
            last.first_ms = last.first_ms.min(frame.first_ms);
            last.last_ms = last.last_ms.max(frame.last_ms);
        }
        _ => chunks.push(frame),
    }
}

/// What is known of one segment.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// The sequence of its first event, which is also the number its frames are sealed with.
    pub(super) first: u64,
    pub(super) stats: Stats,
    pub(super) sealed: bool,
    /// Its index, once it was read or written.
    pub(super) chunks: Option<Vec<Chunk>>,
}

impl Segment {
    /// An empty one that is appended to.
    pub(super) fn new(first: u64) -> Segment {
        Segment { first, stats: Stats::default(), sealed: false, chunks: Some(Vec::new()) }
    }

    /// The sequence of the first event after it.
    pub(super) fn end(&self) -> u64 {
        self.first + self.stats.events
    }

    /// Its file's name.
    pub(super) fn name(&self) -> String {
        let first = self.first;
        match (self.sealed, &self.stats) {
            (
                true,
                Stats { events, first_event_ms: Some(from), last_event_ms: Some(to), message_bytes, .. },
            ) => {
                let ingestion = self.stats.last_ingestion_ms.unwrap_or(0);
                format!("{first:016x}-{events:x}-{from:x}-{to:x}-{ingestion:x}-{message_bytes:x}.log")
            }
            _ => format!("{first:016x}.log"),
        }
    }

    /// What a file's name says; of one that is appended to, only its first sequence. `None`: not a segment.
    pub(super) fn from_name(name: &str, file_bytes: u64) -> Option<Segment> {
        let mut parts = name.strip_suffix(".log")?.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        let first = parts.next()??;
        let mut segment =
            Segment { first, stats: Stats { file_bytes, ..Stats::default() }, sealed: false, chunks: None };
        if let Some(events) = parts.next() {
            let mut number = || parts.next().flatten();
            segment.stats.events = events?;
            segment.stats.first_event_ms = Some(number()?.cast_signed());
            segment.stats.last_event_ms = Some(number()?.cast_signed());
            segment.stats.last_ingestion_ms = Some(number()?.cast_signed());
            segment.stats.message_bytes = number()?;
            segment.sealed = true;
        }
        Some(segment)
    }

    /// Reads the whole file: the index, and, where the name does not say them, the stats. Returns the end of the
    /// last valid frame.
    pub(super) fn scan(&mut self, path: &Path, chunk_bytes: usize) -> Result<u64> {
        let mut frames = Frames::open(path, self.first)?;
        let mut stats = Stats { file_bytes: frames.file_bytes(), ..Stats::default() };
        let mut chunks = Vec::new();
        let mut offset = 0;
        while let Some((body, _)) = frames.next()? {
            let mut times = Stats::default();
            let whole = decode(body, |_, event| times.count(&event));
            let (Some(()), Some(first_ms), Some(last_ms)) =
                (whole, times.first_event_ms, times.last_event_ms)
            else {
                break;
            };
            let frame = Chunk { start: offset, end: frames.offset(), first_ms, last_ms };
            index(&mut chunks, frame, chunk_bytes);
            stats.add(&times);
            offset = frames.offset();
        }
        stats.unreadable_bytes = frames.file_bytes() - offset;
        if self.sealed {
            // The name counts events that are unreadable now, so that sequences stay what they were.
            self.stats.unreadable_bytes = stats.unreadable_bytes;
        } else {
            self.stats = stats;
        }
        self.chunks = Some(chunks);
        Ok(offset)
    }
}

/// Frames for events that begin with sequence `first`, to be written at `offset` of the segment `number`: their
/// bytes, and what to index of each.
pub(super) fn encode(
    events: &[Event],
    first: u64,
    offset: u64,
    number: u64,
    chunk_bytes: usize,
) -> Result<(Vec<u8>, Vec<Chunk>)> {
    let mut bytes = Vec::new();
    let mut frames = Vec::new();
    let mut rest = events;
    let mut sequence = first;
    while !rest.is_empty() {
        let start = frame::begin(&mut bytes);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        let mut times = Stats::default();
        while let Some((event, after)) = rest.split_first() {
            let size = EVENT_HEAD_BYTES + event.message.len();
            if times.events > 0 && bytes.len() - start + size > chunk_bytes {
                break;
            }
            bytes.extend_from_slice(&event.timestamp_ms.to_le_bytes());
            bytes.extend_from_slice(&event.ingestion_ms.to_le_bytes());
            // A message of 4 GiB fails in `seal`, as the whole frame is too large then.
            bytes.extend_from_slice(&u32::try_from(event.message.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(event.message.as_bytes());
            times.count(event);
            rest = after;
        }
        sequence += times.events;
        let (start_offset, end) = (offset + start as u64, offset + bytes.len() as u64);
        frame::seal(&mut bytes[start..], start_offset, number)?;
        if let (Some(first_ms), Some(last_ms)) = (times.first_event_ms, times.last_event_ms) {
            frames.push(Chunk { start: start_offset, end, first_ms, last_ms });
        }
    }
    Ok((bytes, frames))
}

/// Reads one chunk: each event with its sequence. What has become unreadable since it was indexed is left out, as
/// it would be by a scan.
pub(super) fn read_chunk(
    path: &Path,
    number: u64,
    chunk: &Chunk,
    mut visit: impl FnMut(u64, Event),
) -> Result<()> {
    let mut frames = Frames::open_range(path, number, chunk.start..chunk.end)?;
    while let Some((body, _)) = frames.next()? {
        if decode(body, &mut visit).is_none() {
            break;
        }
    }
    Ok(())
}

fn decode(body: &[u8], mut visit: impl FnMut(u64, Event)) -> Option<()> {
    let (first, mut rest) = body.split_first_chunk()?;
    let mut sequence = u64::from_le_bytes(*first);
    while !rest.is_empty() {
        let (timestamp, after) = rest.split_first_chunk()?;
        let (ingestion, after) = after.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (message, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (timestamp_ms, ingestion_ms) = (i64::from_le_bytes(*timestamp), i64::from_le_bytes(*ingestion));
        visit(
            sequence,
            Event { timestamp_ms, ingestion_ms, message: std::str::from_utf8(message).ok()?.to_owned() },
        );
        sequence += 1;
        rest = after;
    }
    Some(())
}
