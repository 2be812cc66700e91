//! The log of records: what a crash, or a disk, leaves of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use store::{Backend, Batch, Entry, Write};

use crate::layer::memory_dir;

/// Commits of the log that is damaged.
const COMMITS: u64 = 6;
/// More damage in one input is not done.
const EDITS_MAX: usize = 16;

/// Takes damage to a log of six commits, three bytes each: what, and where. It is told, or what is read is what the first
/// so many of the commits had written.
pub fn damage(bytes: &[u8]) {
    let dir = memory_dir();
    let path = dir.path().join("state");
    let after: Vec<Vec<Entry>> = write(&path);
    let file = log_file(&path);
    let mut log = fs::read(&file).expect("the log");
    for edit in bytes.chunks_exact(3).take(EDITS_MAX) {
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % (log.len() + 1);
        match edit[0] {
            // Cut, hole, swapped-out sector, noise.
            0 => log.truncate(at),
            1 => log.iter_mut().skip(at).take(64).for_each(|byte| *byte = 0),
            2 => log.extend_from_within(at.saturating_sub(64)..at),
            noise => log.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= noise),
        }
    }
    fs::write(&file, &log).expect("a damaged log");
    if let Some((revision, entries)) = read(&path) {
        assert_eq!(entries, after[usize::try_from(revision).expect("few commits")], "at revision {revision}");
        // The repaired log is whole, and goes on.
        let again = read(&path);
        assert_eq!(again, Some((revision, entries)), "opened a second time");
    }
}

/// Takes the body of a frame, whose checks are good: told to be none, or read the same each time.
pub fn frame(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let dir = memory_dir();
    let path = dir.path().join("state");
    write(&path);
    fs::write(path.join("log-0000000000000000"), framed(bytes)).expect("a log");
    if let Some(first) = read(&path) {
        assert_eq!(read(&path).as_ref(), Some(&first));
        let store = store::embedded(&path).expect("opened before");
        store.compact().expect("what can be read can be merged");
        store.close().expect("closed");
        drop(store);
        assert_eq!(read(&path), Some(first), "after a merge");
    }
}

/// A frame as `store` writes it: length, check of the head, check of the body, body.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("inputs are small").to_le_bytes();
    // The head's check covers the frame's offset and the file's number too; both are 0 here.
    let head = crc32fast::hash(&[&length[..], &[0; 16]].concat()).to_le_bytes();
    [&length[..], &head, &crc32fast::hash(body).to_le_bytes(), body].concat()
}

/// Writes the commits; what is stored after each of them, and before.
fn write(path: &Path) -> Vec<Vec<Entry>> {
    let store = store::embedded(path).expect("an empty folder");
    let (mut records, mut after) = (BTreeMap::new(), vec![Vec::new()]);
    for revision in 1..=COMMITS {
        let put = |key: &str| Write {
            table: 1,
            key: key.to_owned(),
            value: Some(vec![b'a' + revision as u8; 40 * revision as usize]),
        };
        let gone = Write { value: None, ..put(&format!("key-{}", revision - 1)) };
        let writes = vec![put(&format!("key-{revision}")), put("same"), gone];
        for write in &writes {
            match &write.value {
                Some(value) => drop(records.insert(write.key.clone(), (revision, value.clone()))),
                None => drop(records.remove(&write.key)),
            }
        }
        store.commit(Batch { revision, guards: Vec::new(), writes }).wait().expect("durable");
        let entry = |(key, (revision, value)): (&String, &(u64, Vec<u8>))| Entry {
            table: 1,
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        after.push(records.iter().map(entry).collect());
    }
    store.close().expect("closed");
    after
}

fn log_file(path: &Path) -> PathBuf {
    let names = fs::read_dir(path).expect("the store's folder").map(|entry| entry.expect("an entry").path());
    let is_log =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-"));
    names.into_iter().find(is_log).expect("a log")
}

/// What is stored, if the store can be opened.
fn read(path: &Path) -> Option<(u64, Vec<Entry>)> {
    let store = store::embedded(path).ok()?;
    let loaded = store.load().expect("what was opened can be loaded");
    store.close().expect("closed");
    Some((loaded.revision, loaded.entries))
}
