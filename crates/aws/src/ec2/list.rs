//! Lists: named ids, filters with wildcards, tags, pages. All of them work on what is shown.

use wire::Fault;
use wire::shapes::ec2::{Filter, Tag};

use super::faults::{combination, invalid};
use crate::Page;

/// Filter values in one call ("List and filter using the CLI and API", EC2 user guide).
const FILTER_VALUES_MAX: usize = 200;

/// A thing that is shown in lists.
pub(super) trait Listed: Default {
    /// The name of the request's parameter that lists ids.
    const IDS: &'static str;
    /// Its id: lists are sorted by it.
    fn id(&self) -> &str;
    /// The error for an id that there is not.
    fn missing(id: &str) -> Fault;
    /// Its tags, for the filters `tag:Key` and `tag-key`; `None` if it is of a kind that has none.
    fn tags(&self) -> Option<&[Tag]>;
    /// What the thing has to show to a filter; `None` if its kind has no such filter.
    fn values(&self, filter: &str) -> Option<Vec<String>>;
}

/// What a Describe request asks for.
#[derive(Default)]
pub(super) struct Asked {
    /// These alone.
    pub ids: Option<Vec<String>>,
    /// What matches all of these.
    pub filters: Option<Vec<Filter>>,
    /// At most so many.
    pub max_results: Option<i64>,
    /// Where the last page ended.
    pub next_token: Option<String>,
}

/// The things asked for, and the token of the next page.
pub(super) fn list<T: Listed>(mut things: Vec<T>, asked: Asked) -> Result<(Vec<T>, Option<String>), Fault> {
    let ids = asked.ids.unwrap_or_default();
    if !ids.is_empty() && asked.max_results.is_some() {
        return Err(combination(format!(
            "The parameter {} cannot be used with the parameter maxResults",
            T::IDS
        )));
    }
    if let Some(unknown) = ids.iter().find(|id| !things.iter().any(|thing| thing.id() == *id)) {
        return Err(T::missing(unknown));
    }
    let filters = Filters::new::<T>(asked.filters)?;
    things.retain(|thing| {
        (ids.is_empty() || ids.iter().any(|id| id == thing.id())) && filters.match_all(thing)
    });
    things.sort_by(|a, b| a.id().cmp(b.id()));
    let limit = asked.max_results.map_or(usize::MAX, |max| max.clamp(1, 1000) as usize);
    let page = Page { token: asked.next_token.as_deref().filter(|token| !token.is_empty()), limit };
    if !page.is_valid() {
        return Err(Fault::new("InvalidNextToken", "The specified NextToken is not valid."));
    }
    Ok(page.take(things, |thing| thing.id().to_owned()))
}

/// Filters, each with its name and values; all must match, by any of their values.
struct Filters(Vec<(String, Vec<String>)>);

impl Filters {
    fn new<T: Listed>(given: Option<Vec<Filter>>) -> Result<Filters, Fault> {
        let probe = T::default();
        let mut filters = Vec::new();
        let mut values = 0;
        for filter in given.unwrap_or_default() {
            let name = filter.name.unwrap_or_else(|| "null".into());
            let by_tag = name == "tag-key" || name.strip_prefix("tag:").is_some_and(|key| !key.is_empty());
            if !(by_tag && probe.tags().is_some() || probe.values(&name).is_some()) {
                return Err(invalid(format!("The filter '{name}' is invalid")));
            }
            let wanted = filter.values.unwrap_or_default();
            values += wanted.len();
            filters.push((name, wanted));
        }
        if values > FILTER_VALUES_MAX {
            let message = format!(
                "The maximum number of filter values specified on a single call is {FILTER_VALUES_MAX}"
            );
            return Err(Fault::new("FilterLimitExceeded", message));
        }
        Ok(Filters(filters))
    }

    fn match_all<T: Listed>(&self, thing: &T) -> bool {
        self.0.iter().all(|(name, wanted)| {
            let shown = shown_to(thing, name);
            shown.iter().any(|value| wanted.iter().any(|pattern| is_like(pattern, value)))
        })
    }
}

fn shown_to<T: Listed>(thing: &T, name: &str) -> Vec<String> {
    let tags = thing.tags().unwrap_or_default();
    if name == "tag-key" {
        return tags.iter().filter_map(|tag| tag.key.clone()).collect();
    }
    match name.strip_prefix("tag:") {
        Some(key) if thing.values(name).is_none() => tags
            .iter()
            .filter(|tag| tag.key.as_deref() == Some(key))
            .filter_map(|tag| tag.value.clone())
            .collect(),
        _ => thing.values(name).unwrap_or_default(),
    }
}

/// Whether a text matches a pattern: `*` is any text, `?` any character, `\` makes the next character plain.
fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // On a mismatch, the last `*` takes one character more; earlier ones never need to.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        let (plain, width) = match pattern.get(p) {
            Some('\\') if p + 1 < pattern.len() => (Some(pattern[p + 1]), 2),
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => (Some(text[t]), 1),
            other => (other.copied(), 1),
        };
        if plain == Some(text[t]) {
            (p, t) = (p + width, t + 1);
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The one value of a text, for [`Listed::values`].
pub(super) fn one(text: &Option<String>) -> Option<Vec<String>> {
    Some(text.iter().cloned().collect())
}

/// The one value of a switch.
pub(super) fn flag(value: Option<bool>) -> Option<Vec<String>> {
    Some(value.iter().map(bool::to_string).collect())
}

/// The one value of a number.
pub(super) fn number(value: Option<i64>) -> Option<Vec<String>> {
    Some(value.iter().map(i64::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_wildcards_and_escapes() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("abc", "abc", true),
            ("abc", "ABC", false),
            ("a*", "a", true),
            ("a*c", "abbbc", true),
            ("a*c*", "abbbcd", true),
            ("*b*c", "abxbc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*\\*", "ab*", true),
            ("*a", "b", false),
            ("é?", "éü", true),
            ("a\\", "a\\", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
