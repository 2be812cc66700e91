//! A network and a mount namespace of a benchmark's own: no other server can answer in place of the one measured.

use std::io::Read;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// The argument by which this program runs itself inside.
pub const INSIDE: &str = "--inside";

/// Runs a benchmark in a process of its own; what it printed, which is shown as well.
pub fn run_inside(name: &str) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut child = Command::new(program)
        .args([INSIDE, name])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said).map_err(|error| format!("{name}: {error}"))?;
    }
    print!("{said}");
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(said) } else { Err(format!("{name}: {status}")) }
}

/// Enters them. Needs root.
pub fn enter() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("namespaces need root: {error}"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|error| format!("making mounts private: {error}"))?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match up {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("bringing loopback up: {other:?}")),
    }
}
