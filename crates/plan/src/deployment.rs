//! The arithmetic of a rolling deployment: which tasks of a service to stop and how many to start, within
//! `minimumHealthyPercent` and `maximumPercent` ("Deploy Amazon ECS services by replacing tasks", ECS developer guide).
//!
//! The rule is start first: an old task is stopped when a new one is healthy in its place. Only where starting is
//! blocked (by `maximumPercent`, or because no node has room) old tasks are stopped before, as far as
//! `minimumHealthyPercent` allows.

use std::collections::BTreeMap;

use state::TimeMs;

/// A service and its live tasks, as far as this arithmetic looks. Tasks that are being stopped are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// Tasks wanted.
    pub desired: u32,
    /// `minimumHealthyPercent`.
    pub min_percent: u32,
    /// `maximumPercent`.
    pub max_percent: u32,
    /// The live tasks.
    pub tasks: Vec<TaskView>,
    /// How the primary deployment fares.
    pub primary: Primary,
    /// No task may be started now: a backoff after failures.
    pub backing_off: bool,
    /// The last attempt to start a task found no room.
    pub no_room: bool,
    /// Tasks that are being stopped: their room comes back.
    pub stopping: u32,
    /// Another deployment was completed once: its tasks may be started again while the primary fails.
    pub has_fallback: bool,
}

/// How the primary deployment fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Primary {
    /// Being rolled out.
    #[default]
    Rolling,
    /// Being rolled out, and tasks of it have failed.
    Failing,
    /// The circuit breaker ended it: nothing of it is started.
    Failed,
    /// Rolled out: it is only kept up.
    Completed,
}

/// A live task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskView {
    /// What it is called in the plan.
    pub key: String,
    /// Of the primary deployment.
    pub primary: bool,
    /// How it is.
    pub health: Fitness,
    /// It runs: of tasks that are starting, those that do not are the first to go.
    pub running: bool,
    /// Its availability zone.
    pub zone: String,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

/// How a live task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It runs, and its checks say that it is well no more.
    Unhealthy,
    /// Not running yet; of the primary deployment also: its checks have not passed yet.
    Starting,
    /// Of a deployment being replaced: it runs, and its checks say nothing now, as after a restart of who checks. It may
    /// serve, so it is kept like a healthy one, but nothing relies on it.
    Unproven,
    /// It runs, and all its checks pass.
    Healthy,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Keys of the tasks to stop.
    pub stop: Vec<String>,
    /// Tasks of the primary deployment to start.
    pub start: u32,
    /// Tasks of the last completed deployment to start, while the primary fails.
    pub start_fallback: u32,
    /// Nothing can be done though something must: the percentages forbid both starting and stopping.
    pub stuck: bool,
}

/// At least so many tasks stay healthy.
pub fn lower_bound(desired: u32, min_percent: u32) -> u32 {
    let bound = (u64::from(desired) * u64::from(min_percent)).div_ceil(100);
    bound.min(u64::from(desired)) as u32
}

/// At most so many tasks are live.
pub fn upper_bound(desired: u32, max_percent: u32) -> u32 {
    (u64::from(desired) * u64::from(max_percent) / 100).min(u64::from(u32::MAX)) as u32
}

impl World {
    /// Tasks that are to be replaced but may still serve: old ones, and unhealthy ones of what is rolled out.
    fn is_surplus(&self, task: &TaskView) -> bool {
        !task.primary || (task.health == Fitness::Unhealthy && self.primary == Primary::Completed)
    }
}

/// The next step of a service.
pub fn plan(world: &World) -> Plan {
    let mut step = Step::new(world);
    step.drop_hopeless();
    step.drop_extra();
    step.retire();
    step.make_room();
    step.start()
}

struct Step<'a> {
    world: &'a World,
    /// Not stopped by this plan, worst first.
    left: Vec<&'a TaskView>,
    live: u32,
    healthy: u32,
    lower: u32,
    stop: Vec<String>,
}

impl<'a> Step<'a> {
    fn new(world: &'a World) -> Step<'a> {
        let mut left: Vec<&TaskView> = world.tasks.iter().collect();
        left.sort_by(|a, b| {
            (a.health, a.running, a.created_at_ms, &a.key).cmp(&(
                b.health,
                b.running,
                b.created_at_ms,
                &b.key,
            ))
        });
        Step {
            world,
            live: left.len() as u32,
            healthy: left.iter().filter(|t| t.health == Fitness::Healthy).count() as u32,
            left,
            lower: lower_bound(world.desired, world.min_percent),
            stop: Vec::new(),
        }
    }

    fn count(&self, which: impl Fn(&TaskView) -> bool) -> u32 {
        self.left.iter().filter(|t| which(t)).count() as u32
    }

    /// Tasks of the primary deployment that are or may become healthy.
    fn good(&self) -> u32 {
        self.count(|t| t.primary && t.health != Fitness::Unhealthy)
    }

    fn missing(&self) -> u32 {
        if self.world.primary == Primary::Failed { 0 } else { self.world.desired.saturating_sub(self.good()) }
    }

    /// Stops one task, unless too few healthy ones would be left.
    fn stop(&mut self, at: usize) -> bool {
        match self.left[at].health {
            Fitness::Healthy if self.healthy <= self.lower => return false,
            Fitness::Unproven if self.healthy < self.lower => return false,
            Fitness::Healthy => self.healthy -= 1,
            Fitness::Unproven | Fitness::Starting | Fitness::Unhealthy => {}
        }
        self.stop.push(self.left.remove(at).key.clone());
        self.live -= 1;
        true
    }

    /// Stops up to `most` tasks of a kind, worst first.
    fn stop_some(&mut self, most: u32, which: impl Fn(&TaskView) -> bool) -> u32 {
        let mut stopped = 0;
        let mut at = 0;
        while stopped < most && at < self.left.len() {
            if which(self.left[at]) && self.stop(at) {
                stopped += 1;
            } else {
                at += 1;
            }
        }
        stopped
    }

    /// Tasks that serve nobody: old ones not yet started, and those of a rollout that failed their checks.
    fn drop_hopeless(&mut self) {
        let old_starting = self.count(|t| !t.primary && t.health == Fitness::Starting);
        let surplus = old_starting.saturating_sub(self.repair());
        self.stop_some(surplus, |t| !t.primary && t.health == Fitness::Starting);
        if self.world.primary != Primary::Completed {
            self.stop_some(u32::MAX, |t| t.primary && t.health == Fitness::Unhealthy);
        }
    }

    /// Scaling in: what does not run yet first, then from the fullest zone, oldest first.
    fn drop_extra(&mut self) {
        while self.good() > self.world.desired {
            let starting = self.left.iter().position(|t| t.primary && t.health == Fitness::Starting);
            let Some(at) = starting.or_else(|| self.oldest_of_fullest_zone()) else { return };
            if !self.stop(at) {
                return;
            }
        }
    }

    fn oldest_of_fullest_zone(&self) -> Option<usize> {
        let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
        let healthy = |t: &&TaskView| t.primary && t.health == Fitness::Healthy;
        for task in self.left.iter().copied().filter(healthy) {
            *zones.entry(&task.zone).or_default() += 1;
        }
        let fullest = *zones.values().max()?;
        self.left.iter().position(|t| healthy(t) && zones.get(t.zone.as_str()) == Some(&fullest))
    }

    /// For each healthy task of the primary one surplus task goes.
    fn retire(&mut self) {
        let world = self.world;
        let in_place = self.count(|t| t.primary && t.health == Fitness::Healthy);
        let kept = world.desired.saturating_sub(in_place).max(self.repair());
        let most = self.count(|t| world.is_surplus(t)).saturating_sub(kept);
        self.stop_some(most, |t| world.is_surplus(t));
    }

    /// Where new tasks cannot be started for want of room, surplus ones go first.
    fn make_room(&mut self) {
        let upper = upper_bound(self.world.desired, self.world.max_percent);
        let missing = self.missing();
        if missing == 0 || self.world.backing_off {
            return;
        }
        let short = if self.world.no_room {
            missing.saturating_sub(self.world.stopping + self.stop.len() as u32)
        } else {
            missing.saturating_sub(upper.saturating_sub(self.live))
        };
        let world = self.world;
        self.stop_some(short, |t| world.is_surplus(t));
    }

    /// While the primary fails, old tasks that are gone are replaced by old ones, up to the lower bound.
    fn repair(&self) -> u32 {
        let failing = matches!(self.world.primary, Primary::Failing | Primary::Failed);
        if !failing || !self.world.has_fallback {
            return 0;
        }
        let unproven = self.count(|t| t.health == Fitness::Unproven);
        self.lower.saturating_sub(self.healthy + unproven)
    }

    fn start(self) -> Plan {
        let upper = upper_bound(self.world.desired, self.world.max_percent);
        let missing = self.missing();
        let room = upper.saturating_sub(self.live);
        let may_start = !self.world.backing_off && !self.world.no_room;
        let start = if may_start { missing.min(room) } else { 0 };
        let old_starting = self.count(|t| !t.primary && t.health == Fitness::Starting);
        let start_fallback = if self.world.no_room {
            0
        } else {
            self.repair().saturating_sub(old_starting).min(room.saturating_sub(start))
        };
        // What is starting or stopping will change the picture; so will a stop of this plan.
        let undecided = |t: &TaskView| matches!(t.health, Fitness::Starting | Fitness::Unproven);
        let moving = self.world.stopping > 0 || self.count(undecided) > 0;
        let stuck = may_start && missing > 0 && start == 0 && self.stop.is_empty() && !moving;
        Plan { stop: self.stop, start, start_fallback, stuck }
    }
}
