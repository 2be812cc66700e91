//! XML as a tree to compare: only what the answers here use.

/// An element; its text is trimmed when it has children or line breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    pub text: String,
}

/// Parses a document; panics on what is not well-formed.
pub fn parse(text: &str) -> Element {
    let mut rest = text.trim();
    if rest.starts_with("<?") {
        rest = rest.split_once("?>").unwrap().1.trim_start();
    }
    let mut parser = Parser { rest };
    let root = parser.element();
    assert!(parser.rest.trim().is_empty(), "something follows the root: {}", parser.rest);
    root
}

impl Element {
    /// The element without its children of these names, at any depth.
    pub fn without(mut self, names: &[&str]) -> Element {
        self.children.retain(|child| !names.contains(&child.name.as_str()));
        self.children = self.children.into_iter().map(|child| child.without(names)).collect();
        self
    }

    /// The element with attributes gone, at every depth.
    pub fn without_attributes(mut self) -> Element {
        self.attributes.clear();
        self.children = self.children.into_iter().map(Element::without_attributes).collect();
        self
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn element(&mut self) -> Element {
        let open = self.rest.strip_prefix('<').expect("an element");
        let (head, rest) = open.split_once('>').expect("a closed tag");
        self.rest = rest;
        let (head, empty) = head.strip_suffix('/').map_or((head, false), |head| (head, true));
        let (name, attributes) = head.trim().split_once(char::is_whitespace).unwrap_or((head.trim(), ""));
        let mut element = Element {
            name: name.to_string(),
            attributes: self::attributes(attributes),
            children: Vec::new(),
            text: String::new(),
        };
        if empty {
            return element;
        }
        loop {
            let (text, rest) = self.rest.split_at(self.rest.find('<').expect("a closing tag"));
            element.text += &unescape(text);
            self.rest = rest;
            if let Some(after) = rest.strip_prefix("<!--") {
                self.rest = after.split_once("-->").unwrap().1;
            } else if let Some(after) = rest.strip_prefix("<![CDATA[") {
                let (data, after) = after.split_once("]]>").unwrap();
                element.text += data;
                self.rest = after;
            } else if let Some(after) = rest.strip_prefix("</") {
                let (close, after) = after.split_once('>').unwrap();
                assert_eq!(close.trim(), element.name);
                self.rest = after;
                break;
            } else {
                element.children.push(self.element());
            }
        }
        if !element.children.is_empty() || element.text.contains('\n') {
            element.text = element.text.trim().to_string();
        }
        element
    }
}

fn attributes(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a closed attribute");
        found.push((name.trim().to_string(), unescape(value)));
        rest = after;
    }
    found
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out += before;
        let (name, after) = after.split_once(';').expect("a closed entity");
        rest = after;
        match name {
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "amp" => out.push('&'),
            "quot" => out.push('"'),
            "apos" => out.push('\''),
            number => {
                let code = match number.strip_prefix("#x") {
                    Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
                    None => number.strip_prefix('#').unwrap().parse().unwrap(),
                };
                out.push(char::from_u32(code).unwrap());
            }
        }
    }
    out + rest
}
