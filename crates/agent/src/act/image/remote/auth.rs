//! How a registry wants to be asked: the challenges of `WWW-Authenticate`, and the tokens that answer them.

use std::time::{Duration, Instant};

use serde::Deserialize;

/// A bearer challenge ("Token Authentication Specification", CNCF distribution).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Challenge {
    /// Where tokens are given out.
    pub realm: String,
    /// For which service.
    pub service: Option<String>,
    /// For what.
    pub scope: Option<String>,
}

/// A token that was given out.
#[derive(Debug, Clone)]
pub struct Token {
    /// Sent as `Authorization: Bearer …`.
    pub text: String,
    /// Not used after this.
    pub until: Instant,
}

/// A token is not used in its last seconds.
const SPARE: Duration = Duration::from_secs(10);
/// "If omitted, this defaults to 60 seconds".
const LIFETIME_S: u64 = 60;

#[derive(Deserialize)]
struct Document {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Challenge {
    /// Reads the value of a `WWW-Authenticate` header; none if it is no bearer challenge.
    pub fn parse(header: &str) -> Option<Challenge> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut challenge = Challenge::default();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.trim_start().strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value.to_owned(),
                "service" => challenge.service = Some(value.to_owned()),
                "scope" => challenge.scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start().trim_start_matches(',');
        }
        (!challenge.realm.is_empty()).then_some(challenge)
    }

    /// What to ask for besides the realm's address, to pull from a repository.
    pub fn query(&self, repository: &str) -> Vec<(&'static str, String)> {
        let scope = self.scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
        let service = self.service.clone().map(|service| ("service", service));
        service.into_iter().chain([("scope", scope)]).collect()
    }
}

impl Token {
    /// Reads the answer of a token service.
    pub fn parse(body: &[u8], now: Instant) -> Option<Token> {
        let document: Document = serde_json::from_slice(body).ok()?;
        let text = document.token.or(document.access_token).filter(|text| !text.is_empty())?;
        let lifetime = Duration::from_secs(document.expires_in.unwrap_or(LIFETIME_S).min(24 * 3600));
        Some(Token { text, until: now + lifetime.saturating_sub(SPARE) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        let hub = Challenge::parse(hub).unwrap();
        assert_eq!(hub.realm, "https://auth.docker.io/token");
        let asked =
            vec![("service", "registry.docker.io".into()), ("scope", "repository:library/nginx:pull".into())];
        assert_eq!(hub.query("library/nginx"), asked);
        let spare = Challenge::parse("bearer realm=http://x/t , service=a").unwrap();
        assert_eq!(spare.realm.trim(), "http://x/t");
        assert_eq!(
            spare.query("a/b"),
            vec![("service", "a".into()), ("scope", "repository:a/b:pull".into())]
        );
        let comma = Challenge::parse(r#"Bearer realm="r",scope="repository:a:pull,push""#).unwrap();
        assert_eq!(comma.scope.as_deref(), Some("repository:a:pull,push"));
        for none in ["Basic realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x", ""] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }

    #[test]
    fn tokens_are_read() {
        let now = Instant::now();
        let token = Token::parse(br#"{"token":"t","expires_in":300}"#, now).unwrap();
        assert_eq!((token.text.as_str(), token.until), ("t", now + Duration::from_secs(290)));
        let token = Token::parse(br#"{"access_token":"a"}"#, now).unwrap();
        assert_eq!((token.text.as_str(), token.until), ("a", now + Duration::from_secs(50)));
        assert!(Token::parse(b"{}", now).is_none());
    }
}
