//! Makes an OCI image layout of one static program: `shop-image PROGRAM DIRECTORY VERSION`, to be pushed by
//! `skopeo copy oci:DIRECTORY docker://…`. Layout and media types: OCI Image Format Specification 1.1.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob(root: &Path, bytes: &[u8], media_type: &str) -> Result<Value, Box<dyn Error>> {
    let digest = digest(bytes);
    let folder = root.join("blobs/sha256");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(&digest["sha256:".len()..]), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

/// A tar with the program at `/name` and the folders that programs expect. The same input gives the same bytes.
fn layer(program: &Path, name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        header.set_cksum();
        tar.append_data(&mut header, path, content)
    };
    entry("etc/", tar::EntryType::Directory, 0o755, b"")?;
    entry(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:0:root:/:/sbin/nologin\nshop:x:1000:1000::/:/sbin/nologin\n",
    )?;
    entry("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\nshop:x:1000:\n")?;
    entry("tmp/", tar::EntryType::Directory, 0o1777, b"")?;
    entry(name, tar::EntryType::Regular, 0o755, &std::fs::read(program)?)?;
    Ok(tar.into_inner()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, program, root, version] = &arguments[..] else {
        return Err("usage: shop-image PROGRAM DIRECTORY VERSION".into());
    };
    let (program, root) = (Path::new(program), Path::new(root));
    let name = program.file_name().and_then(|n| n.to_str()).ok_or("PROGRAM has no name")?;
    let plain = layer(program, name)?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain)?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{name}")],
            "Env": [format!("SHOP_VERSION={version}")],
            "User": "shop",
            "ExposedPorts": {"8080/tcp": {}},
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&plain)]},
    });
    let config = blob(root, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
    let layer = blob(root, &gzip.finish()?, "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let manifest = blob(root, manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")?;
    std::fs::write(root.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    std::fs::write(
        root.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )?;
    Ok(())
}
