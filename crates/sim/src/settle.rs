//! When faults end, everything comes to be as it was wished: what is checked then.

use std::collections::{BTreeMap, BTreeSet};

use plan::deployment::{lower_bound, upper_bound};
use plan::reconcile::{Agenda, Dirty, pass};
use serde_json::json;
use state::ecs::{Rollout, Service, ServiceStatus, TaskDefinition};
use state::group::TaskStatus;
use state::{Record, Tx, check};

use crate::placed;
use crate::program::Program;
use crate::world::{Due, World};

/// Nothing that is under way waits for longer than this: the longest backoff is five minutes.
const QUIET_MS: i64 = 6 * 60_000;
/// What never comes to an end, as a program that keeps crashing, is watched for so long.
const PATIENCE_MS: i64 = 45 * 60_000;

impl World {
    /// Ends all faults, lets time pass until nothing moves, and looks at everything.
    pub fn settle(&mut self) {
        self.end_faults();
        let mut left_ms = PATIENCE_MS;
        let mut quiet = false;
        while self.wrong.is_empty() && left_ms > 0 && !quiet {
            match self.next_due_ms() {
                Some(ms) if ms <= QUIET_MS => {
                    let ms = ms.max(0).min(left_ms);
                    self.run_for(ms);
                    left_ms -= ms;
                }
                _ => quiet = true,
            }
        }
        if !self.wrong.is_empty() {
            return;
        }
        let mut wrong = check::check(&self.snapshot);
        for (_, service) in self.snapshot.services.iter() {
            self.check_service(service, &mut wrong);
        }
        if quiet {
            self.check_nothing_was_missed(&mut wrong);
            self.check_machines(&mut wrong);
            self.check_restart_counts(&mut wrong);
            self.check_views(&mut wrong);
        }
        self.wrong.extend(wrong);
    }

    fn end_faults(&mut self) {
        self.server.loses_commit = false;
        if !self.server.up {
            self.after(0, Due::ServerUp);
        }
        for name in self.machines.keys().cloned().collect::<Vec<_>>() {
            if let Some(link) = self.server.links.get_mut(&name) {
                (link.drop, link.repeat, link.late) = (0, 0, 0);
            }
            self.with_machine(&name, |machine, hands| {
                (machine.up, machine.linked) = (true, true);
                machine.cure_all(hands);
            });
            self.after(100, Due::AgentUp(name.clone()));
            self.after(200, Due::Heard(name));
        }
        self.run_for(1_000);
    }

    /// A service is as it was wished, unless something that it says itself stands against that.
    fn check_service(&self, service: &Service, wrong: &mut Vec<String>) {
        let name = &service.name;
        let tasks = self.tasks(name);
        if service.status != ServiceStatus::Active {
            if service.status != ServiceStatus::Inactive || !tasks.is_empty() {
                wrong.push(format!(
                    "{name} was deleted, is {:?} and has {} tasks",
                    service.status,
                    tasks.len()
                ));
            }
            return;
        }
        let Some(primary) = service.primary() else {
            wrong.push(format!("{name} has no primary deployment"));
            return;
        };
        let definition =
            plan::service_task::definition_key(&service.scope, &primary.template.task_definition_arn)
                .and_then(|key| self.snapshot.task_definitions.get(&key).cloned());
        let well = |d: &TaskDefinition| d.spec.containers.iter().all(|c| Program::of(&c.image).is_well());
        if !definition.as_ref().is_some_and(|d| well(d)) || primary.rollout == Rollout::Failed {
            return;
        }
        let told = service.events.first().map_or("", |e| e.message.as_str());
        let (min, max) = (service.deployment.minimum_healthy_percent, service.deployment.maximum_percent);
        let forbidden = lower_bound(service.desired_count, min) >= upper_bound(service.desired_count, max);
        if told.contains("was unable to stop or start tasks") && forbidden {
            return;
        }
        let says = |text| service.events.iter().any(|e| e.message.contains(text));
        let is_gone = |arn| self.snapshot.target_groups.get(arn).is_none();
        let mut balancers = primary.template.load_balancers.iter();
        if balancers.any(|b| is_gone(&b.target_group_arn)) && says("failed to register targets") {
            return;
        }
        let unplaced = says("was unable to place a task");
        if unplaced && !placed::has_room(&self.snapshot, service) {
            return;
        }
        let running = self.running(name).len();
        let done = service.steady && service.deployments.len() == 1 && primary.rollout == Rollout::Completed;
        if !done || running != service.desired_count as usize || tasks.len() != running {
            let events: Vec<_> = service.events.iter().take(5).map(|e| &e.message).collect();
            let statuses: Vec<_> = tasks.iter().map(|t| t.status().as_str()).collect();
            wrong.push(format!(
                "{name} wants {} tasks and has {statuses:?}, steady {}, {} deployments, {:?}; it said {events:#?}",
                service.desired_count,
                service.steady,
                service.deployments.len(),
                primary.rollout
            ));
        }
    }

    /// A pass over everything has nothing to do: each commit woke those whom it concerned.
    fn check_nothing_was_missed(&mut self, wrong: &mut Vec<String>) {
        if self.server.agenda.next_at_ms().is_some_and(|at| at <= self.now_ms) {
            return;
        }
        let mut tx = Tx::new(self.snapshot.clone());
        let agenda = &mut Agenda::default();
        pass(&mut tx, &mut self.ids.clone(), self.now_ms, &Dirty::everything(), agenda);
        let (after, changed) = tx.into_snapshot();
        // A complaint that still holds is told again after a while, whenever somebody looks.
        let told_again = |key: &str| {
            let (old, new) = (self.snapshot.services.get(key), after.services.get(key));
            old.zip(new).is_some_and(|(old, new)| {
                Service { events: old.events.clone(), ..Service::clone(new) } == **old
            })
        };
        // A deleted task definition is looked for by the look at everything alone, which the server takes on a period.
        let expected = |(table, key): &&(u8, String)| match *table {
            Service::TABLE => told_again(key),
            TaskDefinition::TABLE => after.task_definitions.get(key).is_none(),
            _ => false,
        };
        if let Some((table, key)) = changed.iter().find(|change| !expected(change)) {
            wrong.push(format!("a pass over everything still changes table {table} {key}"));
        }
    }

    /// What runs on the machines is what the records say, and nothing else.
    fn check_machines(&self, wrong: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for (name, machine) in &self.machines {
            for (key, _) in machine.running() {
                let group = self.snapshot.groups.get(key).filter(|g| !g.is_stopped());
                if group.and_then(|g| g.node()) != Some(machine.id.as_str()) {
                    wrong.push(format!("{key} runs on {name}, where nothing is to run of it"));
                }
                if !seen.insert(key) {
                    wrong.push(format!("{key} runs on two machines"));
                }
            }
        }
        for (key, group) in self.snapshot.groups.iter() {
            match group.status() {
                TaskStatus::Running if !seen.contains(key) => {
                    wrong.push(format!("{key} is RUNNING, and no container of it is"));
                }
                TaskStatus::Running | TaskStatus::Stopped => {}
                other => wrong.push(format!("{key} stays {}", other.as_str())),
            }
        }
    }

    /// What DescribeServices answers is what runs on the machines.
    fn check_views(&mut self, wrong: &mut Vec<String>) {
        let mut running: BTreeMap<String, u64> = BTreeMap::new();
        for (key, _) in self.machines.values().flat_map(|m| m.running()) {
            if let Some(owner) = self.snapshot.groups.get(key).and_then(|g| g.task().service.as_ref()) {
                *running.entry(owner.name.clone()).or_default() += 1;
            }
        }
        let names: Vec<String> = self.snapshot.services.iter().map(|(_, s)| s.name.clone()).collect();
        for name in names {
            let answer = self.call("ecs", "DescribeServices", &json!({"services": [name]}));
            let told = answer.map(|a| a["services"][0]["runningCount"].as_u64());
            let runs = running.get(&name).copied().unwrap_or(0);
            if told.as_ref().ok() != Some(&Some(runs)) {
                wrong.push(format!("{name} has {runs} tasks running, DescribeServices tells {told:?}"));
            }
        }
        for (key, group) in self.snapshot.groups.iter() {
            let names = self.snapshot.discovery_instances.by_index("owner", key).count();
            let wanted = if group.is_stopped() { 0 } else { group.task().registries.len() };
            if names != wanted {
                wrong.push(format!("{key} has {names} names in Cloud Map and should have {wanted}"));
            }
        }
        for (key, target) in self.snapshot.targets.iter() {
            let owner = target.owner.as_ref().and_then(|owner| self.snapshot.groups.get(owner));
            if target.owner.is_some() && owner.is_none_or(|g| g.is_stopped()) {
                wrong.push(format!("target {} is left over", Record::key(&**target)));
            }
            if target.draining_since_ms.is_some() {
                wrong.push(format!("target {key} drains forever"));
            }
        }
    }
}
