//! The node agent: decide.rs decides, act/ runs containers, networks, volumes and logs.
//!
//! [`Agent::assign`] takes the full set of groups that this node is to have; each group has a task of the runtime
//! (`group.rs`) that asks [`decide`] what to do, does it, and reports what it sees. Containers belong to supervisor
//! processes (`act/supervisor`), so that the agent can be killed and replaced while they run.

use std::ffi::OsString;

pub mod act;
mod agent;
pub mod decide;
mod group;
mod node;

pub use agent::{Agent, ContainerUsage};
pub use node::{AgentConfig, Connections, Networks};

/// Runs the program's hidden subcommand, if the arguments ask for it: the process that all supervisors are forked from.
///
/// Must be called first thing in `main`, before any thread or runtime exists. Returns the exit code, or `None` when the
/// arguments are for somebody else.
pub fn reexec(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let mut args = args.into_iter().skip(1);
    (args.next()? == act::supervisor::NURSERY).then(act::supervisor::nursery::main)
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> state::TimeMs {
    act::supervisor::now_ms()
}
