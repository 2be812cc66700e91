//! A target's health: a state machine over probe outcomes, and the words in which ELB reports it
//! (ELB documents "Health checks for Application Load Balancer target groups" and "TargetHealth").

use crate::config::HealthCheck;

/// `TargetHealth.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// Registered, not yet judged.
    Initial,
    /// Gets requests.
    Healthy,
    /// Gets requests only when no target of the group is healthy.
    Unhealthy,
    /// Its group is used by no listener.
    Unused,
    /// Deregistered, finishing what is in flight.
    Draining,
}

impl HealthState {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unused => "unused",
            Self::Draining => "draining",
        }
    }
}

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The target answered with this status code.
    Answered(u16),
    /// No answer within the health check's timeout.
    TimedOut,
    /// No connection, or no HTTP answer on it.
    Failed,
}

/// `DescribeTargetHealth`'s view of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// State.
    pub state: HealthState,
    /// `Elb.…` or `Target.…`; absent when healthy.
    pub reason: Option<&'static str>,
    /// AWS's sentence for the reason.
    pub description: Option<String>,
}

/// The state machine of one target. Starts in `Initial`; one success ends that, as ALB does at registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthMachine {
    judged: Option<bool>,
    probed: bool,
    passes_in_row: u32,
    failures_in_row: u32,
    last_failure: Option<Probe>,
}

impl HealthCheck {
    /// Whether a probe found what the check asks for.
    pub fn passes(&self, probe: Probe) -> bool {
        matches!(probe, Probe::Answered(code) if self.matcher.matches(code))
    }
}

impl HealthMachine {
    /// Takes a probe's outcome. True when what is reported of the target may have changed.
    pub fn observe(&mut self, probe: Probe, check: &HealthCheck) -> bool {
        let before = *self;
        self.probed = true;
        if check.passes(probe) {
            self.failures_in_row = 0;
            self.passes_in_row = self.passes_in_row.saturating_add(1);
            if self.judged.is_none() || self.passes_in_row >= check.healthy_threshold {
                self.judged = Some(true);
            }
        } else {
            self.passes_in_row = 0;
            self.failures_in_row = self.failures_in_row.saturating_add(1);
            self.last_failure = Some(probe);
            if self.failures_in_row >= check.unhealthy_threshold {
                self.judged = Some(false);
            }
        }
        (before.judged, before.probed) != (self.judged, self.probed)
            || (self.judged == Some(false) && before.last_failure != self.last_failure)
    }

    /// Whether the target counts as healthy.
    pub fn is_healthy(&self) -> bool {
        self.judged == Some(true)
    }

    /// Whether it is neither healthy nor unhealthy yet.
    pub fn is_undecided(&self) -> bool {
        self.judged.is_none()
    }

    /// What is reported, given whether the group is used by a listener and whether the target is draining.
    pub fn report(&self, in_use: bool, draining: bool) -> TargetHealth {
        let health = |state, reason, description: &str| TargetHealth {
            state,
            reason: Some(reason),
            description: Some(description.to_owned()),
        };
        if draining {
            return health(
                HealthState::Draining,
                "Target.DeregistrationInProgress",
                "Target deregistration is in progress",
            );
        }
        if !in_use {
            let text = "Target group is not configured to receive traffic from the load balancer";
            return health(HealthState::Unused, "Target.NotInUse", text);
        }
        match (self.judged, self.last_failure) {
            (Some(true), _) => TargetHealth { state: HealthState::Healthy, reason: None, description: None },
            (None, _) if !self.probed => health(
                HealthState::Initial,
                "Elb.RegistrationInProgress",
                "Target registration is in progress",
            ),
            (None, _) => {
                health(HealthState::Initial, "Elb.InitialHealthChecking", "Initial health checks in progress")
            }
            (Some(false), Some(Probe::Answered(code))) => health(
                HealthState::Unhealthy,
                "Target.ResponseCodeMismatch",
                &format!("Health checks failed with these codes: [{code}]"),
            ),
            (Some(false), Some(Probe::TimedOut)) => {
                health(HealthState::Unhealthy, "Target.Timeout", "Request timed out")
            }
            (Some(false), _) => {
                health(HealthState::Unhealthy, "Target.FailedHealthChecks", "Health checks failed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBES: [Probe; 4] = [Probe::Answered(200), Probe::Answered(502), Probe::TimedOut, Probe::Failed];

    /// The definition over a whole history: the last run of equal outcomes that was long enough decides.
    fn reference(history: &[Probe], check: &HealthCheck) -> Option<bool> {
        let mut judged = None;
        for end in 1..=history.len() {
            let passed = |p: &Probe| *p == Probe::Answered(200);
            let last = passed(&history[end - 1]);
            let run = history[..end].iter().rev().take_while(|p| passed(p) == last).count() as u32;
            let needed = match (last, judged) {
                (true, None) => 1,
                (true, _) => check.healthy_threshold,
                (false, _) => check.unhealthy_threshold,
            };
            if run >= needed {
                judged = Some(last);
            }
        }
        judged
    }

    #[test]
    fn every_history_of_up_to_seven_probes() {
        for (healthy_threshold, unhealthy_threshold) in [(2, 2), (3, 2), (2, 3), (5, 2)] {
            let check = HealthCheck { healthy_threshold, unhealthy_threshold, ..HealthCheck::default() };
            for n in 0..4_usize.pow(7) {
                let history: Vec<_> = (0..7).map(|i| PROBES[n / 4_usize.pow(i) % 4]).collect();
                let mut machine = HealthMachine::default();
                for (i, probe) in history.iter().enumerate() {
                    let before = machine.report(true, false);
                    let changed = machine.observe(*probe, &check);
                    let after = machine.report(true, false);
                    assert!(changed || before == after, "an unreported change: {history:?}");
                    let expected = match reference(&history[..=i], &check) {
                        None => HealthState::Initial,
                        Some(true) => HealthState::Healthy,
                        Some(false) => HealthState::Unhealthy,
                    };
                    assert_eq!(after.state, expected, "{:?}", &history[..=i]);
                    assert_eq!(machine.is_healthy(), expected == HealthState::Healthy);
                }
            }
        }
    }

    #[test]
    fn the_words() {
        let check = HealthCheck { unhealthy_threshold: 2, ..HealthCheck::default() };
        let said = |machine: &HealthMachine| {
            let health = machine.report(true, false);
            format!("{} {:?} {:?}", health.state.as_str(), health.reason, health.description)
        };
        let mut machine = HealthMachine::default();
        assert_eq!(
            said(&machine),
            r#"initial Some("Elb.RegistrationInProgress") Some("Target registration is in progress")"#
        );
        machine.observe(Probe::Failed, &check);
        assert_eq!(
            said(&machine),
            r#"initial Some("Elb.InitialHealthChecking") Some("Initial health checks in progress")"#
        );
        machine.observe(Probe::Answered(502), &check);
        assert_eq!(
            said(&machine),
            r#"unhealthy Some("Target.ResponseCodeMismatch") Some("Health checks failed with these codes: [502]")"#
        );
        machine.observe(Probe::TimedOut, &check);
        assert_eq!(said(&machine), r#"unhealthy Some("Target.Timeout") Some("Request timed out")"#);
        machine.observe(Probe::Failed, &check);
        assert_eq!(
            said(&machine),
            r#"unhealthy Some("Target.FailedHealthChecks") Some("Health checks failed")"#
        );
        assert_eq!(machine.report(false, false).reason, Some("Target.NotInUse"));
        assert_eq!(machine.report(false, true).reason, Some("Target.DeregistrationInProgress"));
    }
}
