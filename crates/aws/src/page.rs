//! Pages of a list: an opaque token names the key that the next page begins at.

/// Cuts a sorted list into pages.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The token given, if any.
    pub token: Option<&'a str>,
    /// At most this many items.
    pub limit: usize,
}

impl Page<'_> {
    /// Takes a page of items that are sorted by `key`; the items and the token of the next page.
    pub fn take<T>(
        self,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let from = self.from();
        let mut rest =
            items.into_iter().skip_while(|item| from.as_ref().is_some_and(|from| key(item) < *from));
        let page: Vec<T> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().map(|item| encode(&key(&item)));
        (page, next)
    }

    /// The key that the page begins with; `None` = the first.
    pub fn from(&self) -> Option<String> {
        self.token.and_then(decode)
    }

    /// Whether the token given is one of ours.
    pub fn is_valid(self) -> bool {
        self.token.is_none_or(|token| decode(token).is_some())
    }
}

/// Hexadecimal, so that a token survives every protocol and shell.
fn encode(key: &str) -> String {
    key.bytes().map(|b| format!("{b:02x}")).collect()
}

fn decode(token: &str) -> Option<String> {
    if !token.len().is_multiple_of(2) || !token.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..token.len()).step_by(2).map(|i| u8::from_str_radix(&token[i..i + 2], 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_give_every_item_once() {
        let items: Vec<String> = (0..25).map(|n| format!("{n:03}")).collect();
        for limit in 1..30 {
            let mut seen = Vec::new();
            let mut token: Option<String> = None;
            loop {
                let (page, next) =
                    Page { token: token.as_deref(), limit }.take(items.iter().cloned(), |i| i.clone());
                assert!(page.len() <= limit);
                seen.extend(page);
                match next {
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, items, "limit {limit}");
        }
    }

    #[test]
    fn a_foreign_token_is_refused() {
        assert!(!Page { token: Some("zz"), limit: 1 }.is_valid());
        assert!(!Page { token: Some("é"), limit: 1 }.is_valid());
        assert!(Page { token: Some("6162"), limit: 1 }.is_valid());
    }
}
