//! Log streams.

use std::sync::Arc;

use state::logs::{LogGroup, LogStream};
use state::{Scope, TimeMs, Tx};
use wire::Fault;
use wire::shapes::logs as shape;

use super::groups::{find as find_group, named, new_group, streams_of};
use super::{group_missing, invalid, stream_missing};
use crate::{Call, Page};

/// Makes sure that a stream exists, as the `awslogs` driver does when a container starts; `create_group` is its option
/// `awslogs-create-group`. Fails if the group does not exist.
pub fn ensure_stream(
    tx: &mut Tx,
    scope: &Scope,
    group: &str,
    stream: &str,
    create_group: bool,
    now_ms: TimeMs,
) -> Result<(), Fault> {
    if tx.get::<LogGroup>(&scope.key(group)).is_none() {
        if !create_group {
            return Err(group_missing());
        }
        tx.put(new_group(scope, group, now_ms));
    }
    if tx.get::<LogStream>(&LogStream::key_of(scope, group, stream)).is_none() {
        tx.put(LogStream {
            scope: scope.clone(),
            group: group.to_owned(),
            name: stream.to_owned(),
            created_at_ms: now_ms,
        });
    }
    Ok(())
}

/// The stream of a name in a group that exists.
pub(super) fn find(call: &Call<'_>, group: &str, name: &str) -> Result<Arc<LogStream>, Fault> {
    let group = find_group(call, group)?;
    let key = LogStream::key_of(call.scope(), &group.name, name);
    call.tx.get::<LogStream>(&key).ok_or_else(stream_missing)
}

pub(super) fn create(call: &mut Call<'_>, input: shape::CreateLogStreamRequest) -> Result<(), Fault> {
    let group = input.log_group_name.unwrap_or_default();
    let name = input.log_stream_name.unwrap_or_default();
    find_group(call, &group)?;
    if find(call, &group, &name).is_ok() {
        return Err(Fault::new("ResourceAlreadyExistsException", "The specified log stream already exists"));
    }
    let scope = call.scope().clone();
    ensure_stream(call.tx, &scope, &group, &name, false, call.now_ms)
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeLogStreamsRequest,
) -> Result<shape::DescribeLogStreamsResponse, Fault> {
    let group = find_group(call, &named(call, input.log_group_name, input.log_group_identifier)?)?;
    let by_time = input.order_by.as_deref() == Some("LastEventTime");
    if by_time && input.log_stream_name_prefix.is_some() {
        return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let prefix = input.log_stream_name_prefix.unwrap_or_default();
    let mut shown: Vec<shape::LogStream> = streams_of(call, &group.name)
        .iter()
        .filter(|stream| stream.name.starts_with(&prefix))
        .map(|stream| view(call, stream))
        .collect();
    // A page goes on after its last item in whichever order is asked for, so items are numbered in that order.
    if by_time {
        shown.sort_by_key(|stream| stream.last_event_timestamp.or(stream.creation_time));
    }
    if input.descending == Some(true) {
        shown.reverse();
    }
    let numbered: Vec<_> = shown.into_iter().enumerate().collect();
    let page = Page { token: input.next_token.as_deref(), limit: input.limit.unwrap_or(50) as usize };
    if !page.is_valid() {
        return Err(invalid("The specified nextToken is invalid."));
    }
    let (items, next_token) = page.take(numbered, |(number, _)| format!("{number:010}"));
    let log_streams = items.into_iter().map(|(_, stream)| stream).collect();
    Ok(shape::DescribeLogStreamsResponse { log_streams: Some(log_streams), next_token })
}

fn view(call: &Call<'_>, stream: &LogStream) -> shape::LogStream {
    let (first, last, ingested, _) = call.logs.stats(&stream.scope.key(&stream.group), &stream.name);
    let resource = format!("log-group:{}:log-stream:{}", stream.group, stream.name);
    shape::LogStream {
        log_stream_name: Some(stream.name.clone()),
        creation_time: Some(stream.created_at_ms),
        first_event_timestamp: first,
        last_event_timestamp: last,
        last_ingestion_time: ingested,
        upload_sequence_token: Some("1".into()),
        arn: Some(stream.scope.arn("logs", &resource)),
        // AWS has answered 0 since June 2019: "storedBytes" of a stream is no longer kept.
        stored_bytes: Some(0),
    }
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteLogStreamRequest) -> Result<(), Fault> {
    let group = input.log_group_name.unwrap_or_default();
    let stream = find(call, &group, &input.log_stream_name.unwrap_or_default())?;
    call.logs.delete(&call.scope().key(&group), &stream.name)?;
    call.tx.delete::<LogStream>(&LogStream::key_of(&stream.scope, &stream.group, &stream.name));
    Ok(())
}
