//! The patterns of AWS's models, which are Java's, as this program's regular expressions.

use crate::model::Pattern;
use regex::Regex;

impl Pattern {
    /// Whether the whole of a text matches.
    ///
    /// Panics when the pattern is beyond our expressions and `quirks.toml` has nothing to stand for it; a test compiles
    /// every pattern of the models.
    pub fn matches(&self, text: &str) -> bool {
        let all = self.compiled.get_or_init(|| match compile(self) {
            Ok(all) => all,
            Err(why) => panic!("quirks.toml needs something to stand for a pattern: {why}"),
        });
        all.iter().all(|(wanted, regex)| regex.is_match(text) == *wanted)
    }
}

/// Each expression with whether it must match.
fn compile(pattern: &Pattern) -> Result<Vec<(bool, Regex)>, regex::Error> {
    let own = std::slice::from_ref(&pattern.text);
    let all = if pattern.instead.is_empty() { own } else { &pattern.instead[..] };
    let one = |text: &String| match text.strip_prefix('!') {
        Some(unwanted) => Ok((false, Regex::new(&translate(unwanted))?)),
        None => Ok((true, Regex::new(&translate(text))?)),
    };
    all.iter().map(one).collect()
}

/// Java's `\w`, `\d` and `\s` are ASCII; ours would be all of Unicode.
fn translate(java: &str) -> String {
    let mut out = String::with_capacity(java.len() + 16);
    out.push_str(r"\A(?:");
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('s') => out.push_str(r"[ \t\n\x0B\f\r]"),
            Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
            Some('u') => {
                let hex: String =
                    std::iter::from_fn(|| chars.next_if(char::is_ascii_hexdigit)).take(4).collect();
                out.push_str(&format!(r"\x{{{hex}}}"));
            }
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out.push_str(r")\z");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::OnceLock;

    fn matches(pattern: &str, text: &str) -> bool {
        let text_of = pattern.to_string();
        Pattern { text: text_of, instead: Vec::new(), compiled: OnceLock::new() }.matches(text)
    }

    #[test]
    fn patterns_match_the_whole_text_as_java_does() {
        assert!(matches(r"[\w+=,.@-]+", "a_b@c"));
        assert!(!matches(r"[\w+=,.@-]+", "é"));
        assert!(!matches(r"[a-z]+", "abc\n"));
        assert!(matches(r"[\u0020-\u00FF]+", "é"));
        assert!(matches(r"^\S+$", "x") && !matches(r"^\S+$", "x y"));
        assert!(matches(r"a|b", "b") && !matches(r"a|b", "ab"));
    }

    #[test]
    fn what_stands_for_a_look_ahead() {
        let model = crate::model("servicediscovery").unwrap();
        let of = |name: &str| model.shapes.iter().find(|s| s.name == name).unwrap().pattern.as_ref().unwrap();
        assert!(of("NamespaceNamePrivate").matches("shop.local"));
        assert!(!of("NamespaceNamePrivate").matches("arn:aws:x"));
        assert!(of("ServiceName").matches("a.b-c.d_1") && of("ServiceName").matches("."));
        assert!(!of("ServiceName").matches("a..b") && !of("ServiceName").matches(&"a.".repeat(64)));
    }

    #[test]
    fn every_pattern_of_the_models_compiles() {
        let mut unknown = Vec::new();
        for service in crate::services() {
            let name = service.name;
            for shape in &service.model().shapes {
                if let Some(pattern) = shape.pattern.as_ref().filter(|pattern| compile(pattern).is_err()) {
                    unknown.push(format!("{name}.{}: {}", shape.name, pattern.text));
                }
            }
        }
        assert_eq!(unknown, Vec::<String>::new());
    }
}
