//! The store of unpacked layers: each is unpacked once, under a name made of the digest of its content, and shared by
//! all containers of all images that have it.
//!
//! A layer appears under its name only when it is whole and on disk; what a crash leaves has a temporary name and is
//! removed at the next start.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cut::cut;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::super::remove::remove_tree;
use super::pull::hex;
use super::{PullError, unpack};

/// Digits of a digest that name a layer: short, because all names of an image must fit into one mount option.
const NAME_DIGITS: usize = 16;

/// The store of layers below a folder.
#[derive(Clone)]
pub struct LayerStore {
    dir: Arc<PathBuf>,
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    temporary: Arc<AtomicU64>,
}

/// Proof that nobody else unpacks a layer.
pub type Turn = OwnedMutexGuard<()>;

impl LayerStore {
    /// Opens the store in a folder, and removes what a crash left in it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: &Path) -> io::Result<LayerStore> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("tmp-") {
                // What cannot be removed takes room; the node works without it.
                if let Err(err) = remove_tree(&entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %err, "a left layer could not be removed");
                }
            }
        }
        Ok(LayerStore { dir: Arc::new(dir.to_owned()), turns: Arc::default(), temporary: Arc::default() })
    }

    /// The folder that holds the layers by name.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until nobody else unpacks a layer.
    pub async fn turn(&self, diff_id: &str) -> Turn {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for are forgotten here, so that the map does not grow.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(diff_id.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn name(diff_id: &str) -> Result<String, PullError> {
        let digits = diff_id
            .strip_prefix("sha256:")
            .filter(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| PullError::Other(format!("unsupported digest {diff_id}")))?;
        Ok(digits[..NAME_DIGITS].to_owned())
    }

    fn note(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.id"))
    }

    /// The name of a layer if it is here.
    ///
    /// # Errors
    /// When another layer has the same name: a collision of 64 bits.
    pub fn find(&self, diff_id: &str) -> Result<Option<String>, PullError> {
        let name = LayerStore::name(diff_id)?;
        if !self.dir.join(&name).is_dir() {
            return Ok(None);
        }
        match fs::read_to_string(self.note(&name)) {
            Ok(noted) if noted.trim() == diff_id => {
                // When it was last wanted, for `remove_unused`.
                if let Ok(note) = File::options().append(true).open(self.note(&name)) {
                    let _ = note.set_modified(SystemTime::now());
                }
                Ok(Some(name))
            }
            Ok(noted) => Err(PullError::Other(format!("layers {diff_id} and {noted} have the same name"))),
            // The note is written before the layer gets its name: without one it is no layer of ours.
            Err(err) => Err(PullError::Other(format!("{}: {err}", self.note(&name).display()))),
        }
    }

    /// Unpacks a layer whose compressed bytes have `digest` and whose tar has `diff_id`. Returns its name.
    ///
    /// # Errors
    /// When bytes and digests do not agree, or the tar leads out of the layer; nothing is kept then.
    pub fn unpack(&self, blob: File, digest: &str, diff_id: &str) -> Result<String, PullError> {
        let name = LayerStore::name(diff_id)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("tmp-{}-{number}", std::process::id()));
        let unpacked = self.unpack_at(&temporary, blob, digest, diff_id).and_then(|()| {
            cut!("agent.image.layer-unpacked");
            fs::write(self.note(&name), diff_id)?;
            cut!("agent.image.layer-noted");
            sync_filesystem(&temporary)?;
            fs::rename(&temporary, self.dir.join(&name))
        });
        unpacked.map_err(|err| {
            // Removed at the next start if it cannot be removed now.
            let _ = remove_tree(&temporary);
            PullError::Other(format!("failed to extract layer {diff_id}: {err}"))
        })?;
        cut!("agent.image.layer-named");
        Ok(name)
    }

    fn unpack_at(&self, root: &Path, blob: File, digest: &str, diff_id: &str) -> io::Result<()> {
        fs::create_dir(root)?;
        cut!("agent.image.layer-begun");
        let mut packed = Hashing { inner: BufReader::with_capacity(1 << 16, blob), hash: Sha256::new() };
        {
            let mut plain = Hashing { inner: decompress(&mut packed)?, hash: Sha256::new() };
            unpack::unpack(&mut plain, root)?;
            // Padding after the last entry belongs to the digest as well.
            io::copy(&mut plain, &mut io::sink())?;
            agree("the layer's content", diff_id, plain.hash)?;
        }
        io::copy(&mut packed, &mut io::sink())?;
        agree("the layer", digest, packed.hash)
    }

    /// Removes layers that are not in use and were not wanted for a while. Returns how many.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn remove_unused(&self, in_use: &HashSet<String>, unwanted_for: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(self.dir())?.flatten() {
            let path = entry.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_none_or(|e| e != "id") || in_use.contains(&name) {
                continue;
            }
            let wanted = entry.metadata()?.modified()?;
            if wanted.elapsed().unwrap_or_default() < unwanted_for {
                continue;
            }
            // Renamed first: half a layer must not be found under its name.
            let number = self.temporary.fetch_add(1, Ordering::Relaxed);
            let temporary = self.dir.join(format!("tmp-{}-{number}", std::process::id()));
            if self.dir.join(&name).is_dir() {
                fs::rename(self.dir.join(&name), &temporary)?;
                remove_tree(&temporary)?;
            }
            fs::remove_file(path)?;
            removed += 1;
        }
        Ok(removed)
    }
}

fn agree(what: &str, want: &str, hash: Sha256) -> io::Result<()> {
    let have = format!("sha256:{}", hex(&hash.finalize()));
    if have == want {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("{what} has the digest {have}, not {want}")))
}

/// Reads on while it hashes.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Plain, gzip or zstd, told by the first bytes: media types are not always true.
fn decompress<'a, R: Read + 'a>(mut packed: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match packed.read(&mut magic[have..])? {
            0 => break,
            count => have += count,
        }
    }
    let whole = io::Cursor::new(magic).take(have as u64).chain(packed);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

fn sync_filesystem(path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let dir = File::open(path)?;
    // SAFETY: plain system call on an open descriptor.
    match unsafe { libc::syncfs(dir.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    type Pack = fn(&[u8]) -> Vec<u8>;

    fn digest(bytes: &[u8]) -> String {
        format!("sha256:{}", hex(&Sha256::digest(bytes)))
    }

    /// A tar with one file, and its bytes as a file.
    fn layer(packed: impl Fn(&[u8]) -> Vec<u8>) -> (File, String, String) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, "etc/name", &b"hello"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let bytes = packed(&tar);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        (file, digest(&bytes), digest(&tar))
    }

    fn gzip(tar: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(tar).unwrap();
        encoder.finish().unwrap()
    }

    /// A store of its own; none without root, who alone may give files to users.
    fn store() -> Option<(tempfile::TempDir, LayerStore)> {
        // SAFETY: plain system call.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = LayerStore::open(&dir.path().join("layers")).unwrap();
        Some((dir, store))
    }

    #[test]
    fn layers_of_every_compression_are_unpacked_and_found() {
        let Some((_dir, store)) = store() else { return };
        let kinds: [Pack; 3] = [|tar| tar.to_vec(), gzip, |tar| zstd::encode_all(tar, 1).unwrap()];
        for kind in kinds {
            let (file, packed, diff_id) = layer(kind);
            let name = store.unpack(file, &packed, &diff_id).unwrap();
            assert_eq!(fs::read(store.dir().join(&name).join("etc/name")).unwrap(), b"hello");
            assert_eq!(store.find(&diff_id), Ok(Some(name.clone())));
            assert_eq!(store.remove_unused(&HashSet::from([name]), Duration::ZERO).unwrap(), 0);
            assert_eq!(store.remove_unused(&HashSet::new(), Duration::from_secs(60)).unwrap(), 0);
            assert_eq!(store.remove_unused(&HashSet::new(), Duration::ZERO).unwrap(), 1);
            assert_eq!(store.find(&diff_id), Ok(None));
        }
        assert_eq!(fs::read_dir(store.dir()).unwrap().count(), 0);
    }

    #[test]
    fn wrong_bytes_leave_nothing_and_leftovers_of_a_crash_go() {
        let Some((dir, store)) = store() else { return };
        let wrong = digest(b"other");
        let (file, _, diff_id) = layer(gzip);
        let err = store.unpack(file, &wrong, &diff_id).unwrap_err();
        let PullError::Other(said) = err else { panic!("{err:?}") };
        assert!(
            said.starts_with(&format!("failed to extract layer {diff_id}: the layer has the digest")),
            "{said}"
        );
        let (file, packed, _) = layer(gzip);
        assert!(store.unpack(file, &packed, &wrong).is_err());
        let (mut file, packed, diff_id) = layer(gzip);
        file.set_len(20).unwrap();
        file.rewind().unwrap();
        assert!(store.unpack(file, &packed, &diff_id).is_err(), "cut short");
        assert_eq!(fs::read_dir(store.dir()).unwrap().count(), 0);
        fs::create_dir_all(store.dir().join("tmp-1-2/a/b")).unwrap();
        fs::create_dir_all(store.dir().join("tmp-1-3/a")).unwrap();
        LayerStore::open(&dir.path().join("layers")).unwrap();
        assert_eq!(fs::read_dir(store.dir()).unwrap().count(), 0);
    }
}
