//! Pulls from a throw-away registry on loopback that can be made to fail.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::super::pull::hex;
use super::super::{Blob, ImageSource, LayerStore, PullError, PullScope, Puller, Reference, Sources};
use super::RemoteRegistries;

/// A request: its path with query, and its headers in lower case.
#[derive(Debug, Clone)]
struct Asked {
    path: String,
    headers: Vec<String>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// An answer: status, headers, body, and after how many bytes of that the connection breaks.
struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    cut: Option<usize>,
}

fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into(), cut: None }
}

impl Reply {
    fn with(mut self, header: &str) -> Reply {
        self.headers.push(header.to_owned());
        self
    }
}

type Asking = Arc<Mutex<Vec<Asked>>>;

/// Answers requests on loopback, one connection each; tells its host and keeps what was asked.
fn serve(answer: impl Fn(&Asked) -> Reply + Send + 'static) -> (String, Asking) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let asking = Asking::default();
    let asked = asking.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = read(&stream) else { continue };
            asked.lock().unwrap().push(request.clone());
            write(stream, answer(&request));
        }
    });
    (host, asking)
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let lines = lines.take_while(|line| !line.is_empty());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some(format!("{}: {value}", name.to_ascii_lowercase()))
    });
    Some(Asked { path, headers: headers.collect() })
}

fn write(mut stream: TcpStream, reply: Reply) {
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    reply.headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    let sent = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    // A client that has seen enough may be gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.write_all(sent));
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

struct World {
    remote: RemoteRegistries,
    dir: tempfile::TempDir,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    World { remote: RemoteRegistries::open(&dir.path().join("fetched"), vec![]).unwrap(), dir }
}

impl World {
    async fn blob(&self, host: &str, digest: &str) -> Result<Vec<u8>, PullError> {
        let reference = Reference::parse(&format!("{host}/app:1")).unwrap();
        match self.remote.blob(&reference, digest, &scope()).await? {
            Blob::Fetched(path) => Ok(std::fs::read(path).unwrap()),
            Blob::File(_) => panic!("not fetched"),
        }
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("fetched")).unwrap().count()
    }
}

fn scope() -> PullScope {
    PullScope { account: "1".into(), region: "r".into() }
}

/// An image with one layer, as a registry serves it: (path, media type, bytes).
fn image() -> Vec<(String, &'static str, Vec<u8>)> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_uid(nix::unistd::getuid().as_raw().into());
    header.set_gid(nix::unistd::getgid().as_raw().into());
    header.set_mtime(0);
    tar.append_data(&mut header, "hello", &b"world"[..]).unwrap();
    let layer = tar.into_inner().unwrap();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": manifest_type,
        "config": {"mediaType": "c", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}]});
    let manifest = manifest.to_string().into_bytes();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": manifest_type, "digest": digest(b"other"), "size": 1, "platform": {"architecture": "s390x", "os": "linux"}},
        {"mediaType": manifest_type, "digest": digest(&manifest), "size": 1, "platform": {"architecture": arch, "os": "linux"}}]});
    let index = index.to_string().into_bytes();
    let at = |what: &str| format!("/v2/team/app/{what}");
    vec![
        (at("manifests/1"), "application/vnd.oci.image.index.v1+json", index),
        (at(&format!("manifests/{}", digest(&manifest))), manifest_type, manifest),
        (at(&format!("blobs/{}", digest(&config))), "application/octet-stream", config),
        (at(&format!("blobs/{}", digest(&layer))), "application/octet-stream", layer),
    ]
}

#[tokio::test]
async fn an_image_is_pulled_with_a_token_and_a_redirect() {
    let files = image();
    let index_digest = digest(&files[0].2);
    let stored = files.clone();
    let (store, asked_store) = serve(move |asked| {
        let found = stored.iter().find(|(path, ..)| path.ends_with(&asked.path));
        found.map_or_else(|| reply(404, ""), |(.., bytes)| reply(200, bytes.clone()))
    });
    let (tokens, asked_tokens) = serve(|_| reply(200, r#"{"token":"secret","expires_in":300}"#));
    let (host, _) = serve(move |asked| {
        if asked.header("authorization") != Some("Bearer secret") {
            let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{tokens}/token\",service=\"s\"");
            return reply(401, "").with(&challenge);
        }
        let Some((_, media_type, bytes)) = files.iter().find(|(path, ..)| *path == asked.path) else {
            return reply(404, "");
        };
        match asked.path.rsplit_once("/blobs/") {
            Some((_, digest)) => reply(307, "").with(&format!("Location: http://{store}/{digest}")),
            None => reply(200, bytes.clone()).with(&format!("Content-Type: {media_type}")),
        }
    });
    let world = world();
    let store = LayerStore::open(&world.dir.path().join("layers")).unwrap();
    let remote: Arc<dyn ImageSource> = Arc::new(world.remote.clone());
    let sources = Sources { own_hosts: vec![], own: remote.clone(), others: Some(remote) };
    let puller = Puller::new(sources, store.clone());
    let pulled = puller.pull(&format!("{host}/team/app:1"), &scope(), None).await.unwrap();
    assert_eq!((pulled.digest, pulled.config.cmd), (index_digest, vec!["/hello".to_owned()]));
    let hello = store.dir().join(&pulled.layers[0]).join("hello");
    assert_eq!(std::fs::read_to_string(hello).unwrap(), "world");
    // One token for all, asked for by name; and the store elsewhere never saw it.
    let asked: Vec<_> = asked_tokens.lock().unwrap().iter().map(|asked| asked.path.clone()).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("/token?service=s&scope=repository"), "{asked:?}");
    assert!(
        asked[0].replace("%3A", ":").replace("%2F", "/").ends_with("repository:team/app:pull"),
        "{asked:?}"
    );
    let asked_store = asked_store.lock().unwrap();
    assert_eq!(asked_store.len(), 2);
    assert!(asked_store.iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let (host, _) = serve(|asked| match asked.path.contains("/blobs/") {
        true => reply(200, "other bytes"),
        false => {
            reply(200, r#"{"schemaVersion":2}"#).with(&format!("Docker-Content-Digest: {}", digest(b"x")))
        }
    });
    let world = world();
    let wanted = digest(b"the bytes");
    let refused = PullError::Other(format!(
        "failed commit on ref \"layer-{wanted}\": unexpected commit digest {}, expected {wanted}: failed precondition",
        digest(b"other bytes")
    ));
    assert_eq!(world.blob(&host, &wanted).await, Err(refused));
    assert_eq!(world.files(), 0);
    for (text, named) in [(format!("{host}/app:1"), digest(b"x")), (format!("{host}/app@{wanted}"), wanted)] {
        let reference = Reference::parse(&text).unwrap();
        let Err(PullError::Other(said)) = world.remote.manifest(&reference, None, &scope()).await else {
            panic!("taken")
        };
        assert!(said.contains(&format!("not {named}")), "{said}");
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let bytes: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
    for ranges in [true, false] {
        let served = bytes.clone();
        let tries = Mutex::new(0);
        let (host, asked) = serve(move |asked| {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            let from = asked
                .header("range")
                .filter(|_| ranges)
                .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
            let mut reply = reply(if from > 0 { 206 } else { 200 }, &served[from..]);
            if from > 0 {
                reply =
                    reply.with(&format!("Content-Range: bytes {from}-{}/{}", served.len() - 1, served.len()));
            }
            reply.cut = (*tries < 3).then_some(150_000);
            reply
        });
        let world = world();
        assert!(world.blob(&host, &digest(&bytes)).await.unwrap() == bytes);
        let asked: Vec<_> =
            asked.lock().unwrap().iter().map(|a| a.header("range").map(str::to_owned)).collect();
        let second = if ranges { "bytes=300000-" } else { "bytes=150000-" };
        assert_eq!(asked, vec![None, Some("bytes=150000-".to_owned()), Some(second.to_owned())]);
    }
}

#[tokio::test]
async fn what_never_comes_is_given_up() {
    let (host, asked) = serve(|_| Reply { cut: Some(0), ..reply(200, "never sent") });
    let world = world();
    let Err(PullError::Other(said)) = world.blob(&host, &digest(b"never sent")).await else {
        panic!("pulled")
    };
    assert!(said.starts_with("failed to copy: httpReadSeeker: failed open: "), "{said}");
    assert_eq!((asked.lock().unwrap().len(), world.files()), (3, 0));
}

#[tokio::test]
async fn refusals_are_in_ecs_words() {
    let errors =
        |code: &str, message: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    let limit = errors("TOOMANYREQUESTS", "You have reached your pull rate limit.");
    let denied = errors("DENIED", "requested access to the resource is denied");
    let (host, asked) = serve(move |asked| match asked.path.as_str() {
        "/v2/limited/manifests/latest" => reply(429, limit.clone()),
        "/v2/private/manifests/latest" => {
            reply(401, denied.clone()).with("WWW-Authenticate: Basic realm=\"x\"")
        }
        _ => reply(404, errors("MANIFEST_UNKNOWN", "manifest unknown")),
    });
    let world = world();
    let store = LayerStore::open(&world.dir.path().join("layers")).unwrap();
    let remote: Arc<dyn ImageSource> = Arc::new(world.remote.clone());
    let puller = Puller::new(Sources { own_hosts: vec![], own: remote.clone(), others: Some(remote) }, store);
    let start =
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref";
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (format!("{host}/none"), format!("{start} {host}/none:latest: {host}/none:latest: not found")),
        (
            format!("{host}/private"),
            format!(
                "{start} {host}/private:latest: pull access denied, repository does not exist or may require \
                 authorization: server message: denied: requested access to the resource is denied"
            ),
        ),
        (
            format!("{host}/limited"),
            format!(
                "{start} {host}/limited:latest: unexpected status code http://{host}/v2/limited/manifests/latest: 429 \
                 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit."
            ),
        ),
        (format!("{gone}/app"), format!("{start} {gone}/app:latest: failed to do request: Get ")),
    ];
    for (image, said) in cases {
        let err = puller.pull(&image, &scope(), None).await.unwrap_err();
        assert!(err.starts_with(&said), "{err}\n{said}");
    }
    // Only what may be better later was asked for again.
    let count = |name: &str| asked.lock().unwrap().iter().filter(|asked| asked.path.contains(name)).count();
    assert_eq!((count("none"), count("private"), count("limited")), (1, 1, 2));
}

#[tokio::test]
async fn other_hosts_are_spoken_to_with_tls_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // By a name that is not the loopback's own.
    let reference =
        Reference::parse(&format!("0.0.0.0:{}/app:1", listener.local_addr().unwrap().port())).unwrap();
    let seen = std::thread::spawn(move || {
        let mut first = [0];
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Read::read_exact(&mut stream, &mut first).unwrap();
        first[0]
    });
    let refused = world().remote.manifest(&reference, None, &scope()).await;
    assert!(matches!(refused, Err(PullError::Other(said)) if said.contains("Get \"https://0.0.0.0")));
    const HANDSHAKE: u8 = 22;
    assert_eq!(seen.join().unwrap(), HANDSHAKE);
}
