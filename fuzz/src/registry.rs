//! The registry: paths of the OCI distribution API, and whole requests.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use registry::{Action, Authenticate, Login, Registry, Route};
use state::ecr::manifest::{is_digest, is_repository_name, is_tag};
use state::ecr::{Mutability, Repository};
use state::{Db, Scope, TimeMs};
use store::blobs::Blobs;

use crate::http_text::request;
use crate::layer::memory_dir;

/// Takes `METHOD /path`. What is read names only what there can be, and is written the same.
pub fn route(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((method, path)) = text.split_once(' ') else { return };
    let Ok(method) = method.parse::<http::Method>() else { return };
    let Ok(Route::Of(name, action)) = Route::read(&method, path) else { return };
    assert!(is_repository_name(&name) && !name.contains(".."), "{path}: a repository {name}");
    let (verb, rest) = match &action {
        Action::ListTags => ("GET", "tags/list".to_owned()),
        Action::Referrers(digest) => ("GET", format!("referrers/{}", checked(digest, false))),
        Action::GetManifest(reference, false) => ("GET", format!("manifests/{}", checked(reference, true))),
        Action::GetManifest(reference, true) => ("HEAD", format!("manifests/{}", checked(reference, true))),
        Action::PutManifest(reference) => ("PUT", format!("manifests/{}", checked(reference, true))),
        Action::DeleteManifest(reference) => ("DELETE", format!("manifests/{}", checked(reference, true))),
        Action::GetBlob(digest, false) => ("GET", format!("blobs/{}", checked(digest, false))),
        Action::GetBlob(digest, true) => ("HEAD", format!("blobs/{}", checked(digest, false))),
        Action::DeleteBlob(digest) => ("DELETE", format!("blobs/{}", checked(digest, false))),
        Action::BeginUpload => ("POST", "blobs/uploads/".to_owned()),
        // Ids of uploads are looked at by the store: `forms` has them.
        Action::UploadStatus(_) | Action::Append(_) | Action::Finish(_) | Action::Cancel(_) => return,
    };
    let again = Route::read(&verb.parse().expect("a method"), &format!("/v2/{name}/{rest}"));
    assert_eq!(again, Ok(Route::Of(name, action)), "{path}");
}

fn checked(reference: &str, or_tag: bool) -> &str {
    assert!(is_digest(reference) || (or_tag && is_tag(reference)), "{reference}");
    reference
}

/// Takes a request as a client sends it, to a registry with one repository. It is answered, and never with a failure
/// of ours.
pub fn answer(bytes: &[u8]) {
    let Some((parts, body)) = request(bytes) else { return };
    if !parts.uri.path().starts_with("/v2") {
        return;
    }
    let dir = memory_dir();
    let db = Db::open(Arc::new(store::memory().expect("a store in memory"))).expect("an empty state");
    let scope = Scope::new("000000000000", "us-east-1");
    let made = db.decide_blocking(|tx| {
        tx.put(repository(&scope));
        Ok::<_, Infallible>(())
    });
    made.expect("durable").expect("never refused");
    let blobs = Arc::new(Blobs::open(dir.path()).expect("an empty folder"));
    let registry = Registry::new(db.clone(), blobs, Arc::new(Anybody(scope)));
    let answer = runtime().block_on(async {
        // A blob and a manifest to speak of.
        for (method, target, body) in
            [("POST", BLOB, &b"{}"[..]), ("PUT", MANIFEST, MANIFEST_TEXT.as_bytes())]
        {
            let stored = http::Request::builder().method(method).uri(target).header("host", "localhost:4566");
            let stored = stored.header("authorization", AUTHORIZATION);
            let stored = stored.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
            assert_eq!(registry.handle(stored).await.status(), 201, "{target}");
        }
        let (parts, body) =
            registry.handle(http::Request::from_parts(parts, Full::new(body))).await.into_parts();
        (parts, body.collect().await.expect("a body").to_bytes())
    });
    let (parts, body) = answer;
    assert!(!parts.status.is_server_error(), "{}: {}", parts.status, String::from_utf8_lossy(&body));
    if parts.status.is_client_error() && !body.is_empty() {
        let document: serde_json::Value = serde_json::from_slice(&body).expect("errors are JSON");
        assert!(document["errors"][0]["code"].is_string(), "{document}");
    }
    assert_eq!(state::check::check(&db.snapshot()), Vec::<String>::new());
}

/// `AWS:test`.
const AUTHORIZATION: &str = "Basic QVdTOnRlc3Q=";
const BLOB: &str =
    "/v2/web/blobs/uploads/?digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const MANIFEST: &str = "/v2/web/manifests/1";
const MANIFEST_TEXT: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;

/// Whoever has a password is the account's root.
struct Anybody(Scope);

impl Authenticate for Anybody {
    fn login(&self, password: &str, _: TimeMs) -> Option<Login> {
        (!password.is_empty()).then(|| Login { arn: self.0.iam_arn("root"), scope: self.0.clone() })
    }
}

fn repository(scope: &Scope) -> Repository {
    Repository {
        scope: scope.clone(),
        name: "web".into(),
        mutability: Mutability { mode: "MUTABLE".into(), exclusions: Vec::new() },
        scan_on_push: false,
        policy: None,
        lifecycle_policy: None,
        tags: Vec::new(),
        created_at_ms: 0,
    }
}

/// The runtime of targets whose code is asynchronous.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime")
    })
}
