//! JSON bodies: `application/x-amz-json-1.0` and `-1.1`, and the bodies of REST JSON.

use super::{Read, Written};
use crate::model::{Kind, Location, Member, Model, OperationModel, ShapeId, TimestampFormat};
use crate::{Fault, Value, timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use std::ops::RangeInclusive;

/// Reads a body that holds one structure. Nulls are absent members; an empty body is an empty structure.
pub fn read(model: &Model, input: Option<ShapeId>, body: &[u8]) -> Result<Read, Fault> {
    let json = parse(body)?;
    let mut reader = Reader { model, unknown: Vec::new(), path: Vec::new() };
    let value = match input {
        Some(shape) => reader.value(shape, None, json)?,
        None => reader.no_members(json)?,
    };
    Ok(Read { value, unknown: reader.unknown })
}

/// Parses a JSON body; an empty one is an empty object.
pub fn parse(body: &[u8]) -> Result<Json, Fault> {
    if body.is_empty() {
        return Ok(Json::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(body).map_err(|e| malformed(format!("The request body is not valid JSON: {e}")))
}

/// Reads one value of a shape, as for a REST payload.
pub fn read_value(model: &Model, shape: ShapeId, member: Option<&Member>, json: Json) -> Result<Read, Fault> {
    let mut reader = Reader { model, unknown: Vec::new(), path: Vec::new() };
    let value = reader.value(shape, member, json)?;
    Ok(Read { value, unknown: reader.unknown })
}

fn malformed(message: impl Into<String>) -> Fault {
    Fault::new("SerializationException", message)
}

struct Reader<'a> {
    model: &'a Model,
    unknown: Vec<String>,
    path: Vec<String>,
}

impl Reader<'_> {
    fn value(&mut self, id: ShapeId, member: Option<&Member>, json: Json) -> Result<Value, Fault> {
        let shape = self.model.shape(id);
        match (&shape.kind, json) {
            (Kind::Document, json) => Ok(Value::Doc(json)),
            (Kind::Structure(members), Json::Object(fields)) => self.structure(members, fields),
            (Kind::List(entry), Json::Array(items)) => {
                let mut list = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate().filter(|(_, item)| !item.is_null()) {
                    self.path.push(at.to_string());
                    list.push(self.value(entry.shape, Some(entry), item)?);
                    self.path.pop();
                }
                Ok(Value::List(list))
            }
            (Kind::Map(_, entry), Json::Object(fields)) => {
                let mut map = Vec::with_capacity(fields.len());
                for (key, item) in fields.into_iter().filter(|(_, item)| !item.is_null()) {
                    self.path.push(key.clone());
                    map.push((key, self.value(entry.shape, Some(entry), item)?));
                    self.path.pop();
                }
                Ok(Value::Map(map))
            }
            (Kind::String, Json::String(text)) => Ok(Value::Str(text)),
            (Kind::Boolean, Json::Bool(truth)) => Ok(Value::Bool(truth)),
            (Kind::Integer, Json::Number(number)) => {
                integer(&number, i64::from(i32::MIN)..=i64::from(i32::MAX))
                    .ok_or_else(|| mismatch(&shape.kind, &Json::Number(number)))
            }
            (Kind::Long, Json::Number(number)) => integer(&number, i64::MIN..=i64::MAX)
                .ok_or_else(|| mismatch(&shape.kind, &Json::Number(number))),
            (Kind::Float, Json::Number(number)) => Ok(Value::Float(number.as_f64().unwrap_or(f64::INFINITY))),
            (Kind::Float, Json::String(text)) => special_float(&text),
            (Kind::Blob, Json::String(text)) => match STANDARD.decode(&text) {
                Ok(bytes) => Ok(Value::Blob(bytes.into())),
                Err(_) => Err(malformed("STRING_VALUE can not be converted to a Blob")),
            },
            (Kind::Timestamp, json) => {
                let format =
                    member.and_then(|m| m.timestamp).or(shape.timestamp).unwrap_or(TimestampFormat::Unix);
                moment(format, json)
            }
            (kind, json) => Err(mismatch(kind, &json)),
        }
    }

    fn structure(
        &mut self,
        members: &[Member],
        fields: serde_json::Map<String, Json>,
    ) -> Result<Value, Fault> {
        let mut values = vec![Value::Null; members.len()];
        for (name, json) in fields {
            let found = members.iter().position(|m| m.location == Location::Body && m.wire_name() == name);
            let Some(at) = found else {
                if name != "__type" {
                    self.path.push(name);
                    self.unknown.push(self.path.join("."));
                    self.path.pop();
                }
                continue;
            };
            if json.is_null() {
                continue;
            }
            self.path.push(name);
            values[at] = self.value(members[at].shape, Some(&members[at]), json)?;
            self.path.pop();
        }
        Ok(Value::Struct(values))
    }

    fn no_members(&mut self, json: Json) -> Result<Value, Fault> {
        let Json::Object(fields) = json else { return Err(mismatch(&Kind::Structure(Vec::new()), &json)) };
        self.structure(&[], fields)
    }
}

/// AWS cuts a fraction off; what the type cannot hold is refused.
fn integer(number: &serde_json::Number, range: RangeInclusive<i64>) -> Option<Value> {
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64()?.trunc();
        (float.abs() < 9.2e18).then_some(float as i64)
    })?;
    range.contains(&whole).then_some(Value::Int(whole))
}

fn special_float(text: &str) -> Result<Value, Fault> {
    match text {
        "NaN" => Ok(Value::Float(f64::NAN)),
        "Infinity" => Ok(Value::Float(f64::INFINITY)),
        "-Infinity" => Ok(Value::Float(f64::NEG_INFINITY)),
        _ => Err(malformed("STRING_VALUE can not be converted to a Float")),
    }
}

fn moment(format: TimestampFormat, json: Json) -> Result<Value, Fault> {
    let time_ms = match (format, &json) {
        (TimestampFormat::Unix, Json::Number(number)) => number.as_f64().and_then(timestamp::from_seconds),
        (TimestampFormat::Iso8601 | TimestampFormat::Rfc822, Json::String(text)) => timestamp::parse(text),
        _ => None,
    };
    time_ms.map(Value::Int).ok_or_else(|| mismatch(&Kind::Timestamp, &json))
}

/// The wording of AWS's JSON services for a value of the wrong type.
fn mismatch(kind: &Kind, json: &Json) -> Fault {
    let token = match json {
        Json::Array(_) => return malformed("Start of list found where not expected"),
        Json::Object(_) => return malformed("Start of structure or map found where not expected."),
        Json::Null => "NULL_VALUE",
        Json::Bool(true) => "TRUE_VALUE",
        Json::Bool(false) => "FALSE_VALUE",
        Json::Number(_) => "NUMBER_VALUE",
        Json::String(_) => "STRING_VALUE",
    };
    let target = match kind {
        Kind::List(_) => return malformed("Expected list or null"),
        Kind::Map(..) => return malformed("Expected map or null"),
        Kind::Structure(_) => return malformed("Expected null"),
        Kind::Integer => "an Integer",
        Kind::Long => "a Long",
        Kind::Float => "a Float",
        Kind::Boolean => "a Boolean",
        Kind::Timestamp => "a Timestamp",
        Kind::Blob => "a Blob",
        Kind::String | Kind::Document => "a String",
    };
    malformed(format!("{token} can not be converted to {target}"))
}

// === writing ===

/// Writes an answer; an operation that gives nothing answers `{}`.
pub fn write(model: &Model, operation: &OperationModel, value: &Value, content_type: &str) -> Written {
    let mut body = Vec::with_capacity(512);
    match operation.output {
        Some(shape) if !value.is_null() => write_value(model, shape, None, value, &mut body),
        _ => body.extend_from_slice(b"{}"),
    }
    let headers = vec![("content-type".to_string(), content_type.to_string())];
    Written { status: operation.status, headers, body }
}

/// Writes one value of a shape.
pub fn write_value(model: &Model, id: ShapeId, member: Option<&Member>, value: &Value, out: &mut Vec<u8>) {
    let shape = model.shape(id);
    match (&shape.kind, value) {
        (_, Value::Null) => out.extend_from_slice(b"null"),
        (Kind::Structure(members), Value::Struct(fields)) => {
            let all = members.iter().zip(fields);
            let present = all.filter(|(m, field)| m.location == Location::Body && !field.is_null());
            out.push(b'{');
            for (at, (member, field)) in present.enumerate() {
                write_key(member.wire_name(), at, out);
                write_value(model, member.shape, Some(member), field, out);
            }
            out.push(b'}');
        }
        (Kind::List(entry), Value::List(items)) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(model, entry.shape, Some(entry), item, out);
            }
            out.push(b']');
        }
        (Kind::Map(_, entry), Value::Map(entries)) => {
            out.push(b'{');
            for (at, (key, item)) in entries.iter().enumerate() {
                write_key(key, at, out);
                write_value(model, entry.shape, Some(entry), item, out);
            }
            out.push(b'}');
        }
        (Kind::Timestamp, Value::Int(time_ms)) => {
            let format =
                member.and_then(|m| m.timestamp).or(shape.timestamp).unwrap_or(TimestampFormat::Unix);
            let text = timestamp::format(*time_ms, format);
            if format == TimestampFormat::Unix {
                out.extend_from_slice(text.as_bytes())
            } else {
                write_text(&text, out)
            }
        }
        (_, Value::Int(number)) => out.extend_from_slice(number.to_string().as_bytes()),
        (_, Value::Float(number)) => write_float(*number, out),
        (_, Value::Bool(truth)) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        (_, Value::Str(text)) => write_text(text, out),
        (_, Value::Blob(bytes)) => write_text(&STANDARD.encode(bytes), out),
        (_, Value::Doc(json)) => out.extend_from_slice(json.to_string().as_bytes()),
        (_, other) => crate::value::mismatch(&shape.name, other),
    }
}

fn write_key(name: &str, at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
    write_text(name, out);
    out.push(b':');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is written to memory");
}

fn write_float(number: f64, out: &mut Vec<u8>) {
    if number.is_finite() {
        serde_json::to_writer(out, &number).expect("a number is written to memory");
    } else {
        write_text(&float_name(number), out);
    }
}

/// `NaN`, `Infinity`, `-Infinity`, or the number.
pub fn float_name(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_string()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".to_string() } else { "-Infinity".to_string() }
    } else {
        number.to_string()
    }
}
