//! kill -9 at every step of the log, by its cut points: the same promises as at any other moment.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use store::Backend;

use super::crash::{acknowledged_by, expected, start};

/// The n-th time that a point is reached is another state: a fresh directory, a first merge, a later one.
const COUNTS: [u32; 3] = [1, 2, 5];

/// What can be cut in the log: appending, sealing, merging.
fn points() -> Vec<&'static str> {
    let of_the_log = ["store.append.", "store.seal.", "store.merge.", "store.compact."];
    let names = cut::points().iter().map(|(name, _)| *name);
    names.filter(|name| of_the_log.iter().any(|start| name.starts_with(start))).collect()
}

/// Writes until it is cut for the `count`-th time at `point`; what is there then is all that was acknowledged, whole.
/// Returns its revision.
fn cut_at(dir: &Path, cuts: &Path, point: &str, count: u32, acknowledged: u64) -> u64 {
    fs::write(cuts.join("armed"), format!("{point} {count}\n")).expect("arm");
    let mut child = start(dir, Some(cuts));
    let acknowledged = acknowledged_by(&mut child).unwrap_or(acknowledged);
    let status = child.wait().expect("wait");
    assert_eq!(status.signal(), Some(9), "{point} was not reached {count} times: {status}");
    fs::remove_file(cuts.join("cut")).expect("cut");
    let loaded = super::open(dir, 100_000).expect("reopen at once").load().expect("load");
    assert!(loaded.revision >= acknowledged, "{point} {count}: {} < {acknowledged}", loaded.revision);
    assert!(loaded.revision <= acknowledged + 16, "{point} {count}: no more than was in flight");
    assert!(loaded == expected(loaded.revision), "{point} {count}: revision {}", loaded.revision);
    loaded.revision
}

#[test]
fn a_cut_at_each_step_loses_nothing_acknowledged() {
    if cut::points().is_empty() {
        eprintln!("skipped: a release build has no cut points");
        return;
    }
    let cuts = tempfile::tempdir().expect("tempdir");
    assert!(points().len() >= 10);
    for point in points() {
        let folder = tempfile::tempdir().expect("tempdir");
        // What one cut leaves, the next meets.
        let mut acknowledged = 0;
        for count in COUNTS {
            acknowledged = cut_at(folder.path(), cuts.path(), point, count, acknowledged);
        }
    }
}

#[test]
fn a_directory_that_was_not_finished_is_begun_again() {
    if cut::points().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().expect("tempdir");
    let cuts = tempfile::tempdir().expect("tempdir");
    assert_eq!(cut_at(folder.path(), cuts.path(), "store.file.written", 1, 0), 0);
    assert!(cut_at(folder.path(), cuts.path(), "store.append.synced", 3, 0) > 0);
}
