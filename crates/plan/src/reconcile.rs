//! All controllers in one list, and one pass over them: the same for the server's loop and the simulator.

use std::collections::{BTreeMap, BTreeSet};

use state::ecs::Service;
use state::elb::Target;
use state::node::Node;
use state::{ContainerGroup, Ids, Record, Snapshot, TimeMs, Tx};

use crate::{Next, ecs_service, garbage, node_loss, traffic};

/// What a controller looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Everything there is, nodes and garbage too.
    Everything,
    /// A service, by key.
    Service(String),
    /// The targets and names of a group, by key.
    Group(String),
    /// A target, by key.
    Target(String),
    /// What is to be forgotten.
    Garbage,
}

/// What a pass looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty(BTreeSet<Subject>);

impl Dirty {
    /// Everything: after a start, and periodically.
    pub fn everything() -> Dirty {
        Dirty(BTreeSet::from([Subject::Everything]))
    }

    /// Notes what a commit changed, as `Db::on_commit` tells it.
    pub fn note(&mut self, snapshot: &Snapshot, changed: &[(u8, String)]) {
        for (table, key) in changed {
            match *table {
                ContainerGroup::TABLE => self.group(snapshot, key),
                Service::TABLE => drop(self.0.insert(Subject::Service(key.clone()))),
                Target::TABLE => {
                    self.0.insert(Subject::Target(key.clone()));
                    if let Some(owner) = snapshot.targets.get(key).and_then(|t| t.owner.clone()) {
                        self.group(snapshot, &owner);
                    }
                }
                Node::TABLE => drop(self.0.insert(Subject::Everything)),
                _ => {}
            }
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn group(&mut self, snapshot: &Snapshot, key: &str) {
        let Some(group) = snapshot.groups.get(key) else { return };
        // Cloud Map is told of a task's health for as long as it runs. One that has stopped is to be forgotten, of which
        // any pass makes a note.
        if group.traffic_moves() || !group.task().registries.is_empty() || group.is_stopped() {
            self.0.insert(Subject::Group(key.to_owned()));
        }
        if let Some(owner) = &group.task().service {
            self.0.insert(Subject::Service(owner.key.clone()));
        }
    }
}

/// When each thing is to be looked at again though nothing has changed.
#[derive(Debug, Clone, Default)]
pub struct Agenda {
    at_ms: BTreeMap<Subject, TimeMs>,
    order: BTreeSet<(TimeMs, Subject)>,
}

impl Agenda {
    /// The earliest time of all.
    pub fn next_at_ms(&self) -> Option<TimeMs> {
        self.order.first().map(|(at_ms, _)| *at_ms)
    }

    /// Makes dirty what is due.
    pub fn take_due(&mut self, now_ms: TimeMs, dirty: &mut Dirty) {
        while self.next_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            let Some((_, subject)) = self.order.pop_first() else { return };
            self.at_ms.remove(&subject);
            dirty.0.insert(subject);
        }
    }

    /// What was looked at last says when it wants to be again: an earlier wish of it does not hold any more.
    fn set(&mut self, subject: Subject, next: Next) {
        if let Some(before) = self.at_ms.remove(&subject) {
            self.order.remove(&(before, subject.clone()));
        }
        if let Some(at_ms) = next.again_at_ms {
            self.order.insert((at_ms, subject.clone()));
            self.at_ms.insert(subject, at_ms);
        }
    }
}

/// All that controllers look at but the nodes and garbage. Of groups those that the targets' controller may have to do
/// something with: whose targets come or go, or whose health is told to Cloud Map. Not all others, of which there may be
/// a million.
fn subjects(snapshot: &Snapshot) -> BTreeSet<Subject> {
    let services = snapshot.services.iter().map(|(key, _)| Subject::Service(key.to_owned()));
    let moving = snapshot.groups.by_index("traffic", "1").map(|group| Subject::Group(group.key()));
    let named = snapshot.discovery_instances.iter().filter_map(|(_, i)| i.owner.clone()).map(Subject::Group);
    let targets = snapshot.targets.iter().map(|(key, _)| Subject::Target(key.to_owned()));
    services.chain(moving).chain(named).chain(targets).collect()
}

/// Runs the controllers over what is dirty, in one transaction. What they change makes dirty again what it touches; what
/// has nothing left to do before a time is put on the agenda for it.
pub fn pass(tx: &mut Tx, ids: &mut Ids, now_ms: TimeMs, dirty: &Dirty, agenda: &mut Agenda) {
    let everything = dirty.0.contains(&Subject::Everything);
    let all;
    let looked_at = if everything {
        *agenda = Agenda::default();
        // First, so that what is lost with a node is replaced in the same pass.
        agenda.set(Subject::Everything, node_loss::reconcile(tx, now_ms));
        all = subjects(tx.snapshot());
        &all
    } else {
        &dirty.0
    };
    let mut groups = Vec::new();
    let mut targets = Vec::new();
    for subject in looked_at {
        match subject {
            Subject::Service(key) => {
                agenda.set(subject.clone(), ecs_service::reconcile(tx, ids, now_ms, key))
            }
            Subject::Group(key) => groups.push(key.as_str()),
            Subject::Target(key) => targets.push(key.as_str()),
            Subject::Everything | Subject::Garbage => {}
        }
    }
    let again = traffic::reconcile(tx, ids, now_ms, groups.iter().copied());
    for (key, next) in groups.into_iter().zip(again) {
        agenda.set(Subject::Group(key.to_owned()), next);
    }
    for key in targets {
        agenda.set(Subject::Target(key.to_owned()), traffic::sweep_target(tx, now_ms, key));
    }
    if everything || dirty.0.contains(&Subject::Garbage) {
        garbage::collect(tx, now_ms);
    }
    agenda.set(Subject::Garbage, garbage::next(tx));
}
