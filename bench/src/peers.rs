//! Other programs that speak the AWS APIs on one machine: moto and MiniStack. Neither verifies signatures.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::install;
use crate::process::Process;

/// Where moto listens, in the benchmark's namespace.
pub const MOTO_PORT: u16 = 5000;
/// Where MiniStack listens.
pub const MINISTACK_PORT: u16 = 5001;

const MOTO: &str = "moto[server]==5.2.5";
const MINISTACK: &str = "ministack==1.5.33";

/// Installs both.
pub fn install() -> Result<(), String> {
    install::pip(MOTO)?;
    install::pip(MINISTACK).map(drop)
}

/// Starts moto and waits for nothing.
pub fn moto(folder: &Path) -> Result<Process, String> {
    let mut command = Command::new(install::pip(MOTO)?.join("moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &MOTO_PORT.to_string()]);
    quiet("moto", command, folder)
}

/// Starts MiniStack and waits for nothing.
pub fn ministack(folder: &Path) -> Result<Process, String> {
    let mut command = Command::new(install::pip(MINISTACK)?.join("ministack"));
    command.env("GATEWAY_PORT", MINISTACK_PORT.to_string()).env("BIND_HOST", "127.0.0.1");
    quiet("MiniStack", command, folder)
}

/// With its files in a folder, and nothing said.
fn quiet(name: &str, mut command: Command, folder: &Path) -> Result<Process, String> {
    command.current_dir(folder).env("HOME", folder).env("TMPDIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::start(name, &mut command)
}
