//! Form-encoded requests: decoding, and the tree that Query's dotted names spell.

use crate::Fault;
use bytes::Bytes;
use http::request::Parts;
use std::collections::BTreeMap;

/// Decoded name-value pairs in the order sent.
pub type Form = Vec<(String, String)>;

/// Decodes `a=1&b=%20`. Invalid escapes stand as they are; invalid UTF-8 is replaced.
pub fn decode(text: &str) -> Form {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(n, v)| (unescape(n), unescape(v)))
        .collect()
}

/// The parameters of a Query request: the body's, then the query string's.
pub fn of_request(parts: &Parts, body: &Bytes) -> Result<Form, Fault> {
    let text = std::str::from_utf8(body);
    let text =
        text.map_err(|_| Fault::new("MalformedQueryString", "The request body is not valid UTF-8."))?;
    let mut form = decode(text);
    form.extend(decode(parts.uri.query().unwrap_or_default()));
    Ok(form)
}

fn unescape(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// Replaces `%41` by `A`.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_string();
    }
    let bytes = percent_decode_bytes(text);
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// As [`percent_decode`], whether UTF-8 comes of it or not.
pub fn percent_decode_bytes(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = hex
            .filter(|h| h.iter().all(u8::is_ascii_hexdigit))
            .and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

/// Escapes everything but unreserved characters, as SigV4 and REST paths do.
pub fn percent_encode(text: &str) -> String {
    percent_encode_bytes(text.as_bytes())
}

/// As [`percent_encode`], for what need not be UTF-8.
pub fn percent_encode_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// `Tags.member.1.Key=x` as a tree: each node has a value, children, or both.
#[derive(Debug, Default)]
pub struct Node {
    /// The value of exactly this name.
    pub value: Option<String>,
    children: BTreeMap<String, Node>,
    used: std::cell::Cell<bool>,
}

/// Deeper names than any model has are cut off here, so that a hostile name cannot exhaust the stack.
const DEPTH_MAX: usize = 64;

impl Node {
    /// The tree of a form.
    pub fn tree(form: &Form) -> Node {
        let mut root = Node::default();
        for (name, value) in form {
            let mut node = &mut root;
            for part in name.splitn(DEPTH_MAX, '.') {
                node = node.children.entry(part.to_string()).or_default();
            }
            node.value.get_or_insert_with(|| value.clone()); // The body's before the query string's.
        }
        root
    }

    /// The child of this name, marked as understood.
    pub fn child(&self, name: &str) -> Option<&Node> {
        let node = self.children.get(name)?;
        node.used.set(true);
        Some(node)
    }

    /// The children named by numbers, in their order, marked as understood.
    pub fn entries(&self) -> Vec<&Node> {
        let numbered =
            self.children.iter().filter_map(|(name, node)| Some((name.parse::<u32>().ok()?, node)));
        let mut found: Vec<(u32, &Node)> = numbered.collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, node)| node).inspect(|node| node.used.set(true)).collect()
    }

    /// The full names of values that nothing has read.
    pub fn unused(&self, skip: &[&str]) -> Vec<String> {
        let mut names = Vec::new();
        for (name, node) in self.children.iter().filter(|(name, _)| !skip.contains(&name.as_str())) {
            node.collect_unused(name, &mut names);
        }
        names
    }

    fn collect_unused(&self, path: &str, names: &mut Vec<String>) {
        if self.value.is_some() && !self.used.get() {
            names.push(path.to_string());
        }
        for (name, node) in &self.children {
            node.collect_unused(&format!("{path}.{name}"), names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_spell_a_tree() {
        let form = decode("A=1&L.member.2=b&L.member.1=a%20c+d&S.X.Y=&%E9=%zz&Z");
        let tree = Node::tree(&form);
        assert_eq!(tree.child("A").unwrap().value.as_deref(), Some("1"));
        let list = tree.child("L").unwrap().child("member").unwrap().entries();
        assert_eq!(list.iter().map(|n| n.value.as_deref().unwrap()).collect::<Vec<_>>(), ["a c d", "b"]);
        assert_eq!(tree.unused(&["Z"]), ["S.X.Y", "\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn escapes_come_back(text in ".{0,40}") {
            prop_assert_eq!(percent_decode(&percent_encode(&text)), text);
        }

        #[test]
        fn any_form_is_a_tree(text in ".{0,80}") {
            Node::tree(&decode(&text)).unused(&[]);
        }
    }
}
