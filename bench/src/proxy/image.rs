//! An image of busybox and nothing else: nothing is pulled (OCI Image Format Specification 1.1).

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Writes an OCI image layout.
pub fn busybox(root: &Path) -> Result<(), String> {
    write(root).map_err(|error| format!("an image of busybox: {error}"))
}

fn write(root: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(root.join("blobs/sha256"))?;
    let layer = layer()?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(root, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?,
        "layers": [blob(root, &layer, "application/vnd.oci.image.layer.v1.tar")?],
    });
    let manifest = blob(root, manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")?;
    std::fs::write(root.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    std::fs::write(root.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob(root: &Path, bytes: &[u8], media_type: &str) -> std::io::Result<Value> {
    let digest = digest(bytes);
    std::fs::write(root.join("blobs/sha256").join(digest.trim_start_matches("sha256:")), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

/// A root filesystem with busybox as the commands that the benchmark's containers use.
fn layer() -> std::io::Result<Vec<u8>> {
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
