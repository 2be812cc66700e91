//! The deployment arithmetic over every small world: no step leaves the bounds, and every start converges or says
//! that it is stuck.

use plan::deployment::{Fitness, Plan, Primary, TaskView, World, lower_bound, plan, upper_bound};

/// Live tasks by kind: primary starting, healthy, unhealthy; old starting, healthy, unhealthy, unproven.
type Counts = [u32; 7];

const KINDS: [(bool, Fitness); 7] = [
    (true, Fitness::Starting),
    (true, Fitness::Healthy),
    (true, Fitness::Unhealthy),
    (false, Fitness::Starting),
    (false, Fitness::Healthy),
    (false, Fitness::Unhealthy),
    (false, Fitness::Unproven),
];
const PERCENTS: [(u32, u32); 8] =
    [(0, 100), (50, 100), (100, 100), (0, 150), (100, 150), (0, 200), (50, 200), (100, 200)];

fn world(desired: u32, (min_percent, max_percent): (u32, u32), primary: Primary, counts: Counts) -> World {
    let mut tasks = Vec::new();
    for (kind, (primary, health)) in KINDS.into_iter().enumerate() {
        for n in 0..counts[kind] {
            let zone = ["a", "b"][n as usize % 2].to_owned();
            tasks.push(TaskView {
                key: format!("{kind}-{n}"),
                primary,
                health,
                running: !matches!(health, Fitness::Starting),
                zone,
                created_at_ms: i64::from(n),
            });
        }
    }
    World { desired, min_percent, max_percent, tasks, primary, has_fallback: true, ..World::default() }
}

fn all_counts(total_max: u32) -> Vec<Counts> {
    let mut all = vec![[0; 7]];
    for kind in 0..7 {
        let mut grown = Vec::new();
        for counts in all {
            let used: u32 = counts.iter().sum();
            for n in 0..=total_max - used {
                let mut counts = counts;
                counts[kind] = n;
                grown.push(counts);
            }
        }
        all = grown;
    }
    all
}

fn apply(counts: Counts, step: &Plan) -> Counts {
    let mut after = counts;
    for key in &step.stop {
        let kind: usize = key.split('-').next().unwrap().parse().unwrap();
        after[kind] -= 1;
    }
    after[0] += step.start;
    after[3] += step.start_fallback;
    after
}

fn check_bounds(world: &World, counts: Counts, step: &Plan) -> Counts {
    let after = apply(counts, step);
    let context = || format!("{world:#?}\n{step:#?}");
    let mut stops = step.stop.clone();
    stops.sort();
    stops.dedup();
    assert_eq!(stops.len(), step.stop.len(), "a task is stopped twice: {}", context());
    let upper = upper_bound(world.desired, world.max_percent);
    if step.start + step.start_fallback > 0 {
        assert!(after.iter().sum::<u32>() <= upper, "more than the maximum: {}", context());
        assert!(!world.no_room, "a start without room: {}", context());
    }
    let (healthy_before, healthy_after) = (counts[1] + counts[4], after[1] + after[4]);
    if healthy_after < healthy_before {
        let lower = lower_bound(world.desired, world.min_percent);
        assert!(healthy_after >= lower, "less healthy than the minimum: {}", context());
    }
    if after[6] < counts[6] {
        let lower = lower_bound(world.desired, world.min_percent);
        assert!(healthy_after >= lower, "what may serve is stopped below the minimum: {}", context());
    }
    assert!(world.primary != Primary::Failed || step.start == 0, "a failed deployment starts: {}", context());
    after
}

#[test]
fn no_step_leaves_the_bounds() {
    for primary in [Primary::Rolling, Primary::Failing, Primary::Failed, Primary::Completed] {
        for desired in 0..=4 {
            for percents in PERCENTS {
                for counts in all_counts(4) {
                    let free = world(desired, percents, primary, counts);
                    check_bounds(&free, counts, &plan(&free));
                    let crowded = World { no_room: true, ..free.clone() };
                    check_bounds(&crowded, counts, &plan(&crowded));
                    let backing_off = World { backing_off: true, ..free };
                    let after = check_bounds(&backing_off, counts, &plan(&backing_off));
                    assert!(after[0] <= counts[0], "a start in a backoff");
                }
            }
        }
    }
}

/// Runs steps; where nothing is to do, one starting task becomes healthy: `old_first` says which.
fn converge(
    desired: u32,
    percents: (u32, u32),
    primary: Primary,
    start: Counts,
    old_first: bool,
) -> (Counts, bool) {
    let mut counts = start;
    for _ in 0..64 {
        let now = world(desired, percents, primary, counts);
        let step = plan(&now);
        let after = check_bounds(&now, counts, &step);
        if after != counts || !step.stop.is_empty() {
            counts = after;
            continue;
        }
        let order = if old_first { [3, 6, 0] } else { [0, 6, 3] };
        match order.into_iter().find(|kind| counts[*kind] > 0) {
            // What was unproven turns out unhealthy in one order, healthy in the other.
            Some(6) => {
                counts[6] -= 1;
                counts[if old_first { 5 } else { 4 }] += 1;
            }
            Some(kind) => {
                counts[kind] -= 1;
                counts[kind + 1] += 1;
            }
            None => return (counts, step.stuck),
        }
    }
    panic!("{desired} tasks at {percents:?} do not settle from {start:?}: {counts:?}");
}

#[test]
fn every_start_converges_or_is_stuck_by_its_percentages() {
    for primary in [Primary::Rolling, Primary::Failing, Primary::Completed] {
        for desired in 0..=4 {
            for percents in PERCENTS {
                let lower = lower_bound(desired, percents.0);
                let upper = upper_bound(desired, percents.1);
                for counts in all_counts(4) {
                    for old_first in [false, true] {
                        let (end, stuck) = converge(desired, percents, primary, counts, old_first);
                        let done = end == [0, desired, 0, 0, 0, 0, 0];
                        let context = format!("{desired} {percents:?} {primary:?} {counts:?} -> {end:?}");
                        assert!(done != stuck, "{context}");
                        assert!(done || lower >= upper, "stuck without need: {context}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_failed_deployment_leaves_the_old_tasks_serving() {
    for desired in 1..=4 {
        for percents in PERCENTS {
            let (end, _) = converge(desired, percents, Primary::Failed, [0, 0, 1, 0, desired, 0, 0], false);
            assert_eq!(end, [0, 0, 0, 0, desired, 0, 0], "{desired} {percents:?}");
            // An old task that is gone is replaced by an old one, up to the minimum.
            let (end, _) = converge(desired, percents, Primary::Failed, [0; 7], false);
            assert_eq!(end, [0, 0, 0, 0, lower_bound(desired, percents.0), 0, 0], "{desired} {percents:?}");
        }
    }
}

fn check(desired: u32, percents: (u32, u32), primary: Primary, counts: Counts, expect: Counts) {
    let now = world(desired, percents, primary, counts);
    assert_eq!(apply(counts, &plan(&now)), expect, "{now:#?}");
}

#[test]
fn a_rollout_starts_first_and_stops_as_the_new_become_healthy() {
    let default = (100, 200);
    check(2, default, Primary::Rolling, [0, 0, 0, 0, 2, 0, 0], [2, 0, 0, 0, 2, 0, 0]);
    check(2, default, Primary::Rolling, [1, 1, 0, 0, 2, 0, 0], [1, 1, 0, 0, 1, 0, 0]);
    check(2, default, Primary::Rolling, [0, 2, 0, 0, 1, 0, 0], [0, 2, 0, 0, 0, 0, 0]);
    // With room there is no reason to go below the desired count, whatever the minimum allows.
    check(2, (0, 200), Primary::Rolling, [0, 0, 0, 0, 2, 0, 0], [2, 0, 0, 0, 2, 0, 0]);
    // Without, old ones make room as far as the minimum allows.
    check(4, (50, 100), Primary::Rolling, [0, 0, 0, 0, 4, 0, 0], [2, 0, 0, 0, 2, 0, 0]);
    check(2, (0, 100), Primary::Rolling, [0, 0, 0, 0, 2, 0, 0], [2, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn where_no_node_has_room_old_tasks_stop_once_and_only_as_many_as_needed() {
    let crowded =
        |counts, stopping| World { no_room: true, stopping, ..world(2, (50, 200), Primary::Rolling, counts) };
    assert_eq!(plan(&crowded([0, 0, 0, 0, 2, 0, 0], 0)).stop, ["4-0"]);
    assert!(plan(&crowded([0, 0, 0, 0, 1, 0, 0], 1)).stop.is_empty());
    assert_eq!(plan(&crowded([1, 0, 0, 0, 2, 0, 0], 0)).stop, ["4-0"]);
    assert!(plan(&crowded([1, 0, 0, 0, 2, 0, 0], 1)).stop.is_empty());
    let strict = World { min_percent: 100, ..crowded([0, 0, 0, 0, 2, 0, 0], 0) };
    assert!(plan(&strict).stop.is_empty());
}

#[test]
fn an_unhealthy_task_of_a_settled_service_is_replaced_before_it_is_stopped() {
    check(2, (100, 200), Primary::Completed, [0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]);
    check(2, (100, 200), Primary::Completed, [0, 2, 1, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0, 0]);
    // With no room above the desired count it goes at once.
    check(2, (50, 100), Primary::Completed, [0, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]);
    // While a deployment is under way it has failed.
    check(2, (100, 200), Primary::Rolling, [0, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn scaling_in_takes_what_does_not_run_then_the_oldest_of_the_fullest_zone() {
    check(1, (100, 200), Primary::Completed, [1, 1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]);
    let mut three = world(2, (100, 200), Primary::Completed, [0, 3, 0, 0, 0, 0, 0]);
    // 1-0 and 1-2 are in zone a, 1-1 in b.
    assert_eq!(plan(&three).stop, ["1-0"]);
    three.tasks[0].created_at_ms = 9;
    assert_eq!(plan(&three).stop, ["1-2"]);
    // Of what is starting, what does not run yet: the other may serve already.
    let mut starting = world(1, (100, 200), Primary::Rolling, [2, 0, 0, 0, 0, 0, 0]);
    starting.tasks[0].running = true;
    assert_eq!(plan(&starting).stop, ["0-1"]);
}
