//! What happens when something is due: the server's loops, messages between it and the nodes, and the balancer.

use std::sync::Arc;

use plan::reconcile::{Dirty, pass};
use state::assignment::Report;

use crate::bug;
use crate::machine::Machine;
use crate::world::{Due, World};

/// So long a node may be silent before the server holds its connection for lost.
const SILENT_AFTER_MS: i64 = 10_000;

impl World {
    pub(crate) fn handle(&mut self, due: Due) {
        match due {
            Due::Pass => self.pass(),
            Due::Publish(name) => self.look_at_node(&name),
            Due::Assign(name, session, assignments) => {
                let link = self.server.links.get(&name);
                let arrives = self.machines.get(&name).is_some_and(Machine::is_heard)
                    && link.is_some_and(|link| link.session == session);
                if arrives {
                    self.with_machine(&name, |machine, hands| machine.assign(&assignments, hands));
                }
            }
            Due::Machine(name, event) => {
                let key = match &event {
                    crate::machine::Event::Up { key, .. } | crate::machine::Event::Exit { key, .. } => {
                        Some(key.clone())
                    }
                    _ => None,
                };
                let ended = match &event {
                    crate::machine::Event::Told { key, .. } => self.is_ended(&name, key),
                    _ => false,
                };
                self.with_machine(&name, |machine, hands| machine.handle(event.clone(), hands));
                self.check_restart(&name, &event, ended);
                if let Some(key) = key {
                    let even_ms = self.even_ms();
                    self.balancer.disturbed(&key, even_ms);
                    self.work_when_due();
                }
            }
            Due::Reports(name, session) => self.take_reports(&name, session),
            Due::Late(name, report) => {
                if self.server.up {
                    self.write_down(&name, vec![report]);
                }
            }
            Due::Silent(name) => self.silent(&name),
            Due::Heard(name) => self.heard(&name),
            Due::Balance => {
                self.server.balance_due = false;
                if self.server.up {
                    let even_ms = self.even_ms();
                    self.balancer.take(&self.snapshot, &mut self.dice, even_ms);
                    self.after_balancer();
                }
            }
            Due::Work => {
                self.server.work_due = None;
                let even_ms = self.even_ms();
                let machines = &self.machines;
                let snapshot = &self.snapshot;
                self.balancer.work(even_ms, self.idle_too, |key| {
                    let node = snapshot.groups.get(key).and_then(|g| g.node());
                    let machine = node.and_then(|id| machines.values().find(|m| m.id == id));
                    machine.map_or(balancer::decide::health::Probe::Failed, |m| m.answer(key))
                });
                self.after_balancer();
            }
            Due::Observe => {
                self.server.observe_due = false;
                if self.server.up {
                    let mut balancer = std::mem::take(&mut self.balancer);
                    self.commit(|tx, _| balancer.observe(tx));
                    if self.server.up {
                        self.balancer = balancer;
                    }
                }
            }
            Due::ServerUp => self.start_server(),
            Due::AgentUp(name) => {
                if self.machines.get(&name).is_some_and(|m| m.up && !m.agent_up) {
                    self.with_machine(&name, |machine, hands| machine.start_agent(hands));
                    self.heard(&name);
                }
            }
        }
    }

    /// One turn of the controllers' loop.
    fn pass(&mut self) {
        if !self.is_pass_due() || !self.server.up {
            return;
        }
        let mut dirty = std::mem::take(&mut self.server.dirty);
        let now_ms = self.now_ms;
        self.server.agenda.take_due(now_ms, &mut dirty);
        if !dirty.is_empty() {
            let before = self.snapshot.clone();
            let planted = self.bug;
            let mut agenda = std::mem::take(&mut self.server.agenda);
            self.commit(|tx, ids| {
                pass(tx, ids, now_ms, &dirty, &mut agenda);
                bug::act(planted, tx, ids, now_ms);
            });
            if !self.server.up {
                return;
            }
            self.server.agenda = agenda;
            self.checker.pass(&before, &self.snapshot, &mut self.wrong);
        }
        if let Some(at) = self.server.agenda.next_at_ms() {
            self.pass_in((at - now_ms).max(1));
        }
    }

    // === nodes ===

    fn look_at_node(&mut self, name: &str) {
        let Some(link) = self.server.links.get_mut(name) else { return };
        link.publish_due = false;
        let Some(machine) = self.machines.get(name).filter(|m| self.server.up && m.is_heard()) else {
            return;
        };
        let Some(mut assignments) = link.assigned.follow(&self.snapshot, &machine.id) else { return };
        bug::tell(self.bug, &mut assignments);
        let same = link.told.as_ref().is_some_and(|told| {
            told.len() == assignments.len()
                && told.iter().zip(&assignments).all(|(a, b)| crate::machine::is_same(a, b))
        });
        if same {
            return;
        }
        let told = Arc::new(assignments);
        link.told = Some(told.clone());
        let session = link.session;
        // Always the same time: assignments arrive in their order.
        self.after(4, Due::Assign(name.to_owned(), session, told));
    }

    fn take_reports(&mut self, name: &str, session: u64) {
        let Some(link) = self.server.links.get_mut(name).filter(|link| link.session == session) else {
            return;
        };
        let reports = std::mem::take(&mut link.inbox);
        if self.server.up {
            self.write_down(name, reports);
        }
    }

    fn write_down(&mut self, name: &str, reports: Vec<Report>) {
        let Some(node) = self.machines.get(name).map(|m| m.id.clone()) else { return };
        let now_ms = self.now_ms;
        self.tally.reports += reports.len() as u64;
        self.commit(|tx, _| {
            for report in &reports {
                // A refusal is the agent's to ignore: the next assignments tell it what to do.
                let _ = plan::reports::apply(tx, &node, report, now_ms);
            }
        });
    }

    /// The connection to a node is lost, and in a while the server notices.
    pub(crate) fn unheard(&mut self, name: &str) {
        if let Some(link) = self.server.links.get_mut(name) {
            link.cut();
        }
        self.after(SILENT_AFTER_MS, Due::Silent(name.to_owned()));
    }

    fn silent(&mut self, name: &str) {
        let Some(machine) = self.machines.get(name).filter(|m| self.server.up && !m.is_heard()) else {
            return;
        };
        let (node, now_ms) = (machine.id.clone(), self.now_ms);
        self.commit(|tx, _| plan::node_loss::silent(tx, &node, now_ms));
    }

    /// The connection to a node is made (again): it registers, tells everything, and is told everything.
    pub(crate) fn heard(&mut self, name: &str) {
        if !self.server.up || !self.machines.get(name).is_some_and(Machine::is_heard) {
            return;
        }
        let Some(record) = self.records.get(name).cloned() else { return };
        if let Some(link) = self.server.links.get_mut(name) {
            link.cut();
        }
        self.commit(|tx, _| plan::node_loss::register(tx, record));
        self.publish(name);
        self.with_machine(name, |machine, hands| machine.tell_all(hands));
    }

    // === the balancer ===

    fn after_balancer(&mut self) {
        if self.balancer.news && !self.server.observe_due {
            self.server.observe_due = true;
            let ms = self.soon(20);
            self.after(ms, Due::Observe);
        }
        self.work_when_due();
    }

    // === the server ===

    /// The server is killed, with all it had in memory, the balancer and what was on its way to it. It starts again
    /// after a while.
    pub(crate) fn kill_server(&mut self, down_ms: i64) {
        if !self.server.up {
            return;
        }
        self.tally.faults += 1;
        let links = std::mem::take(&mut self.server.links);
        self.server = crate::world::Server { links, ..Default::default() };
        for link in self.server.links.values_mut() {
            link.cut();
            link.publish_due = false;
        }
        self.balancer = Default::default();
        self.after(down_ms, Due::ServerUp);
    }

    fn start_server(&mut self) {
        if self.server.up {
            return;
        }
        self.reload();
        self.server.up = true;
        self.server.dirty = Dirty::everything();
        self.pass_in(1);
        self.server.balance_due = true;
        self.after(1, Due::Balance);
        for name in self.machines.keys().cloned().collect::<Vec<_>>() {
            let ms = self.soon(1_000);
            self.after(ms, Due::Heard(name.clone()));
            self.after(SILENT_AFTER_MS, Due::Silent(name));
        }
    }
}
