//! The deployment arithmetic over every small world: up to four tasks wanted, every pair of percentages, every mixture of
//! live tasks. No step leaves the bounds, and every start converges, in whatever order tasks start and fail, or says that
//! its percentages forbid it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// Every pair of percentages, `minimumHealthyPercent` from 0 to 100 and `maximumPercent` from 100 to 200, that gives
/// other bounds: of those that give the same, the least and the greatest.
fn percents(desired: u32) -> Vec<[(u32, u32); 2]> {
    let mut by_bounds: BTreeMap<(u32, u32), [(u32, u32); 2]> = BTreeMap::new();
    for min in 0..=100 {
        for max in 100..=200 {
            let bounds = (lower_bound(desired, min), upper_bound(desired, max));
            by_bounds.entry(bounds).or_insert([(min, max); 2])[1] = (min, max);
        }
    }
    by_bounds.into_values().collect()
}

fn tasks(counts: Counts) -> Vec<TaskView> {
    let mut tasks = Vec::new();
    for (kind, (primary, health)) in KINDS.into_iter().enumerate() {
        for n in 0..counts[kind] {
            tasks.push(TaskView {
                key: format!("{kind}-{n}"),
                primary,
                health,
                running: !matches!(health, Fitness::Starting),
                zone: ["a", "b"][n as usize % 2].to_owned(),
                created_at_ms: i64::from(n),
            });
        }
    }
    tasks
}

fn world(desired: u32, (min_percent, max_percent): (u32, u32), primary: Primary, counts: Counts) -> World {
    let tasks = tasks(counts);
    World { desired, min_percent, max_percent, tasks, primary, has_fallback: true, ..World::default() }
}

/// Every way to have up to `total_max` live tasks.
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

/// As many live tasks as the greatest maximum allows, and at least four: a service may have been scaled in.
fn starts(desired: u32) -> Vec<Counts> {
    all_counts((2 * desired).max(4))
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
    let lower = lower_bound(world.desired, world.min_percent);
    let (healthy_before, healthy_after) = (counts[1] + counts[4], after[1] + after[4]);
    if healthy_after < healthy_before {
        assert!(healthy_after >= lower, "less healthy than the minimum: {}", context());
    }
    if after[6] < counts[6] {
        assert!(healthy_after >= lower, "what may serve is stopped below the minimum: {}", context());
    }
    assert!(world.primary != Primary::Failed || step.start == 0, "a failed deployment starts: {}", context());
    assert!(!world.backing_off || step.start == 0, "a start in a backoff: {}", context());
    after
}

const PRIMARIES: [Primary; 4] = [Primary::Rolling, Primary::Failing, Primary::Failed, Primary::Completed];

#[test]
fn no_step_leaves_the_bounds() {
    for desired in 0..=4 {
        let percents = percents(desired);
        for counts in starts(desired) {
            let mut world = world(desired, (0, 100), Primary::Rolling, counts);
            for [least, greatest] in &percents {
                for primary in PRIMARIES {
                    let mut step = |[no_room, backing_off, has_fallback]: [bool; 3],
                                    percents: &(u32, u32)| {
                        (world.min_percent, world.max_percent) = *percents;
                        (world.primary, world.no_room, world.backing_off) = (primary, no_room, backing_off);
                        (world.has_fallback, world.stopping) = (has_fallback, u32::from(no_room));
                        let step = plan(&world);
                        check_bounds(&world, counts, &step);
                        step
                    };
                    let free = step([false, false, true], least);
                    assert_eq!(
                        free,
                        step([false, false, true], greatest),
                        "the bounds alone say what is done"
                    );
                    step([true, false, true], least);
                    step([false, true, true], least);
                    step([false, false, false], least);
                }
            }
        }
    }
}

/// Where a state may end, each with whether it is stuck there.
type Ends = BTreeSet<(Counts, bool)>;

/// What becomes of a service whose tasks start, and fail, in any order.
struct Fates {
    desired: u32,
    percents: (u32, u32),
    primary: Primary,
    /// Where each state may end: none yet while its paths are being followed.
    ends: HashMap<(Counts, u32), Option<Ends>>,
}

impl Fates {
    fn of(desired: u32, percents: (u32, u32), primary: Primary) -> Fates {
        Fates { desired, percents, primary, ends: HashMap::new() }
    }

    /// Every end that may come of a state. `failures`: so many tasks may still fail.
    /// A path that comes back to where it was is none that ends.
    fn ends(&mut self, counts: Counts, failures: u32) -> Ends {
        let context = (self.desired, self.percents, self.primary);
        match self.ends.get(&(counts, failures)) {
            Some(Some(known)) => return known.clone(),
            Some(None) => panic!("{context:?} goes round in circles at {counts:?}"),
            None => {}
        }
        self.ends.insert((counts, failures), None);
        let now = world(self.desired, self.percents, self.primary, counts);
        let step = plan(&now);
        let after = check_bounds(&now, counts, &step);
        let ends = if after != counts || !step.stop.is_empty() {
            self.ends(after, failures)
        } else {
            let mut ends = Ends::new();
            // Starting tasks become healthy or fail; what is unproven turns out the one or the other.
            for (from, to, fails) in [(0, 1, 0), (0, 2, 1), (3, 4, 0), (3, 5, 1), (6, 4, 0), (6, 5, 0)] {
                if counts[from] > 0 && failures >= fails {
                    let mut then = counts;
                    then[from] -= 1;
                    then[to] += 1;
                    ends.extend(self.ends(then, failures - fails));
                }
            }
            if ends.is_empty() {
                ends.insert((counts, step.stuck));
            }
            ends
        };
        self.ends.insert((counts, failures), Some(ends.clone()));
        ends
    }
}

#[test]
fn every_start_converges_or_is_stuck_by_its_percentages() {
    for desired in 0..=4 {
        let starts = starts(desired);
        for [percents, _] in percents(desired) {
            let must_be_stuck = lower_bound(desired, percents.0) >= upper_bound(desired, percents.1);
            for primary in [Primary::Rolling, Primary::Failing, Primary::Completed] {
                let mut fates = Fates::of(desired, percents, primary);
                for counts in &starts {
                    for (end, stuck) in fates.ends(*counts, 1) {
                        let done = end == [0, desired, 0, 0, 0, 0, 0];
                        let context = format!("{desired} {percents:?} {primary:?} {counts:?} -> {end:?}");
                        assert!(done != stuck, "{context}");
                        assert!(done || must_be_stuck, "stuck without need: {context}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_failed_deployment_comes_to_rest_from_every_start_and_starts_nothing_of_its_own() {
    for desired in 0..=4 {
        let starts = starts(desired);
        for [percents, _] in percents(desired) {
            let (lower, upper) = (lower_bound(desired, percents.0), upper_bound(desired, percents.1));
            let mut fates = Fates::of(desired, percents, Primary::Failed);
            for counts in &starts {
                for (end, stuck) in fates.ends(*counts, 1) {
                    let context = format!("{desired} {percents:?} {counts:?} -> {end:?}");
                    assert!(!stuck && end[1] <= counts[0] + counts[1], "{context}");
                    let live: u32 = end.iter().sum();
                    assert!(
                        end[1] + end[4] >= lower || live >= upper,
                        "below the minimum with room: {context}"
                    );
                }
            }
        }
    }
}

/// The one end of a start of which nothing fails.
fn end(desired: u32, percents: (u32, u32), primary: Primary, start: Counts) -> Counts {
    let ends = Fates::of(desired, percents, primary).ends(start, 0);
    assert_eq!(ends.len(), 1, "{ends:?}");
    ends.into_iter().next().unwrap().0
}

#[test]
fn a_failed_deployment_leaves_the_old_tasks_serving() {
    for desired in 1..=4 {
        for [percents, _] in percents(desired) {
            let after = end(desired, percents, Primary::Failed, [0, 0, 1, 0, desired, 0, 0]);
            assert_eq!(after, [0, 0, 0, 0, desired, 0, 0], "{desired} {percents:?}");
            // An old task that is gone is replaced by an old one, up to the minimum.
            let after = end(desired, percents, Primary::Failed, [0; 7]);
            assert_eq!(after, [0, 0, 0, 0, lower_bound(desired, percents.0), 0, 0], "{desired} {percents:?}");
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
