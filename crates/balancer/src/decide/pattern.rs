//! Wildcard patterns of listener rule conditions: `*` is any run of characters, `?` exactly one.

/// How letters and the backslash count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Whether `A` and `a` differ.
    pub case_sensitive: bool,
    /// Whether `\*`, `\?` and `\\` stand for the character itself (query-string conditions).
    pub escapes: bool,
}

impl Dialect {
    /// `path-pattern`.
    pub const PATH: Self = Self { case_sensitive: true, escapes: false };
    /// `host-header` and `http-header`.
    pub const HEADER: Self = Self { case_sensitive: false, escapes: false };
    /// `query-string`.
    pub const QUERY: Self = Self { case_sensitive: false, escapes: true };
}

/// Whether the whole text matches the pattern. Time is at most |pattern| × |text|: a client cannot make it worse.
pub fn matches(pattern: &str, text: &str, dialect: Dialect) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go back to: just after the last `*`, and the text position that `*` has eaten up to.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = element(pattern, p, dialect);
        if let Some((Element::Star, after)) = step {
            star = Some((after, t));
            p = after;
            continue;
        }
        if t == text.len() {
            return step.is_none();
        }
        match step {
            Some((Element::Any, after)) => (p, t) = (after, t + 1),
            Some((Element::Byte(byte), after)) if same(byte, text[t], dialect) => (p, t) = (after, t + 1),
            _ => match star {
                None => return false,
                Some((after, eaten)) => {
                    star = Some((after, eaten + 1));
                    (p, t) = (after, eaten + 1);
                }
            },
        }
    }
}

enum Element {
    Star,
    Any,
    Byte(u8),
}

/// The pattern's element at `p` and the position after it.
fn element(pattern: &[u8], p: usize, dialect: Dialect) -> Option<(Element, usize)> {
    Some(match *pattern.get(p)? {
        b'*' => (Element::Star, p + 1),
        b'?' => (Element::Any, p + 1),
        b'\\' if dialect.escapes => match pattern.get(p + 1) {
            Some(byte @ (b'*' | b'?' | b'\\')) => (Element::Byte(*byte), p + 2),
            _ => (Element::Byte(b'\\'), p + 1),
        },
        byte => (Element::Byte(byte), p + 1),
    })
}

fn same(a: u8, b: u8, dialect: Dialect) -> bool {
    if dialect.case_sensitive { a == b } else { a.eq_ignore_ascii_case(&b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn aws_examples() {
        let path = |pattern, text| matches(pattern, text, Dialect::PATH);
        assert!(path("/img/*", "/img/") && path("/img/*", "/img/a/b.png") && !path("/img/*", "/img"));
        assert!(path("/img/*/pics", "/img/x/y/pics") && !path("/img/*/pics", "/img/x/picsy"));
        assert!(!path("/IMG/*", "/img/a"));
        assert!(path("/p?", "/p1") && !path("/p?", "/p") && !path("/p?", "/p12"));
        assert!(matches("*.Example.com", "test.example.COM", Dialect::HEADER));
        assert!(!matches("*.example.com", "example.com", Dialect::HEADER));
        assert!(matches(r"a\*b", "A*b", Dialect::QUERY) && !matches(r"a\*b", "axb", Dialect::QUERY));
        assert!(matches(r"a\*b", r"a\xb", Dialect::PATH));
    }

    /// The definition, by recursion.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            Some((b'?', rest)) => !text.is_empty() && reference(rest, &text[1..]),
            Some((byte, rest)) => text.first() == Some(byte) && reference(rest, &text[1..]),
        }
    }

    #[test]
    fn every_short_pattern_agrees_with_the_definition() {
        let words = |alphabet: &[u8], len: u32| -> Vec<Vec<u8>> {
            let base = alphabet.len();
            let word = |length: u32, n: usize| {
                (0..length).map(|i| alphabet[n / base.pow(i) % base]).collect::<Vec<u8>>()
            };
            (0..=len)
                .flat_map(|length| (0..base.pow(length)).map(move |n| (length, n)))
                .map(|(l, n)| word(l, n))
                .collect()
        };
        for pattern in words(b"ab*?", 4) {
            for text in words(b"ab", 5) {
                let (p, t) = (std::str::from_utf8(&pattern).unwrap(), std::str::from_utf8(&text).unwrap());
                assert_eq!(matches(p, t, Dialect::PATH), reference(&pattern, &text), "{p} {t}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[abAB*?/]{0,12}", text in "[abAB/]{0,14}") {
            prop_assert_eq!(matches(&pattern, &text, Dialect::PATH), reference(pattern.as_bytes(), text.as_bytes()));
            let (lower_pattern, lower_text) = (pattern.to_lowercase(), text.to_lowercase());
            prop_assert_eq!(
                matches(&pattern, &text, Dialect::HEADER),
                reference(lower_pattern.as_bytes(), lower_text.as_bytes())
            );
        }
    }
}
