//! The embedded backend against crashes, damage, full disks and second owners.

mod crash;
mod cuts;
mod full_disk;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use store::{Backend, Batch, Grouped, Limits, Loaded, LogEngine, LogLimits, StoreError, Write};

/// Opens with logs that are sealed at `seal_bytes`.
fn open(dir: &Path, seal_bytes: u64) -> Result<Grouped, StoreError> {
    Grouped::start(LogEngine::open(dir, LogLimits { seal_bytes })?, Limits::default())
}

fn put(backend: &dyn Backend, revision: u64, key: &str, value: &[u8]) {
    let writes = vec![Write { table: 1, key: key.into(), value: Some(value.to_vec()) }];
    assert_eq!(backend.commit(Batch { revision, guards: vec![], writes }).wait(), Ok(revision));
}

/// The files of a directory whose names begin with `prefix`, in order.
fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found
}

fn revision(dir: &Path) -> Result<u64, StoreError> {
    open(dir, 1 << 20)?.load().map(|loaded| loaded.revision)
}

#[test]
fn reopening_finds_everything() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut expected = Loaded::default();
    for round in 0..5 {
        let backend = open(folder.path(), 200).expect("open");
        assert_eq!(backend.load(), Ok(expected));
        for n in 1..=20 {
            put(&backend, round * 20 + n, &(n % 6).to_string(), &[round as u8, n as u8]);
        }
        expected = backend.load().expect("load");
    }
    assert_eq!((expected.revision, expected.entries.len()), (100, 6));
    let backend = open(folder.path(), 200).expect("open");
    assert_eq!(backend.watch(99).err(), Some(StoreError::Compacted { oldest: 100 }));
    assert!(backend.watch(100).is_ok());
}

/// Makes a store whose last commit is one frame at the end of its log: (log, where that frame begins, length).
fn with_last_frame(dir: &Path) -> (PathBuf, u64, u64) {
    let backend = open(dir, 1 << 20).expect("open");
    (1..=9).for_each(|n| put(&backend, n, &n.to_string(), b"value"));
    drop(backend);
    let log = files(dir, "log-").remove(0);
    let before = fs::metadata(&log).expect("log").len();
    let backend = open(dir, 1 << 20).expect("open");
    put(&backend, 10, "10", &[7; 300]);
    drop(backend);
    let after = fs::metadata(&log).expect("log").len();
    (log, before, after)
}

#[test]
fn a_torn_last_write_is_cut_off() {
    for holes in [false, true] {
        let folder = tempfile::tempdir().expect("tempdir");
        let (log, before, after) = with_last_frame(folder.path());
        let whole = fs::read(&log).expect("read");
        // Cut anywhere, or zeros from anywhere on (the length reached the disk before the bytes).
        for cut in before..after {
            let mut bytes = whole[..cut as usize].to_vec();
            if holes {
                bytes.resize(whole.len(), 0);
            }
            fs::write(&log, bytes).expect("write");
            assert_eq!(revision(folder.path()), Ok(9), "cut at {cut}, holes {holes}");
            let repaired = fs::metadata(&log).expect("log").len();
            assert_eq!(repaired, before, "the torn bytes are gone");
        }
        fs::write(&log, &whole).expect("write");
        assert_eq!(revision(folder.path()), Ok(10));
        // Zeros in its midst only.
        let mut bytes = whole.clone();
        bytes[after as usize - 100..after as usize - 50].fill(0);
        fs::write(&log, bytes).expect("write");
        let backend = open(folder.path(), 1 << 20).expect("open");
        put(&backend, 10, "10", b"again");
    }
}

#[test]
fn damage_before_the_end_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (log, before, _) = with_last_frame(folder.path());
    let whole = fs::read(&log).expect("read");
    for at in 0..before as usize {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log, &bytes).expect("write");
        let error = revision(folder.path()).expect_err("damaged");
        let StoreError::Corrupt { what } = &error else { panic!("{error}") };
        assert!(what.contains("log-0000000000000000 at byte "), "{what}");
        assert!(fs::read(&log).expect("read") == bytes, "nothing is cut off");
    }
}

#[test]
fn damaged_or_cut_snapshots_are_told() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = open(folder.path(), 1 << 20).expect("open");
    (1..=9).for_each(|n| put(&backend, n, &n.to_string(), b"value"));
    backend.compact().expect("compact");
    drop(backend);
    let snapshot = files(folder.path(), "snapshot-").remove(0);
    let whole = fs::read(&snapshot).expect("read");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&snapshot, &bytes).expect("write");
        assert!(matches!(revision(folder.path()), Err(StoreError::Corrupt { .. })), "byte {at}");
        fs::write(&snapshot, &whole[..at]).expect("write");
        assert!(matches!(revision(folder.path()), Err(StoreError::Corrupt { .. })), "cut at {at}");
    }
}

#[test]
fn a_missing_log_is_told() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = open(folder.path(), 1 << 20).expect("open");
    put(&backend, 1, "a", b"");
    // Sealed, but merged into another directory only: two logs stay.
    backend.snapshot(&folder.path().join("copy")).expect("snapshot");
    put(&backend, 2, "a", b"");
    drop(backend);
    let logs = files(folder.path(), "log-");
    assert_eq!(logs.len(), 2);
    fs::remove_file(&logs[0]).expect("remove");
    assert!(matches!(revision(folder.path()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn what_an_interrupted_merge_leaves_is_removed() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = open(folder.path(), 1 << 20).expect("open");
    (1..=9).for_each(|n| put(&backend, n, &n.to_string(), b"value"));
    let old_log = (files(folder.path(), "log-").remove(0), fs::read(files(folder.path(), "log-").remove(0)));
    backend.compact().expect("compact");
    put(&backend, 10, "10", b"");
    drop(backend);
    // As if killed before the merged log was removed, during another merge, and during a sealing.
    fs::write(old_log.0, old_log.1.expect("read")).expect("write");
    fs::write(folder.path().join("snapshot-00000000000000aa.part"), b"half").expect("write");
    fs::write(folder.path().join("log-00000000000000bb"), b"").expect("write");
    let backend = open(folder.path(), 1 << 20).expect("open");
    assert_eq!(backend.load().map(|loaded| (loaded.revision, loaded.entries.len())), Ok((10, 10)));
    put(&backend, 11, "11", b"");
    drop(backend);
    let names = (files(folder.path(), "log-").len(), files(folder.path(), "snapshot-").len());
    assert_eq!(names, (1, 1));
    assert_eq!(revision(folder.path()), Ok(11));
}

#[test]
fn overwrites_do_not_grow_the_directory() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = open(folder.path(), 64 << 10).expect("open");
    let mut last = None;
    for n in 1..=20_000 {
        let writes = vec![Write { table: 1, key: (n % 10).to_string(), value: Some(vec![0; 500]) }];
        last = Some(backend.commit(Batch { revision: n, guards: vec![], writes }));
    }
    last.expect("a ticket").wait().expect("durable");
    drop(backend);
    let bytes: u64 =
        files(folder.path(), "").iter().map(|path| fs::metadata(path).expect("file").len()).sum();
    // 10 MB were written and 5 kB are alive. Commits go on beside a merge, so the logs exceed the seal somewhat.
    let logs = files(folder.path(), "log-").len();
    assert!(bytes < 9_000_000 && logs <= 2, "{bytes} bytes in {logs} logs");
    let backend = open(folder.path(), 64 << 10).expect("open");
    backend.compact().expect("compact");
    drop(backend);
    let bytes: u64 =
        files(folder.path(), "").iter().map(|path| fs::metadata(path).expect("file").len()).sum();
    assert!(bytes < 6_000, "{bytes}");
}

#[test]
fn one_owner_at_a_time() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = open(folder.path(), 1 << 20).expect("open");
    put(&backend, 1, "a", b"");
    let error = open(folder.path(), 1 << 20).err().expect("locked");
    let pid = std::process::id();
    assert_eq!(error, StoreError::Locked { path: folder.path().into(), pid: Some(pid) });
    assert!(error.to_string().contains(&format!("by process {pid}: stop that process")), "{error}");
    backend.close().expect("close");
    assert_eq!(revision(folder.path()), Ok(1), "closing releases it");
}

#[test]
fn formats_it_does_not_know_are_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    drop(open(folder.path(), 1 << 20).expect("open"));
    let format = folder.path().join("format");
    fs::write(&format, format!("roadstead-store {}\n", store::FORMAT + 1)).expect("write");
    let (found, supported) = (store::FORMAT + 1, store::FORMAT);
    let error = revision(folder.path()).expect_err("newer");
    assert_eq!(error, StoreError::NewerFormat { path: folder.path().into(), found, supported });
    assert!(error.to_string().contains("use the newer release"), "{error}");
    for damaged in ["", "roadstead-store", "roadstead-store x", "roadstead-store 0\n", "something else"] {
        fs::write(&format, damaged).expect("write");
        assert!(matches!(revision(folder.path()), Err(StoreError::Corrupt { .. })), "{damaged:?}");
    }
}

#[test]
fn directories_that_are_something_else_are_refused() {
    let folder = tempfile::tempdir().expect("tempdir");
    fs::write(folder.path().join("thesis.tex"), "x").expect("write");
    let error = revision(folder.path()).expect_err("foreign").to_string();
    assert!(error.contains("thesis.tex"), "{error}");
    let file = folder.path().join("thesis.tex");
    assert!(matches!(revision(&file), Err(StoreError::Io { .. })), "a file is no directory");
    // A copy that was interrupted has no format file yet.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).expect("create");
    fs::write(copy.join("snapshot-0000000000000001.part"), "x").expect("write");
    assert!(matches!(revision(&copy), Err(StoreError::Corrupt { .. })));
}

#[test]
fn frames_are_valid_only_where_they_were_written() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (log, before, after) = with_last_frame(folder.path());
    // The last frame once more, as a stray write would leave it: not a commit.
    let whole = fs::read(&log).expect("read");
    let file = OpenOptions::new().write(true).open(&log).expect("open");
    file.write_all_at(&whole[before as usize..], after).expect("write");
    assert_eq!(revision(folder.path()), Ok(10));
    assert_eq!(fs::metadata(&log).expect("log").len(), after);
}
