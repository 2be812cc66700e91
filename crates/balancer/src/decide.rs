//! What the balancer decides, as pure functions: no clock, randomness, file or socket; time and draws are arguments.
//!
//! A request's way: its [`head`] is read, of [`fields`]; [`rules`] choose an action by [`pattern`]s; a forward's group and target are chosen by
//! [`targets`] and [`sticky`]; its headers are rewritten by [`forwarded`]; a [`redirect`] is built.
//! A target's [`health`] is a state machine over probe outcomes.

pub mod chunks;
pub mod date;
pub mod fields;
pub mod forwarded;
pub mod head;
pub mod health;
pub mod pattern;
pub mod redirect;
pub mod rules;
pub mod sites;
pub mod sticky;
pub mod targets;
