//! The images that tasks run, made here, for nothing is pulled, and pushed into registries as any user does it (OCI
//! Image Format Specification 1.1).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::Client;
use crate::process::target;
use crate::roadstead::PORT;

/// Where the image's program finds the socket that it tells its first instruction to.
pub const SOCKET_FOLDER: &str = "/told";

/// Builds the program `first` (bench/src/bin/first.rs) to run in an image that holds nothing else.
pub fn install() -> Result<(), String> {
    crate::install::apt("skopeo", "skopeo")?;
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/bin/first.rs");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition",
        "2024",
        "-C",
        "opt-level=2",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ]);
    let status = rustc.arg(source).arg("-o").arg(program()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("building the image's program: {other:?}")),
    }
}

fn program() -> PathBuf {
    target().join("bench-first")
}

/// The image of `first`, as an OCI layout made in a folder; the layout's folder.
pub fn first(folder: &Path) -> Result<PathBuf, String> {
    let made = || -> std::io::Result<PathBuf> {
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_path_with_name(program(), "first")?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        layer.append_data(&mut header, SOCKET_FOLDER.trim_start_matches('/'), std::io::empty())?;
        layout(&folder.join("first"), &[layer.into_inner()?], &json!({"Entrypoint": ["/first"]}))
    };
    made().map_err(|error| format!("the image: {error}"))
}

/// The image of busybox and nothing else, as an OCI layout made in a folder; the layout's folder.
pub fn busybox(folder: &Path) -> Result<PathBuf, String> {
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]});
    let made = busybox_layer().and_then(|layer| layout(&folder.join("busybox"), &[layer], &config));
    made.map_err(|error| format!("an image of busybox: {error}"))
}

/// A root filesystem with busybox as the commands that the benchmark's containers use.
fn busybox_layer() -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |path: &str, kind: tar::EntryType, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        header.set_cksum();
        tar.append_data(&mut header, path, content)
    };
    for folder in ["bin/", "etc/", "proc/", "tmp/"] {
        entry(folder, tar::EntryType::Directory, b"")?;
    }
    entry("etc/passwd", tar::EntryType::Regular, b"root:x:0:0:root:/:/bin/sh\n")?;
    entry("etc/group", tar::EntryType::Regular, b"root:x:0:\n")?;
    let busybox = std::fs::read("/bin/busybox")?;
    for command in ["sh", "mkdir", "httpd"] {
        entry(&format!("bin/{command}"), tar::EntryType::Regular, &busybox)?;
    }
    tar.into_inner()
}

/// Writes an image of uncompressed layers, run as `config` says, as an OCI layout; its folder.
pub fn layout(folder: &Path, layers: &[Vec<u8>], config: &Value) -> std::io::Result<PathBuf> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let write = |media_type: &str, bytes: &[u8]| -> std::io::Result<Value> {
        let digest = hex(&Sha256::digest(bytes));
        std::fs::write(blobs.join(&digest), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
    };
    let of_layers = layers.iter().map(|layer| write("application/vnd.oci.image.layer.v1.tar", layer));
    let of_layers: Vec<Value> = of_layers.collect::<Result<_, _>>()?;
    let diff_ids: Vec<&Value> = of_layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = write("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": of_layers});
    let manifest = write(manifest_type, manifest.to_string().as_bytes())?;
    std::fs::write(
        folder.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )?;
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(folder.to_owned())
}

/// What a task definition names the image of a repository in the running Roadstead.
pub fn reference(repository: &str) -> String {
    format!("localhost:{PORT}/{repository}:1")
}

/// Makes a repository in the running Roadstead and pushes an image into it by skopeo.
pub fn push(repository: &str, layout: &Path) -> Result<(), String> {
    let mut ecr = Client::new(PORT, "ecr");
    ecr.json("CreateRepository", &json!({"repositoryName": repository}))?;
    skopeo_push(
        &format!("localhost:{PORT}/{repository}:1"),
        layout,
        &["--dest-creds", &format!("AWS:{}", password()?)],
    )
}

/// The password of the running Roadstead's registry.
pub fn password() -> Result<String, String> {
    let answer = Client::new(PORT, "ecr").json("GetAuthorizationToken", &json!({}))?;
    let token = answer["authorizationData"][0]["authorizationToken"].as_str().unwrap_or_default();
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, token);
    let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let password = decoded.and_then(|text| Some(text.strip_prefix("AWS:")?.to_owned()));
    password.ok_or_else(|| format!("no password in {answer}"))
}

/// Copies an image into a registry.
pub fn skopeo_push(to: &str, layout: &Path, options: &[&str]) -> Result<(), String> {
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"])
        .args(options);
    skopeo.arg(format!("oci:{}", layout.display())).arg(format!("docker://{to}"));
    match skopeo.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("skopeo copy to {to}: {other:?}")),
    }
}

/// Writes an image as an archive that docker and podman load, tagged `<name>:1`; its path.
pub fn archive(layout: &Path, folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = folder.join(format!("{name}.tar"));
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]).arg(format!("oci:{}", layout.display()));
    skopeo.arg(format!("docker-archive:{}:{name}:1", path.display()));
    match skopeo.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(path),
        other => Err(format!("skopeo copy to {}: {other:?}", path.display())),
    }
}

/// In hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
