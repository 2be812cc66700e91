//! What the agent does to the world, as `decide` says.

pub mod dns;
pub mod image;
pub mod logs;
pub mod metadata;
pub mod network;
pub mod remove;
pub mod runtime;
pub mod supervisor;
pub mod volume;
