//! Filter patterns for unstructured events ("Filter pattern syntax", CloudWatch Logs user guide).

use wire::Fault;

use super::invalid;

/// A parsed pattern: an event matches if it holds every required term, no excluded one, and one of the optional ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pattern {
    required: Vec<String>,
    excluded: Vec<String>,
    optional: Vec<String>,
}

impl Pattern {
    /// Parses a pattern of terms: `a "b c" -d ?e`. JSON and space-delimited patterns are refused by name.
    pub(super) fn parse(text: &str) -> Result<Pattern, Fault> {
        let text = text.trim();
        let kind = match text.chars().next() {
            Some('{') => Some("JSON"),
            Some('[') => Some("space-delimited"),
            Some('%') => Some("regular expression"),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(invalid(format!("Invalid filter pattern: {kind} filter patterns are not supported")));
        }
        let mut pattern = Pattern::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (sign, after) = match rest.strip_prefix(['-', '?']) {
                Some(after) => (rest.chars().next(), after),
                None => (None, rest),
            };
            let (term, after) = term(after)?;
            match sign {
                Some('-') => pattern.excluded.push(term),
                Some(_) => pattern.optional.push(term),
                None => pattern.required.push(term),
            }
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    /// Whether an event's text matches. Case-sensitive.
    pub(super) fn matches(&self, message: &str) -> bool {
        self.required.iter().all(|term| message.contains(term))
            && !self.excluded.iter().any(|term| message.contains(term))
            && (self.optional.is_empty() || self.optional.iter().any(|term| message.contains(term)))
    }
}

/// One term, quoted or up to white space, and what follows it.
fn term(text: &str) -> Result<(String, &str), Fault> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let term = &text[..end];
        // As AWS: "terms that include characters that are not alphanumeric must be placed inside double quotation marks".
        return match term.is_empty() || !term.chars().all(|c| c.is_alphanumeric() || c == '_') {
            true => Err(invalid(format!("Invalid character(s) in term '{term}'"))),
            false => Ok((term.to_owned(), &text[end..])),
        };
    };
    let mut term = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Ok((term, &quoted[at + 1..])),
            c => {
                escaped = false;
                term.push(c);
            }
        }
    }
    Err(invalid("Invalid filter pattern: a quotation mark is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, message: &str| Pattern::parse(pattern).unwrap().matches(message);
        assert!(check("", "anything"));
        assert!(check("ERROR", "[ERROR 500]") && !check("ERROR", "error"));
        assert!(check("a b", "b then a") && !check("a b", "only a"));
        assert!(check("\"not found\"", "was not found") && !check("\"not found\"", "found not"));
        assert!(check("?WARN ?ERROR", "ERROR") && !check("?WARN ?ERROR", "INFO"));
        assert!(!check("a -b", "a b") && check("a -b", "a c"));
        assert!(check(r#""say \"hi\"""#, r#"they say "hi""#));
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (pattern, named) in [("{ $.a = 1 }", "JSON"), ("[a, b]", "space-delimited"), ("%x%", "regular")] {
            assert!(Pattern::parse(pattern).unwrap_err().message.contains(named));
        }
        assert!(Pattern::parse("\"open").is_err());
        assert!(Pattern::parse("a=b").is_err());
    }
}
