//! Restart policies: a container begins again where its policy says so, and nowhere else, as the journal tells.

use state::group::{ContainerSpec, StopCode};

use crate::group::Group;
use crate::machine::Event;
use crate::runtime::What;
use crate::world::World;

impl World {
    /// Whether a group on a machine is ending by itself.
    pub(crate) fn is_ended(&self, name: &str, key: &str) -> bool {
        let group = self.machines.get(name).and_then(|machine| machine.groups.get(key));
        let stop = group.and_then(|g| g.mind.as_ref()).and_then(|mind| mind.course.known.stop.as_ref());
        stop.is_some_and(|stop| stop.code == StopCode::EssentialContainerExited)
    }

    /// Looks at what a machine has just done. `ended`: whether the group was ending before.
    pub(crate) fn check_restart(&mut self, name: &str, event: &Event, ended: bool) {
        let (Event::Up { key, .. } | Event::Told { key, .. }) = event else { return };
        let Some(group) = self.machines.get(name).and_then(|machine| machine.groups.get(key)) else { return };
        let Some(spec) = self.snapshot.groups.get(key).and_then(|g| self.snapshot.specs.get(&g.spec)) else {
            return;
        };
        let of = |container: usize| &spec.spec.containers[container];
        match event {
            Event::Up { container, run, .. }
                if *run > 1
                    && group.ran(*container, *run)
                    && !group.is_to_run_again(*container, *run - 1, of(*container)) =>
            {
                self.wrong.push(format!("a container of {key} runs again though its policy says it is over"));
            }
            Event::Told { record, .. } if !ended && self.is_ended(name, key) => {
                let (container, run) = (record.container, record.run);
                let alone =
                    group.containers.iter().filter(|c| c.up).count() + 1 == spec.spec.containers.len();
                if alone && group.is_to_run_again(container, run, of(container)) {
                    self.wrong.push(format!("{key} ends though its container is to run again by its policy"));
                }
            }
            _ => {}
        }
    }

    /// What is told of restarts is what the journals tell.
    pub(crate) fn check_restart_counts(&self, wrong: &mut Vec<String>) {
        for (key, group) in self.machines.values().flat_map(|machine| &machine.groups) {
            let Some(record) = self.snapshot.groups.get(key).filter(|g| !g.is_stopping()) else { continue };
            for (at, container) in record.observed.containers.iter().enumerate() {
                let runs = group.journal.iter().filter(|r| r.container == at && r.what == What::Started);
                let again = (runs.count() as u32).saturating_sub(1);
                if container.restart_count != again {
                    let told = container.restart_count;
                    wrong.push(format!("a container of {key} ran again {again} times, {told} are told"));
                }
            }
        }
    }
}

impl Group {
    fn ran(&self, container: usize, run: u32) -> bool {
        self.journal.iter().any(|r| (r.container, r.run) == (container, run) && r.what == What::Started)
    }

    /// Whether what became of a run has the container begin another.
    fn is_to_run_again(&self, container: usize, run: u32, spec: &ContainerSpec) -> bool {
        let Some(policy) = &spec.restart_policy else { return false };
        let mut of_run = self.journal.iter().filter(|r| (r.container, r.run) == (container, run));
        let (Some(begun), Some(over)) = (of_run.next(), of_run.next()) else { return false };
        let What::Exited { code } = over.what else { return false };
        let long_enough = over.at_ms - begun.at_ms >= i64::from(policy.attempt_period_s) * 1_000;
        long_enough && !policy.ignored_exit_codes.contains(&code)
    }
}
