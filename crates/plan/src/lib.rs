//! The decisions: where a group runs, what a service starts and stops, which targets receive, what is forgotten.
//!
//! Everything here is a function of a transaction, the time and a stream of ids. Controllers are level-triggered: they
//! are given no event, only the state; running one twice does nothing the second time. [`reconcile::pass`] runs them all.

pub mod assignments;
pub mod breaker;
pub mod constraint;
pub mod deployment;
pub mod ecs_service;
pub mod events;
#[cfg(test)]
mod fixture;
pub mod garbage;
mod images;
pub mod launch;
pub mod names;
pub mod network;
pub mod node_loss;
pub mod placement;
pub mod reconcile;
pub mod registration;
pub mod reports;
pub mod service_task;
pub mod target_health;
#[cfg(test)]
mod tests;
pub mod traffic;

pub use assignments::{Assigned, assignments};
pub use launch::{Launch, launch, stop};
pub use placement::{Reason, Unplaced};

/// When a controller wants to run again though nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Next {
    /// Not later than this; `None` = only when something changes.
    pub again_at_ms: Option<state::TimeMs>,
}

impl Next {
    /// Nothing to wait for.
    pub const IDLE: Next = Next { again_at_ms: None };

    /// At a time.
    pub fn at(at_ms: state::TimeMs) -> Next {
        Next { again_at_ms: Some(at_ms) }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn or(self, other: Next) -> Next {
        Next { again_at_ms: self.again_at_ms.into_iter().chain(other.again_at_ms).min() }
    }
}
