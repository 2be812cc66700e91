//! An image of one static program that costs as little as a container can: it waits for SIGTERM and ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::Client;

/// No library, no allocation: the kernel's page tables are most of what it has.
const SOURCE: &str = r#"
#![no_std]
#![no_main]
use core::arch::{asm, global_asm};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    unsafe { asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c,
        in("r10") d, out("rcx") _, out("r11") _) };
    answer
}
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    unsafe { asm!("svc 0", in("x8") number, inlateout("x0") a as isize => answer, in("x1") b, in("x2") c,
        in("x3") d) };
    answer
}
#[cfg(target_arch = "x86_64")]
const NUMBERS: [usize; 3] = [14, 128, 231];
#[cfg(target_arch = "aarch64")]
const NUMBERS: [usize; 3] = [135, 137, 94];

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "and rsp, -16", "call main");
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl main");

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let term: u64 = 1 << (15 - 1);
    let set = &term as *const u64 as usize;
    // rt_sigprocmask(SIG_BLOCK), then rt_sigtimedwait without a time, then exit_group.
    unsafe {
        call(NUMBERS[0], 0, set, 0, 8);
        while call(NUMBERS[1], set, 0, 0, 8) != 15 {}
        call(NUMBERS[2], 0, 0, 0, 0);
    }
    loop {}
}
"#;

/// Builds the program into a folder; its path.
pub fn build(folder: &Path) -> Result<PathBuf, String> {
    let (source, program) = (folder.join("idle.rs"), folder.join("idle"));
    std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "relocation-model=static"]);
    rustc.args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib", "-C", "link-arg=-static"]);
    rustc.args(["-C", "strip=symbols", "-o"]).arg(&program).arg(&source);
    match rustc.status() {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("rustc: {status}")),
        Err(error) => Err(format!("rustc: {error}")),
    }
}

/// A tar of a root filesystem that holds the program as `/idle`.
pub fn layer(program: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "idle", &bytes[..]).map_err(|error| error.to_string())?;
    tar.into_inner().map_err(|error| error.to_string())
}

/// Puts an image of one layer into a new repository, by the API that `docker push` ends up in.
pub fn put(client: &mut Client, repository: &str, layer: &[u8]) -> Result<(), String> {
    client.json("CreateRepository", &json!({"repositoryName": repository}))?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/idle"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    let config = config.to_string();
    upload(client, repository, config.as_bytes())?;
    upload(client, repository, layer)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(config.as_bytes()),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest(layer),
            "size": layer.len(),
        }],
    });
    let image = json!({
        "repositoryName": repository,
        "imageTag": "1",
        "imageManifest": manifest.to_string(),
        "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
    });
    client.json("PutImage", &image).map(drop)
}

fn upload(client: &mut Client, repository: &str, blob: &[u8]) -> Result<(), String> {
    let begun = client.json("InitiateLayerUpload", &json!({"repositoryName": repository}))?;
    let upload: &Value = &begun["uploadId"];
    let part = json!({
        "repositoryName": repository,
        "uploadId": upload,
        "partFirstByte": 0,
        "partLastByte": blob.len() - 1,
        "layerPartBlob": STANDARD.encode(blob),
    });
    client.json("UploadLayerPart", &part)?;
    let whole = json!({"repositoryName": repository, "uploadId": upload, "layerDigests": [digest(blob)]});
    client.json("CompleteLayerUpload", &whole).map(drop)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
