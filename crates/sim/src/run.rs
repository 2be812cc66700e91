//! Runs: a list of operations on a new world, and the shortest list that goes wrong in the same way.

use std::fmt::Write as _;

use crate::bug::Bug;
use crate::check::Checker;
use crate::ops::Op;
use crate::world::{Tally, World};

/// What is run: a seed for all that is left to chance, and operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Of ids, durations and delays.
    pub seed: u64,
    /// In their order.
    pub ops: Vec<Op>,
}

/// A run that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The operation in which it did, from 0.
    pub at: usize,
    /// The promises broken.
    pub wrong: Vec<String>,
}

impl std::fmt::Display for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl std::str::FromStr for Script {
    type Err = String;

    /// Reads lines; what follows a `#` is for people.
    fn from_str(text: &str) -> Result<Script, String> {
        let mut script = Script { seed: 0, ops: Vec::new() };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.strip_prefix("seed ") {
                Some(seed) => script.seed = seed.parse().map_err(|_| format!("`{line}`: not a seed"))?,
                None if line.is_empty() => {}
                None => script.ops.push(line.parse()?),
            }
        }
        Ok(script)
    }
}

impl Script {
    /// Runs it; what was done, and where it went wrong. A panic of a decider is a promise broken too.
    pub fn run(&self, bug: Option<Bug>, full_every: u64) -> (Tally, Option<Failure>) {
        let mut world = World::new(self.seed, Checker::new(full_every));
        world.plant(bug);
        world.build();
        for (at, op) in self.ops.iter().enumerate() {
            let applied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.apply(op)));
            let mut wrong = std::mem::take(&mut world.wrong);
            if let Err(panic) = applied {
                wrong.push(format!("a panic: {}", text_of(&*panic)));
            }
            if !wrong.is_empty() {
                return (world.tally, Some(Failure { at, wrong }));
            }
        }
        (world.tally, None)
    }

    /// The shortest script found that goes wrong in the same way: what can be left out is, and what remains is made
    /// smaller.
    pub fn shrink(&self, failure: &Failure, bug: Option<Bug>, full_every: u64) -> (Script, Failure) {
        let kind = kind_of(failure);
        let mut best = (self.clone(), failure.clone());
        best.0.ops.truncate(failure.at + 1);
        let fails = |ops: Vec<Op>| {
            let script = Script { seed: self.seed, ops };
            let failure = script.run(bug, full_every).1.filter(|f| kind_of(f) == kind)?;
            let mut script = script;
            script.ops.truncate(failure.at + 1);
            Some((script, failure))
        };
        loop {
            let before = best.0.clone();
            let mut chunk = (best.0.ops.len() / 2).max(1);
            loop {
                let mut from = 0;
                while from < best.0.ops.len() {
                    let mut ops = best.0.ops.clone();
                    ops.drain(from..(from + chunk).min(best.0.ops.len()));
                    match fails(ops) {
                        Some(shorter) => best = shorter,
                        None => from += chunk,
                    }
                }
                if chunk == 1 {
                    break;
                }
                chunk /= 2;
            }
            for at in 0..best.0.ops.len() {
                for simpler in simpler(&best.0.ops[at.min(best.0.ops.len() - 1)]) {
                    let mut ops = best.0.ops.clone();
                    if let Some(op) = ops.get_mut(at) {
                        *op = simpler;
                    }
                    if let Some(smaller) = fails(ops) {
                        best = smaller;
                        break;
                    }
                }
            }
            if best.0 == before {
                return best;
            }
        }
    }
}

/// The same operation with less in it.
fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Nodes { count, cpu, memory } => {
            let few = [(1, 1_024), (count.saturating_sub(1).max(1), 1_024), (*count, 1_024), (1, *memory)];
            let nodes =
                few.iter().map(|(count, memory)| Op::Nodes { count: *count, cpu: *cpu, memory: *memory });
            nodes.filter(|simpler| simpler != op).collect()
        }
        Op::Service { name, image, options } => {
            let mut all = Vec::new();
            let mut with = |change: &dyn Fn(&mut crate::ops::Options)| {
                let mut options = options.clone();
                change(&mut options);
                all.push(Op::Service { name: name.clone(), image: image.clone(), options });
            };
            with(&|o| {
                *o = crate::ops::Options { desired: o.desired, balanced: o.balanced, ..Default::default() }
            });
            with(&|o| o.breaker = (false, false));
            with(&|o| (o.min, o.max) = (100, 200));
            with(&|o| (o.checked, o.sidecar, o.ec2, o.grace_s) = (false, false, false, 0));
            with(&|o| (o.memory, o.host_port, o.named) = (512, 0, false));
            with(&|o| (o.restart_s, o.ignore) = (0, 0));
            with(&|o| o.place = crate::ops::Options::default().place);
            with(&|o| o.desired = o.desired.saturating_sub(1).max(1));
            all.retain(|simpler| simpler != op);
            all
        }
        Op::Wait { ms } if *ms > 60_000 => vec![Op::Wait { ms: 60_000 }],
        _ => Vec::new(),
    }
}

/// What kind of failure it is: its first text without numbers and ids.
fn kind_of(failure: &Failure) -> String {
    let text = failure.wrong.first().map_or("", String::as_str);
    let words = text.split_whitespace().take_while(|word| *word != "it" && !word.starts_with('['));
    let plain =
        |word: &&str| !word.bytes().any(|b| b.is_ascii_digit() || b == b'/' || b == b':' || b == b'{');
    words.filter(plain).take(12).collect::<Vec<_>>().join(" ")
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default()
}

/// What is said of a failing run: the script that shows it, and what is wrong at its end.
pub fn told(script: &Script, failure: &Failure) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{script}# at line {}:", failure.at + 2);
    for wrong in &failure.wrong {
        let _ = writeln!(text, "# {}", wrong.replace('\n', "\n# "));
    }
    text
}
