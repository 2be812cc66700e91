//! Properties of paging: whatever was appended and however it is cut into pages, every event comes exactly once
//! and in order, forward and backward, also after reopening.

use proptest::prelude::*;
use store::segments::{Direction, Event, Position, Query, SegmentLimits, Segments, StreamId};

/// One append: to which stream, and the events' times and lengths.
type Append = (u8, Vec<(i64, usize)>);

fn appends() -> impl Strategy<Value = Vec<Append>> {
    let events = prop::collection::vec((0..60i64, 0..40usize), 1..8);
    prop::collection::vec((0..3u8, events), 0..30)
}

fn id(stream: u8) -> StreamId {
    StreamId::of("group", &stream.to_string())
}

/// Appends everything; gives what a reader must find, in order.
fn fill(segments: &Segments, appends: &[Append]) -> Vec<(StreamId, Event)> {
    let mut counts = [0; 3];
    let mut all = Vec::new();
    for (stream, events) in appends {
        let mut batch = Vec::new();
        for (timestamp_ms, length) in events {
            let sequence: usize = counts[usize::from(*stream)];
            counts[usize::from(*stream)] += 1;
            let message = format!("{stream} {sequence} {}", "x".repeat(*length));
            let event = Event { timestamp_ms: *timestamp_ms, ingestion_ms: 100, message };
            all.push((*timestamp_ms, id(*stream), sequence, event.clone()));
            batch.push(event);
        }
        segments.append(id(*stream), &batch).expect("append");
    }
    all.sort_by_key(|(timestamp_ms, stream, sequence, _)| (*timestamp_ms, *stream, *sequence));
    all.into_iter().map(|(_, stream, _, event)| (stream, event)).collect()
}

/// Follows the pages of a query to the end, with tokens as text.
fn follow(segments: &Segments, ids: &[StreamId], mut query: Query) -> Vec<(StreamId, Event)> {
    let mut pages = Vec::new();
    loop {
        let page = segments.scan(ids, &query).expect("scan");
        assert!(page.events.len() <= query.max_events);
        let bytes: usize = page.events.iter().map(|found| found.event.message.len()).sum();
        assert!(page.events.len() <= 1 || bytes <= query.max_bytes);
        assert!(page.at_end || !page.events.is_empty(), "a page leads on");
        let token = match query.direction {
            Direction::Forward => page.events.last(),
            Direction::Backward => page.events.first(),
        };
        let token: Option<Position> = token.map(|found| found.position.to_string().parse().expect("a token"));
        pages.push(page.events);
        if page.at_end {
            break;
        }
        query.from = token;
    }
    if query.direction == Direction::Backward {
        pages.reverse();
    }
    pages.into_iter().flatten().map(|found| (found.stream, found.event)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_give_every_event_exactly_once(
        appends in appends(),
        start_ms in -5..60i64,
        length_ms in 0..80i64,
        max_events in 1..12usize,
        max_bytes in 1..300usize,
        segment_bytes in 1..600u64,
        chunk_bytes in 1..200usize,
        wanted in 0..8u8,
    ) {
        let folder = tempfile::tempdir().expect("tempdir");
        let limits = SegmentLimits { segment_bytes, chunk_bytes, ..SegmentLimits::default() };
        let segments = Segments::open(folder.path(), limits).expect("open");
        let all = fill(&segments, &appends);
        let ids: Vec<StreamId> = (0..3).filter(|stream| wanted & 1 << stream != 0).map(id).collect();
        let range_ms = start_ms..start_ms + length_ms;
        let matches = |(stream, event): &&(StreamId, Event)| {
            ids.contains(stream) && range_ms.contains(&event.timestamp_ms)
        };
        let expected: Vec<_> = all.iter().filter(matches).cloned().collect();
        let query = |direction| {
            Query { range_ms: range_ms.clone(), direction, from: None, max_events, max_bytes }
        };
        prop_assert_eq!(&follow(&segments, &ids, query(Direction::Forward)), &expected);
        prop_assert_eq!(&follow(&segments, &ids, query(Direction::Backward)), &expected);
        drop(segments);
        let segments = Segments::open(folder.path(), limits).expect("reopen");
        prop_assert_eq!(&follow(&segments, &ids, query(Direction::Backward)), &expected);
        prop_assert_eq!(&follow(&segments, &ids, query(Direction::Forward)), &expected);
    }

    #[test]
    fn positions_are_read_back_and_nothing_else_is(text in "[0-9a-f]{47,49}|.{0,60}", timestamp_ms: i64) {
        match text.parse::<Position>() {
            Ok(position) => prop_assert_eq!(position.to_string(), text),
            Err(_) => prop_assert!(text.len() != 48 || !text.bytes().all(|b| b"0123456789abcdef".contains(&b))),
        }
        let token = format!("{timestamp_ms:016x}{:032x}", 7);
        prop_assert_eq!(token.parse::<Position>().map(|position| position.timestamp_ms()), Ok(timestamp_ms));
    }
}
