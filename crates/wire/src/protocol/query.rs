//! Query: form-encoded requests with dotted names, XML answers. EC2's dialect shares the reader.

use super::form::{Form, Node};
use super::{Read, Written, xml};
use crate::model::{Kind, Member, Model, OperationModel, Protocol, ShapeId};
use crate::{Fault, Value, timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What every request has and no shape does.
const COMMON: [&str; 10] = [
    "Action",
    "Version",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "AUTHPARAMS",
];

/// Reads a Query request's input.
pub fn read(model: &Model, operation: &OperationModel, form: &Form) -> Result<Read, Fault> {
    read_dialect(model, operation, form, Dialect::Query)
}

/// Which of the two forms of names a request has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `Tags.member.1.Key`
    Query,
    /// `Tag.1.Key`
    Ec2,
}

pub(crate) fn read_dialect(
    model: &Model,
    operation: &OperationModel,
    form: &Form,
    dialect: Dialect,
) -> Result<Read, Fault> {
    let tree = Node::tree(form);
    let members = model.members(operation.input);
    let value = Reader { model, dialect }.structure(members, &tree, "")?;
    Ok(Read { value, unknown: tree.unused(&COMMON) })
}

struct Reader<'a> {
    model: &'a Model,
    dialect: Dialect,
}

impl Reader<'_> {
    fn structure(&self, members: &[Member], node: &Node, path: &str) -> Result<Value, Fault> {
        let mut fields = Vec::with_capacity(members.len());
        for member in members {
            let names = self.names(member);
            let Some((name, child)) =
                names.into_iter().find_map(|name| Some((name.clone(), node.child(&name)?)))
            else {
                fields.push(Value::Null);
                continue;
            };
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            fields.push(self.value(member, child, &path)?);
        }
        Ok(Value::Struct(fields))
    }

    /// A member's names in the form, the usual one first.
    fn names(&self, member: &Member) -> Vec<String> {
        if self.dialect == Dialect::Ec2 {
            let mut chars = member.wire_name().chars();
            let capitalised = chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect());
            return vec![member.query_name.clone().unwrap_or(capitalised)];
        }
        let mut names = vec![member.wire_name().to_string()];
        // botocore sends a flattened list under its entries' name, when they have one.
        let shape = self.model.shape(member.shape);
        if let Kind::List(entry) = &shape.kind
            && (member.flattened || shape.flattened)
        {
            names.extend(entry.location_name.clone());
        }
        names
    }

    fn value(&self, member: &Member, node: &Node, path: &str) -> Result<Value, Fault> {
        let shape = self.model.shape(member.shape);
        let flat = member.flattened || shape.flattened || self.dialect == Dialect::Ec2;
        match &shape.kind {
            Kind::Structure(members) => self.structure(members, node, path),
            Kind::List(entry) => {
                let named = if flat { Some(node) } else { node.child(entry.wire_name()) };
                let entries = named.map(Node::entries).unwrap_or_default();
                let items = entries.iter().enumerate();
                let read =
                    |(at, item): (usize, &&Node)| self.value(entry, item, &format!("{path}.{}", at + 1));
                // An entry that says nothing of its own type, such as `Names.1.Foo`, is none.
                let present = items.map(read).filter(|item| !matches!(item, Ok(Value::Null)));
                present.collect::<Result<_, _>>().map(Value::List)
            }
            Kind::Map(key, value) => {
                self.map(key, value, if flat { Some(node) } else { node.child("entry") }, path)
            }
            _ => match &node.value {
                Some(text) => self.scalar(member.shape, text, path),
                None => Ok(Value::Null),
            },
        }
    }

    fn map(&self, key: &Member, value: &Member, node: Option<&Node>, path: &str) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        for entry in node.map(Node::entries).unwrap_or_default() {
            let name = entry.child(key.wire_name()).and_then(|node| node.value.clone());
            let name =
                name.ok_or_else(|| self.malformed("", &format!("{path}.{}", key.wire_name()), "a key"))?;
            let child = entry.child(value.wire_name());
            let item = child.map(|child| self.value(value, child, path)).transpose()?.unwrap_or_default();
            if item.is_null() {
                return Err(self.malformed("", &format!("{path}.{}", value.wire_name()), "a value"));
            }
            entries.push((name, item));
        }
        Ok(Value::Map(entries))
    }

    fn scalar(&self, id: ShapeId, text: &str, path: &str) -> Result<Value, Fault> {
        let value = match &self.model.shape(id).kind {
            Kind::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Kind::Integer => text.parse::<i32>().ok().map(|number| Value::Int(number.into())),
            Kind::Long => text.parse().ok().map(Value::Int),
            Kind::Float => float(text),
            Kind::Timestamp => timestamp::parse(text).map(Value::Int),
            Kind::Blob => STANDARD.decode(text).ok().map(|bytes| Value::Blob(bytes.into())),
            _ => Some(Value::Str(text.to_string())),
        };
        value.ok_or_else(|| self.malformed(text, path, kind_name(&self.model.shape(id).kind)))
    }

    fn malformed(&self, text: &str, path: &str, kind: &str) -> Fault {
        if self.dialect == Dialect::Ec2 {
            let message = format!("Value ({text}) for parameter {path} is invalid. Expected {kind}.");
            return Fault::new("InvalidParameterValue", message);
        }
        Fault::new("MalformedInput", format!("Value '{text}' at '{path}' can not be converted to {kind}"))
    }
}

fn float(text: &str) -> Option<Value> {
    // Rust reads more spellings of the special numbers than AWS has.
    let special = matches!(text, "NaN" | "Infinity" | "-Infinity");
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse().ok().filter(|_| special || plain).map(Value::Float)
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Boolean => "a Boolean",
        Kind::Integer => "an Integer",
        Kind::Long => "a Long",
        Kind::Float => "a Float",
        Kind::Timestamp => "a Timestamp",
        _ => "a Blob",
    }
}

// === writing ===

/// Writes `<RunResponse><RunResult>…</RunResult><ResponseMetadata>…`.
pub fn write(model: &Model, operation: &OperationModel, value: &Value, request_id: &str) -> Written {
    let mut out = xml::Xml::new();
    let response = format!("{}Response", operation.name);
    out.open_with(&response, &[("xmlns", &model.xml_namespace)]);
    if let Some(output) = operation.output {
        if let Some(wrapper) = &operation.result_wrapper {
            out.open(wrapper);
        }
        out.members(model, output, value);
        if let Some(wrapper) = &operation.result_wrapper {
            out.close(wrapper);
        }
    }
    out.open("ResponseMetadata");
    out.text("RequestId", request_id);
    out.close("ResponseMetadata");
    out.close(&response);
    let content_type = super::content_type(Protocol::Query).to_string();
    Written { status: 200, headers: vec![("content-type".into(), content_type)], body: out.finish() }
}
