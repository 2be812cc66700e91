//! Smithy RPC v2 with CBOR bodies (RFC 8949).

mod item;

pub use item::Item;

use super::{Read, Written};
use crate::model::{Kind, Model, OperationModel, ShapeId};
use crate::{Fault, Value, timestamp};

/// Reads a body that holds one structure; an empty body is an empty structure.
pub fn read(model: &Model, input: Option<ShapeId>, body: &[u8]) -> Result<Read, Fault> {
    let item = if body.is_empty() { Item::Map(Vec::new()) } else { Item::parse(body).map_err(malformed)? };
    let mut reader = Reader { model, unknown: Vec::new(), path: Vec::new() };
    let value = match input {
        Some(shape) => reader.value(shape, item)?,
        None => Value::Struct(Vec::new()),
    };
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
    fn value(&mut self, id: ShapeId, item: Item) -> Result<Value, Fault> {
        match (&self.model.shape(id).kind, item) {
            (Kind::Structure(members), Item::Map(entries)) => {
                let mut fields = vec![Value::Null; members.len()];
                for (name, item) in entries {
                    self.path.push(name);
                    let name = self.path.last().expect("just pushed");
                    match members.iter().position(|member| member.name == *name) {
                        Some(_) if item == Item::Null => {}
                        Some(at) => fields[at] = self.value(members[at].shape, item)?,
                        None => self.unknown.push(self.path.join(".")),
                    }
                    self.path.pop();
                }
                Ok(Value::Struct(fields))
            }
            (Kind::List(entry), Item::Array(items)) => {
                let present = items.into_iter().filter(|item| *item != Item::Null);
                present.map(|item| self.value(entry.shape, item)).collect::<Result<_, _>>().map(Value::List)
            }
            (Kind::Map(_, entry), Item::Map(entries)) => {
                let present = entries.into_iter().filter(|(_, item)| *item != Item::Null);
                let read = |(name, item)| Ok((name, self.value(entry.shape, item)?));
                present.map(read).collect::<Result<_, _>>().map(Value::Map)
            }
            (Kind::String, Item::Text(text)) => Ok(Value::Str(text)),
            (Kind::Boolean, Item::Bool(truth)) => Ok(Value::Bool(truth)),
            (Kind::Integer | Kind::Long, Item::Int(number)) => Ok(Value::Int(number)),
            (Kind::Float, Item::Float(number)) => Ok(Value::Float(number)),
            (Kind::Float, Item::Int(number)) => Ok(Value::Float(number as f64)),
            (Kind::Blob, Item::Bytes(bytes)) => Ok(Value::Blob(bytes.into())),
            (Kind::Timestamp, Item::Tag(1, inner)) => moment(&inner),
            (kind, item) => Err(malformed(format!("A {} can not be read as {kind:?}", item.kind()))),
        }
    }
}

fn moment(item: &Item) -> Result<Value, Fault> {
    let seconds = match item {
        Item::Int(seconds) => *seconds as f64,
        Item::Float(seconds) => *seconds,
        other => return Err(malformed(format!("A {} is no timestamp", other.kind()))),
    };
    timestamp::from_seconds(seconds).map(Value::Int).ok_or_else(|| malformed("The timestamp is out of range"))
}

/// Writes an answer.
pub fn write(model: &Model, operation: &OperationModel, value: &Value) -> Written {
    let mut headers = vec![("smithy-protocol".to_string(), "rpc-v2-cbor".to_string())];
    let mut body = Vec::new();
    if let Some(output) = operation.output {
        headers.push(("content-type".to_string(), "application/cbor".to_string()));
        match value {
            Value::Null => Item::Map(Vec::new()).write(&mut body),
            value => to_item(model, output, value).write(&mut body),
        }
    }
    Written { status: operation.status, headers, body }
}

/// The CBOR form of a value of a shape.
pub fn to_item(model: &Model, id: ShapeId, value: &Value) -> Item {
    let shape = model.shape(id);
    match (&shape.kind, value) {
        (_, Value::Null) => Item::Null,
        (Kind::Structure(members), Value::Struct(fields)) => {
            let present = members.iter().zip(fields).filter(|(_, field)| !field.is_null());
            Item::Map(present.map(|(m, field)| (m.name.clone(), to_item(model, m.shape, field))).collect())
        }
        (Kind::List(entry), Value::List(items)) => {
            Item::Array(items.iter().map(|item| to_item(model, entry.shape, item)).collect())
        }
        (Kind::Map(_, entry), Value::Map(entries)) => Item::Map(
            entries.iter().map(|(k, item)| (k.clone(), to_item(model, entry.shape, item))).collect(),
        ),
        (Kind::Timestamp, Value::Int(ms)) => Item::Tag(1, Box::new(Item::Float(*ms as f64 / 1000.0))),
        (_, Value::Int(number)) => Item::Int(*number),
        (_, Value::Float(number)) => Item::Float(*number),
        (_, Value::Bool(truth)) => Item::Bool(*truth),
        (_, Value::Str(text)) => Item::Text(text.clone()),
        (_, Value::Blob(bytes)) => Item::Bytes(bytes.to_vec()),
        (_, other) => crate::value::mismatch(&shape.name, other),
    }
}
