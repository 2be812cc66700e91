//! Fetching a blob into a file: verified, and gone on with where a connection broke off.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use super::super::pull::hex;
use super::super::{PullError, Reference};
use super::http::{Answered, Client};

/// After so many attempts in a row that brought nothing, it is given up.
const FRUITLESS_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Between what is said of a long download.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A fetched file, which is removed unless it is kept.
pub struct Fetched {
    path: PathBuf,
    kept: bool,
}

impl Fetched {
    fn new(dir: &Path, digest: &str) -> Fetched {
        // Two pulls may want the same blob at the same time.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Fetched { path: dir.join(format!("{}.{number}", digest.trim_start_matches("sha256:"))), kept: false }
    }

    /// The path; whoever has it removes the file.
    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if !self.kept {
            // It may never have been made; if it cannot be removed, the next start does.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file being fetched.
struct Download {
    file: File,
    hash: Sha256,
    done: u64,
    total: Option<u64>,
    told: Instant,
}

/// Fetches a blob of a reference's repository.
///
/// # Errors
/// When it is not there, cannot be fetched, or does not have its digest.
pub fn fetch(client: &Client, dir: &Path, reference: &Reference, digest: &str) -> Result<Fetched, PullError> {
    let is_hex =
        |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !digest.strip_prefix("sha256:").is_some_and(is_hex) {
        return Err(PullError::Other(format!("failed to pull {reference}: invalid digest {digest:?}")));
    }
    let fetched = Fetched::new(dir, digest);
    let unwritable =
        |err: std::io::Error| PullError::Other(format!("failed to store {digest} of {reference}: {err}"));
    let file = File::options().write(true).create_new(true).open(&fetched.path).map_err(unwritable)?;
    let mut download = Download { file, hash: Sha256::new(), done: 0, total: None, told: Instant::now() };
    let path = format!("blobs/{digest}");
    let mut fruitless = 0;
    loop {
        let before = download.done;
        let range = format!("bytes={before}-");
        let headers = [("Range", range.as_str())];
        let answer = match client.get(reference, &path, if before > 0 { &headers } else { &[] }) {
            // It was all there, though nobody had said how much that is.
            Err(PullError::Other(text)) if before > 0 && text.contains(": 416 ") => break,
            other => other.map_err(|err| not_copied(err, reference, digest))?,
        };
        let broken = match download.receive(answer, reference, digest) {
            Ok(()) => break,
            Err(Broken::Disk(err)) => return Err(unwritable(err)),
            Err(Broken::Connection(text)) => text,
        };
        fruitless = if download.done > before { 0 } else { fruitless + 1 };
        tracing::info!(%reference, digest, done = download.done, broken, "a download broke off");
        if fruitless >= FRUITLESS_MAX {
            return Err(PullError::Other(format!(
                "failed to copy: httpReadSeeker: failed open: {broken}: {reference}@{digest}"
            )));
        }
        std::thread::sleep(TRY_AGAIN_AFTER);
    }
    let is = format!("sha256:{}", hex(&download.hash.finalize()));
    if is != digest {
        return Err(PullError::Other(format!(
            "failed commit on ref \"layer-{digest}\": unexpected commit digest {is}, expected {digest}: failed precondition"
        )));
    }
    Ok(fetched)
}

/// A registry that has the manifest but not the blob has a broken image.
fn not_copied(err: PullError, reference: &Reference, digest: &str) -> PullError {
    match err {
        PullError::NotFound(_) => PullError::Other(format!(
            "failed to copy: could not fetch content descriptor {digest} of {reference}: not found"
        )),
        other => other,
    }
}

enum Broken {
    Disk(std::io::Error),
    Connection(String),
}

impl Download {
    /// Takes in what an answer has.
    fn receive(&mut self, answer: Answered, reference: &Reference, digest: &str) -> Result<(), Broken> {
        if answer.status() != StatusCode::PARTIAL_CONTENT && self.done > 0 {
            // The registry cannot go on in the middle.
            self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0))).map_err(Broken::Disk)?;
            (self.hash, self.done) = (Sha256::new(), 0);
        }
        let length = answer.body().content_length();
        self.total = length.map(|length| self.done + length);
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            let range = answer.headers().get("Content-Range").and_then(|range| range.to_str().ok());
            if !range.is_some_and(|range| range.starts_with(&format!("bytes {}-", self.done))) {
                return Err(Broken::Connection(format!(
                    "another part than the one from {} on was sent",
                    self.done
                )));
            }
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(Broken::Connection(err.to_string())),
            };
            self.file.write_all(&buffer[..count]).map_err(Broken::Disk)?;
            self.hash.update(&buffer[..count]);
            self.done += count as u64;
            if self.told.elapsed() >= TELL_EVERY {
                self.told = Instant::now();
                tracing::info!(%reference, digest, done_bytes = self.done, total_bytes = self.total, "pulling");
            }
        }
        match self.total {
            Some(total) if self.done < total => Err(Broken::Connection("unexpected EOF".into())),
            _ => Ok(()),
        }
    }
}
