//! Writing XML: the answers of Query and EC2.

use super::json::float_name;
use crate::model::{Kind, Member, Model, ShapeId, TimestampFormat};
use crate::{Value, timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An XML document under construction.
pub struct Xml {
    out: String,
}

impl Default for Xml {
    fn default() -> Xml {
        Xml::new()
    }
}

impl Xml {
    /// A document with only its declaration.
    pub fn new() -> Xml {
        Xml { out: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") }
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    /// `<name>`
    pub fn open(&mut self, name: &str) {
        self.open_with(name, &[]);
    }

    /// `<name attribute="value">`; an empty value leaves its attribute out.
    pub fn open_with(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes.iter().filter(|(_, value)| !value.is_empty()) {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            escape(value, &mut self.out);
            self.out.push('"');
        }
        self.out.push('>');
    }

    /// `</name>`
    pub fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// `<name>text</name>`
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(text, &mut self.out);
        self.close(name);
    }

    /// The members of a structure, absent ones left out.
    pub fn members(&mut self, model: &Model, shape: ShapeId, value: &Value) {
        for (member, field) in model.members(Some(shape)).iter().zip(value.fields()) {
            self.member(model, member, member.wire_name(), field);
        }
    }

    fn member(&mut self, model: &Model, member: &Member, name: &str, value: &Value) {
        let shape = model.shape(member.shape);
        let flat = member.flattened || shape.flattened;
        match (&shape.kind, value) {
            (_, Value::Null) => {}
            (Kind::Structure(_), value) => {
                self.open(name);
                self.members(model, member.shape, value);
                self.close(name);
            }
            (Kind::List(entry), Value::List(items)) if flat => {
                // Older models flatten the list's shape and name its entries, newer ones flatten the member.
                let own = entry.location_name.as_deref().filter(|_| !member.flattened);
                let name = own.unwrap_or(name);
                for item in items {
                    self.member(model, entry, name, item);
                }
            }
            (Kind::List(entry), Value::List(items)) => {
                self.open(name);
                for item in items {
                    self.member(model, entry, entry.wire_name(), item);
                }
                self.close(name);
            }
            (Kind::Map(key, entry), Value::Map(entries)) => {
                if !flat {
                    self.open(name);
                }
                let tag = if flat { name } else { "entry" };
                for (text, item) in entries {
                    self.open(tag);
                    self.text(key.wire_name(), text);
                    self.member(model, entry, entry.wire_name(), item);
                    self.close(tag);
                }
                if !flat {
                    self.close(name);
                }
            }
            (kind, value) => {
                let format = member.timestamp.or(shape.timestamp).unwrap_or(TimestampFormat::Iso8601);
                self.text(name, &scalar(kind, format, value, &shape.name));
            }
        }
    }
}

fn scalar(kind: &Kind, format: TimestampFormat, value: &Value, shape: &str) -> String {
    match (kind, value) {
        (Kind::Timestamp, Value::Int(time_ms)) => timestamp::format(*time_ms, format),
        (_, Value::Int(number)) => number.to_string(),
        (_, Value::Float(number)) => float_name(*number),
        (_, Value::Bool(truth)) => truth.to_string(),
        (_, Value::Str(text)) => text.clone(),
        (_, Value::Blob(bytes)) => STANDARD.encode(bytes),
        (_, other) => crate::value::mismatch(shape, other),
    }
}

/// Escapes text for content and attributes. What XML 1.0 cannot hold at all becomes U+FFFD.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_escaped() {
        let mut out = String::new();
        super::escape("a<b>&\"\r\n\u{1}é", &mut out);
        assert_eq!(out, "a&lt;b&gt;&amp;&quot;&#xD;\n\u{fffd}é");
    }
}
