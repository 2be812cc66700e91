//! Requests to registries: addresses, trust, tokens, retries, and their failures in the words that ECS shows.
//!
//! The client is `ureq`: it blocks, which is all that a pull needs on a thread of its own, brings TLS by rustls, proxies
//! (`HTTPS_PROXY`, `NO_PROXY`) and redirects, and is a fifth of the dependencies of `oci-client`, which brings reqwest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use super::super::{PullError, Reference};
use super::auth::{Challenge, Token};

/// What a registry answers.
pub type Answered = Response<ureq::Body>;

/// A connection must stand by then.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// An answer must begin by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// More of an answer must come by then.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// "Has been retried 1 time(s)", as ECS does.
const TRIES: u32 = 2;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
const TOKEN_BYTES_MAX: u64 = 1 << 20;
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

/// Where systems keep the certificates that they trust (Debian, Red Hat, SUSE, Alpine and BSDs).
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Asks registries.
pub struct Client {
    /// Made for the first request: reading the system's certificates takes longer than the server's start may.
    agent: OnceLock<Agent>,
    insecure_hosts: Vec<String>,
    /// By registry and repository.
    tokens: Mutex<HashMap<(String, String), Token>>,
}

impl Client {
    /// `insecure_hosts`: names, with port, that are spoken to without TLS.
    pub fn new(insecure_hosts: Vec<String>) -> Client {
        Client { agent: OnceLock::new(), insecure_hosts, tokens: Mutex::default() }
    }

    fn agent(&self) -> &Agent {
        let make = || {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .timeout_connect(Some(CONNECT_WITHIN))
                .timeout_recv_response(Some(ANSWER_WITHIN))
                .timeout_per_read(Some(READ_WITHIN))
                .user_agent("roadstead")
                .tls_config(TlsConfig::builder().root_certs(roots()).build())
                .build();
            config.into()
        };
        self.agent.get_or_init(make)
    }

    /// Asks for something of a reference's repository, with a token if one is wanted, and again if that may help.
    /// `path` is what follows the repository in the address. The answer is one of success.
    ///
    /// # Errors
    /// In ECS's words.
    pub fn get(
        &self,
        reference: &Reference,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answered, PullError> {
        let url = format!("{}/v2/{}/{path}", self.base(&reference.domain)?, reference.repository);
        let mut tries = 1;
        loop {
            let answered = self.get_once(reference, &url, headers);
            let again = match &answered {
                Ok(answer) => {
                    answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS
                }
                Err(_) => true,
            };
            if again && tries < TRIES {
                tries += 1;
                std::thread::sleep(TRY_AGAIN_AFTER);
                continue;
            }
            return match answered {
                Ok(answer) if answer.status().is_success() => Ok(answer),
                Ok(answer) => Err(refused(reference, &url, answer)),
                Err(err) => Err(failed(reference, &url, &err)),
            };
        }
    }

    /// The address of a registry. What Docker Hub calls itself is not where it is.
    fn base(&self, domain: &str) -> Result<String, PullError> {
        if !domain.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) {
            return Err(PullError::Other(format!("invalid reference format: {domain:?} is no host name")));
        }
        if domain == "docker.io" {
            return Ok("https://registry-1.docker.io".into());
        }
        let host = domain.rsplit_once(':').map_or(domain, |(host, _)| host);
        let loopback = host == "localhost" || host.starts_with("127.") || domain.starts_with("[::1]");
        let plain = loopback || self.insecure_hosts.iter().any(|insecure| insecure == domain);
        Ok(format!("{}://{domain}", if plain { "http" } else { "https" }))
    }

    fn get_once(
        &self,
        reference: &Reference,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answered, ureq::Error> {
        let at = (reference.domain.clone(), reference.repository.clone());
        let kept = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&at).cloned();
        let token = kept.filter(|token| token.until > Instant::now());
        let answer = self.send(url, headers, token.as_ref())?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenges = answer.headers().get_all("WWW-Authenticate");
        let challenge = challenges.iter().find_map(|header| Challenge::parse(header.to_str().ok()?));
        let Some(challenge) = challenge else { return Ok(answer) };
        let Some(token) = self.token(&challenge, &reference.repository)? else { return Ok(answer) };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, token| token.until > Instant::now());
        tokens.insert(at, token.clone());
        drop(tokens);
        self.send(url, headers, Some(&token))
    }

    /// `Authorization` is not sent on where a registry redirects to a store elsewhere: the agent's default.
    fn send(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        token: Option<&Token>,
    ) -> Result<Answered, ureq::Error> {
        let mut request = self.agent().get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {}", token.text));
        }
        request.call()
    }

    /// A token for anybody; none if the service gives none.
    fn token(&self, challenge: &Challenge, repository: &str) -> Result<Option<Token>, ureq::Error> {
        let request = self.agent().get(&challenge.realm).query_pairs(challenge.query(repository));
        let mut answer = request.call()?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let body = answer.body_mut().with_config().limit(TOKEN_BYTES_MAX).read_to_vec()?;
        Ok(Token::parse(&body, Instant::now()))
    }
}

/// The certificates that the system trusts, or those that Mozilla does where it keeps none.
fn roots() -> RootCerts {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let files = named.into_iter().chain(BUNDLES.iter().map(Into::into));
    let certificates = files.filter_map(|file| {
        let pem = std::fs::read(file).ok()?;
        let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        Some(items.collect::<Vec<_>>()).filter(|certificates| !certificates.is_empty())
    });
    certificates.into_iter().next().map_or(RootCerts::WebPki, |found| RootCerts::Specific(Arc::new(found)))
}

/// A request that had no answer.
pub fn failed(reference: &Reference, url: &str, err: &ureq::Error) -> PullError {
    PullError::Other(format!("failed to resolve ref {reference}: failed to do request: Get {url:?}: {err}"))
}

/// An answer that is a refusal.
fn refused(reference: &Reference, url: &str, mut answer: Answered) -> PullError {
    let status = answer.status();
    let said = answer.body_mut().with_config().limit(MESSAGE_BYTES_MAX).read_to_vec().unwrap_or_default();
    let said = server_message(&said);
    match status {
        StatusCode::NOT_FOUND => PullError::NotFound(reference.to_string()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PullError::Denied(format!(
            "pull access denied, repository does not exist or may require authorization: server message: {}",
            said.unwrap_or_else(|| "insufficient_scope: authorization failed".into())
        )),
        _ => {
            let reason = status.canonical_reason().unwrap_or_default();
            let said = said.map(|said| format!(" - Server message: {said}")).unwrap_or_default();
            let code = status.as_u16();
            PullError::Other(format!(
                "failed to resolve ref {reference}: unexpected status code {url}: {code} {reason}{said}"
            ))
        }
    }
}

/// The first of a registry's errors, `code: message` ("Error codes", OCI Distribution Specification).
fn server_message(body: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = document.get("errors")?.get(0)?;
    let code = error.get("code")?.as_str()?.to_ascii_lowercase();
    Some(match error.get("message").and_then(|message| message.as_str()) {
        Some(message) if !message.is_empty() => format!("{code}: {message}"),
        _ => code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_found() {
        let client = Client::new(vec!["registry.lan:5000".into()]);
        let cases = [
            ("docker.io", "https://registry-1.docker.io"),
            ("ghcr.io", "https://ghcr.io"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("localhost.example.com", "https://localhost.example.com"),
            ("registry.lan:5000", "http://registry.lan:5000"),
            ("registry.lan", "https://registry.lan"),
        ];
        for (domain, base) in cases {
            assert_eq!(client.base(domain).unwrap(), base);
        }
        for bad in ["a.b?x=", "user@a.b", "a.b#", "a.b c"] {
            assert!(client.base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn server_messages_are_read() {
        let body =
            br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
        assert_eq!(server_message(body).unwrap(), "toomanyrequests: You have reached your pull rate limit.");
        assert_eq!(server_message(b"<html>"), None);
    }
}
