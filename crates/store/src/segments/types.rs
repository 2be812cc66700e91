//! The values of the log store: streams, events, positions, pages.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// One stream of events, named by an opaque group and stream name. Only a hash of the names is kept here; the
/// names belong to whoever keeps the stream's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u128);

impl StreamId {
    /// The id of the stream `stream` of `group`. (Whatever tells tenants apart belongs into the group.)
    pub fn of(group: &str, stream: &str) -> StreamId {
        let mut hasher = Sha256::new();
        hasher.update((group.len() as u64).to_le_bytes());
        hasher.update(group);
        hasher.update(stream);
        let hash: [u8; 32] = hasher.finalize().into();
        StreamId(hash[..16].iter().fold(0, |id, byte| id << 8 | u128::from(*byte)))
    }

    /// What tells this stream's events apart from others' at the same millisecond.
    pub(crate) fn short(&self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// One log event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it happened, in milliseconds since the Unix epoch, as its writer says.
    pub timestamp_ms: i64,
    /// When it was received, in milliseconds since the Unix epoch.
    pub ingestion_ms: i64,
    /// Its text.
    pub message: String,
}

/// The place of an event: unique, and ordered by time, then stream, then arrival.
/// Its text (48 hexadecimal digits) serves as a page token and as an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub(crate) timestamp_ms: i64,
    pub(crate) stream: u64,
    pub(crate) sequence: u64,
}

impl Position {
    /// When the event at this place happened, in milliseconds since the Unix epoch.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}{:016x}", self.timestamp_ms, self.stream, self.sequence)
    }
}

/// A text that is no [`Position`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPosition;

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position: 48 lower-case hexadecimal digits are")
    }
}

impl std::error::Error for BadPosition {}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Position, BadPosition> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 48 || !text.bytes().all(hex) {
            return Err(BadPosition);
        }
        let part = |at: usize| u64::from_str_radix(&text[at..at + 16], 16).map_err(|_| BadPosition);
        Ok(Position { timestamp_ms: part(0)?.cast_signed(), stream: part(16)?, sequence: part(32)? })
    }
}

/// Which way a page goes on from its token. Either way its events are in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The events after the token, or the first ones.
    Forward,
    /// The events before the token, or the last ones.
    Backward,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Events from the start (inclusive) to the end (exclusive), in milliseconds since the Unix epoch.
    pub range_ms: Range<i64>,
    /// Which way.
    pub direction: Direction,
    /// Go on from this event, which is not part of the page.
    pub from: Option<Position>,
    /// At most so many events.
    pub max_events: usize,
    /// At most so many bytes of messages, but always one event.
    pub max_bytes: usize,
}

/// One event of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its stream.
    pub stream: StreamId,
    /// Its place: the token to go on from.
    pub position: Position,
    /// The event.
    pub event: Event,
}

/// A page of events in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The events. Forward, go on from the last one's position; backward, from the first one's.
    pub events: Vec<Found>,
    /// Whether nothing follows in this direction for now.
    pub at_end: bool,
}

/// What is known of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// How many events it holds.
    pub events: u64,
    /// The earliest timestamp among them, in milliseconds since the Unix epoch.
    pub first_event_ms: Option<i64>,
    /// The latest timestamp among them.
    pub last_event_ms: Option<i64>,
    /// When an event was last received.
    pub last_ingestion_ms: Option<i64>,
    /// The bytes of their messages, without any overhead.
    pub message_bytes: u64,
    /// The bytes of the stream's files.
    pub file_bytes: u64,
    /// Bytes that could not be read back: the end of a write that a power loss cut off, or damage.
    pub unreadable_bytes: u64,
}

impl Stats {
    /// Adds what another part of the stream has.
    pub(crate) fn add(&mut self, other: &Stats) {
        let least = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
        self.events += other.events;
        self.first_event_ms = least(self.first_event_ms, other.first_event_ms);
        self.last_event_ms = self.last_event_ms.max(other.last_event_ms);
        self.last_ingestion_ms = self.last_ingestion_ms.max(other.last_ingestion_ms);
        self.message_bytes += other.message_bytes;
        self.file_bytes += other.file_bytes;
        self.unreadable_bytes += other.unreadable_bytes;
    }

    /// Counts one event.
    pub(crate) fn count(&mut self, event: &Event) {
        self.events += 1;
        self.first_event_ms =
            Some(self.first_event_ms.map_or(event.timestamp_ms, |ms| ms.min(event.timestamp_ms)));
        self.last_event_ms = self.last_event_ms.max(Some(event.timestamp_ms));
        self.last_ingestion_ms = self.last_ingestion_ms.max(Some(event.ingestion_ms));
        self.message_bytes += event.message.len() as u64;
    }
}
