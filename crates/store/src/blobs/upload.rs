//! Uploads: files that grow at their end and are verified while they grow.
//!
//! The hash of what was appended is kept in memory; when it does not match the file (after a restart, or because
//! another process appended) it is computed again from the file.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use cut::cut;
use sha2::{Digest as _, Sha256};

use super::{BlobError, BlobResult, Digest, modified_ms};
use crate::error::StoreError;
use crate::files;

/// The name of an upload: 1 to 64 letters, digits and dashes, so never a path that leaves its folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// An id for an upload that begins and ends inside one call.
    pub(crate) fn own(pid: u32, number: u64) -> UploadId {
        UploadId(format!("put-{pid}-{number}"))
    }
}

impl FromStr for UploadId {
    type Err = String;

    fn from_str(text: &str) -> Result<UploadId, String> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain && (1..=64).contains(&text.len()) {
            return Ok(UploadId(text.to_owned()));
        }
        Err(format!("{text:?} is not an upload id: 1 to 64 letters, digits and dashes are"))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an upload's bytes: the hash of the first `offset` of them.
#[derive(Default)]
struct Session {
    offset: u64,
    hasher: Sha256,
}

/// The uploads of one directory.
pub(super) struct Uploads {
    dir: PathBuf,
    sessions: Mutex<HashMap<UploadId, Arc<Mutex<Session>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Uploads {
    pub(super) fn new(dir: PathBuf) -> Uploads {
        Uploads { dir, sessions: Mutex::default() }
    }

    fn path(&self, id: &UploadId) -> PathBuf {
        self.dir.join(&id.0)
    }

    fn session(&self, id: &UploadId) -> Arc<Mutex<Session>> {
        locked(&self.sessions).entry(id.clone()).or_default().clone()
    }

    /// An error of an operation on an upload's file; its session is forgotten if the file is gone.
    fn failed(&self, id: &UploadId, verb: &str, error: io::Error) -> BlobError {
        if error.kind() == io::ErrorKind::NotFound {
            locked(&self.sessions).remove(id);
            return BlobError::NoUpload(id.clone());
        }
        StoreError::at(verb, &self.path(id))(error).into()
    }

    pub(super) fn start(&self, id: &UploadId) -> BlobResult<()> {
        match OpenOptions::new().write(true).create_new(true).open(self.path(id)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BlobError::UploadExists(id.clone()))
            }
            Err(error) => Err(self.failed(id, "creating", error)),
        }
    }

    pub(super) fn offset(&self, id: &UploadId) -> BlobResult<u64> {
        let metadata = self.path(id).metadata().map_err(|error| self.failed(id, "reading", error))?;
        Ok(metadata.len())
    }

    pub(super) fn append(&self, id: &UploadId, offset: u64, bytes: &[u8]) -> BlobResult<u64> {
        let session = self.session(id);
        let mut session = locked(&session);
        let file = self.open(id)?;
        let expected = file.metadata().map_err(|error| self.failed(id, "reading", error))?.len();
        if offset != expected {
            return Err(BlobError::WrongOffset { expected, got: offset });
        }
        self.catch_up(id, &file, expected, &mut session)?;
        if let Err(error) = file.write_all_at(bytes, offset) {
            // What was written of it must not become part of the upload. If this fails too, the offset tells.
            let _ = file.set_len(offset);
            return Err(self.failed(id, "appending to", error));
        }
        cut!("store.blob.appended");
        session.hasher.update(bytes);
        session.offset = offset + bytes.len() as u64;
        Ok(session.offset)
    }

    pub(super) fn finish(&self, id: &UploadId, expected: &Digest, target: &Path) -> BlobResult<u64> {
        let session = self.session(id);
        let mut session = locked(&session);
        let file = self.open(id)?;
        let size_bytes = file.metadata().map_err(|error| self.failed(id, "reading", error))?.len();
        self.catch_up(id, &file, size_bytes, &mut session)?;
        let actual = Digest::of_hasher(session.hasher.clone());
        if actual != *expected {
            return Err(BlobError::DigestMismatch { expected: *expected, actual });
        }
        file.sync_all().map_err(|error| self.failed(id, "syncing", error))?;
        cut!("store.blob.synced");
        if let Some(folder) = target.parent() {
            files::create_dir(folder)?;
            fs::rename(self.path(id), target).map_err(|error| self.failed(id, "naming", error))?;
            cut!("store.blob.named");
            files::sync_dir(folder)?;
        }
        locked(&self.sessions).remove(id);
        Ok(size_bytes)
    }

    pub(super) fn cancel(&self, id: &UploadId) -> BlobResult<()> {
        let session = self.session(id);
        let _no_append = locked(&session);
        fs::remove_file(self.path(id)).map_err(|error| self.failed(id, "removing", error))?;
        locked(&self.sessions).remove(id);
        Ok(())
    }

    pub(super) fn collect(&self, before_ms: i64) -> BlobResult<usize> {
        let mut collected = 0;
        for name in files::names(&self.dir)? {
            let Ok(id) = name.parse::<UploadId>() else { continue };
            let session = self.session(&id);
            let _no_append = locked(&session);
            let old = self.path(&id).metadata().is_ok_and(|metadata| modified_ms(&metadata) < before_ms);
            if old && fs::remove_file(self.path(&id)).is_ok() {
                collected += 1;
                locked(&self.sessions).remove(&id);
            }
        }
        // An upload that is left alone needs no hash in memory: it is computed again if the upload goes on.
        locked(&self.sessions).retain(|_, session| Arc::strong_count(session) > 1);
        Ok(collected)
    }

    fn open(&self, id: &UploadId) -> BlobResult<File> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(id));
        file.map_err(|error| self.failed(id, "opening", error))
    }

    /// Makes the session's hash cover exactly the file's bytes.
    fn catch_up(&self, id: &UploadId, file: &File, file_bytes: u64, session: &mut Session) -> BlobResult<()> {
        if session.offset == file_bytes {
            return Ok(());
        }
        if session.offset > file_bytes {
            *session = Session::default();
        }
        let mut buffer = vec![0; 256 << 10];
        while session.offset < file_bytes {
            let wanted = buffer.len().min((file_bytes - session.offset) as usize);
            let read = file.read_at(&mut buffer[..wanted], session.offset);
            let read = read.map_err(|error| self.failed(id, "reading", error))?;
            if read == 0 {
                break;
            }
            session.hasher.update(&buffer[..read]);
            session.offset += read as u64;
        }
        Ok(())
    }
}
