//! Removes what nothing names: uploads left alone, links to blobs that no image took up, bytes without a link.
//!
//! Safe beside pushes: who is told that a blob is in a repository may rely on it for the grace period; a manifest is
//! taken only if its blobs are linked; bytes are deleted inside a decision that sees no link to them, and linking
//! decisions look whether the bytes are still there.

use std::sync::Arc;

use state::ecr::{LayerLink, LayerUpload, images};
use state::{Db, DbError, Record, Snapshot, TimeMs, Tx};
use store::blobs::{BlobError, Blobs, Digest};

/// How long what nothing names is kept: a push takes less.
pub const GRACE_MS: TimeMs = 60 * 60 * 1000;

/// Bytes deleted in one decision: each holds up others for some microseconds.
const DELETIONS_AT_ONCE: usize = 32;

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Uploads that were not gone on with.
    pub uploads: usize,
    /// Blobs taken out of repositories.
    pub links: usize,
    /// Blobs deleted.
    pub blobs: usize,
}

/// Why a collection ended early. What it did is done; the next one goes on.
#[derive(Debug)]
pub enum GarbageError {
    /// The control state.
    Db(DbError),
    /// The blobs.
    Blobs(BlobError),
}

impl std::fmt::Display for GarbageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GarbageError::Db(error) => error.fmt(f),
            GarbageError::Blobs(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GarbageError {}

impl From<BlobError> for GarbageError {
    fn from(error: BlobError) -> GarbageError {
        GarbageError::Blobs(error)
    }
}

impl From<DbError> for GarbageError {
    fn from(error: DbError) -> GarbageError {
        GarbageError::Db(error)
    }
}

/// Collects what is older than the grace period. Blocks on the disk.
pub fn collect(
    db: &Arc<Db>,
    blobs: &Blobs,
    now_ms: TimeMs,
    grace_ms: TimeMs,
) -> Result<Collected, GarbageError> {
    let before_ms = now_ms - grace_ms;
    let uploads = blobs.collect_uploads(before_ms)?;
    let ended = ended_uploads(&db.snapshot(), blobs, before_ms)?;
    let links = db.decide_blocking(|tx| {
        ended.iter().for_each(|key| {
            tx.delete::<LayerUpload>(key);
        });
        Ok::<_, std::convert::Infallible>(drop_links(tx, before_ms))
    })?;
    let Ok(links) = links;
    let blobs = delete_bytes(db, blobs, before_ms)?;
    Ok(Collected { uploads, links, blobs })
}

/// Records of uploads whose bytes are gone.
fn ended_uploads(state: &Snapshot, blobs: &Blobs, before_ms: TimeMs) -> Result<Vec<String>, BlobError> {
    let mut ended = Vec::new();
    for (key, upload) in state.layer_uploads.iter().filter(|(_, upload)| upload.started_at_ms < before_ms) {
        let Ok(id) = upload.id.parse() else { continue };
        match blobs.upload_offset(&id) {
            Err(BlobError::NoUpload(_)) => ended.push(key.to_owned()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(ended)
}

/// Takes blobs out of repositories that no image there names and that were promised to nobody lately.
fn drop_links(tx: &mut Tx, before_ms: TimeMs) -> usize {
    let state = tx.snapshot();
    let old = state.layer_links.iter().filter(|(_, link)| link.promised_at_ms < before_ms);
    let stale: Vec<String> =
        old.filter(|(_, link)| !images::is_named(state, link)).map(|(_, link)| link.key()).collect();
    for key in &stale {
        tx.delete::<LayerLink>(key);
    }
    stale.len()
}

/// Deletes bytes that are in no repository. They must be in none both for good and in what is being decided: a link whose
/// removal is not durable yet comes back if its commit fails.
fn delete_bytes(db: &Arc<Db>, blobs: &Blobs, before_ms: TimeMs) -> Result<usize, GarbageError> {
    let durable = db.snapshot();
    let all = blobs.list()?.into_iter().filter(|blob| blob.stored_ms < before_ms).map(|blob| blob.digest);
    let unlinked: Vec<Digest> = all.filter(|digest| !is_linked(&durable, digest)).collect();
    let mut deleted = 0;
    for some in unlinked.chunks(DELETIONS_AT_ONCE) {
        deleted += db.decide_blocking(|tx| {
            let mut deleted = 0;
            for digest in some.iter().filter(|digest| !is_linked(tx.snapshot(), digest)) {
                match blobs.delete(digest) {
                    Ok(()) => deleted += 1,
                    Err(BlobError::NoBlob(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(deleted)
        })??;
    }
    Ok(deleted)
}

fn is_linked(state: &Snapshot, digest: &Digest) -> bool {
    state.layer_links.by_index("digest", &digest.to_string()).next().is_some()
}
