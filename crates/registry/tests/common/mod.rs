//! What the registry's tests share: a registry over a temporary directory, and requests to it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use registry::{Authenticate, Login, Registry};
use state::ecr::{Mutability, Repository};
use state::{Db, Scope, TimeMs};
use store::blobs::{Blobs, Digest};
use tempfile::TempDir;

pub const ACCOUNT: &str = "000000000000";
pub const HOST: &str = "localhost:4566";
pub const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Passwords are `secret` of the account above and `other` of another.
struct Passwords;

impl Authenticate for Passwords {
    fn login(&self, password: &str, _now_ms: TimeMs) -> Option<Login> {
        let account = match password {
            "secret" => ACCOUNT,
            "other" => "111111111111",
            _ => return None,
        };
        let scope = Scope::new(account, "us-east-1");
        Some(Login { arn: scope.iam_arn("root"), scope })
    }
}

pub struct World {
    /// Deleted with the world, unless it is someone else's.
    pub dir: Option<TempDir>,
    pub db: Arc<Db>,
    pub blobs: Arc<Blobs>,
    pub registry: Registry,
    pub scope: Scope,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    /// The status and the code of the error.
    pub fn error(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["errors"][0]["code"].as_str().unwrap().to_owned())
    }

    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(Arc::new(store::memory().unwrap())).unwrap();
        let path = dir.path().to_owned();
        World { dir: Some(dir), ..World::over(&path, db) }
    }

    /// A registry over a directory that is kept, with its records in it.
    pub fn durable(path: &Path) -> World {
        World::over(path, Db::open(Arc::new(store::embedded(&path.join("state")).unwrap())).unwrap())
    }

    fn over(path: &Path, db: Arc<Db>) -> World {
        let blobs = Arc::new(Blobs::open(&path.join("blobs")).unwrap());
        let registry = Registry::new(db.clone(), blobs.clone(), Arc::new(Passwords));
        World { dir: None, db, blobs, registry, scope: Scope::new(ACCOUNT, "us-east-1") }
    }

    /// The same after a restart: nothing in memory is kept but the records.
    pub fn restarted(self) -> World {
        let World { dir, db, .. } = self;
        let path = dir.as_ref().unwrap().path().to_owned();
        World { dir, ..World::over(&path, db) }
    }

    pub fn create(&self, name: &str) {
        self.create_with(name, "MUTABLE");
    }

    pub fn create_with(&self, name: &str, mode: &str) {
        let repository = Repository {
            scope: self.scope.clone(),
            name: name.into(),
            mutability: Mutability { mode: mode.into(), exclusions: Vec::new() },
            scan_on_push: false,
            policy: None,
            lifecycle_policy: None,
            tags: Vec::new(),
            created_at_ms: 0,
        };
        let done = self.db.decide_blocking(|tx| {
            tx.put(repository);
            Ok::<_, ()>(())
        });
        done.unwrap().unwrap();
    }

    /// Sends a request with good credentials; `headers` as `name: value`.
    pub async fn ask(&self, request: &str, headers: &[&str], body: impl Into<Bytes>) -> Answer {
        let login = format!("authorization: {}", basic("AWS:secret"));
        let headers: Vec<&str> = headers.iter().copied().chain([login.as_str()]).collect();
        self.ask_as_is(request, &headers, body).await
    }

    /// Sends a request (`GET /v2/`) as it is.
    pub async fn ask_as_is(&self, request: &str, headers: &[&str], body: impl Into<Bytes>) -> Answer {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = Request::builder().method(method).uri(path);
        if !headers.iter().any(|header| header.starts_with("host:")) {
            builder = builder.header("host", HOST);
        }
        for header in headers {
            let (name, value) = header.split_once(':').unwrap();
            builder = builder.header(name, value.trim());
        }
        let response = self.registry.handle(builder.body(Full::new(body.into())).unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        // Whatever a test did, the state must make sense.
        assert_eq!(state::check::check(&self.db.snapshot()), Vec::<String>::new());
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// Pushes a blob in one request.
    pub async fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        let request = format!("POST /v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.ask(&request, &[], bytes.to_vec()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    /// Pushes an image of one layer under a tag; its digest.
    pub async fn image(&self, name: &str, config: &[u8], layer: &[u8], tag: &str) -> String {
        self.blob(name, config).await;
        self.blob(name, layer).await;
        let manifest = manifest(config, layer);
        let answer = self.ask(&format!("PUT /v2/{name}/manifests/{tag}"), &[&kind(OCI)], manifest).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("docker-content-digest").to_owned()
    }
}

pub fn basic(user: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user))
}

pub fn kind(media_type: &str) -> String {
    format!("content-type: {media_type}")
}

pub fn manifest(config: &[u8], layer: &[u8]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}]}}"#,
        Digest::of(config),
        config.len(),
        Digest::of(layer),
        layer.len()
    )
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut ids = state::Ids::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(ids.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes an OCI layout of one image, tagged `v1`; the digest of its manifest.
pub fn oci_layout(dir: &Path, seed: u64, layer_bytes: usize) -> String {
    use std::io::Write as _;
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let mut tar = tar::Builder::new(Vec::new());
    let content = noise(seed, layer_bytes);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    tar.append_data(&mut header, "data", content.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let (layer, layer_size) = put(&gzip.finish().unwrap());
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/data"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(&tar)
    );
    let (config, config_size) = put(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, manifest_size) = put(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI}","digest":"{manifest}","size":{manifest_size},"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}]}}"#
    );
    std::fs::write(dir.join("index.json"), index).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest
}
