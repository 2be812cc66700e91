//! Everything there is: the control state and what is on disk of it, machines, a balancer, and what is due when.
//!
//! Time passes from one due moment to the next. Two clocks: what is due goes by one that only moves forward; what
//! deciders are told may jump.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::reconcile::{Agenda, Dirty};
use state::assignment::{Assignment, Report};
use state::elb::{Listener, Rule, Target, TargetGroup};
use state::node::Node;
use state::{ContainerGroup, Ids, Record, Scope, Snapshot, TimeMs, Tx};

use crate::api::Api;
use crate::balancer::Balancer;
use crate::bug::Bug;
use crate::check::Checker;
use crate::machine::{Event, Hands, Machine};

/// When the simulated world begins.
pub const START_MS: TimeMs = 1_700_000_000_000;

/// Everything there is.
pub struct World {
    /// The control state.
    pub snapshot: Snapshot,
    /// Now, as deciders are told.
    pub now_ms: TimeMs,
    /// How much the clock that deciders are told is ahead of the one that goes evenly.
    pub(crate) skew_ms: i64,
    /// Ids of what is created.
    pub(crate) ids: Ids,
    /// Durations and delays.
    pub(crate) dice: Ids,
    pub(crate) scope: Scope,
    pub(crate) api: Option<Api>,
    /// By name: `n1`, `n2`, …
    pub(crate) machines: BTreeMap<String, Machine>,
    pub(crate) records: BTreeMap<String, Node>,
    pub(crate) balancer: Balancer,
    pub(crate) server: Server,
    pub(crate) checker: Checker,
    /// Promises broken so far.
    pub wrong: Vec<String>,
    /// What was done.
    pub tally: Tally,
    pub(crate) bug: Option<Bug>,
    /// Health checks and probes of which each would find what is known are made too.
    pub(crate) idle_too: bool,
    /// How each service was made, by name.
    pub(crate) options: BTreeMap<String, crate::ops::Options>,
    queue: BTreeMap<(TimeMs, u64), Due>,
    sequence: u64,
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Commits made.
    pub commits: u64,
    /// Tasks launched.
    pub tasks: u64,
    /// Reports that arrived.
    pub reports: u64,
    /// Reports lost, repeated or late; agents, servers and machines lost; commits that did not become durable; clock
    /// jumps.
    pub faults: u64,
    /// API calls, and those of them that were refused.
    pub calls: u64,
    /// See `calls`.
    pub refused: u64,
    /// Simulated milliseconds.
    pub elapsed_ms: i64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.commits += other.commits;
        self.tasks += other.tasks;
        self.reports += other.reports;
        self.faults += other.faults;
        self.calls += other.calls;
        self.refused += other.refused;
        self.elapsed_ms += other.elapsed_ms;
    }
}

/// What the server's process has in memory.
#[derive(Default)]
pub(crate) struct Server {
    pub up: bool,
    pub dirty: Dirty,
    pub agenda: Agenda,
    pub pass_due: Option<TimeMs>,
    pub work_due: Option<TimeMs>,
    pub balance_due: bool,
    pub observe_due: bool,
    /// The next commit does not become durable, and the server dies of it.
    pub loses_commit: bool,
    /// By node name.
    pub links: BTreeMap<String, Link>,
}

/// The server's connection to a node.
#[derive(Default)]
pub(crate) struct Link {
    pub publish_due: bool,
    /// What the node is to have, as it was worked out last, and as it was told last.
    pub assigned: plan::Assigned,
    pub told: Option<Arc<Vec<Arc<Assignment>>>>,
    pub inbox: Vec<Report>,
    /// Counted by each loss of the connection: what was on its way then does not arrive.
    pub session: u64,
    /// So many reports will be lost, come twice, and come again late.
    pub drop: u32,
    pub repeat: u32,
    pub late: u32,
}

impl Link {
    /// The connection is lost, or made anew: what is on its way does not arrive, and everything is told again.
    pub fn cut(&mut self) {
        self.session += 1;
        self.inbox.clear();
        self.told = None;
        self.assigned = plan::Assigned::default();
    }
}

/// What is due at some time.
pub(crate) enum Due {
    /// The controllers run.
    Pass,
    /// What a node is to have is looked at.
    Publish(String),
    /// What a node is to have arrives there.
    Assign(String, u64, Arc<Vec<Arc<Assignment>>>),
    /// Something happens on a machine.
    Machine(String, Event),
    /// Reports of a node arrive.
    Reports(String, u64),
    /// A report of a node arrives once more.
    Late(String, Report),
    /// A node's silence is noticed.
    Silent(String),
    /// A node's connection is made, if it can be.
    Heard(String),
    /// The balancer takes its configuration.
    Balance,
    /// The balancer has something to do.
    Work,
    /// What the balancer sees is written down.
    Observe,
    /// The server starts.
    ServerUp,
    /// A node's agent starts.
    AgentUp(String),
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, checker: Checker) -> World {
        let scope = Scope::new("000000000000", "us-east-1");
        World {
            snapshot: Snapshot::default(),
            now_ms: START_MS,
            skew_ms: 0,
            ids: Ids::new(seed),
            dice: Ids::new(!seed),
            api: Some(Api::new(&scope)),
            scope,
            machines: BTreeMap::new(),
            records: BTreeMap::new(),
            balancer: Balancer::default(),
            server: Server { up: true, dirty: Dirty::everything(), ..Server::default() },
            checker,
            wrong: Vec::new(),
            tally: Tally::default(),
            bug: None,
            idle_too: false,
            options: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Plants a bug.
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Makes also those health checks and probes of which each would find what is known, which changes nothing but the
    /// time that a run takes.
    pub fn make_all_checks(&mut self) {
        self.idle_too = true;
    }

    // === time ===

    /// Now, by the clock that goes evenly.
    pub(crate) fn even_ms(&self) -> TimeMs {
        self.now_ms - self.skew_ms
    }

    /// Something is due after a while.
    pub(crate) fn after(&mut self, ms: i64, due: Due) {
        let at_ms = self.even_ms() + ms.max(0);
        // Probes come before all else of their moment, so that they find the same however many were left out before.
        let sequence = if matches!(due, Due::Work) {
            0
        } else {
            self.sequence += 1;
            self.sequence
        };
        self.queue.insert((at_ms, sequence), due);
    }

    /// A delay of up to `most` milliseconds: how long a loop takes to wake or a message to arrive.
    pub(crate) fn soon(&mut self, most: i64) -> i64 {
        crate::program::between(&mut self.dice, 1, most + 1)
    }

    /// The next moment at which something is due, as a time from now.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.queue.first_key_value().map(|((at, _), _)| at - self.even_ms())
    }

    /// Lets time pass. Ends early where a promise is broken.
    pub fn run_for(&mut self, ms: i64) {
        let end = self.even_ms() + ms;
        while self.wrong.is_empty()
            && let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), due) = entry.remove_entry();
            self.pass_time(at);
            self.handle(due);
        }
        self.pass_time(end);
    }

    fn pass_time(&mut self, even_ms: TimeMs) {
        let passed = even_ms - self.even_ms();
        if passed > 0 {
            self.now_ms += passed;
            self.tally.elapsed_ms += passed;
        }
    }

    // === commits ===

    /// Runs a decision, makes it durable, and checks the world. What the API, the loop and the agents do goes through
    /// here. A decision that answers `Err` writes nothing.
    pub(crate) fn try_commit<A, E>(
        &mut self,
        decision: impl FnOnce(&mut Tx, &mut Ids) -> Result<A, E>,
    ) -> Result<A, E> {
        let mut tx = Tx::new(self.snapshot.clone());
        let answer = decision(&mut tx, &mut self.ids)?;
        if tx.is_empty() {
            return Ok(answer);
        }
        if std::mem::take(&mut self.server.loses_commit) {
            self.kill_server(1_000);
            return Ok(answer);
        }
        let (mut snapshot, changed) = tx.into_snapshot();
        snapshot.revision += 1;
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.tally.commits += 1;
        self.checker.commit(&before, &self.snapshot, &changed, &mut self.wrong);
        self.wake(&before, &changed);
        Ok(answer)
    }

    /// As [`World::try_commit`], for what cannot be refused.
    pub(crate) fn commit<A>(&mut self, decision: impl FnOnce(&mut Tx, &mut Ids) -> A) -> A {
        let Ok(answer) = self.try_commit(|tx, ids| Ok::<A, std::convert::Infallible>(decision(tx, ids)));
        answer
    }

    /// Wakes who looks at what a commit changed.
    fn wake(&mut self, before: &Snapshot, changed: &[(u8, String)]) {
        self.server.dirty.note(&self.snapshot, changed);
        if !self.server.dirty.is_empty() {
            let ms = self.soon(20);
            self.pass_in(ms);
        }
        for (table, key) in changed {
            match *table {
                ContainerGroup::TABLE => {
                    let node = |snapshot: &Snapshot| {
                        snapshot.groups.get(key).and_then(|g| g.node().map(str::to_owned))
                    };
                    self.tally.tasks += u64::from(before.groups.get(key).is_none());
                    if let Some(node) = node(&self.snapshot).or_else(|| node(before)) {
                        let name = self.name_of(&node);
                        self.publish(&name);
                    }
                }
                Target::TABLE | TargetGroup::TABLE | Listener::TABLE | Rule::TABLE
                    if !self.server.balance_due =>
                {
                    self.server.balance_due = true;
                    let ms = self.soon(20);
                    self.after(ms, Due::Balance);
                }
                _ => {}
            }
        }
    }

    /// The controllers run after at most this time.
    pub(crate) fn pass_in(&mut self, ms: i64) {
        let at = self.even_ms() + ms;
        if self.server.pass_due.is_none_or(|due| at < due) {
            self.server.pass_due = Some(at);
            self.after(ms, Due::Pass);
        }
    }

    /// Whether a pass that is due now is the one that was asked for last.
    pub(crate) fn is_pass_due(&mut self) -> bool {
        let due = self.server.pass_due.is_some_and(|at| at <= self.even_ms());
        if due {
            self.server.pass_due = None;
        }
        due
    }

    pub(crate) fn publish(&mut self, name: &str) {
        let Some(link) = self.server.links.get_mut(name) else { return };
        if !link.publish_due {
            link.publish_due = true;
            let ms = self.soon(5);
            self.after(ms, Due::Publish(name.to_owned()));
        }
    }

    /// The balancer has something to do at its next due time.
    pub(crate) fn work_when_due(&mut self) {
        let Some(next_ms) = self.balancer.next_ms() else { return };
        let at = next_ms.max(self.even_ms());
        if self.server.work_due.is_none_or(|due| at < due || due < self.even_ms()) {
            self.server.work_due = Some(at);
            let ms = at - self.even_ms();
            self.after(ms, Due::Work);
        }
    }

    /// What a server finds that starts: what the store has of the control state, read again from its bytes.
    pub(crate) fn reload(&mut self) {
        let mut snapshot = Snapshot { revision: self.snapshot.revision, ..Snapshot::default() };
        for (table, key, revision, bytes) in self.snapshot.written_down() {
            if let Err(error) = snapshot.apply(table, &key, revision, Some(&bytes)) {
                self.wrong.push(format!("what was written cannot be read: {error}"));
            }
        }
        self.snapshot = snapshot;
    }

    // === machines ===

    /// The name of a node's machine.
    pub(crate) fn name_of(&self, node: &str) -> String {
        let found = self.machines.iter().find(|(_, machine)| machine.id == node);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// Does something with a machine, and sees to what comes of it.
    pub(crate) fn with_machine<A>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Machine, &mut Hands<'_>) -> A,
    ) -> Option<A> {
        let machine = self.machines.get_mut(name)?;
        let mut hands = Hands {
            now_ms: self.now_ms,
            even_ms: self.now_ms - self.skew_ms,
            dice: &mut self.dice,
            later: Vec::new(),
            reports: Vec::new(),
            wrong: Vec::new(),
            balancer: &self.balancer,
            idle_too: self.idle_too,
        };
        let answer = work(machine, &mut hands);
        let Hands { later, reports, wrong, .. } = hands;
        self.wrong.extend(wrong);
        for (ms, event) in later {
            self.after(ms, Due::Machine(name.to_owned(), event));
        }
        for report in reports {
            self.send(name, report);
        }
        Some(answer)
    }

    /// A report sets out for the server.
    fn send(&mut self, name: &str, report: Report) {
        let heard = self.machines.get(name).is_some_and(Machine::is_heard);
        let Some(link) = self.server.links.get_mut(name).filter(|_| heard) else { return };
        if link.drop > 0 {
            link.drop -= 1;
            self.tally.faults += 1;
            // Who lost it notices, and connects again.
            self.after(1_000, Due::Heard(name.to_owned()));
            return;
        }
        if link.late > 0 {
            link.late -= 1;
            self.tally.faults += 1;
            self.after(30_000, Due::Late(name.to_owned(), report.clone()));
        }
        let Some(link) = self.server.links.get_mut(name) else { return };
        let first = link.inbox.is_empty();
        if link.repeat > 0 {
            link.repeat -= 1;
            self.tally.faults += 1;
            link.inbox.push(report.clone());
        }
        link.inbox.push(report);
        let session = link.session;
        if first {
            let ms = self.soon(20);
            self.after(ms, Due::Reports(name.to_owned(), session));
        }
    }
}
