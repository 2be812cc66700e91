//! REST JSON: members in the path, the query string, headers and the status, the rest in a JSON body.

use super::form::{Form, decode, percent_decode};
use super::json::{self, float_name};
use super::{Read, Written};
use crate::model::{Kind, Location, Member, Model, OperationModel, TimestampFormat};
use crate::{Fault, Value, timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;

/// The labels of a path, by name, when it matches an operation's pattern such as `/clusters/{name}/tags/{key+}`.
pub fn match_path(pattern: &str, path: &str) -> Option<Form> {
    let pattern = pattern.split('?').next().unwrap_or_default();
    let mut labels = Form::new();
    let mut segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let mut wanted: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
    if let Some(greedy) = wanted.iter().position(|part| part.ends_with("+}")) {
        let after = wanted.len() - greedy - 1;
        let end = segments.len().checked_sub(after).filter(|end| *end > greedy)?;
        let name = wanted[greedy].trim_start_matches('{').trim_end_matches("+}");
        labels.push((name.to_string(), percent_decode(&segments[greedy..end].join("/"))));
        segments.drain(greedy..end);
        wanted.remove(greedy);
    }
    if segments.len() != wanted.len() {
        return None;
    }
    for (segment, part) in segments.iter().zip(wanted) {
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(_) if segment.is_empty() => return None,
            Some(name) => labels.push((name.to_string(), percent_decode(segment))),
            None if *segment == part => {}
            None => return None,
        }
    }
    Some(labels)
}

/// Reads a request's input.
pub fn read(model: &Model, operation: &OperationModel, parts: &Parts, body: &Bytes) -> Result<Read, Fault> {
    let Some(input) = operation.input else {
        return Ok(Read { value: Value::Struct(Vec::new()), unknown: Vec::new() });
    };
    let members = model.members(operation.input);
    let mut read = match model.shape(input).payload {
        Some(payload) => read_payload(model, &members[payload], payload, members.len(), body)?,
        None if members.iter().any(|m| m.location == Location::Body) => {
            json::read(model, operation.input, body)?
        }
        None => Read { value: Value::Struct(vec![Value::Null; members.len()]), unknown: Vec::new() },
    };
    let Value::Struct(fields) = &mut read.value else { return Err(malformed("body")) };
    let labels = match_path(&operation.uri, parts.uri.path()).unwrap_or_default();
    let query = decode(parts.uri.query().unwrap_or_default());
    for (member, field) in members.iter().zip(fields) {
        let name = member.wire_name();
        match member.location {
            Location::Uri => {
                let label = labels.iter().find(|(label, _)| label == name);
                *field = label.map(|(_, text)| scalar(model, member, text)).transpose()?.unwrap_or_default();
            }
            Location::QueryString => *field = from_query(model, member, &query)?,
            Location::Header => *field = from_header(model, member, &parts.headers)?,
            Location::Headers => *field = from_headers(name, &parts.headers),
            Location::Body | Location::StatusCode => {}
        }
    }
    Ok(read)
}

fn read_payload(
    model: &Model,
    member: &Member,
    at: usize,
    count: usize,
    body: &Bytes,
) -> Result<Read, Fault> {
    let mut fields = vec![Value::Null; count];
    let mut unknown = Vec::new();
    if !body.is_empty() {
        fields[at] = match model.shape(member.shape).kind {
            Kind::Blob => Value::Blob(body.clone()),
            Kind::String => Value::Str(String::from_utf8(body.to_vec()).map_err(|_| malformed("body"))?),
            _ => {
                let read = json::read_value(model, member.shape, Some(member), json::parse(body)?)?;
                unknown = read.unknown;
                read.value
            }
        };
    }
    Ok(Read { value: Value::Struct(fields), unknown })
}

fn malformed(name: &str) -> Fault {
    Fault::new("SerializationException", format!("The value of '{name}' can not be read"))
}

fn from_query(model: &Model, member: &Member, query: &Form) -> Result<Value, Fault> {
    let name = member.wire_name();
    let values: Vec<&String> = query.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
    match &model.shape(member.shape).kind {
        Kind::Map(_, value) => {
            // A map takes every parameter, those of other members too.
            let mut map: Vec<(String, Value)> = Vec::new();
            for (name, text) in query {
                match (map.iter_mut().find(|(n, _)| n == name), &model.shape(value.shape).kind) {
                    (Some((_, Value::List(items))), _) => items.push(Value::Str(text.clone())),
                    (Some(_), _) => {}
                    (None, Kind::List(_)) => {
                        map.push((name.clone(), Value::List(vec![Value::Str(text.clone())])))
                    }
                    (None, _) => map.push((name.clone(), Value::Str(text.clone()))),
                }
            }
            Ok(if map.is_empty() { Value::Null } else { Value::Map(map) })
        }
        Kind::List(_) if values.is_empty() => Ok(Value::Null),
        Kind::List(entry) => {
            values.iter().map(|v| scalar(model, entry, v)).collect::<Result<_, _>>().map(Value::List)
        }
        _ => {
            values.first().map(|text| scalar(model, member, text)).transpose().map(Option::unwrap_or_default)
        }
    }
}

fn from_header(model: &Model, member: &Member, headers: &HeaderMap) -> Result<Value, Fault> {
    let name = member.wire_name();
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    if values.is_empty() {
        return Ok(Value::Null);
    }
    let text = values.join(",");
    match &model.shape(member.shape).kind {
        Kind::List(_) if text.is_empty() => Ok(Value::List(Vec::new())),
        Kind::List(entry) => {
            let moments = matches!(model.shape(entry.shape).kind, Kind::Timestamp);
            let http_dates =
                moments && timestamp_format(model, entry, TimestampFormat::Rfc822) == TimestampFormat::Rfc822;
            let items = split_header(&text, http_dates);
            let read = |item: &String| scalar(model, entry, item);
            items.iter().map(read).collect::<Result<_, _>>().map(Value::List)
        }
        _ if member.json_value => {
            let bytes = STANDARD.decode(&text).map_err(|_| malformed(name))?;
            Ok(Value::Str(String::from_utf8(bytes).map_err(|_| malformed(name))?))
        }
        _ => scalar(model, member, &text),
    }
}

fn from_headers(prefix: &str, headers: &HeaderMap) -> Value {
    let prefix = prefix.to_ascii_lowercase();
    let all = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix(&prefix)?.to_string(), Value::Str(value.to_str().ok()?.to_string())))
    });
    let map: Vec<(String, Value)> = all.collect();
    if map.is_empty() { Value::Null } else { Value::Map(map) }
}

/// Splits a header that holds a list: at commas outside quotes; at every second comma for HTTP dates.
fn split_header(text: &str, http_dates: bool) -> Vec<String> {
    let (mut items, mut item) = (Vec::new(), String::new());
    let (mut quoted, mut commas) = (false, 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => item.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => {
                commas += 1;
                if http_dates && commas % 2 == 1 {
                    item.push(c);
                } else {
                    items.push(std::mem::take(&mut item).trim().to_string());
                }
            }
            _ => item.push(c),
        }
    }
    items.push(item.trim().to_string());
    items
}

fn timestamp_format(model: &Model, member: &Member, default: TimestampFormat) -> TimestampFormat {
    member.timestamp.or(model.shape(member.shape).timestamp).unwrap_or(default)
}

fn scalar(model: &Model, member: &Member, text: &str) -> Result<Value, Fault> {
    let value = match model.shape(member.shape).kind {
        Kind::Boolean => text.parse().ok().map(Value::Bool),
        Kind::Integer => text.parse::<i32>().ok().map(|number| Value::Int(number.into())),
        Kind::Long => text.parse().ok().map(Value::Int),
        Kind::Float => text.parse().ok().map(Value::Float),
        Kind::Timestamp => timestamp::parse(text).map(Value::Int),
        Kind::Blob => STANDARD.decode(text).ok().map(|bytes| Value::Blob(bytes.into())),
        _ => Some(Value::Str(text.to_string())),
    };
    value.ok_or_else(|| malformed(member.wire_name()))
}

// === writing ===

/// Writes an answer.
pub fn write(model: &Model, operation: &OperationModel, value: &Value) -> Written {
    let mut written = Written { status: operation.status, headers: Vec::new(), body: Vec::new() };
    let Some(output) = operation.output else {
        return written;
    };
    write_located(model, output, value, &mut written);
    let members = model.members(Some(output));
    match model.shape(output).payload {
        Some(payload) => {
            let member = &members[payload];
            match value.fields().get(payload) {
                Some(Value::Blob(bytes)) => written.body = bytes.to_vec(),
                Some(Value::Str(text)) => written.body = text.clone().into_bytes(),
                None | Some(Value::Null) => {}
                Some(field) => json::write_value(model, member.shape, Some(member), field, &mut written.body),
            }
            let content_type = match model.shape(member.shape).kind {
                Kind::Blob => "application/octet-stream",
                Kind::String => "text/plain",
                _ => "application/json",
            };
            if !written.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                written.headers.push(("content-type".into(), content_type.into()));
            }
        }
        None => {
            written.headers.push(("content-type".into(), "application/json".into()));
            match value {
                Value::Null => written.body.extend_from_slice(b"{}"),
                value => json::write_value(model, output, None, value, &mut written.body),
            }
        }
    }
    written
}

/// Writes the members of an answer or error that stand in headers and the status.
pub fn write_located(model: &Model, shape: crate::model::ShapeId, value: &Value, written: &mut Written) {
    for (member, field) in model.members(Some(shape)).iter().zip(value.fields()) {
        let name = member.wire_name().to_string();
        match (member.location, field) {
            (_, Value::Null) => {}
            (Location::StatusCode, Value::Int(status)) => written.status = *status as u16,
            (Location::Headers, Value::Map(entries)) => {
                for (suffix, value) in entries {
                    written
                        .headers
                        .push((format!("{name}{suffix}"), value.as_str().unwrap_or_default().to_string()));
                }
            }
            (Location::Header, field) => written.headers.push((name, header(model, member, field))),
            _ => {}
        }
    }
}

fn header(model: &Model, member: &Member, value: &Value) -> String {
    let shape = model.shape(member.shape);
    match (&shape.kind, value) {
        (Kind::List(entry), Value::List(items)) => {
            let texts = items.iter().map(|item| quote(model, entry, header(model, entry, item)));
            texts.collect::<Vec<_>>().join(", ")
        }
        (Kind::Timestamp, Value::Int(ms)) => {
            timestamp::format(*ms, timestamp_format(model, member, TimestampFormat::Rfc822))
        }
        (_, Value::Str(text)) if member.json_value => STANDARD.encode(text),
        (_, Value::Str(text)) => text.clone(),
        (_, Value::Int(number)) => number.to_string(),
        (_, Value::Float(number)) => float_name(*number),
        (_, Value::Bool(truth)) => truth.to_string(),
        (_, Value::Blob(bytes)) => STANDARD.encode(bytes),
        (_, other) => crate::value::mismatch(&shape.name, other),
    }
}

fn quote(model: &Model, entry: &Member, text: String) -> String {
    if matches!(model.shape(entry.shape).kind, Kind::String) && text.contains([',', '"']) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text
}
