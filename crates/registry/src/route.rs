//! What a request asks for, read from its method and path.

use http::Method;
use state::ecr::manifest::{is_digest, is_repository_name, is_tag};

use crate::error::Error;

/// A request below `/v2/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry, and am I logged in?
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/…`: the repository, and what is asked of it.
    Of(String, Action),
}

/// What is asked of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Its tags.
    ListTags,
    /// The manifests that refer to a digest.
    Referrers(String),
    /// By tag or digest; the flag says that only the head is wanted.
    GetManifest(String, bool),
    /// Under a tag or its digest.
    PutManifest(String),
    /// By tag or digest.
    DeleteManifest(String),
    /// By digest; the flag says that only the head is wanted.
    GetBlob(String, bool),
    /// By digest.
    DeleteBlob(String),
    /// A new upload.
    BeginUpload,
    /// How far the upload of this id is.
    UploadStatus(String),
    /// More bytes for it.
    Append(String),
    /// It is complete.
    Finish(String),
    /// It is not wanted any more.
    Cancel(String),
}

impl Route {
    /// Reads a request. Errors: a path that is none of the API's, a name, digest or tag that is none.
    pub fn read(method: &Method, path: &str) -> Result<Route, Error> {
        let unknown =
            || Error::new(http::StatusCode::NOT_FOUND, "UNSUPPORTED", format!("no such path: {path}"));
        // Some clients write the colon of a digest as %3A. What comes out is checked as if it had been written plainly.
        let decoded = decoded(path, false);
        let rest = decoded.strip_prefix("/v2").ok_or_else(unknown)?;
        let reads = method == Method::GET || method == Method::HEAD;
        match rest {
            "" | "/" if reads => return Ok(Route::Base),
            "/_catalog" if method == Method::GET => return Ok(Route::Catalog),
            "" | "/" | "/_catalog" => return Err(not_allowed(method)),
            _ => {}
        }
        let parts: Vec<&str> = rest.strip_prefix('/').ok_or_else(unknown)?.split('/').collect();
        // A repository's name has slashes of its own, so a path is read from its end.
        let (name, action) = match parts.as_slice() {
            [name @ .., "tags", "list"] => (name, list_tags(method)?),
            [name @ .., "referrers", digest] => (name, referrers(method, digest)?),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => (name, begin(method)?),
            [name @ .., "blobs", "uploads", id] => (name, upload(method, id)?),
            [name @ .., "blobs", digest] => (name, blob(method, digest)?),
            [name @ .., "manifests", reference] => (name, manifest(method, reference)?),
            _ => return Err(unknown()),
        };
        let name = name.join("/");
        if !is_repository_name(&name) {
            return Err(Error::bad("NAME_INVALID", format!("'{name}' is not a repository name")));
        }
        Ok(Route::Of(name, action))
    }
}

fn not_allowed(method: &Method) -> Error {
    Error::unsupported(format!("{method} is not supported here"))
}

fn list_tags(method: &Method) -> Result<Action, Error> {
    if method == Method::GET { Ok(Action::ListTags) } else { Err(not_allowed(method)) }
}

fn referrers(method: &Method, digest: &str) -> Result<Action, Error> {
    if method != Method::GET {
        return Err(not_allowed(method));
    }
    Ok(Action::Referrers(checked_digest(digest)?))
}

fn begin(method: &Method) -> Result<Action, Error> {
    if method == Method::POST { Ok(Action::BeginUpload) } else { Err(not_allowed(method)) }
}

fn upload(method: &Method, id: &str) -> Result<Action, Error> {
    let id = id.to_owned();
    Ok(match *method {
        Method::GET => Action::UploadStatus(id),
        Method::PATCH => Action::Append(id),
        Method::PUT => Action::Finish(id),
        Method::DELETE => Action::Cancel(id),
        _ => return Err(not_allowed(method)),
    })
}

fn blob(method: &Method, digest: &str) -> Result<Action, Error> {
    let digest = checked_digest(digest)?;
    Ok(match *method {
        Method::GET => Action::GetBlob(digest, false),
        Method::HEAD => Action::GetBlob(digest, true),
        Method::DELETE => Action::DeleteBlob(digest),
        _ => return Err(not_allowed(method)),
    })
}

fn manifest(method: &Method, reference: &str) -> Result<Action, Error> {
    let reference = if reference.contains(':') {
        checked_digest(reference)?
    } else if is_tag(reference) {
        reference.to_owned()
    } else {
        return Err(Error::bad("TAG_INVALID", format!("'{reference}' is not a tag")));
    };
    Ok(match *method {
        Method::GET => Action::GetManifest(reference, false),
        Method::HEAD => Action::GetManifest(reference, true),
        Method::PUT => Action::PutManifest(reference),
        Method::DELETE => Action::DeleteManifest(reference),
        _ => return Err(not_allowed(method)),
    })
}

/// A digest that we could have.
pub(crate) fn checked_digest(text: &str) -> Result<String, Error> {
    if is_digest(text) {
        return Ok(text.to_owned());
    }
    Err(Error::bad("DIGEST_INVALID", format!("'{text}' is not a sha256 digest")))
}

/// The value of a query parameter, decoded.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decoded(value, true))
}

/// Undoes `%XX`, and `+` in a query; what is not valid UTF-8 afterwards is replaced.
fn decoded(text: &str, in_query: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = hex.filter(|_| first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => bytes.push(byte),
            None => bytes.push(if first == b'+' && in_query { b' ' } else { first }),
        }
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn paths_are_read_from_their_end() {
        let check = |method: Method, path: &str, name: &str, action: Action| {
            assert_eq!(Route::read(&method, path), Ok(Route::Of(name.into(), action)), "{path}");
        };
        check(Method::GET, "/v2/a1/tags/list", "a1", Action::ListTags);
        check(Method::GET, "/v2/a1/b/c/tags/list", "a1/b/c", Action::ListTags);
        check(
            Method::GET,
            "/v2/blobs/manifests/manifests/v1",
            "blobs/manifests",
            Action::GetManifest("v1".into(), false),
        );
        check(Method::HEAD, &format!("/v2/app/blobs/{D}"), "app", Action::GetBlob(D.into(), true));
        check(Method::POST, "/v2/app/blobs/uploads/", "app", Action::BeginUpload);
        check(Method::POST, "/v2/app/blobs/uploads", "app", Action::BeginUpload);
        check(Method::PATCH, "/v2/app/blobs/uploads/x", "app", Action::Append("x".into()));
        check(Method::PUT, &format!("/v2/app/manifests/{D}"), "app", Action::PutManifest(D.into()));
        let encoded = D.replace(':', "%3A");
        check(Method::GET, &format!("/v2/app/blobs/{encoded}"), "app", Action::GetBlob(D.into(), false));
        assert_eq!(Route::read(&Method::GET, "/v2/"), Ok(Route::Base));
        assert_eq!(Route::read(&Method::GET, "/v2"), Ok(Route::Base));
        assert_eq!(Route::read(&Method::GET, "/v2/_catalog"), Ok(Route::Catalog));
    }

    #[test]
    fn bad_requests_have_their_codes() {
        for (method, path, code) in [
            (Method::GET, "/v2/app/blobs/sha256:xyz", "DIGEST_INVALID"),
            (Method::GET, "/v2/app/blobs/../../etc/passwd", "UNSUPPORTED"),
            (Method::GET, "/v2/app/manifests/.x", "TAG_INVALID"),
            (Method::GET, "/v2/App/manifests/v1", "NAME_INVALID"),
            (Method::GET, "/v2/../app/manifests/v1", "NAME_INVALID"),
            (Method::GET, "/v2/%2E%2E%2Fapp/manifests/v1", "NAME_INVALID"),
            (Method::GET, "/v2/manifests/v1", "NAME_INVALID"),
            (Method::POST, "/v2/", "UNSUPPORTED"),
            (Method::POST, "/v2/app/tags/list", "UNSUPPORTED"),
            (Method::GET, "/v2x", "UNSUPPORTED"),
            (Method::GET, "/v2/app", "UNSUPPORTED"),
        ] {
            assert_eq!(Route::read(&method, path).unwrap_err().code, code, "{path}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Some("n=1&last=a%2Fb+c&x=%zz%4");
        assert_eq!(parameter(query, "last").as_deref(), Some("a/b c"));
        assert_eq!(parameter(query, "x").as_deref(), Some("%zz%4"));
        assert_eq!(parameter(query, "y"), None);
    }
}
