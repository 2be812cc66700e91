//! The constraints of a model over an input: one walk that collects every violation, worded as AWS words them.

mod pattern;
mod words;

use crate::model::{Kind, Member, Model, Shape, ShapeId, ValidationStyle};
use crate::{Fault, Value};

/// One broken constraint.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Where, as AWS spells it: `tags.1.member.key`.
    pub path: String,
    /// The value as AWS prints it; `None` when it is not printed.
    pub value: Option<String>,
    /// What it breaks.
    pub constraint: Constraint,
}

/// What a value must satisfy.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// A required member is absent.
    NotNull,
    /// A string, list, map or blob is too short or too long.
    Length(Bound),
    /// A number is too small or too large.
    Range(Bound),
    /// A string does not match.
    Pattern(String),
    /// A string is none of these.
    Enum(Vec<String>),
    /// Some entry of a list breaks one of these.
    Entries(Vec<Constraint>),
    /// Some key of a map breaks one of these.
    Keys(Vec<Constraint>),
    /// Some value of a map breaks one of these.
    Values(Vec<Constraint>),
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Inclusive.
    AtLeast(f64),
    /// Inclusive.
    AtMost(f64),
}

/// Checks an operation's input; the fault names every violation.
pub fn validate(model: &Model, input: Option<ShapeId>, value: &Value) -> Result<(), Fault> {
    let found = violations(model, input, value);
    match found.first() {
        None => Ok(()),
        Some(first) => Err(words::fault(model, first, &found)),
    }
}

/// Every violation of an operation's input, in the model's order.
pub fn violations(model: &Model, input: Option<ShapeId>, value: &Value) -> Vec<Violation> {
    let mut walk = Walk { model, found: Vec::new() };
    if let Some(shape) = input {
        walk.structure(shape, value, "");
    }
    walk.found
}

struct Walk<'a> {
    model: &'a Model,
    found: Vec<Violation>,
}

impl Walk<'_> {
    fn structure(&mut self, id: ShapeId, value: &Value, path: &str) {
        let shape = self.model.shape(id);
        for (member, field) in self.model.members(Some(id)).iter().zip(value.fields()) {
            if field.is_null() && !member.required {
                continue;
            }
            let name = self.name(member);
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            if field.is_null() {
                let value = Some("null".to_string());
                self.found.push(Violation { path, value, constraint: Constraint::NotNull });
            } else {
                self.value(member.shape, field, &path, &format!("{}.{}", shape.name, member.name));
            }
        }
    }

    /// AWS's messages spell members in lower camel case, EC2's as the request does.
    fn name(&self, member: &Member) -> String {
        if self.model.quirks.validation_style == ValidationStyle::Ec2 {
            let capitalised = || {
                let mut chars = member.wire_name().chars();
                chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
            };
            return member.query_name.clone().unwrap_or_else(capitalised);
        }
        let mut chars = member.name.chars();
        chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
    }

    fn value(&mut self, id: ShapeId, value: &Value, path: &str, place: &str) {
        let shape = self.model.shape(id);
        let unchecked = &self.model.quirks.unchecked;
        if !unchecked.iter().any(|name| name == &shape.name || name == place) {
            for constraint in broken(shape, value) {
                self.push(path, value, shape, constraint);
            }
        }
        match (&shape.kind, value) {
            (Kind::Structure(_), value) => self.structure(id, value, path),
            (Kind::List(entry), Value::List(items)) => {
                if self.is_scalar(entry.shape) {
                    return self.scalars(entry.shape, items.iter(), path, value, shape, Constraint::Entries);
                }
                for (at, item) in items.iter().enumerate() {
                    self.value(entry.shape, item, &format!("{path}.{}.member", at + 1), "");
                }
            }
            (Kind::Map(key, entry), Value::Map(entries)) => {
                let keys: Vec<Value> = entries.iter().map(|(key, _)| Value::Str(key.clone())).collect();
                self.scalars(key.shape, keys.iter(), path, value, shape, Constraint::Keys);
                if self.is_scalar(entry.shape) {
                    let items = entries.iter().map(|(_, item)| item);
                    return self.scalars(entry.shape, items, path, value, shape, Constraint::Values);
                }
                for (key, item) in entries {
                    self.value(entry.shape, item, &format!("{path}.{key}.member"), "");
                }
            }
            _ => {}
        }
    }

    fn is_scalar(&self, id: ShapeId) -> bool {
        !matches!(self.model.shape(id).kind, Kind::Structure(_) | Kind::List(_) | Kind::Map(..))
    }

    /// Entries that are scalars are reported together, on what holds them.
    fn scalars<'v>(
        &mut self,
        entry: ShapeId,
        mut items: impl Iterator<Item = &'v Value>,
        path: &str,
        whole: &Value,
        holder: &Shape,
        wrap: fn(Vec<Constraint>) -> Constraint,
    ) {
        let shape = self.model.shape(entry);
        let unchecked = self.model.quirks.unchecked.contains(&shape.name);
        if !unchecked && items.any(|item| !broken(shape, item).is_empty()) {
            self.push(path, whole, holder, wrap(constraints(shape)));
        }
    }

    fn push(&mut self, path: &str, value: &Value, shape: &Shape, constraint: Constraint) {
        let hidden = shape.sensitive;
        let value = if hidden { None } else { words::print(value) };
        self.found.push(Violation { path: path.to_string(), value, constraint });
    }
}

/// Every constraint of a shape, in the order in which AWS lists them for entries.
fn constraints(shape: &Shape) -> Vec<Constraint> {
    let number = matches!(shape.kind, Kind::Integer | Kind::Long | Kind::Float);
    let bound = |bound| if number { Constraint::Range(bound) } else { Constraint::Length(bound) };
    let mut all = Vec::new();
    all.extend(shape.max.map(|max| bound(Bound::AtMost(max))));
    all.extend(shape.min.map(|min| bound(Bound::AtLeast(min))));
    all.extend(shape.pattern.as_ref().map(|pattern| Constraint::Pattern(pattern.text.clone())));
    if !shape.values.is_empty() {
        all.push(Constraint::Enum(shape.values.clone()));
    }
    all
}

/// The constraints of its own shape that a value breaks.
fn broken(shape: &Shape, value: &Value) -> Vec<Constraint> {
    let mut found = Vec::new();
    if let (Some(pattern), Value::Str(text)) = (&shape.pattern, value)
        && !pattern.matches(text)
    {
        found.push(Constraint::Pattern(pattern.text.clone()));
    }
    let (size, wrap): (f64, fn(Bound) -> Constraint) = match value {
        Value::Int(number) if !matches!(shape.kind, Kind::Timestamp) => (*number as f64, Constraint::Range),
        Value::Float(number) => (*number, Constraint::Range),
        Value::Str(text) => (text.encode_utf16().count() as f64, Constraint::Length), // As Java counts.
        Value::Blob(bytes) => (bytes.len() as f64, Constraint::Length),
        Value::List(items) => (items.len() as f64, Constraint::Length),
        Value::Map(entries) => (entries.len() as f64, Constraint::Length),
        _ => return found,
    };
    found.extend(shape.min.filter(|min| size < *min).map(|min| wrap(Bound::AtLeast(min))));
    found.extend(shape.max.filter(|max| size > *max).map(|max| wrap(Bound::AtMost(max))));
    if let Value::Str(text) = value
        && !shape.values.is_empty()
        && !shape.values.contains(text)
    {
        found.push(Constraint::Enum(shape.values.clone()));
    }
    found
}
