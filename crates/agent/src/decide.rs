//! What to do next for one group: a pure function of its assignment, what is known of it here, and the time.
//!
//! [`learn`](Known::learn) takes in what happened, [`decide`] says what to begin, [`observe`] what to report. Nothing
//! here waits: a step is begun by whoever calls, and its end is learnt as an [`Event`].

use state::TimeMs;
use state::assignment::{AgentDesired, Assignment};
use state::group::{Condition, ContainerSpec, StopCause, StopCode};

mod course;
mod health;
mod known;
mod order;
mod stop;
mod view;

#[cfg(test)]
mod tests;

pub use course::Course;
pub use known::{Event, Ground, Image, Known, KnownContainer, Run};
pub use view::observe;

/// Something to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the network, the volumes and the cgroup. Ends with [`Event::GroundMade`] or [`Event::GroundFailed`].
    MakeGround,
    /// Pull a container's image. Ends with [`Event::Pulled`] or [`Event::PullFailed`].
    Pull(usize),
    /// Create and start a container. Ends with [`Event::Started`] or [`Event::StartFailed`].
    Start {
        /// The container.
        container: usize,
        /// Its how-manieth run this is, from 1.
        run: u32,
    },
    /// Send a signal to a container. Its effect is seen as [`Event::Exited`]; until then it is sent again where it may
    /// not have been heard.
    Signal {
        /// The container.
        container: usize,
        /// The signal's number.
        signal: i32,
    },
    /// Run a container's health check. Ends with [`Event::Checked`].
    Check {
        /// The container.
        container: usize,
        /// Its run.
        run: u32,
    },
    /// Deliver the last of the logs, then remove everything. Ends with [`Event::GroundRemoved`].
    Remove,
}

/// What to do now, and when to decide again though nothing has happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To begin, in order.
    pub steps: Vec<Step>,
    /// Decide again at this time.
    pub again_at_ms: Option<TimeMs>,
}

impl Plan {
    fn wake(&mut self, at_ms: TimeMs) {
        self.again_at_ms = Some(self.again_at_ms.map_or(at_ms, |old| old.min(at_ms)));
    }
}

/// ECS's words for a task whose containers could not be started.
pub const FAILED_TO_START: &str = "Task failed to start";
/// ECS's words for a task that ended because an essential container did.
pub const ESSENTIAL_EXITED: &str = "Essential container in task exited";

/// Decides what to begin. What is begun is marked in `known`, so that it is not begun twice.
pub fn decide(assignment: &Assignment, known: &mut Known, now_ms: TimeMs) -> Plan {
    let mut plan = Plan::default();
    if let (AgentDesired::Stop(cause), None) = (&assignment.desired, &known.stop) {
        known.stop(StopCause { at_ms: now_ms, ..cause.clone() }, now_ms);
    }
    if known.stop.is_none() {
        run(assignment, known, now_ms, &mut plan);
    }
    // Running may have found a reason to stop.
    if known.stop.is_some() {
        stop::stop(&assignment.spec.containers, known, now_ms, &mut plan);
    }
    plan
}

fn run(assignment: &Assignment, known: &mut Known, now_ms: TimeMs, plan: &mut Plan) {
    let specs = &assignment.spec.containers;
    match &known.ground {
        Ground::Absent => {
            known.ground = Ground::Making;
            plan.steps.push(Step::MakeGround);
            return;
        }
        Ground::Ready => {}
        // A failure is learnt together with the stop; removal begins after one.
        Ground::Making | Ground::Failed | Ground::Removing | Ground::Removed => return,
    }
    for (index, container) in known.containers.iter_mut().enumerate() {
        if container.image == Image::Wanted {
            container.image = Image::Pulling;
            known.pull_started_at_ms.get_or_insert(now_ms);
            plan.steps.push(Step::Pull(index));
        }
    }
    restart_or_end(specs, known, now_ms);
    health::judge(specs, known);
    // All that cannot be is known before anything is started: a group that is to stop starts nothing more.
    let verdicts: Vec<_> = (0..specs.len()).map(|index| judge_start(specs, known, index, now_ms)).collect();
    if known.stop.is_some() {
        return;
    }
    for (index, verdict) in verdicts.into_iter().enumerate() {
        match verdict {
            Some(order::Verdict::Met) => {
                let container = &mut known.containers[index];
                container.runs += 1;
                container.run = Run::Starting;
                plan.steps.push(Step::Start { container: index, run: container.runs });
            }
            Some(order::Verdict::Wait { again_at_ms: Some(at) }) => plan.wake(at),
            _ => {}
        }
    }
    health::begin_due(specs, known, now_ms, plan);
    let all_started =
        known.containers.iter().all(|c| c.since_ms.is_some() || matches!(c.run, Run::Exited { .. }));
    if all_started && known.stop.is_none() {
        known.started_at_ms.get_or_insert(now_ms);
    }
}

/// Whether a container that waits may start now; one that never can is given up, and with it the group if it must be.
fn judge_start(
    specs: &[ContainerSpec],
    known: &mut Known,
    index: usize,
    now_ms: TimeMs,
) -> Option<order::Verdict> {
    let container = &known.containers[index];
    if container.run != Run::Waiting || !matches!(container.image, Image::Pulled { .. }) {
        return None;
    }
    // A container that its restart policy starts again waits for nobody.
    let verdict = if container.runs > 0 {
        order::Verdict::Met
    } else {
        order::dependencies(specs, known, index, now_ms)
    };
    match &verdict {
        order::Verdict::Met | order::Verdict::Wait { .. } => {}
        order::Verdict::Never { reason } => {
            known.never_ran(index, Some(reason.clone()), now_ms);
            if specs[index].essential {
                known.stop_for(StopCode::TaskFailedToStart, FAILED_TO_START, now_ms);
            }
        }
        order::Verdict::TimedOut { dependency, condition } => {
            let reason = format!(
                "CannotStartContainerError: dependency timed out: container {dependency} did not become {condition} \
                 within its startTimeout"
            );
            known.never_ran(index, Some(reason), now_ms);
            known.stop_for(StopCode::TaskFailedToStart, FAILED_TO_START, now_ms);
        }
    }
    Some(verdict)
}

/// For containers that have exited: again by their restart policy, or the end of the task if they are essential.
fn restart_or_end(specs: &[ContainerSpec], known: &mut Known, now_ms: TimeMs) {
    for (index, spec) in specs.iter().enumerate() {
        let container = &mut known.containers[index];
        let Run::Exited { code, at_ms, judged, .. } = &mut container.run else { continue };
        if *judged {
            continue;
        }
        *judged = true;
        let ran_ms = container.since_ms.map_or(0, |since| *at_ms - since);
        let again = spec.restart_policy.as_ref().is_some_and(|policy| {
            let long_enough = ran_ms >= i64::from(policy.attempt_period_s) * 1000;
            long_enough && code.is_some_and(|code| !policy.ignored_exit_codes.contains(&code))
        });
        if again {
            container.run = Run::Waiting;
            container.restart_count += 1;
            container.health = health::Progress::default();
        } else if spec.essential {
            known.stop_for(StopCode::EssentialContainerExited, ESSENTIAL_EXITED, now_ms);
        }
    }
    let over = known.containers.iter().all(|c| matches!(c.run, Run::Exited { .. }));
    if over && known.stop.is_none() {
        known.stop_for(StopCode::EssentialContainerExited, ESSENTIAL_EXITED, now_ms);
    }
}

/// The words of ECS for a dependency's condition.
fn condition_text(condition: Condition) -> &'static str {
    match condition {
        Condition::Start => "START",
        Condition::Complete => "COMPLETE",
        Condition::Success => "SUCCESS",
        Condition::Healthy => "HEALTHY",
    }
}
