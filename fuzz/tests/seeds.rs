//! Every seed of every target, and a few thousand mutations of them that are the same in each run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::{TARGETS, Target};

#[test]
fn sigv4() {
    keeps_its_promises("sigv4");
}

#[test]
fn json() {
    keeps_its_promises("json");
}

#[test]
fn query() {
    keeps_its_promises("query");
}

#[test]
fn ec2() {
    keeps_its_promises("ec2");
}

#[test]
fn cbor() {
    keeps_its_promises("cbor");
}

#[test]
fn rest_json() {
    keeps_its_promises("rest_json");
}

#[test]
fn api() {
    keeps_its_promises("api");
}

#[test]
fn origin() {
    keeps_its_promises("origin");
}

#[test]
fn registry_route() {
    keeps_its_promises("registry_route");
}

#[test]
fn registry() {
    keeps_its_promises("registry");
}

#[test]
fn manifest() {
    keeps_its_promises("manifest");
}

#[test]
fn image_config() {
    keeps_its_promises("image_config");
}

#[test]
fn layer() {
    keeps_its_promises("layer");
}

#[test]
fn http_request() {
    keeps_its_promises("http_request");
}

#[test]
fn http_response() {
    keeps_its_promises("http_response");
}

#[test]
fn chunked() {
    keeps_its_promises("chunked");
}

#[test]
fn rules() {
    keeps_its_promises("rules");
}

#[test]
fn pattern() {
    keeps_its_promises("pattern");
}

#[test]
fn dns() {
    keeps_its_promises("dns");
}

#[test]
fn forms() {
    keeps_its_promises("forms");
}

#[test]
fn log_tail() {
    keeps_its_promises("log_tail");
}

#[test]
fn log_frame() {
    keeps_its_promises("log_frame");
}

#[test]
fn every_target_is_tested_and_has_seeds() {
    let text = include_str!("seeds.rs");
    for target in TARGETS {
        assert!(
            text.contains(&format!("keeps_its_promises(\"{}\")", target.name)),
            "{} is not tested",
            target.name
        );
    }
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")).expect("seeds");
    let mut folders: Vec<String> =
        folders.map(|entry| entry.expect("a folder").file_name().to_string_lossy().into_owned()).collect();
    folders.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
}

fn keeps_its_promises(name: &str) {
    let begun = std::time::Instant::now();
    let target = fuzz::target(name).expect("a target");
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|(seed, bytes)| check(target, seed, bytes));
    let mut mutator = Mutator { seed: 0x9e37_79b9_7f4a_7c15, seeds: &seeds };
    for n in 0..target.mutations {
        check(target, &format!("mutation {n}"), &mutator.mutation());
    }
    println!("{name}: {} seeds, {} mutations, {:.1?}", seeds.len(), target.mutations, begun.elapsed());
}

fn check(target: &Target, name: &str, bytes: &[u8]) {
    let kept = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    assert!(kept.is_ok(), "{}, {name}: b\"{}\"", target.name, bytes.escape_ascii());
}

fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let read = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(&path).expect("a seed"))
    });
    let mut all: Vec<(String, Vec<u8>)> = read.collect();
    all.sort();
    all
}

/// Changes seeds as a fuzzer does, but for its eyes.
struct Mutator<'a> {
    seed: u64,
    seeds: &'a [(String, Vec<u8>)],
}

/// Bytes that readers look for.
const LIKED: &[u8] = b"\0\r\n \t\"'%&()*+,-./0123456789:;=?@[\\]_{}aA\x7f\x80\xff";
/// Longer ones become of splices only.
const BYTES_MAX: usize = 1 << 16;

impl Mutator<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 16) as usize % limit.max(1)
    }

    fn mutation(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        let mut bytes = self.seeds[at].1.clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = LIKED[self.below(LIKED.len())],
            2 => bytes.insert(at, LIKED[self.below(LIKED.len())]),
            3 if at < end => drop(bytes.drain(at..end)),
            4 if at < end && bytes.len() < BYTES_MAX => bytes.extend_from_within(at..end),
            5 => bytes.truncate(at),
            6 => {
                let other = self.below(self.seeds.len());
                let other = &self.seeds[other].1;
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if at < end => {
                let part = bytes[at..end].repeat(1 + self.below(40));
                bytes.splice(at..at, part);
            }
            _ => bytes.push(LIKED[self.below(LIKED.len())]),
        }
    }
}
