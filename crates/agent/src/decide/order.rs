//! Container dependencies (`dependsOn`, "Container dependency", ECS developer guide).

use state::TimeMs;
use state::group::{Condition, ContainerSpec, Dependency, Health};

use super::condition_text;
use super::known::{Known, Run};

/// Whether a container may start.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All dependencies are met.
    Met,
    /// Not yet.
    Wait {
        /// When the first of them times out.
        again_at_ms: Option<TimeMs>,
    },
    /// They cannot be met any more.
    Never {
        /// In words.
        reason: String,
    },
    /// One took longer than its `startTimeout`.
    TimedOut {
        /// Its name.
        dependency: String,
        /// What it did not become.
        condition: &'static str,
    },
}

/// What a container waits for: its `dependsOn`, and whose volumes it mounts.
pub fn edges(spec: &ContainerSpec) -> Vec<Dependency> {
    let volumes =
        spec.volumes_from.iter().filter(|v| !spec.depends_on.iter().any(|d| d.container == v.container));
    let volumes = volumes.map(|v| Dependency { container: v.container.clone(), condition: Condition::Start });
    spec.depends_on.iter().cloned().chain(volumes).collect()
}

/// Looks at all dependencies of a container.
pub fn dependencies(specs: &[ContainerSpec], known: &Known, index: usize, now_ms: TimeMs) -> Verdict {
    let mut waiting = false;
    let mut again_at_ms: Option<TimeMs> = None;
    for edge in edges(&specs[index]) {
        let Some(at) = specs.iter().position(|s| s.name == edge.container) else {
            return Verdict::Never {
                reason: format!("CannotStartContainerError: no container {}", edge.container),
            };
        };
        match one(known, at, edge.condition) {
            One::Met => continue,
            One::Never => {
                let reason = format!(
                    "CannotStartContainerError: dependency {} of condition {} cannot be met any more",
                    edge.container,
                    condition_text(edge.condition)
                );
                return Verdict::Never { reason };
            }
            One::NotYet => waiting = true,
        }
        // As in the ECS agent, the time runs from the start of the container that is waited for.
        let since = known.containers[at].since_ms;
        if let (Some(since), Some(timeout)) = (since, specs[at].start_timeout_s.filter(|s| *s > 0)) {
            let deadline = since + i64::from(timeout) * 1000;
            if now_ms >= deadline && edge.condition != Condition::Start {
                return Verdict::TimedOut {
                    dependency: edge.container,
                    condition: condition_text(edge.condition),
                };
            }
            again_at_ms = Some(again_at_ms.map_or(deadline, |old| old.min(deadline)));
        }
    }
    if waiting { Verdict::Wait { again_at_ms } } else { Verdict::Met }
}

enum One {
    Met,
    NotYet,
    Never,
}

fn one(known: &Known, at: usize, condition: Condition) -> One {
    let container = &known.containers[at];
    let has_run = container.since_ms.is_some();
    match (&container.run, condition) {
        (Run::Running, Condition::Start) => One::Met,
        (Run::Running, Condition::Healthy) if container.health.health == Health::Healthy => One::Met,
        // Between two runs of a restart policy it has been started before.
        (Run::Waiting | Run::Starting, Condition::Start) if has_run => One::Met,
        (Run::Waiting | Run::Starting | Run::Running, _) => One::NotYet,
        (Run::Exited { .. }, Condition::Start | Condition::Complete) if has_run => One::Met,
        (Run::Exited { code: Some(0), .. }, Condition::Success) => One::Met,
        (Run::Exited { .. }, _) => One::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::known::KnownContainer;

    fn verdict(
        run: Run,
        since_ms: Option<TimeMs>,
        health: Health,
        condition: Condition,
        now: TimeMs,
    ) -> Verdict {
        let spec = |name: &str| ContainerSpec { name: name.into(), ..ContainerSpec::default() };
        let mut specs = vec![spec("db"), spec("web")];
        specs[0].start_timeout_s = Some(10);
        specs[1].depends_on = vec![Dependency { container: "db".into(), condition }];
        let mut known = Known { containers: vec![KnownContainer::default(); 2], ..Known::default() };
        known.containers[0].run = run;
        known.containers[0].since_ms = since_ms;
        known.containers[0].health.health = health;
        dependencies(&specs, &known, 1, now)
    }

    #[test]
    fn every_state_against_every_condition() {
        let exited = |code| Run::Exited { code, reason: None, at_ms: 5, judged: true };
        let states = [
            (Run::Waiting, None, Health::Unknown, "wait wait wait wait"),
            (Run::Starting, None, Health::Unknown, "wait wait wait wait"),
            (Run::Running, Some(1), Health::Unknown, "met wait wait wait"),
            (Run::Running, Some(1), Health::Healthy, "met wait wait met"),
            (Run::Running, Some(1), Health::Unhealthy, "met wait wait wait"),
            (exited(Some(0)), Some(1), Health::Healthy, "met met met never"),
            (exited(Some(3)), Some(1), Health::Unknown, "met met never never"),
            (exited(None), None, Health::Unknown, "never never never never"),
        ];
        for (run, since, health, want) in states {
            let conditions = [Condition::Start, Condition::Complete, Condition::Success, Condition::Healthy];
            let seen: Vec<&str> = conditions
                .iter()
                .map(|condition| match verdict(run.clone(), since, health, *condition, 2) {
                    Verdict::Met => "met",
                    Verdict::Wait { .. } => "wait",
                    Verdict::Never { .. } => "never",
                    Verdict::TimedOut { .. } => "timeout",
                })
                .collect();
            assert_eq!(seen.join(" "), want, "{run:?} {health:?}");
        }
    }

    #[test]
    fn start_timeout_runs_from_the_start_of_the_dependency() {
        let at = |now| verdict(Run::Running, Some(1000), Health::Unknown, Condition::Healthy, now);
        assert_eq!(at(10_999), Verdict::Wait { again_at_ms: Some(11_000) });
        assert_eq!(at(11_000), Verdict::TimedOut { dependency: "db".into(), condition: "HEALTHY" });
        let never = verdict(Run::Waiting, None, Health::Unknown, Condition::Healthy, 1 << 40);
        assert_eq!(never, Verdict::Wait { again_at_ms: None });
    }
}
