//! Merging chunks into a page: in order of time, from one stream or many, either way.
//!
//! Backward is forward on mirrored keys, so there is one algorithm: keep the parts (segments, then chunks) in a
//! heap by the earliest key they can hold, and open a part only when no event in hand comes before it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::segment::{Chunk, Segment};
use super::stream::Stream;
use super::types::{Direction, Event, Found, Page, Position, Query, StreamId};
use crate::error::{Result, StoreError};

/// A position, mirrored when reading backward.
type Key = (i64, u64, u64);

/// The bitwise complement reverses the order of every part.
fn key(position: &Position, direction: Direction) -> Key {
    let Position { timestamp_ms, stream, sequence } = *position;
    match direction {
        Direction::Forward => (timestamp_ms, stream, sequence),
        Direction::Backward => (!timestamp_ms, !stream, !sequence),
    }
}

/// Something that holds events not before `earliest`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    earliest_ms: i64,
    stream: StreamId,
    first: u64,
    /// One chunk, or the whole segment.
    chunk: Option<Chunk>,
}

/// Reads one page.
pub(super) struct Reader<'a> {
    query: &'a Query,
    from: Option<Key>,
    parts: BinaryHeap<Reverse<Part>>,
    in_hand: BTreeMap<Key, Found>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(query: &'a Query) -> Reader<'a> {
        let from = query.from.as_ref().map(|position| key(position, query.direction));
        Reader { query, from, parts: BinaryHeap::new(), in_hand: BTreeMap::new() }
    }

    /// Adds the segments of a stream.
    pub(super) fn add(&mut self, id: StreamId, stream: &mut Stream) -> Result<()> {
        stream.make_ready()?;
        let time_of = |segment: &Segment| Some((segment.stats.first_event_ms?, segment.stats.last_event_ms?));
        for segment in stream.segments() {
            let Some((first_ms, last_ms)) = time_of(segment) else { continue };
            self.add_part(id, segment.first, None, first_ms, last_ms);
        }
        Ok(())
    }

    fn add_part(&mut self, stream: StreamId, first: u64, chunk: Option<Chunk>, first_ms: i64, last_ms: i64) {
        let range = &self.query.range_ms;
        if last_ms < range.start || first_ms >= range.end {
            return;
        }
        let (earliest_ms, latest_ms) = match self.query.direction {
            Direction::Forward => (first_ms, last_ms),
            Direction::Backward => (!last_ms, !first_ms),
        };
        if self.from.is_some_and(|(from_ms, ..)| latest_ms < from_ms) {
            return;
        }
        self.parts.push(Reverse(Part { earliest_ms, stream, first, chunk }));
    }

    /// Reads the page. `with` runs a function on a stream, or not if the stream is gone.
    pub(super) fn page(
        mut self,
        mut with: impl FnMut(StreamId, &mut dyn FnMut(&mut Stream) -> Result<()>) -> Result<()>,
    ) -> Result<Page> {
        let mut page = Page { events: Vec::new(), at_end: true };
        let mut bytes = 0;
        loop {
            let next_ms = self.in_hand.first_key_value().map(|((ms, ..), _)| *ms);
            let due = |part: &Reverse<Part>| next_ms.is_none_or(|next_ms| part.0.earliest_ms <= next_ms);
            if self.parts.peek().is_some_and(due) {
                let Some(Reverse(part)) = self.parts.pop() else { break };
                with(part.stream, &mut |stream| self.open(&part, stream))?;
                continue;
            }
            let Some((key, found)) = self.in_hand.pop_first() else { break };
            bytes += found.event.message.len();
            let too_many = !page.events.is_empty() && bytes > self.query.max_bytes;
            if too_many || page.events.len() >= self.query.max_events {
                page.at_end = false;
                break;
            }
            page.events.push(found);
            // A stream that is deleted and begun anew under this scan must not bring the page out of order.
            self.from = Some(key);
        }
        if self.query.direction == Direction::Backward {
            page.events.reverse();
        }
        Ok(page)
    }

    /// Replaces a segment by its chunks, a chunk by its events.
    fn open(&mut self, part: &Part, stream: &mut Stream) -> Result<()> {
        let Some(chunk) = &part.chunk else {
            for chunk in stream.chunks(part.first)? {
                self.add_part(part.stream, part.first, Some(chunk), chunk.first_ms, chunk.last_ms);
            }
            return Ok(());
        };
        stream.read(part.first, chunk, |sequence, event| self.take(part.stream, sequence, event))
    }

    fn take(&mut self, stream: StreamId, sequence: u64, event: Event) {
        let position = Position { timestamp_ms: event.timestamp_ms, stream: stream.short(), sequence };
        let key = key(&position, self.query.direction);
        if self.query.range_ms.contains(&event.timestamp_ms) && self.from.is_none_or(|from| key > from) {
            self.in_hand.insert(key, Found { stream, position, event });
        }
    }
}

/// A segment that was removed between being listed and being read is no error.
pub(super) fn unless_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(StoreError::Io { kind: std::io::ErrorKind::NotFound, .. }) => Ok(()),
        result => result,
    }
}
