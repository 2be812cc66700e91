//! The load balancer (an Application Load Balancer's data plane): `decide` decides, `act` moves packets.
//!
//! The control plane translates its records into one [`config::BalancerConfig`] value and hands it to
//! [`Balancer::apply`]; what the balancer learns (target health, requests in flight, listeners that could not bind)
//! is read back level-triggered: wait on [`Balancer::changes`], then read everything again.

mod act;
pub mod config;
pub mod decide;

pub use act::{
    Balancer, CountersSnapshot, GroupCounts, ListenerStatus, LoadBalancerCounts, Settings, TargetStatus,
};
