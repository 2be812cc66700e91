//! The course of one group on its node: what is wanted of it, what is known of it, and what was reported. The same for the
//! agent, which acts, and for the simulator.

use std::sync::Arc;

use state::TimeMs;
use state::assignment::Assignment;
use state::group::Observed;

use super::{Event, Known, Plan, Run, decide, observe};

/// One group, as its agent has it in memory.
#[derive(Debug, Clone)]
pub struct Course {
    /// What is wanted.
    pub assignment: Arc<Assignment>,
    /// What is known. Kept on disk as well.
    pub known: Known,
    /// The server does not know it any more.
    pub abandoned: bool,
    reported: Option<Observed>,
}

impl Course {
    /// A group of which this is known, and nothing was reported yet.
    pub fn new(assignment: Arc<Assignment>, known: Known) -> Course {
        Course { assignment, known, abandoned: false, reported: None }
    }

    /// It is assigned, as it was before or otherwise.
    pub fn assign(&mut self, assignment: Arc<Assignment>) {
        // A report may have been lost on the way: what the server shows differs from what was said.
        if self.reported.as_ref().is_some_and(|reported| *reported != assignment.observed) {
            self.reported = None;
        }
        self.assignment = assignment;
    }

    /// It is assigned no more.
    pub fn abandon(&mut self, now_ms: TimeMs) {
        self.abandoned = true;
        self.known.abandon(now_ms);
    }

    /// Takes in what happened.
    pub fn learn(&mut self, event: Event, now_ms: TimeMs) {
        let essential: Vec<bool> = self.assignment.spec.containers.iter().map(|c| c.essential).collect();
        let fargate = self.assignment.launch_type == "FARGATE";
        self.known.learn(fargate, &essential, event, now_ms);
    }

    /// Its supervisor is gone, and with it what ran: nobody saw how that ended.
    pub fn lose_supervisor(&mut self, now_ms: TimeMs) {
        for container in 0..self.known.containers.len() {
            let known = &self.known.containers[container];
            if known.run == Run::Running {
                let run = known.runs;
                let (code, out_of_memory, at_ms) = (None, false, now_ms);
                self.learn(Event::Exited { container, run, code, out_of_memory, at_ms }, now_ms);
            }
        }
    }

    /// Decides what to begin. Also whether that is to be noted first: what is known has changed.
    pub fn decide(&mut self, now_ms: TimeMs) -> (Plan, bool) {
        let before = self.known.clone();
        let plan = decide(&self.assignment, &mut self.known, now_ms);
        let changed = self.known != before || !plan.steps.is_empty();
        (plan, changed)
    }

    /// What is to be reported now, if it was not yet.
    pub fn report(&mut self) -> Option<Observed> {
        let observed = observe(&self.assignment, &self.known);
        if self.reported.as_ref() == Some(&observed) {
            return None;
        }
        self.reported = Some(observed.clone());
        Some(observed)
    }

    /// All is to be reported again, as to a server that was not heard.
    pub fn report_again(&mut self) {
        self.reported = None;
    }

    /// Nothing is left of it, and nobody asks for it.
    pub fn is_over(&self) -> bool {
        self.known.is_gone() && self.abandoned
    }
}
