//! A group on a machine: what the agent has of it in memory, what it wrote down, and how its steps are begun.

use std::sync::Arc;

use agent::decide::{self, Course, Ground, Known, Run, Step};
use state::TimeMs;
use state::assignment::{Assignment, Report};
use state::group::{NetworkBinding, NetworkMode};

use crate::machine::{Event, Hands};
use crate::program::{Program, between};
use crate::runtime::{Ask, Container, Record, What};

/// How long a health check takes. Always the same: so that it is known when those that are left out would have been.
const CHECK_MS: i64 = 50;

/// A group on a machine.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// What the agent has of it in memory.
    pub mind: Option<Mind>,
    /// What the agent wrote down.
    pub notes: Option<(Known, Arc<Assignment>)>,
    /// What the supervisor wrote down.
    pub journal: Vec<Record>,
    /// Its supervisor lives.
    pub supervisor: bool,
    /// What the supervisor has running.
    pub containers: Vec<Container>,
    /// Its network, volumes and cgroup are there.
    pub ground: bool,
    bindings: Vec<Vec<NetworkBinding>>,
}

/// What an agent has of a group.
#[derive(Debug)]
pub(crate) struct Mind {
    pub course: Course,
    /// Found on disk; whether it is still assigned is not known yet.
    pub undecided: bool,
    pub wake_at_ms: Option<TimeMs>,
    /// Health checks are being left out.
    pub left_out: bool,
}

impl Mind {
    pub fn new(course: Course, undecided: bool) -> Mind {
        Mind { course, undecided, wake_at_ms: None, left_out: false }
    }

    pub fn report(&mut self, hands: &mut Hands<'_>) {
        if let Some(observed) = self.course.report() {
            hands.reports.push(Report { key: self.course.assignment.key.clone(), observed });
        }
    }

    /// Whether nothing but health checks is to come, and each would only find what is known: they are left out, because
    /// none of them would change anything.
    pub fn is_still(&self, containers: &[Container]) -> bool {
        let Course { known, assignment, .. } = &self.course;
        let passes = |index: usize| containers.iter().any(|c| c.index == index && c.passes());
        let still = |(index, (spec, c)): (usize, (&state::group::ContainerSpec, &decide::KnownContainer))| {
            let settled = c.health.health == state::group::Health::Healthy && c.health.failures == 0;
            let quiet = settled && !c.health.in_flight && c.health.unjudged.is_none();
            match c.run {
                Run::Running => spec.health_check.is_none() || (quiet && passes(index)),
                Run::Exited { judged, .. } => judged,
                Run::Waiting | Run::Starting => false,
            }
        };
        let mut all = assignment.spec.containers.iter().zip(&known.containers).enumerate();
        known.stop.is_none() && known.ground == Ground::Ready && all.all(still)
    }
}

impl Group {
    /// The health checks that were left out come to have been made, each at its time.
    pub fn catch_up(&mut self, key: &str, agent: u64, hands: &mut Hands<'_>) {
        let Some(mind) = self.mind.as_mut().filter(|mind| mind.left_out) else { return };
        mind.left_out = false;
        let Course { assignment, known, .. } = &mut mind.course;
        let specs = assignment.spec.containers.iter();
        for (container, (spec, known)) in specs.zip(&mut known.containers).enumerate() {
            let (Some(check), Run::Running, Some(ended)) =
                (&spec.health_check, &known.run, known.health.ended_at_ms)
            else {
                continue;
            };
            let interval_ms = i64::from(check.interval_s) * 1000;
            let each_ms = interval_ms + CHECK_MS;
            let ended = ended + (hands.now_ms - ended).div_euclid(each_ms) * each_ms;
            known.health.ended_at_ms = Some(ended);
            if hands.now_ms >= ended + interval_ms {
                known.health.in_flight = true;
                let event = decide::Event::Checked { container, run: known.runs, passed: true };
                let event = Event::Done { key: key.to_owned(), agent, event };
                hands.later.push((ended + each_ms - hands.now_ms, event));
            }
        }
        self.notes = Some((known.clone(), assignment.clone()));
    }

    pub fn learn(&mut self, event: decide::Event, now_ms: TimeMs) {
        if let Some(mind) = &mut self.mind {
            mind.course.learn(event, now_ms);
        }
    }

    pub fn learn_record(&mut self, record: &Record, now_ms: TimeMs) {
        let Record { container, run, at_ms, .. } = *record;
        self.learn(
            match record.what {
                What::Started => {
                    decide::Event::Started { container, run, runtime_id: format!("{container}-{run}"), at_ms }
                }
                What::Exited { code } => {
                    decide::Event::Exited { container, run, code: Some(code), out_of_memory: false, at_ms }
                }
            },
            now_ms,
        );
    }

    /// What a new agent does with a group that it finds.
    pub fn recover(&mut self, hands: &mut Hands<'_>) {
        let Some(mind) = &self.mind else { return };
        if mind.course.known.is_gone() || mind.course.known.ground == Ground::Absent {
            return;
        }
        if self.supervisor {
            for record in self.journal.clone() {
                self.learn_record(&record, hands.now_ms);
            }
        } else {
            self.take_stock_without_supervisor(hands.now_ms);
        }
        let Some(mind) = &mut self.mind else { return };
        mind.course.known.resume();
        self.ground |= mind.course.known.ground == Ground::Ready;
    }

    pub fn take_stock_without_supervisor(&mut self, now_ms: TimeMs) {
        for record in self.journal.clone() {
            self.learn_record(&record, now_ms);
        }
        if let Some(mind) = &mut self.mind {
            mind.course.lose_supervisor(now_ms);
        }
    }

    pub fn begin(&mut self, key: &str, agent: u64, next_port: &mut u16, step: Step, hands: &mut Hands<'_>) {
        let Some(mind) = &self.mind else { return };
        let assignment = mind.course.assignment.clone();
        let image = |index: usize| Program::of(&assignment.spec.containers[index].image);
        let done = |event| Event::Done { key: key.to_owned(), agent, event };
        match step {
            Step::MakeGround => {
                self.ground = true;
                if self.bindings.is_empty() {
                    self.bindings = bindings(&assignment, next_port);
                }
                let event = if image(0) == Program::Netless {
                    let reason = "ResourceInitializationError: no network".to_owned();
                    decide::Event::GroundFailed { container: None, reason }
                } else {
                    decide::Event::GroundMade(self.bindings.clone())
                };
                hands.later.push((between(hands.dice, 5, 300), done(event)));
            }
            Step::Pull(container) => {
                let event = if image(container) == Program::Absent {
                    let reason = "CannotPullContainerError: not found".to_owned();
                    decide::Event::PullFailed { container, reason }
                } else {
                    decide::Event::Pulled { container, digest: "sha256:0".into(), stop_signal: None }
                };
                hands.later.push((between(hands.dice, 50, 8_000), done(event)));
            }
            Step::Start { container, run } => {
                self.supervisor = true;
                let ask = Ask::Start { container, run, program: image(container) };
                let after = between(hands.dice, 1, 20);
                hands.later.push((after, Event::Asked { key: key.to_owned(), agent, ask }));
            }
            Step::Signal { container, signal } => {
                if !mind.course.known.stop_is_own
                    && !mind.course.abandoned
                    && hands.balancer.routes(key, hands.even_ms, hands.now_ms)
                {
                    hands.wrong.push(format!("{key} gets signal {signal} while requests are sent to it"));
                }
                let ask = Ask::Signal { container, signal };
                hands.later.push((1, Event::Asked { key: key.to_owned(), agent, ask }));
            }
            Step::Check { container, run } => {
                let passed = self.containers.iter().any(|c| c.index == container && c.passes());
                hands.later.push((CHECK_MS, done(decide::Event::Checked { container, run, passed })));
            }
            Step::Remove => {
                self.kill_all(key, agent, hands);
                let after = between(hands.dice, 5, 500);
                hands.later.push((after, done(decide::Event::GroundRemoved)));
            }
        }
    }
}

/// Host ports of a `bridge` group, by container.
fn bindings(assignment: &Assignment, next_port: &mut u16) -> Vec<Vec<NetworkBinding>> {
    let of = |spec: &state::group::ContainerSpec| {
        if assignment.spec.network_mode != NetworkMode::Bridge {
            return Vec::new();
        }
        let mut bind = |mapping: &state::group::PortMapping| {
            *next_port = if *next_port >= 60_999 { 32_768 } else { *next_port + 1 };
            NetworkBinding {
                bind_ip: "0.0.0.0".into(),
                container_port: mapping.container_port,
                host_port: *next_port,
                protocol: "tcp".into(),
            }
        };
        spec.port_mappings.iter().map(&mut bind).collect()
    };
    assignment.spec.containers.iter().map(of).collect()
}
