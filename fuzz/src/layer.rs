//! Layers of images: tars, plain or packed, unpacked into a folder.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agent::act::image::LayerStore;
use agent::act::remove::remove_tree;
use sha2::{Digest, Sha256};

/// Layers that unpack to more are not looked at: they say nothing new.
const PLAIN_BYTES_MAX: u64 = 8 << 20;

/// Takes a layer's bytes. Nothing outside its folder is touched; one that is refused leaves nothing, and one that is
/// taken no more than its tar has.
pub fn unpack(bytes: &[u8]) {
    // SAFETY: plain system call.
    if unsafe { libc::geteuid() } != 0 {
        return; // Root alone may give files to users.
    }
    let Some(plain) = plain(bytes) else { return };
    let dir = memory_dir();
    fs::write(dir.path().join("canary"), "sings").expect("a file");
    let layers = dir.path().join("layers");
    let store = LayerStore::open(&layers).expect("an empty store");
    let mut blob = tempfile::tempfile_in(dir.path()).expect("a file");
    blob.write_all(bytes).and_then(|()| blob.rewind()).expect("a blob");
    let unpacked = store.unpack(blob, &digest(bytes), &digest(&plain));
    let around: Vec<_> = names(dir.path());
    assert_eq!(around, ["canary", "layers"], "something lies beside the layers");
    let canary = dir.path().join("canary");
    let kept = canary.symlink_metadata().expect("the canary");
    assert!(kept.is_file() && kept.nlink() == 1 && kept.uid() == 0, "the canary was touched");
    assert_eq!(fs::read(&canary).expect("the canary"), b"sings");
    match unpacked {
        Err(_) => assert_eq!(names(&layers), Vec::<String>::new(), "something is left of what was refused"),
        Ok(name) => {
            assert_eq!(store.find(&digest(&plain)), Ok(Some(name.clone())));
            let used = blocks(&layers.join(&name));
            // Whole pages of a file, and folders, come on top of what the tar's blocks have.
            let allowed = 16 * plain.len() as u64 + (64 << 10);
            assert!(used <= allowed, "a tar of {} bytes takes {used}", plain.len());
        }
    }
    // Folders may lie deeper than std removes them.
    remove_tree(&layers).expect("layers can be removed");
}

/// The tar within; `None`: it is not packed as its first bytes say, or too large.
fn plain(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let unpacked: Box<dyn Read> = match bytes {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(bytes).ok()?),
        _ => Box::new(bytes),
    };
    // What cannot be unpacked to its end has some digest too: the store has to find out.
    let _ = unpacked.take(PLAIN_BYTES_MAX + 1).read_to_end(&mut plain);
    (plain.len() as u64 <= PLAIN_BYTES_MAX).then_some(plain)
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut all: Vec<String> = all.map(|name| name.to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

/// Bytes on disk of what lies in a folder, at most a hundred folders deep.
fn blocks(dir: &Path) -> u64 {
    let (mut sum, mut folders) = (0, vec![(dir.to_owned(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_file() {
                sum += metadata.blocks() * 512 / metadata.nlink().max(1);
            } else if metadata.is_dir() && depth < 100 {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    sum
}

/// A folder of its own, in memory where the machine has such.
pub fn memory_dir() -> tempfile::TempDir {
    let made = tempfile::Builder::new().prefix("fuzz-").tempdir_in("/dev/shm");
    made.or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}
