//! Requests and answers: who asks, what for, and the bytes.

mod blobs;
mod body;
mod manifests;
mod uploads;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use serde_json::Value;
use state::{Scope, Snapshot, TimeMs, Tx};

use crate::decide::{self, At, Window};
use crate::error::Error;
use crate::host::ecr_host;
use crate::route::{Action, Route, parameter};
use crate::{Login, Registry};

pub use body::Body;
pub use manifests::record_pull;

type Answer = Result<Response<Body>, Error>;

/// What all answers to one request need.
struct Asked<'a> {
    scope: &'a Scope,
    name: &'a str,
    parts: &'a Parts,
    now_ms: TimeMs,
}

impl Asked<'_> {
    fn at(&self) -> At<'_> {
        At { scope: self.scope, name: self.name }
    }

    fn query(&self, name: &str) -> Option<String> {
        parameter(self.parts.uri.query(), name)
    }

    fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Registry {
    /// Answers a request whose path begins with `/v2`. Errors are answers too.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let host = authority(&parts).to_owned();
        let is_head = parts.method == Method::HEAD;
        let answer = match self.answer(&parts, body, now_ms()).await {
            Ok(response) => response,
            Err(error) => refusal(&error, &host, is_head),
        };
        with(answer, "docker-distribution-api-version", "registry/2.0")
    }

    async fn answer<B>(&self, parts: &Parts, body: B, now_ms: TimeMs) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        // Who is not logged in learns nothing, not even whether a path exists.
        let login = self.login(parts, now_ms).ok_or_else(Error::unauthorized)?;
        let route = Route::read(&parts.method, parts.uri.path())?;
        let scope = scope_of(parts, &login)?;
        let (name, action) = match route {
            Route::Base => return Ok(json(StatusCode::OK, &serde_json::json!({}))),
            Route::Catalog => {
                let window = window(parts)?;
                let (list, last) = decide::catalog(&self.db.snapshot(), &scope, &window);
                return Ok(page("/v2/_catalog", &list, &window, last));
            }
            Route::Of(name, action) => (name, action),
        };
        let asked = Asked { scope: &scope, name: &name, parts, now_ms };
        match action {
            Action::ListTags => {
                let window = window(parts)?;
                let (list, last) = decide::list_tags(&self.db.snapshot(), asked.at(), &window)?;
                Ok(page(&format!("/v2/{name}/tags/list"), &list, &window, last))
            }
            Action::Referrers(digest) => self.referrers(&asked, &digest),
            Action::GetManifest(reference, is_head) => self.get_manifest(&asked, &reference, is_head).await,
            Action::PutManifest(reference) => self.put_manifest(&asked, &reference, body).await,
            Action::DeleteManifest(reference) => {
                self.decide(|tx| decide::delete_manifest(tx, asked.at(), &reference)).await?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            Action::GetBlob(digest, is_head) => self.get_blob(&asked, &digest, is_head).await,
            Action::DeleteBlob(digest) => {
                self.decide(|tx| decide::delete_blob(tx, asked.at(), &digest)).await?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            Action::BeginUpload => self.begin_upload(&asked, body).await,
            Action::UploadStatus(id) => self.upload_status(&asked, &id).await,
            Action::Append(id) => self.append_upload(&asked, &id, body).await,
            Action::Finish(id) => self.finish_upload(&asked, &id, body).await,
            Action::Cancel(id) => self.cancel_upload(&asked, &id).await,
        }
    }

    fn referrers(&self, asked: &Asked<'_>, digest: &str) -> Answer {
        let artifact_type = asked.query("artifactType");
        let list = decide::referrers(&self.db.snapshot(), asked.at(), digest, artifact_type.as_deref())?;
        let mut response = json(StatusCode::OK, &list);
        let kind = HeaderValue::from_static(state::ecr::manifest::OCI_INDEX);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if artifact_type.is_some() {
            response = with(response, "oci-filters-applied", "artifactType");
        }
        Ok(response)
    }

    /// Runs a decision and waits until it is durable.
    async fn decide<A>(&self, decision: impl FnOnce(&mut Tx) -> Result<A, Error>) -> Result<A, Error> {
        self.db.decide(decision).await.map_err(Error::internal)?
    }

    /// Who asks: by Basic authentication, or by the token in the URL of a layer's download.
    fn login(&self, parts: &Parts, now_ms: TimeMs) -> Option<Login> {
        if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
            return self.auth.login(&password(value)?, now_ms);
        }
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        let token = parameter(parts.uri.query(), "token").filter(|_| reads)?;
        let route = Route::read(&parts.method, parts.uri.path()).ok()?;
        matches!(route, Route::Of(_, Action::GetBlob(..))).then(|| self.auth.login(&token, now_ms))?
    }

    fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }
}

/// The password of `Authorization: Basic`; ECR's user name is always `AWS`.
fn password(value: &HeaderValue) -> Option<String> {
    use base64::Engine as _;
    let (kind, encoded) = value.to_str().ok()?.split_once(' ')?;
    let plain = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    let (user, password) = plain.split_once(':')?;
    (kind.eq_ignore_ascii_case("basic") && user == "AWS").then(|| password.to_owned())
}

/// The host that was asked, as the client wrote it.
fn authority(parts: &Parts) -> &str {
    let in_uri = parts.uri.authority().map(http::uri::Authority::as_str);
    in_uri.or_else(|| parts.headers.get(header::HOST)?.to_str().ok()).unwrap_or_default()
}

/// The registry that is asked: that of the host's name, else the caller's own. Another account's is closed, as it is
/// at AWS without a repository policy.
fn scope_of(parts: &Parts, login: &Login) -> Result<Scope, Error> {
    let Some(scope) = ecr_host(authority(parts)) else { return Ok(login.scope.clone()) };
    if scope.account == login.scope.account {
        return Ok(scope);
    }
    let message =
        format!("User: {} is not authorized to access the registry with id '{}'", login.arn, scope.account);
    Err(Error::new(StatusCode::FORBIDDEN, "DENIED", message))
}

fn window(parts: &Parts) -> Result<Window, Error> {
    let query = parts.uri.query();
    Window::read(parameter(query, "n"), parameter(query, "last"))
}

fn now_ms() -> TimeMs {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| since.as_millis() as TimeMs)
}

// === answers ===

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string().into_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Adds a header. Its value is made of names, digests and numbers that were checked before.
fn with(mut response: Response<Body>, name: &'static str, value: impl AsRef<str>) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// A list, with a link to its next page if there is one.
fn page(path: &str, list: &Value, window: &Window, last: Option<String>) -> Response<Body> {
    let response = json(StatusCode::OK, list);
    let Some(last) = last else { return response };
    let n = window.n.map(|n| format!("n={n}&")).unwrap_or_default();
    with(response, "link", format!("<{path}?{n}last={last}>; rel=\"next\""))
}

fn refusal(error: &Error, host: &str, is_head: bool) -> Response<Body> {
    if error.status.is_server_error() {
        tracing::error!(message = error.message, "the registry failed");
    }
    let bytes = error.json();
    let length = bytes.len();
    let mut response = Response::new(if is_head { Body::empty() } else { Body::full(bytes) });
    *response.status_mut() = error.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if is_head {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if error.status == StatusCode::UNAUTHORIZED {
        let ask = format!("Basic realm=\"http://{host}/\",service=\"ecr.amazonaws.com\"");
        response = with(response, "www-authenticate", ask);
    }
    match &error.header {
        Some((name, value)) => with(response, name, value),
        None => response,
    }
}
