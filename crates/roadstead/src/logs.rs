//! The log events behind the CloudWatch Logs operations, and where containers' output goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws::{LogEvent, LogPage, LogQuery, LogStore};
use state::TimeMs;
use store::segments::{Direction, Event, Page, Position, Query, Segments, StreamId};
use wire::Fault;

/// "Each page can contain up to 1 MB of log events", GetLogEvents and FilterLogEvents.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Log events in segments.
pub struct Logs {
    segments: Arc<Segments>,
}

impl Logs {
    /// Over opened segments.
    pub fn new(segments: Arc<Segments>) -> Logs {
        Logs { segments }
    }

    /// Forgets events of a stream that are older than `before_ms`.
    pub fn trim(&self, group: &str, stream: &str, before_ms: TimeMs) -> Result<(), store::StoreError> {
        self.segments.trim(StreamId::of(group, stream), before_ms)
    }

    /// Forgets all streams.
    pub fn clear(&self) -> Result<(), store::StoreError> {
        self.segments.streams().into_iter().try_for_each(|id| self.segments.delete(id))
    }
}

fn unavailable(error: store::StoreError) -> Fault {
    Fault::new("ServiceUnavailableException", format!("The log events cannot be kept or read: {error}"))
}

fn bad_token() -> Fault {
    Fault::new("InvalidParameterException", "The specified nextToken is invalid.")
}

/// A token of GetLogEvents: its direction and the event it stands at; none = the very beginning or end.
fn parse_token(token: &str) -> Result<(Direction, Option<Position>), Fault> {
    let (direction, rest) = match token.split_at_checked(2) {
        Some(("f/", rest)) => (Direction::Forward, rest),
        Some(("b/", rest)) => (Direction::Backward, rest),
        _ => return Err(bad_token()),
    };
    match rest {
        "" => Ok((direction, None)),
        position => Ok((direction, Some(position.parse().map_err(|_| bad_token())?))),
    }
}

impl Logs {
    fn query(&self, query: &LogQuery, direction: Direction, from: Option<Position>) -> Query {
        Query {
            range_ms: query.start_ms.unwrap_or(TimeMs::MIN)..query.end_ms.unwrap_or(TimeMs::MAX),
            direction,
            from,
            max_events: query.limit,
            max_bytes: PAGE_BYTES_MAX,
        }
    }
}

fn events(page: Page, names: &BTreeMap<StreamId, &str>) -> Vec<LogEvent> {
    let event = |found: store::segments::Found| LogEvent {
        stream: names.get(&found.stream).map(|name| (*name).to_owned()).unwrap_or_default(),
        timestamp_ms: found.event.timestamp_ms,
        ingestion_ms: found.event.ingestion_ms,
        message: found.event.message,
        id: found.position.to_string(),
    };
    page.events.into_iter().map(event).collect()
}

impl LogStore for Logs {
    fn append(
        &self,
        group: &str,
        stream: &str,
        events: &[(TimeMs, String)],
        now_ms: TimeMs,
    ) -> Result<(), Fault> {
        let event = |(at, text): &(TimeMs, String)| Event {
            timestamp_ms: *at,
            ingestion_ms: now_ms,
            message: text.clone(),
        };
        let events: Vec<Event> = events.iter().map(event).collect();
        self.segments.append(StreamId::of(group, stream), &events).map_err(unavailable)?;
        self.segments.sync().map_err(unavailable)
    }

    fn read(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let name = query.streams.first().map(String::as_str).unwrap_or_default();
        let id = StreamId::of(&query.group, name);
        let (direction, from) = match &query.token {
            Some(token) => parse_token(token)?,
            None if query.backward => (Direction::Backward, None),
            None => (Direction::Forward, None),
        };
        let page = self.segments.read(id, &self.query(query, direction, from)).map_err(unavailable)?;
        let end = |found: Option<&store::segments::Found>| {
            // An empty page gives the tokens that lead back to where it was asked for: the same again at the end.
            found.map(|f| f.position.to_string()).or_else(|| from.map(|p| p.to_string())).unwrap_or_default()
        };
        let (first, last) = (end(page.events.first()), end(page.events.last()));
        Ok(LogPage {
            events: events(page, &BTreeMap::from([(id, name)])),
            forward_token: Some(format!("f/{last}")),
            backward_token: Some(format!("b/{first}")),
        })
    }

    fn scan(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let from = match &query.token {
            Some(token) => Some(token.parse().map_err(|_| bad_token())?),
            None => None,
        };
        let names: BTreeMap<StreamId, &str> =
            query.streams.iter().map(|name| (StreamId::of(&query.group, name), name.as_str())).collect();
        let ids: Vec<StreamId> = names.keys().copied().collect();
        let page = self.segments.scan(&ids, &self.query(query, Direction::Forward, from));
        let page = page.map_err(unavailable)?;
        let last = page.events.last().filter(|_| !page.at_end).map(|found| found.position.to_string());
        Ok(LogPage { events: events(page, &names), forward_token: last, backward_token: None })
    }

    fn delete(&self, group: &str, stream: &str) -> Result<(), Fault> {
        self.segments.delete(StreamId::of(group, stream)).map_err(unavailable)
    }

    fn stats(&self, group: &str, stream: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64) {
        match self.segments.stats(StreamId::of(group, stream)) {
            Ok(Some(stats)) => {
                (stats.first_event_ms, stats.last_event_ms, stats.last_ingestion_ms, stats.file_bytes)
            }
            _ => (None, None, None, 0),
        }
    }
}
