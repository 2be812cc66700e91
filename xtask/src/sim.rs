//! `cargo xtask sim`: seeds of chaos, weeks of a cluster's usual life, and scripts.

use std::time::{Duration, Instant};

use sim::{Activity, Script, Tally};

const USAGE: &str = "usage: cargo xtask sim [--seeds N] [--from SEED] [--steps N] | --minutes N [--from SEED] | \
                     --weeks N [--from SEED] | SCRIPT…";

/// Runs the simulator; a run that breaks a promise ends it with the shortest script that shows it.
///
/// # Errors
/// Arguments that are not understood, and a promise that is broken.
pub fn run(args: &[String]) -> Result<(), String> {
    if args.iter().any(|arg| !arg.starts_with("--") && arg.parse::<u64>().is_err()) {
        return args.iter().try_for_each(|path| show(path));
    }
    let (mut seeds, mut steps, mut from, mut minutes, mut weeks) = (1_000_u64, 60_u32, 0_u64, None, None);
    let mut rest = args.iter();
    while let Some(name) = rest.next() {
        let number = rest.next().and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or_else(|| format!("{name} takes a whole number"))?;
        match name.as_str() {
            "--seeds" => seeds = number,
            "--steps" => steps = u32::try_from(number).map_err(|_| "--steps is too large".to_string())?,
            "--from" => from = number,
            "--minutes" => minutes = Some(Duration::from_secs(number * 60)),
            "--weeks" => weeks = Some(number),
            _ => return Err(USAGE.into()),
        }
    }
    // What panics is told with its script.
    std::panic::set_hook(Box::new(|_| {}));
    match (minutes, weeks) {
        (Some(length), _) => soak(length, from, steps),
        (None, Some(weeks)) => {
            let mut cost = Cost::default();
            (from..from + weeks).try_for_each(|seed| cost.week(seed))?;
            cost.tell();
            Ok(())
        }
        (None, None) => {
            let mut cost = Cost::default();
            (from..from + seeds).try_for_each(|seed| cost.chaos(seed, steps))?;
            cost.tell();
            Ok(())
        }
    }
}

/// Weeks and chaos by turns, each taking half of the time.
fn soak(length: Duration, from: u64, steps: u32) -> Result<(), String> {
    let begun = Instant::now();
    let (mut chaos, mut weeks) = (Cost::default(), Cost::default());
    while begun.elapsed() < length {
        if weeks.cpu_s <= chaos.cpu_s {
            weeks.week(from + weeks.runs)?;
        } else {
            chaos.chaos(from + chaos.runs, steps)?;
        }
    }
    chaos.tell();
    weeks.tell();
    Ok(())
}

/// What runs cost.
#[derive(Default)]
struct Cost {
    kind: &'static str,
    runs: u64,
    cpu_s: f64,
    tally: Tally,
}

impl Cost {
    fn chaos(&mut self, seed: u64, steps: u32) -> Result<(), String> {
        self.kind = "seeds of chaos";
        self.script(seed, &sim::chaos(seed, steps), 1)
    }

    fn week(&mut self, seed: u64) -> Result<(), String> {
        self.kind = "weeks of a cluster of 20 nodes";
        self.script(seed, &sim::week(seed, Activity::default()), 256)
    }

    fn script(&mut self, seed: u64, script: &Script, full_every: u64) -> Result<(), String> {
        let begun = cpu_s();
        let (tally, failure) = script.run(None, full_every);
        self.cpu_s += cpu_s() - begun;
        self.runs += 1;
        self.tally += tally;
        let Some(failure) = failure else { return Ok(()) };
        eprintln!("seed {seed} breaks a promise; its script is being shrunk");
        let (short, failure) = script.shrink(&failure, None, full_every);
        Err(format!("this script breaks a promise:\n{}", sim::told(&short, &failure)))
    }

    fn tell(&self) {
        let days = self.tally.elapsed_ms as f64 / 86_400_000.0;
        println!(
            "{} {}: {:?}\n  {:.1} s of CPU time, {:.1} µs per commit, {:.0} days of cluster time per CPU minute",
            self.runs,
            self.kind,
            self.tally,
            self.cpu_s,
            self.cpu_s * 1e6 / self.tally.commits.max(1) as f64,
            days * 60.0 / self.cpu_s.max(1e-9)
        );
    }
}

/// Shows what a script does.
fn show(path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let script: Script = text.parse().map_err(|error| format!("{path}: {error}"))?;
    println!("{}", script.transcript());
    Ok(())
}

/// CPU time of this thread so far, from `/proc/thread-self/schedstat` (proc(5)): its first number is nanoseconds.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
