//! Stopping: SIGTERM in the reverse order of dependencies, SIGKILL after `stopTimeout`, then removal.

use state::TimeMs;
use state::group::ContainerSpec;

use super::known::{Ground, Image, Known, Run};
use super::order::edges;
use super::{Plan, Step};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// Whether a kill has arrived is seen by its effect alone: until then it is sent again this often.
const KILL_AGAIN_MS: i64 = 1000;

/// Brings a group that is to stop nearer to its end.
pub fn stop(specs: &[ContainerSpec], known: &mut Known, now_ms: TimeMs, plan: &mut Plan) {
    for index in 0..specs.len() {
        if known.containers[index].run == Run::Waiting {
            known.never_ran(index, None, now_ms);
        }
    }
    for index in 0..specs.len() {
        if known.containers[index].run == Run::Running && !is_needed(specs, known, index) {
            end(&specs[index], known, index, now_ms, plan);
        }
    }
    let over = known.containers.iter().all(|c| matches!(c.run, Run::Exited { .. }));
    // A pull that is still under way is for the node as well, and nothing waits for it.
    if !over || matches!(known.ground, Ground::Making | Ground::Removing | Ground::Removed) {
        return;
    }
    if known.started_at_ms.is_some() || known.containers.iter().any(|c| c.since_ms.is_some()) {
        known.execution_stopped_at_ms.get_or_insert(now_ms);
    }
    known.ground = Ground::Removing;
    plan.steps.push(Step::Remove);
}

/// Whether a container that depends on this one is not over yet.
fn is_needed(specs: &[ContainerSpec], known: &Known, index: usize) -> bool {
    let name = &specs[index].name;
    specs.iter().zip(&known.containers).any(|(other, state)| {
        matches!(state.run, Run::Running | Run::Starting) && edges(other).iter().any(|e| e.container == *name)
    })
}

fn end(spec: &ContainerSpec, known: &mut Known, index: usize, now_ms: TimeMs, plan: &mut Plan) {
    let container = &mut known.containers[index];
    let heard = container.asked_at_ms.is_some() && !std::mem::take(&mut container.unheard);
    let deadline = *container.asked_at_ms.get_or_insert(now_ms) + i64::from(spec.stop_timeout_s) * 1000;
    if now_ms < deadline {
        if !heard {
            let signal = match container.image {
                Image::Pulled { stop_signal: Some(signal), .. } => signal,
                _ => SIGTERM,
            };
            plan.steps.push(Step::Signal { container: index, signal });
        }
        plan.wake(deadline);
        return;
    }
    if container.killed_at_ms.is_none_or(|at| now_ms >= at + KILL_AGAIN_MS) {
        container.killed_at_ms = Some(now_ms);
        plan.steps.push(Step::Signal { container: index, signal: SIGKILL });
    }
    plan.wake(container.killed_at_ms.unwrap_or(now_ms) + KILL_AGAIN_MS);
}
