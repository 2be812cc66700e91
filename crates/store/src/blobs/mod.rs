//! Bytes kept under their digest: image layers, configurations and manifests.
//!
//! ```text
//! DIR/sha256/<first two digits>/<64 digits>     a whole, verified, synced blob; never changed
//! DIR/uploads/<upload id>                       an upload; its length is its offset
//! ```
//! Several processes may share the directory: names come from content, and arrive by rename. All calls block on
//! the disk; an async caller moves them to a thread that may.

mod digest;
mod upload;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

pub use digest::{BadDigest, Digest};
pub use upload::UploadId;

use crate::error::StoreError;
use crate::files;
use upload::Uploads;

/// Why a blob or an upload could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobError {
    /// There is no such blob.
    NoBlob(Digest),
    /// There is no such upload: never started, finished, cancelled or collected.
    NoUpload(UploadId),
    /// An upload with this id is there already.
    UploadExists(UploadId),
    /// The bytes do not continue the upload.
    WrongOffset {
        /// Where the upload is.
        expected: u64,
        /// Where the bytes were to go.
        got: u64,
    },
    /// The upload's bytes have another digest than was promised. The upload is kept as it is.
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// The disk refused.
    Store(StoreError),
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::NoBlob(digest) => write!(f, "no blob {digest}"),
            BlobError::NoUpload(id) => write!(f, "no upload {id}"),
            BlobError::UploadExists(id) => write!(f, "upload {id} was started before"),
            BlobError::WrongOffset { expected, got } => {
                write!(f, "the upload is at byte {expected}, the bytes sent begin at {got}")
            }
            BlobError::DigestMismatch { expected, actual } => {
                write!(f, "the bytes have digest {actual}, not {expected}")
            }
            BlobError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BlobError {}

impl From<StoreError> for BlobError {
    fn from(error: StoreError) -> BlobError {
        BlobError::Store(error)
    }
}

/// The result of blob calls.
pub type BlobResult<T> = Result<T, BlobError>;

/// A blob in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When it was stored, in milliseconds since the Unix epoch: a collector of unreferenced blobs spares those
    /// that were pushed just now and are about to be referred to.
    pub stored_ms: i64,
}

/// A directory of blobs.
pub struct Blobs {
    dir: PathBuf,
    uploads: Uploads,
    next_put: AtomicU64,
}

impl Blobs {
    /// Opens `dir`, creating it if need be. Uploads that an earlier process began go on.
    pub fn open(dir: &Path) -> BlobResult<Blobs> {
        files::create_dir(dir)?;
        files::create_dir(&dir.join("sha256"))?;
        files::create_dir(&dir.join("uploads"))?;
        let uploads = Uploads::new(dir.join("uploads"));
        Ok(Blobs { dir: dir.to_path_buf(), uploads, next_put: AtomicU64::new(0) })
    }

    /// Where the blob's file is or would be. It is never written to after it has its name, so it may be read,
    /// mapped or linked.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join("sha256").join(&hex[..2]).join(hex)
    }

    /// The length of a blob in bytes.
    pub fn size_bytes(&self, digest: &Digest) -> BlobResult<u64> {
        let path = self.path(digest);
        path.metadata().map(|metadata| metadata.len()).map_err(|error| not_found(*digest, &path, error))
    }

    /// Whether the blob is there.
    pub fn contains(&self, digest: &Digest) -> BlobResult<bool> {
        match self.size_bytes(digest) {
            Ok(_) => Ok(true),
            Err(BlobError::NoBlob(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The blob's file, open for reading, and its length in bytes.
    pub fn open_blob(&self, digest: &Digest) -> BlobResult<(File, u64)> {
        let path = self.path(digest);
        let open = || {
            let file = File::open(&path)?;
            let size_bytes = file.metadata()?.len();
            Ok((file, size_bytes))
        };
        open().map_err(|error| not_found(*digest, &path, error))
    }

    /// Reads a small blob (a manifest, a configuration) whole; refuses one above `max_bytes`.
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> BlobResult<Vec<u8>> {
        let size_bytes = self.size_bytes(digest)?;
        if size_bytes > max_bytes {
            let (bytes, max_bytes) = (size_bytes as usize, max_bytes as usize);
            return Err(StoreError::TooLarge { bytes, max_bytes }.into());
        }
        let path = self.path(digest);
        fs::read(&path).map_err(|error| not_found(*digest, &path, error))
    }

    /// Stores small bytes that are at hand, durably, and returns their digest.
    pub fn put(&self, bytes: &[u8]) -> BlobResult<Digest> {
        let digest = Digest::of(bytes);
        if self.contains(&digest)? {
            return Ok(digest);
        }
        let id = self.start_own_upload()?;
        self.append(&id, 0, bytes).and_then(|_| self.finish(&id, &digest)).inspect_err(|_| {
            // Its space is given back at once; the collector would find it too.
            let _ = self.cancel(&id);
        })?;
        Ok(digest)
    }

    /// Starts an upload under a free id: a process that had the same number may have left some.
    fn start_own_upload(&self) -> BlobResult<UploadId> {
        loop {
            let id = UploadId::own(std::process::id(), self.next_put.fetch_add(1, Ordering::Relaxed));
            match self.start_upload(&id) {
                Ok(()) => return Ok(id),
                Err(BlobError::UploadExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a blob; one that is absent is `NoBlob`. Open files and links of it stay readable. After a power
    /// loss it may be there again: whoever keeps the references deletes it again.
    pub fn delete(&self, digest: &Digest) -> BlobResult<()> {
        let path = self.path(digest);
        fs::remove_file(&path).map_err(|error| not_found(*digest, &path, error))
    }

    /// All blobs, ordered by digest.
    pub fn list(&self) -> BlobResult<Vec<BlobInfo>> {
        let mut blobs = Vec::new();
        let root = self.dir.join("sha256");
        for folder in files::names(&root)? {
            let folder = root.join(folder);
            for name in files::names(&folder)? {
                let Some(digest) = Digest::from_hex(&name) else { continue };
                let path = folder.join(name);
                match path.metadata() {
                    Ok(metadata) => blobs.push(BlobInfo {
                        digest,
                        size_bytes: metadata.len(),
                        stored_ms: modified_ms(&metadata),
                    }),
                    // Deleted just now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::at("reading", &path)(error).into()),
                }
            }
        }
        blobs.sort_unstable();
        Ok(blobs)
    }

    /// Starts an upload under an id of the caller's choice.
    pub fn start_upload(&self, id: &UploadId) -> BlobResult<()> {
        self.uploads.start(id)
    }

    /// The offset of an upload: how many bytes it has.
    pub fn upload_offset(&self, id: &UploadId) -> BlobResult<u64> {
        self.uploads.offset(id)
    }

    /// Appends bytes at `offset`, which must be where the upload is, and returns the new offset. On an error
    /// (a full disk) none of the bytes are kept and the upload can go on.
    pub fn append(&self, id: &UploadId, offset: u64, bytes: &[u8]) -> BlobResult<u64> {
        self.uploads.append(id, offset, bytes)
    }

    /// Ends an upload: checks that its bytes are what was promised, makes them durable and gives them their name.
    /// Returns the length in bytes. A blob that was there already is kept.
    pub fn finish(&self, id: &UploadId, expected: &Digest) -> BlobResult<u64> {
        self.uploads.finish(id, expected, &self.path(expected))
    }

    /// Gives up an upload.
    pub fn cancel(&self, id: &UploadId) -> BlobResult<()> {
        self.uploads.cancel(id)
    }

    /// Removes uploads that nothing was appended to since `before_ms` (milliseconds since the Unix epoch);
    /// returns how many.
    pub fn collect_uploads(&self, before_ms: i64) -> BlobResult<usize> {
        self.uploads.collect(before_ms)
    }
}

fn not_found(digest: Digest, path: &Path, error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::NotFound => BlobError::NoBlob(digest),
        _ => StoreError::at("reading", path)(error).into(),
    }
}

/// When a file was last written, in milliseconds since the Unix epoch.
fn modified_ms(metadata: &fs::Metadata) -> i64 {
    let since_epoch = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since_epoch.map_or(0, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
