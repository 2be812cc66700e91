//! Wildcard patterns by their definition: a table of which prefixes match, without cleverness.

/// An element of a pattern.
enum Element {
    Star,
    Any,
    Byte(u8),
}

/// Whether the whole text matches: `*` any run, `?` any one, and with `escapes` a backslash before one of them (or of
/// itself) makes it plain.
pub fn matches(pattern: &[u8], text: &[u8], case_sensitive: bool, escapes: bool) -> bool {
    let mut elements = Vec::new();
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.first().filter(|b| escapes && first == b'\\' && b"*?\\".contains(b));
        let (element, after) = match (first, escaped) {
            (_, Some(byte)) => (Element::Byte(*byte), &after[1..]),
            (b'*', None) => (Element::Star, after),
            (b'?', None) => (Element::Any, after),
            (byte, None) => (Element::Byte(byte), after),
        };
        elements.push(element);
        rest = after;
    }
    // Whether the elements so far match the first n bytes of the text.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for element in &elements {
        let mut next = vec![false; text.len() + 1];
        for n in 0..=text.len() {
            next[n] = match element {
                Element::Star => matched[n] || (n > 0 && next[n - 1]),
                Element::Any => n > 0 && matched[n - 1],
                Element::Byte(byte) => n > 0 && matched[n - 1] && same(*byte, text[n - 1], case_sensitive),
            };
        }
        matched = next;
    }
    matched[text.len()]
}

fn same(a: u8, b: u8, case_sensitive: bool) -> bool {
    if case_sensitive { a == b } else { a.eq_ignore_ascii_case(&b) }
}
