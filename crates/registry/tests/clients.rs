//! Over a socket: skopeo pushing and pulling, and a connection that breaks off in the middle of a push.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use common::{World, basic, noise, oci_layout};
use hyper_util::rt::TokioIo;
use store::blobs::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// Serves the registry on a free port of the loopback interface for as long as the test runs.
async fn serve(world: &Arc<World>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = world.registry.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let registry = registry.clone();
            let service = hyper::service::service_fn(move |request| {
                let registry = registry.clone();
                async move { Ok::<_, std::convert::Infallible>(registry.handle(request).await) }
            });
            // A client that goes away is not an error of the server.
            tokio::spawn(async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    address
}

/// Runs skopeo; `None` if it is not installed, else whether it succeeded and what it said.
async fn skopeo(arguments: &[&str]) -> Option<(bool, String)> {
    let ran = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().await;
    match ran {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: skopeo is not installed");
            None
        }
        Err(error) => panic!("skopeo: {error}"),
    }
}

async fn push(layout: &Path, address: SocketAddr, to: &str, user: &str) -> Option<(bool, String)> {
    let from = format!("oci:{}:v1", layout.display());
    let to = format!("docker://{address}/{to}");
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", user, &from, &to]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_pushes_and_pulls_what_it_pushed() {
    let world = Arc::new(World::new());
    world.create("team/app");
    world.create("team/copy");
    let address = serve(&world).await;
    let layout = tempfile::tempdir().unwrap();
    let digest = oci_layout(layout.path(), 1, 3_000_000);
    let Some((ok, said)) = push(layout.path(), address, "team/app:v1", "AWS:secret").await else { return };
    assert!(ok, "{said}");
    let image = format!("docker://{address}/team/app:v1");
    let arguments = ["inspect", "--tls-verify=false", "--creds", "AWS:secret", &image];
    let (ok, said) = skopeo(&arguments).await.unwrap();
    assert!(ok && said.contains(&digest), "{said}");
    let back = tempfile::tempdir().unwrap();
    let (ok, said) = skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--src-creds",
        "AWS:secret",
        &format!("docker://{address}/team/app@{digest}"),
        &format!("oci:{}:v1", back.path().display()),
    ])
    .await
    .unwrap();
    assert!(ok, "{said}");
    for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let pulled = back.path().join("blobs/sha256").join(blob.file_name());
        assert_eq!(std::fs::read(blob.path()).unwrap(), std::fs::read(pulled).unwrap());
    }
    let before = world.blobs.list().unwrap().len();
    let (ok, said) = push(layout.path(), address, "team/copy:v1", "AWS:secret").await.unwrap();
    assert!(ok, "{said}");
    assert_eq!(world.blobs.list().unwrap().len(), before, "the same layers are stored once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_is_told_why_it_is_refused() {
    let world = Arc::new(World::new());
    world.create_with("app", "IMMUTABLE");
    let address = serve(&world).await;
    let layout = tempfile::tempdir().unwrap();
    oci_layout(layout.path(), 1, 1000);
    let Some((ok, said)) = push(layout.path(), address, "app:v1", "AWS:wrong").await else { return };
    assert!(!ok && said.to_lowercase().contains("unauthorized"), "{said}");
    let (ok, said) = push(layout.path(), address, "nope:v1", "AWS:secret").await.unwrap();
    let expect = "The repository with name 'nope' does not exist in the registry with id '000000000000'";
    assert!(!ok && said.contains(expect), "{said}");
    let (ok, said) = push(layout.path(), address, "app:v1", "AWS:secret").await.unwrap();
    assert!(ok, "{said}");
    let other = tempfile::tempdir().unwrap();
    oci_layout(other.path(), 2, 1000);
    let (ok, said) = push(other.path(), address, "app:v1", "AWS:secret").await.unwrap();
    assert!(!ok && said.contains("cannot be overwritten because the tag is immutable"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_breaks_off_goes_on_where_it_was() {
    let world = Arc::new(World::new());
    world.create("app");
    let address = serve(&world).await;
    let bytes = noise(9, 2_000_000);
    let begun = world.ask("POST /v2/app/blobs/uploads/", &[], "").await;
    let location = begun.header("location").to_owned();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n",
        basic("AWS:secret"),
        bytes.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&bytes[..1_200_000]).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut said = String::new();
    let _ = socket.read_to_string(&mut said).await;
    drop(socket);
    let offset = settled(&world, &location).await;
    assert_eq!(offset, 1_200_000, "what was sent was kept ({said})");
    let end = format!("PUT {location}?digest={}", Digest::of(&bytes));
    let answer = world.ask(&end, &[], bytes[offset..].to_vec()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let got = world.ask(&format!("GET /v2/app/blobs/{}", Digest::of(&bytes)), &[], "").await;
    assert_eq!(got.bytes, bytes);
}

/// The offset of an upload once it no longer changes.
async fn settled(world: &World, location: &str) -> usize {
    let mut last = usize::MAX;
    for _ in 0..100 {
        let status = world.ask(&format!("GET {location}"), &[], "").await;
        let (_, to) = status.header("range").split_once('-').unwrap();
        let now = to.parse::<usize>().unwrap() + 1;
        if now == last {
            return now;
        }
        last = now;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the upload never settled at {last}");
}
