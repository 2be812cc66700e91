//! Killed in the middle of pushes: what was answered 201 is there, whole, and pushing goes on.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{World, noise};
use state::ecr::images;
use store::blobs::Digest;

const DIRECTORY: &str = "REGISTRY_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 6;

/// Not a test by itself: the process that is killed. It pushes one image after another and says which are answered.
#[tokio::test]
async fn pusher() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let world = World::durable(Path::new(&directory));
    world.create("app");
    let first = world.db.snapshot().image_tags.len() as u64;
    for n in first.. {
        world.image("app", &noise(n, 40), &noise(n + 1_000_000, 20_000), &format!("t{n}")).await;
        println!("\npushed {n}");
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut ids = state::Ids::new(11);
    let mut pushed = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pusher", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 1 + ids.next_u64() % 12;
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the pusher ended by itself").unwrap();
            let Some(n) = line.strip_prefix("pushed ") else { continue };
            pushed.push(n.parse::<u64>().unwrap());
            seen += 1;
        }
        // Somewhere in the next push.
        std::thread::sleep(std::time::Duration::from_micros(ids.next_u64() % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have answered more before it died.
        pushed.extend(
            lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("pushed ")?.parse::<u64>().ok()),
        );
        all_there(directory.path(), &pushed, round);
    }
    assert!(pushed.len() as u64 >= ROUNDS);
}

fn all_there(directory: &Path, pushed: &[u64], round: u64) {
    let world = World::durable(directory);
    let state = world.db.snapshot();
    assert_eq!(state::check::check(&state), Vec::<String>::new());
    for n in pushed {
        let image = images::find(&state, &world.scope, "app", &format!("t{n}"));
        let image = image.unwrap_or_else(|| panic!("round {round}: t{n} is gone"));
        assert_eq!(Digest::of(image.manifest.as_bytes()).to_string(), image.digest, "round {round}: t{n}");
        let stored: Vec<Vec<u8>> = image.blobs().map(|blob| read(&world, &blob.digest)).collect();
        assert_eq!(stored, [noise(*n, 40), noise(*n + 1_000_000, 20_000)], "round {round}: t{n}");
    }
}

/// A blob, from its file.
fn read(world: &World, digest: &str) -> Vec<u8> {
    let path = world.blobs.path(&digest.parse().unwrap());
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
