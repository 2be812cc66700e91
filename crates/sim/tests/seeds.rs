//! A thousand seeds of chaos. One that fails is shrunk, and its script shown: `cargo xtask sim` runs more of them.

use sim::{Script, Tally, chaos, told};

/// What a commit did not change is looked at with each eighth commit.
const FULL_EVERY: u64 = 8;

/// Runs seeds; what was done. Panics with the shortest script that shows what goes wrong.
fn run(seeds: std::ops::Range<u64>, steps: u32) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        let script = chaos(seed, steps);
        let (tally, failure) = script.run(None, FULL_EVERY);
        if let Some(failure) = failure {
            let (short, failure) = script.shrink(&failure, None, FULL_EVERY);
            panic!("seed {seed} breaks a promise:\n{}", told(&short, &failure));
        }
        all += tally;
    }
    all
}

#[test]
fn a_thousand_seeds_keep_every_promise() {
    let halves = [0..500, 500..1_000].map(|seeds| std::thread::spawn(move || run(seeds, 40)));
    let mut all = Tally::default();
    for half in halves {
        match half.join() {
            Ok(tally) => all += tally,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    println!("{all:?}");
    // A simulator that does nothing keeps every promise too.
    assert!(all.commits > 100_000 && all.tasks > 10_000 && all.faults > 5_000, "{all:?}");
    assert!(all.refused * 4 < all.calls, "most calls are taken: {all:?}");
}

#[test]
fn the_same_script_gives_the_same_run_and_reads_back_as_it_is_written() {
    for seed in 0..50 {
        let script = chaos(seed, 80);
        assert_eq!(script.to_string().parse::<Script>().unwrap(), script);
    }
    let script = chaos(7, 100);
    assert_eq!(script.run(None, 1), script.run(None, 1));
    assert_ne!(script.run(None, 1), chaos(8, 100).run(None, 1));
}
