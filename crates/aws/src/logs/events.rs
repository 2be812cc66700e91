//! Log events: put, read one stream, search several.

use state::TimeMs;
use state::logs::LogGroup;
use wire::Fault;
use wire::shapes::logs as shape;

use super::filter::Pattern;
use super::groups::{find as find_group, named, streams_of};
use super::streams::find as find_stream;
use super::{invalid, refuse, stream_missing};
use crate::{Call, LogEvent, LogQuery};

const DAY_MS: TimeMs = 86_400_000;
/// "The maximum batch size is 1,048,576 bytes […] the sum of all event messages in UTF-8, plus 26 bytes for each."
const BATCH_BYTES_MAX: usize = 1_048_576;
const EVENT_OVERHEAD_BYTES: usize = 26;
const EVENT_BYTES_MAX: usize = 1_048_576;
/// "The maximum number of events to return. The default is 10,000 events."
const PAGE_EVENTS_MAX: usize = 10_000;
/// A search that finds little goes on with its next call after looking at this much.
const SEARCH_BYTES_MAX: usize = 8 << 20;

/// From when on events are shown: not before `start_ms`, and none whose retention is over. Expired ones are removed later,
/// together with those around them.
fn unexpired(group: &LogGroup, start_ms: Option<TimeMs>, now_ms: TimeMs) -> Option<TimeMs> {
    let edge = group.retention_days.map(|days| now_ms - TimeMs::from(days) * DAY_MS);
    start_ms.max(edge)
}

pub(super) fn put(
    call: &mut Call<'_>,
    input: shape::PutLogEventsRequest,
) -> Result<shape::PutLogEventsResponse, Fault> {
    refuse(&input.entity, "entity")?;
    let group = find_group(call, &input.log_group_name.unwrap_or_default())?;
    let stream = find_stream(call, &group.name, &input.log_stream_name.unwrap_or_default())?;
    let given = input.log_events.unwrap_or_default();
    let mut events = Vec::with_capacity(given.len());
    let mut bytes = 0;
    for event in given {
        let message = event.message.unwrap_or_default();
        if message.len() + EVENT_OVERHEAD_BYTES > EVENT_BYTES_MAX {
            return Err(invalid(format!(
                "Log event too large: {} bytes exceeds limit of {EVENT_BYTES_MAX}",
                message.len() + EVENT_OVERHEAD_BYTES
            )));
        }
        bytes += message.len() + EVENT_OVERHEAD_BYTES;
        events.push((event.timestamp.unwrap_or(0), message));
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(invalid(format!("Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}")));
    }
    if events.windows(2).any(|pair| pair[0].0 > pair[1].0) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    if let (Some(first), Some(last)) = (events.first(), events.last())
        && last.0 - first.0 > DAY_MS
    {
        return Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    let oldest = call.now_ms - 14 * DAY_MS;
    let expired = unexpired(&group, None, call.now_ms);
    let newest = call.now_ms + 2 * 3_600_000;
    let too_old = events.iter().take_while(|(at, _)| *at < oldest).count();
    let expired = events.iter().take_while(|(at, _)| expired.is_some_and(|edge| *at < edge)).count();
    let too_new = events.iter().position(|(at, _)| *at > newest);
    let from = too_old.max(expired);
    let accepted = &events[from.min(events.len())..too_new.unwrap_or(events.len()).max(from)];
    if !accepted.is_empty() {
        call.logs.append(&call.scope().key(&group.name), &stream.name, accepted, call.now_ms)?;
    }
    let rejected = (from > 0 || too_new.is_some()).then(|| shape::RejectedLogEventsInfo {
        too_new_log_event_start_index: too_new.map(|at| at as i64),
        too_old_log_event_end_index: (too_old > 0).then_some(too_old as i64),
        expired_log_event_end_index: (expired > 0).then_some(expired as i64),
    });
    Ok(shape::PutLogEventsResponse {
        next_sequence_token: Some("1".into()),
        rejected_log_events_info: rejected,
        rejected_entity_info: None,
    })
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetLogEventsRequest,
) -> Result<shape::GetLogEventsResponse, Fault> {
    let group = find_group(call, &named(call, input.log_group_name, input.log_group_identifier)?)?;
    let stream = find_stream(call, &group.name, &input.log_stream_name.unwrap_or_default())?;
    let page = call.logs.read(&LogQuery {
        group: call.scope().key(&group.name),
        streams: vec![stream.name.clone()],
        start_ms: unexpired(&group, input.start_time, call.now_ms),
        end_ms: input.end_time,
        limit: input.limit.unwrap_or(10_000) as usize,
        token: input.next_token,
        backward: !input.start_from_head.unwrap_or(false),
    })?;
    let event = |event: LogEvent| shape::OutputLogEvent {
        timestamp: Some(event.timestamp_ms),
        message: Some(event.message),
        ingestion_time: Some(event.ingestion_ms),
    };
    Ok(shape::GetLogEventsResponse {
        events: Some(page.events.into_iter().map(event).collect()),
        next_forward_token: page.forward_token,
        next_backward_token: page.backward_token,
    })
}

pub(super) fn filter(
    call: &mut Call<'_>,
    input: shape::FilterLogEventsRequest,
) -> Result<shape::FilterLogEventsResponse, Fault> {
    let group = find_group(call, &named(call, input.log_group_name, input.log_group_identifier)?)?;
    let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or(""))?;
    if input.log_stream_names.is_some() && input.log_stream_name_prefix.is_some() {
        return Err(invalid("LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters."));
    }
    let mut streams: Vec<String> =
        streams_of(call, &group.name).iter().map(|stream| stream.name.clone()).collect();
    if let Some(names) = &input.log_stream_names {
        if names.iter().any(|name| !streams.contains(name)) {
            return Err(stream_missing());
        }
        streams.retain(|name| names.contains(name));
    }
    let prefix = input.log_stream_name_prefix.unwrap_or_default();
    streams.retain(|name| name.starts_with(&prefix));
    let limit = input.limit.unwrap_or(PAGE_EVENTS_MAX as i64) as usize;
    let query = LogQuery {
        group: call.scope().key(&group.name),
        streams,
        start_ms: unexpired(&group, input.start_time, call.now_ms),
        end_ms: input.end_time,
        limit,
        token: input.next_token,
        backward: false,
    };
    let (found, next_token) = search(call, query, |message| pattern.matches(message))?;
    let event = |event: LogEvent| shape::FilteredLogEvent {
        log_stream_name: Some(event.stream),
        timestamp: Some(event.timestamp_ms),
        message: Some(event.message),
        ingestion_time: Some(event.ingestion_ms),
        event_id: Some(event.id),
    };
    Ok(shape::FilterLogEventsResponse {
        events: Some(found.into_iter().map(event).collect()),
        searched_log_streams: Some(Vec::new()),
        next_token,
    })
}

/// The next events that match, at most `query.limit`, and the token that goes on behind the last event looked at; none
/// at the end. "The operation can return empty results while there are more log events available through the token."
fn search(
    call: &Call<'_>,
    mut query: LogQuery,
    matches: impl Fn(&str) -> bool,
) -> Result<(Vec<LogEvent>, Option<String>), Fault> {
    let limit = query.limit;
    let (mut found, mut looked_at) = (Vec::new(), 0);
    loop {
        let page = call.logs.scan(&query)?;
        let last = page.events.len().saturating_sub(1);
        for (at, event) in page.events.into_iter().enumerate() {
            looked_at += event.message.len() + EVENT_OVERHEAD_BYTES;
            if !matches(&event.message) {
                continue;
            }
            found.push(event);
            if let Some(event) = found.last().filter(|_| found.len() >= limit) {
                let behind = if at < last { Some(event.id.clone()) } else { page.forward_token };
                return Ok((found, behind));
            }
        }
        query.token = page.forward_token;
        if query.token.is_none() || looked_at >= SEARCH_BYTES_MAX {
            return Ok((found, query.token));
        }
        // What is rare is looked for in large steps, so that a small limit does not cost more than a large one.
        query.limit = (query.limit * 4).min(PAGE_EVENTS_MAX);
    }
}
