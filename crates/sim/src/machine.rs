//! A machine: its agent, which is the production `decide` over the semantics of `agent::group`, and a runtime that
//! performs the steps in simulated time. Supervisors and containers outlive the agent; notes and journals outlive both.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::decide::{self, Course, Ground, Known, Run, Step};
use balancer::decide::health::Probe;
use state::assignment::{Assignment, Report};
use state::group::{NetworkBinding, NetworkMode};
use state::{Ids, TimeMs};

use crate::balancer::Balancer;
use crate::program::{Program, between};
use crate::runtime::{Ask, Container, Record, What, lost};

/// How long a health check takes. Always the same: so that it is known when those that are left out would have been.
const CHECK_MS: i64 = 50;

/// What happens on a machine at some time.
#[derive(Debug, Clone)]
pub enum Event {
    /// The agent asked to decide again at this time.
    Wake { key: String, agent: u64, at_ms: TimeMs },
    /// A step that the agent began has ended.
    Done { key: String, agent: u64, event: decide::Event },
    /// The supervisor is asked.
    Asked { key: String, agent: u64, ask: Ask },
    /// A start is over.
    Up { key: String, boot: u64, container: usize, run: u32 },
    /// A container's program ends.
    Exit { key: String, boot: u64, container: usize, run: u32, code: i32 },
    /// The agent is told what the supervisor recorded.
    Told { key: String, agent: u64, record: Record },
    /// The agent's connection to a supervisor ended.
    Lost { key: String, agent: u64 },
}

/// What a machine may look at and leave behind while it handles something.
pub struct Hands<'a> {
    /// Now, as deciders are told.
    pub now_ms: TimeMs,
    /// Now, by the clock that goes evenly.
    pub even_ms: TimeMs,
    /// Durations.
    pub dice: &'a mut Ids,
    /// What happens later: after how many milliseconds.
    pub later: Vec<(i64, Event)>,
    /// What the agent reports.
    pub reports: Vec<Report>,
    /// Promises broken.
    pub wrong: Vec<String>,
    /// Who sends requests.
    pub balancer: &'a Balancer,
    /// Also health checks of which each would find what is known are made.
    pub idle_too: bool,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// The node's id.
    pub id: String,
    /// It has power.
    pub up: bool,
    /// It is reached from the server.
    pub linked: bool,
    /// Its agent runs.
    pub agent_up: bool,
    /// How-manieth agent and boot this is: what began under an earlier one ends unseen.
    pub agent: u64,
    pub(crate) boot: u64,
    pub(crate) groups: BTreeMap<String, Group>,
    next_port: u16,
}

/// A group on a machine.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// What the agent has of it in memory.
    mind: Option<Mind>,
    /// What the agent wrote down.
    notes: Option<(Known, Arc<Assignment>)>,
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

#[derive(Debug)]
struct Mind {
    course: Course,
    /// Found on disk; whether it is still assigned is not known yet.
    undecided: bool,
    wake_at_ms: Option<TimeMs>,
    /// Health checks are being left out.
    left_out: bool,
}

impl Machine {
    /// A machine that was just switched on.
    pub fn new(id: &str) -> Machine {
        Machine {
            id: id.to_owned(),
            up: true,
            linked: true,
            agent_up: true,
            agent: 0,
            boot: 0,
            groups: BTreeMap::new(),
            next_port: 32_768,
        }
    }

    /// Whether the server and the agent hear each other.
    pub fn is_heard(&self) -> bool {
        self.up && self.linked && self.agent_up
    }

    /// What a request to a group's container is answered.
    pub fn answer(&self, key: &str) -> Probe {
        let container =
            self.groups.get(key).filter(|_| self.up).and_then(|g| g.containers.iter().find(|c| c.up));
        match container.map(Container::passes) {
            Some(true) => Probe::Answered(200),
            Some(false) => Probe::Answered(502),
            None => Probe::Failed,
        }
    }

    /// The groups that have a container that runs, with its program.
    pub fn running(&self) -> impl Iterator<Item = (&str, Program)> {
        let up = self.groups.iter().filter(|_| self.up);
        up.filter_map(|(key, g)| Some((key.as_str(), g.containers.iter().find(|c| c.up)?.program)))
    }

    // === faults ===

    /// The agent is killed; what it had in memory is gone.
    pub fn kill_agent(&mut self, hands: &mut Hands<'_>) {
        self.wake_up(hands);
        self.agent_up = false;
        self.agent += 1;
        self.groups.values_mut().for_each(|group| group.mind = None);
        self.groups.retain(|_, group| group.notes.is_some());
    }

    /// The agent starts and finds out what became of its groups. It decides nothing before it is assigned something.
    pub fn start_agent(&mut self, hands: &mut Hands<'_>) {
        self.agent_up = true;
        for group in self.groups.values_mut() {
            let Some((known, assignment)) = group.notes.clone() else { continue };
            group.mind = Some(Mind::new(Course::new(assignment, known), true));
            group.recover(hands);
        }
    }

    /// The machine loses power, or its kernel. Disks stay.
    pub fn power_off(&mut self, hands: &mut Hands<'_>) {
        self.kill_agent(hands);
        self.up = false;
        self.boot += 1;
        for group in self.groups.values_mut() {
            group.supervisor = false;
            group.containers.clear();
            group.ground = false;
        }
    }

    /// The disk is lost.
    pub fn wipe(&mut self, hands: &mut Hands<'_>) {
        self.power_off(hands);
        self.groups.clear();
    }

    /// A container of the group dies; false if none runs.
    pub fn kill_container(&mut self, key: &str, hands: &mut Hands<'_>) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        let Some(container) = group.containers.iter().find(|c| c.up) else { return false };
        let (index, run) = (container.index, container.run);
        group.exit(key, self.agent, index, run, 137, hands);
        true
    }

    /// The checks of a container that runs fail from now on, or pass again.
    pub fn sicken(&mut self, key: &str, sick: bool, hands: &mut Hands<'_>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.catch_up(key, self.agent, hands);
        if let Some(container) = group.containers.iter_mut().find(|c| c.up) {
            container.sick = sick;
        }
        self.go_on(key, hands);
    }

    /// All checks pass again that can.
    pub fn cure_all(&mut self, hands: &mut Hands<'_>) {
        for key in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.sicken(&key, false, hands);
        }
    }

    /// Health checks are left out no more until the next of each container.
    pub fn wake_up(&mut self, hands: &mut Hands<'_>) {
        let idle_too = std::mem::replace(&mut hands.idle_too, true);
        let left_out = |group: &Group| group.mind.as_ref().is_some_and(|mind| mind.left_out);
        let keys: Vec<String> =
            self.groups.iter().filter(|(_, g)| left_out(g)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.go_on(key, hands));
        hands.idle_too = idle_too;
    }

    /// The group's supervisor dies, and its containers with it.
    pub fn kill_supervisor(&mut self, key: &str, hands: &mut Hands<'_>) {
        if let Some(group) = self.groups.get_mut(key).filter(|g| g.supervisor) {
            group.supervisor = false;
            for container in std::mem::take(&mut group.containers).iter().filter(|c| !c.up) {
                hands.later.push((1, lost(key, container.asker, container.index, container.run)));
            }
            hands.later.push((1, Event::Lost { key: key.to_owned(), agent: self.agent }));
        }
    }

    /// The connection to the server was made anew: everything is told again.
    pub fn tell_all(&mut self, hands: &mut Hands<'_>) {
        for group in self.groups.values_mut() {
            if let Some(mind) = group.mind.as_mut().filter(|m| !m.undecided) {
                mind.course.report_again();
                mind.report(hands);
            }
        }
    }

    // === the agent ===

    /// The agent is told all that it is to have.
    pub fn assign(&mut self, assignments: &[Arc<Assignment>], hands: &mut Hands<'_>) {
        let mut news: Vec<&str> = Vec::new();
        for assignment in assignments {
            let group = self.groups.entry(assignment.key.clone()).or_default();
            match &mut group.mind {
                Some(Mind { course, undecided: false, .. })
                    if is_same(&course.assignment, assignment) && !course.abandoned =>
                {
                    continue;
                }
                Some(mind) => {
                    mind.undecided = false;
                    mind.course.assign(assignment.clone());
                }
                none => {
                    let known = Known::new(assignment);
                    *none = Some(Mind::new(Course::new(assignment.clone(), known), false));
                }
            }
            news.push(&assignment.key);
        }
        news.into_iter().for_each(|key| self.go_on(key, hands));
        let named = |key: &str| assignments.binary_search_by(|a| a.key.as_str().cmp(key)).is_ok();
        let left = self
            .groups
            .iter()
            .filter(|(key, g)| !named(key) && g.mind.as_ref().is_some_and(|m| !m.course.abandoned));
        let left: Vec<String> = left.map(|(key, _)| key.clone()).collect();
        for key in left {
            if let Some(mind) = self.groups.get_mut(&key).and_then(|g| g.mind.as_mut()) {
                mind.undecided = false;
                mind.course.abandon(hands.now_ms);
            }
            self.go_on(&key, hands);
        }
    }

    /// Handles what happens now.
    pub fn handle(&mut self, event: Event, hands: &mut Hands<'_>) {
        let agent = self.agent;
        match event {
            Event::Wake { key, agent: then, at_ms } => {
                let mind = self.groups.get_mut(&key).and_then(|g| g.mind.as_mut());
                if let Some(mind) = mind.filter(|m| then == agent && m.wake_at_ms == Some(at_ms)) {
                    mind.wake_at_ms = None;
                    self.go_on(&key, hands);
                }
            }
            Event::Done { key, agent: then, event } if then == agent => {
                let Some(group) = self.groups.get_mut(&key) else { return };
                if event == decide::Event::GroundRemoved {
                    group.removed();
                }
                group.learn(event, hands.now_ms);
                self.go_on(&key, hands);
            }
            Event::Told { key, agent: then, record } if then == agent => {
                let Some(group) = self.groups.get_mut(&key) else { return };
                group.learn_record(&record, hands.now_ms);
                self.go_on(&key, hands);
            }
            Event::Lost { key, agent: then } if then == agent => {
                let Some(group) = self.groups.get_mut(&key) else { return };
                group.take_stock_without_supervisor(hands.now_ms);
                self.go_on(&key, hands);
            }
            Event::Asked { key, agent: then, ask } => {
                // A signal is on its way at once; a start is prepared by the agent first.
                if let Some(group) = self.groups.get_mut(&key)
                    && (then == agent || matches!(ask, Ask::Signal { .. }))
                {
                    group.asked(&key, (agent, self.boot), ask, hands);
                }
            }
            Event::Up { key, boot, container, run } if boot == self.boot => {
                let Some(group) = self.groups.get_mut(&key) else { return };
                group.up(&key, (agent, boot), container, run, hands);
            }
            Event::Exit { key, boot, container, run, code } if boot == self.boot => {
                let Some(group) = self.groups.get_mut(&key) else { return };
                group.exit(&key, agent, container, run, code, hands);
            }
            Event::Done { .. }
            | Event::Told { .. }
            | Event::Lost { .. }
            | Event::Up { .. }
            | Event::Exit { .. } => {}
        }
    }

    /// Decides, notes, reports, and begins what is to be begun.
    fn go_on(&mut self, key: &str, hands: &mut Hands<'_>) {
        let agent = self.agent;
        let Some(group) = self.groups.get_mut(key) else { return };
        group.catch_up(key, agent, hands);
        let Some(mind) = group.mind.as_mut().filter(|m| !m.undecided) else { return };
        let (plan, changed) = mind.course.decide(hands.now_ms);
        if changed {
            group.notes = Some((mind.course.known.clone(), mind.course.assignment.clone()));
        }
        mind.report(hands);
        let still = plan.steps.is_empty() && mind.is_still(&group.containers);
        mind.left_out = still && !hands.idle_too && plan.again_at_ms.is_some();
        let wake = plan.again_at_ms.filter(|_| !mind.left_out);
        if wake != mind.wake_at_ms {
            mind.wake_at_ms = wake;
            if let Some(at_ms) = wake {
                let after = (at_ms - hands.now_ms).max(0);
                hands.later.push((after, Event::Wake { key: key.to_owned(), agent, at_ms }));
            }
        }
        let forgotten = mind.course.is_over();
        for step in plan.steps {
            group.begin(key, agent, &mut self.next_port, step, hands);
        }
        if forgotten {
            if !group.containers.is_empty() || group.ground {
                hands.wrong.push(format!("{key} is forgotten by its node while something of it is there"));
            }
            self.groups.remove(key);
        }
    }
}

impl Mind {
    fn new(course: Course, undecided: bool) -> Mind {
        Mind { course, undecided, wake_at_ms: None, left_out: false }
    }

    fn report(&mut self, hands: &mut Hands<'_>) {
        if let Some(observed) = self.course.report() {
            hands.reports.push(Report { key: self.course.assignment.key.clone(), observed });
        }
    }

    /// Whether nothing but health checks is to come, and each would only find what is known: they are left out, because
    /// none of them would change anything.
    fn is_still(&self, containers: &[Container]) -> bool {
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
    fn catch_up(&mut self, key: &str, agent: u64, hands: &mut Hands<'_>) {
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

    fn learn(&mut self, event: decide::Event, now_ms: TimeMs) {
        if let Some(mind) = &mut self.mind {
            mind.course.learn(event, now_ms);
        }
    }

    fn learn_record(&mut self, record: &Record, now_ms: TimeMs) {
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
    fn recover(&mut self, hands: &mut Hands<'_>) {
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

    fn take_stock_without_supervisor(&mut self, now_ms: TimeMs) {
        for record in self.journal.clone() {
            self.learn_record(&record, now_ms);
        }
        if let Some(mind) = &mut self.mind {
            mind.course.lose_supervisor(now_ms);
        }
    }

    fn begin(&mut self, key: &str, agent: u64, next_port: &mut u16, step: Step, hands: &mut Hands<'_>) {
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

/// Whether two say the same: most are the same one.
pub(crate) fn is_same(one: &Arc<Assignment>, other: &Arc<Assignment>) -> bool {
    Arc::ptr_eq(one, other) || one == other
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
