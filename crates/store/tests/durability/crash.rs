//! kill -9 at any moment: what was acknowledged is there, and nothing is there in part.
//!
//! The child is this test binary again, told by an environment variable which directory to write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use store::{Backend, Batch, Entry, Loaded, Write};

const CHILD_DIR: &str = "STORE_CRASH_CHILD_DIR";
const WRITES: u64 = 10_000;

/// What commit `n` writes: two records that must appear together, and now and then a deletion.
fn commit(n: u64) -> Vec<Write> {
    let put = |key: String| Write { table: 1, key, value: Some(vec![n as u8; 20 + (n % 400) as usize]) };
    let mut writes = vec![put(format!("a{}", n % 97)), put(format!("b{}", n % 89))];
    if n.is_multiple_of(10) {
        writes.push(Write { table: 1, key: format!("a{}", n % 83), value: None });
    }
    writes
}

/// The records after commits 1 to `revision`.
pub fn expected(revision: u64) -> Loaded {
    let mut records = BTreeMap::new();
    for n in 1..=revision {
        for write in commit(n) {
            match write.value {
                Some(value) => drop(records.insert(write.key, (n, value))),
                None => drop(records.remove(&write.key)),
            }
        }
    }
    let entry = |(key, (revision, value))| Entry { table: 1, key, value, revision };
    Loaded { revision, entries: records.into_iter().map(entry).collect() }
}

/// Not a test by itself: in the child it writes on from where the directory is, 16 commits in flight, and prints
/// each acknowledged one.
#[test]
fn crash_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    // Logs are sealed early, so that kills meet merges too.
    let backend = super::open(Path::new(&dir), 100_000).expect("open");
    let first = backend.durable_revision() + 1;
    let mut in_flight = std::collections::VecDeque::new();
    let mut out = std::io::stdout();
    for n in first..=WRITES + 16 {
        if n <= WRITES {
            in_flight.push_back(backend.commit(Batch { revision: n, guards: vec![], writes: commit(n) }));
        }
        if in_flight.len() >= 16 || n > WRITES {
            let Some(ticket) = in_flight.pop_front() else { break };
            let acknowledged = ticket.wait().expect("durable");
            writeln!(out, "ack {acknowledged}").expect("parent reads");
        }
    }
}

/// Starts the child on a directory; `cuts` is the folder that says where it is to be cut.
pub fn start(dir: &Path, cuts: Option<&Path>) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "crash::crash_child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .envs(cuts.map(|folder| ("ROADSTEAD_CUT", folder)))
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn")
}

/// The last revision that a child says is acknowledged, once it has ended.
pub fn acknowledged_by(child: &mut Child) -> Option<u64> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.filter_map(|line| line.ok()?.strip_prefix("ack ")?.parse().ok()).last()
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut seed: u64 = 0x5eed;
    let (mut rounds, mut acknowledged) = (0, 0);
    while acknowledged < WRITES {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let kill_after = 1 + (seed >> 33) % 1_500;
        let mut child = start(folder.path(), None);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let acks = |line: std::io::Result<String>| line.ok()?.strip_prefix("ack ")?.parse::<u64>().ok();
        let mut seen = 0;
        for ack in lines.by_ref().filter_map(acks) {
            assert_eq!(ack, acknowledged.max(ack), "acknowledged in order");
            (acknowledged, seen) = (ack, seen + 1);
            if seen >= kill_after {
                break;
            }
        }
        child.kill().expect("kill");
        // What it managed to print before it died counts as well.
        acknowledged = lines.filter_map(acks).last().unwrap_or(acknowledged);
        child.wait().expect("wait");
        let loaded = super::open(folder.path(), 100_000).expect("reopen at once").load().expect("load");
        assert!(loaded.revision >= acknowledged, "{} < {acknowledged}", loaded.revision);
        assert!(loaded.revision <= acknowledged + 16, "no more than was in flight");
        assert!(loaded == expected(loaded.revision), "round {rounds}, revision {}", loaded.revision);
        // Commits found but not yet acknowledged are durable now.
        acknowledged = loaded.revision;
        rounds += 1;
    }
    assert!(rounds >= 5, "killed {rounds} times only");
}
