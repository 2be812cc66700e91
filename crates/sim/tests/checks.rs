//! Health checks and probes that would only find what is known are left out: a run with all of them made is the same.

use sim::{Activity, Op, Script, chaos, week};

fn check(script: &Script) {
    assert_eq!(script.transcript(), script.transcript_with_all_checks(), "{script}");
}

/// Without its end: what is settled waits for nothing but checks.
fn unsettled(mut script: Script, wait_ms: i64) -> Script {
    script.ops.retain(|op| *op != Op::Settle);
    script.ops.push(Op::Wait { ms: wait_ms });
    script
}

#[test]
fn chaos_is_the_same_with_every_check_made() {
    for seed in 0..60 {
        check(&unsettled(chaos(seed, 60), 300_000));
    }
}

#[test]
fn the_usual_life_of_a_cluster_is_the_same_with_every_check_made() {
    let mut script = week(5, Activity { nodes: 4, services: 6, ..Activity::default() });
    let mut left_ms = 6 * 3_600_000;
    script.ops.retain(|op| match op {
        Op::Wait { ms } => {
            left_ms -= ms;
            left_ms > 0
        }
        _ => left_ms > 0,
    });
    check(&unsettled(script, 60_000));
}
