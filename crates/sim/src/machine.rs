//! A machine: its agent, which is the production `decide` over the semantics of `agent::group`, and a runtime that
//! performs the steps in simulated time. Supervisors and containers outlive the agent; notes and journals outlive both.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::decide::{self, Course, Known};
use balancer::decide::health::Probe;
use state::assignment::{Assignment, Report};
use state::{Ids, TimeMs};

use crate::balancer::Balancer;
use crate::group::{Group, Mind};
use crate::program::Program;
use crate::runtime::{Ask, Container, Record, lost};

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

/// Whether two say the same: most are the same one.
pub(crate) fn is_same(one: &Arc<Assignment>, other: &Arc<Assignment>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
