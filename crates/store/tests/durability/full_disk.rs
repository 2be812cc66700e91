//! A full disk fails commits with a clear error, loses nothing, and commits go on when there is space again.
//!
//! The disk is a small tmpfs in a mount namespace of its own, where this test binary runs again.

use std::fs;
use std::path::Path;
use std::process::Command;

use store::{Backend, Batch, Grouped, StoreError, Write};

const CHILD_DIR: &str = "STORE_FULL_DISK_DIR";

#[test]
fn a_full_disk_fails_commits_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("tempdir");
    let script = "mount -t tmpfs -o size=1m tmpfs \"$STORE_FULL_DISK_DIR\" || exit 77; exec \"$@\"";
    let started = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "full_disk::full_disk_child", "--nocapture"])
        .env(CHILD_DIR, folder.path())
        .output();
    match started {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("full disk child done"), "{text}");
        }
        Ok(output) if output.status.code() == Some(77) => {
            eprintln!("skipped: no tmpfs in a user namespace here")
        }
        Ok(output) => panic!("{output:?}"),
        Err(error) => eprintln!("skipped: unshare: {error}"),
    }
}

fn commit(backend: &Grouped, revision: u64, bytes: usize) -> Result<u64, StoreError> {
    let value = Some(vec![revision as u8; bytes]);
    let writes = vec![Write { table: 1, key: (revision % 5).to_string(), value }];
    backend.commit(Batch { revision, guards: vec![], writes }).wait()
}

/// Not a test by itself: the child on the small disk.
#[test]
fn full_disk_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let mount = Path::new(&dir);
    let store = mount.join("records");
    let backend = super::open(&store, 100_000).expect("open");
    let mut revision = 0;
    fs::write(mount.join("ballast"), vec![0; 500_000]).expect("ballast");
    for round in 0..3 {
        // Compaction is allowed to run, and to fail, at any moment of this. Large commits fill the disk first.
        let error = loop {
            match commit(&backend, revision + 1, 40_000) {
                Ok(committed) => revision = committed,
                Err(error) => break error,
            }
            if revision > 1_000 + round * 1_000 {
                fs::write(mount.join(format!("more{round}")), vec![0; 700_000]).expect_err("filled up");
            }
        };
        assert!(matches!(&error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().contains("no space left while appending to"), "{error}");
        let before = backend.load().expect("reads go on");
        assert_eq!(before.revision, revision);
        assert!(
            before.entries.iter().all(|entry| entry.value.iter().all(|byte| *byte == entry.revision as u8))
        );
        // What is queued behind a failed commit fails with it; small ones may fit and are then kept.
        for _ in 0..20 {
            if let Ok(committed) = commit(&backend, revision + 1, 3_000) {
                revision = committed;
            }
        }
        fs::remove_file(mount.join("ballast")).expect("make space");
        let _ = fs::remove_file(mount.join(format!("more{round}")));
        revision = commit(&backend, revision + 1, 1_000).expect("space again");
        assert_eq!(backend.load().expect("load").revision, revision);
        drop(backend.compact());
        fs::write(mount.join("ballast"), vec![0; 500_000]).expect("ballast again");
    }
    let before = backend.load().expect("load");
    drop(backend);
    let backend = super::open(&store, 100_000).expect("reopen");
    assert_eq!(backend.load(), Ok(before));
    println!("full disk child done");
}
