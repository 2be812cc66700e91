//! A load balancer that carries no packets: it has the production health machine for each target, probes what runs on
//! the machines, and drains. What it knows of targets is as old as what it was told last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use balancer::config::{HealthCheck, Matcher};
use balancer::decide::health::{HealthMachine, HealthState, Probe};
use state::elb::{Action, Target, TargetGroup, TargetHealth};
use state::{ContainerGroup, Ids, Snapshot, TimeMs, Tx};

use crate::program::between;

/// How long requests in flight take at most.
const IN_FLIGHT_MS_MAX: i64 = 3_000;

/// The balancer's own state: gone when it is killed.
#[derive(Debug, Default)]
pub struct Balancer {
    targets: BTreeMap<String, View>,
    /// Something to be told to the server.
    pub news: bool,
}

/// A target as the balancer has it.
#[derive(Debug)]
struct View {
    /// The task that the record says it is of.
    of: Option<String>,
    /// The task that requests reach.
    owner: Option<String>,
    check: HealthCheck,
    machine: HealthMachine,
    in_use: bool,
    /// It drains, at most until this time by the clock of the records.
    draining_until_ms: Option<TimeMs>,
    /// Nothing is in flight from this time on; set when draining begins.
    quiet_at_ms: TimeMs,
    /// When it was probed last.
    probed_at_ms: TimeMs,
    /// When it is probed next; `None` while a probe would find what is known.
    probe_at_ms: Option<TimeMs>,
}

impl Balancer {
    /// Takes its configuration. Its own times are those of the clock that goes evenly.
    pub fn take(&mut self, snapshot: &Snapshot, dice: &mut Ids, now_ms: TimeMs) {
        let used = used_groups(snapshot);
        self.targets.retain(|key, _| snapshot.targets.get(key).is_some());
        for (key, target) in snapshot.targets.iter() {
            let Some(group) = snapshot.target_groups.get(&target.target_group_arn) else { continue };
            let mut is_new = false;
            let view = self.targets.entry(key.to_owned()).or_insert_with(|| {
                (self.news, is_new) = (true, true);
                View::new(snapshot, target, group, now_ms + between(dice, 1, 50))
            });
            let in_use = used.contains(&group.arn);
            if view.of != target.owner {
                *view = View::new(snapshot, target, group, now_ms + between(dice, 1, 50));
            }
            if in_use != view.in_use {
                (view.in_use, self.news) = (in_use, true);
            }
            if let Some(since_ms) = target.draining_since_ms {
                // The delay may be changed while it drains.
                let delay_ms = i64::from(group.deregistration_delay_s()) * 1000;
                if view.draining_until_ms.replace(since_ms + delay_ms).is_none() {
                    // What a killed balancer had in flight ended with it, and one that drains gets nothing new.
                    let in_flight_ms = if is_new { 0 } else { between(dice, 0, IN_FLIGHT_MS_MAX) };
                    view.quiet_at_ms = now_ms + in_flight_ms;
                    self.news = true;
                }
            }
            // The same address may be registered again while it drains.
            if target.draining_since_ms.is_none() && view.draining_until_ms.is_some() {
                view.draining_until_ms = None;
                self.news = true;
            }
        }
    }

    /// When something is due.
    pub fn next_ms(&self) -> Option<TimeMs> {
        let of = |view: &View| match view.draining_until_ms {
            Some(_) => Some(view.quiet_at_ms).filter(|at| *at < TimeMs::MAX),
            None => view.probe_at_ms,
        };
        self.targets.values().filter_map(of).min()
    }

    /// Does what is due: probes, and sees that nothing is in flight to a target that drains. `idle_too`: also probes of
    /// which each would find what is known.
    pub fn work(&mut self, now_ms: TimeMs, idle_too: bool, answer: impl Fn(&str) -> Probe) {
        for view in self.targets.values_mut() {
            if view.draining_until_ms.is_some() {
                if view.quiet_at_ms <= now_ms {
                    view.quiet_at_ms = TimeMs::MAX;
                    self.news = true;
                }
            } else if view.probe_at_ms.is_some_and(|at| at <= now_ms) {
                self.news |= view.probe(now_ms, idle_too, &answer);
            }
        }
    }

    /// What runs on a group's node changed: it is probed again at its next turn, in the rhythm that it always had.
    pub fn disturbed(&mut self, key: &str, now_ms: TimeMs) {
        for view in self.targets.values_mut().filter(|v| v.owner.as_deref() == Some(key)) {
            let interval_ms = view.check.interval_ms as i64;
            let turns = (now_ms - view.probed_at_ms).div_euclid(interval_ms) + 1;
            view.probe_at_ms.get_or_insert(view.probed_at_ms + turns * interval_ms);
        }
    }

    /// Writes down what it sees, as the server does.
    pub fn observe(&mut self, tx: &mut Tx) {
        self.news = false;
        for (key, view) in &self.targets {
            let seen = view.machine.report(view.in_use, view.draining_until_ms.is_some());
            let idle = view.quiet_at_ms == TimeMs::MAX;
            let Some(record) = tx.get::<Target>(key) else { continue };
            let draining = record.draining_since_ms.is_some();
            let drained = record.drained || (draining && seen.state == HealthState::Draining && idle);
            let health = TargetHealth {
                state: seen.state.as_str().to_owned(),
                reason: seen.reason.map(str::to_owned),
                description: seen.description,
            };
            if (!draining && health != record.health) || drained != record.drained {
                let health = if draining { record.health.clone() } else { health };
                tx.put(Target { health, drained, ..Target::clone(&record) });
            }
        }
    }

    /// Whether it sends requests to a group: one of its targets is registered, as far as the balancer knows, or requests
    /// to it are still in flight and may take their time. `records_ms` is now by the clock of the records.
    pub fn routes(&self, owner: &str, now_ms: TimeMs, records_ms: TimeMs) -> bool {
        self.targets.values().filter(|v| v.owner.as_deref() == Some(owner) && v.in_use).any(|view| match view
            .draining_until_ms
        {
            None => true,
            Some(until_ms) => {
                now_ms < view.quiet_at_ms && view.quiet_at_ms < TimeMs::MAX && records_ms < until_ms
            }
        })
    }
}

impl View {
    fn new(snapshot: &Snapshot, target: &Target, group: &TargetGroup, probe_at_ms: TimeMs) -> View {
        let check = &group.health_check;
        View {
            of: target.owner.clone(),
            owner: target.owner.clone().or_else(|| reached(snapshot, target)),
            check: HealthCheck {
                port: check.port.parse().ok(),
                path: check.path.clone(),
                interval_ms: u64::from(check.interval_s) * 1000,
                timeout_ms: u64::from(check.timeout_s) * 1000,
                healthy_threshold: check.healthy_threshold,
                unhealthy_threshold: check.unhealthy_threshold,
                matcher: Matcher::parse(&check.matcher).unwrap_or_else(|_| HealthCheck::default().matcher),
            },
            machine: HealthMachine::default(),
            in_use: false,
            draining_until_ms: None,
            quiet_at_ms: 0,
            probed_at_ms: probe_at_ms,
            probe_at_ms: Some(probe_at_ms),
        }
    }

    /// Probes once. True when what is reported may have changed.
    fn probe(&mut self, now_ms: TimeMs, idle_too: bool, answer: impl Fn(&str) -> Probe) -> bool {
        let probe = self.owner.as_deref().map_or(Probe::Failed, answer);
        let before = self.machine;
        let changed = self.machine.observe(probe, &self.check);
        // Judged so already, with nothing that speaks against it: more of the same changes nothing.
        let settled = !changed && !before.is_undecided() && before.is_healthy() == self.check.passes(probe);
        self.probed_at_ms = now_ms;
        self.probe_at_ms = (!settled || idle_too).then(|| now_ms + self.check.interval_ms as i64);
        changed
    }
}

/// The task that a target leads to which nobody owns, if its service has it registered there.
fn reached(snapshot: &Snapshot, target: &Target) -> Option<String> {
    let leads_to = |group: &ContainerGroup| {
        let wanted =
            group.task().load_balancers.iter().find(|b| b.target_group_arn == target.target_group_arn);
        let bindings = || group.observed.containers.iter().flat_map(|c| &c.bindings);
        wanted.is_some_and(|wanted| match group.attachment() {
            Some(own) => (IpAddr::V4(own.private_ip), wanted.container_port) == (target.address, target.port),
            None => {
                group.node().is_some_and(|node| state::node::instance_id(node) == target.id)
                    && bindings().any(|b| b.host_port == target.port)
            }
        })
    };
    let serves = |group: &ContainerGroup| {
        !group.is_stopped()
            && group.traffic.activated_at_ms.is_some()
            && group.traffic.deactivated_at_ms.is_none()
    };
    let mut groups = snapshot.groups.iter().filter(|(_, group)| serves(group) && leads_to(group));
    groups.next().map(|(key, _)| key.to_owned())
}

/// Target groups that a listener or a rule forwards to.
fn used_groups(snapshot: &Snapshot) -> BTreeSet<String> {
    let listeners = snapshot.listeners.iter().flat_map(|(_, l)| &l.default_actions);
    let rules = snapshot.rules.iter().flat_map(|(_, r)| &r.actions);
    let mut used = BTreeSet::new();
    for action in listeners.chain(rules) {
        if let Action::Forward { groups, .. } = action {
            used.extend(groups.iter().map(|(arn, _)| arn.clone()));
        }
    }
    used
}
