//! The peers, from the ordinary package registries.

use std::path::PathBuf;
use std::process::Command;

/// Installs a Debian package unless a program of it is there.
pub fn apt(program: &str, package: &str) -> Result<(), String> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
        || ["/usr/sbin", "/sbin"].iter().any(|folder| PathBuf::from(folder).join(program).is_file());
    if found {
        return Ok(());
    }
    eprintln!("installing {package}");
    command("apt-get", &["update", "-qq"])?;
    let _unstarted = NoServices::forbid().map_err(|error| format!("{POLICY}: {error}"))?;
    let install = ["install", "-y", "-qq", "--no-install-recommends", package];
    let quietly = "export DEBIAN_FRONTEND=noninteractive; exec apt-get \"$@\" >/dev/null";
    command("sh", &[&["-c", quietly, "sh"][..], &install[..]].concat())
}

/// What Debian's packages ask before they start a service of theirs.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, no service of a package that is installed is started: each benchmark starts what it measures.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn forbid() -> std::io::Result<NoServices> {
        use std::os::unix::fs::OpenOptionsExt;
        let new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        match new {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n")?;
                Ok(NoServices { ours: true })
            }
            // The machine has a policy of its own.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(NoServices { ours: false }),
            Err(error) => Err(error),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

/// Installs a Python package of an exact version (`moto[server]==5.2.5`) into a virtual environment of its own; the
/// folder of its programs.
pub fn pip(package: &str) -> Result<PathBuf, String> {
    let name: String = package.chars().take_while(char::is_ascii_alphanumeric).collect();
    let venv = crate::process::target().join("bench-venvs").join(&name);
    let (bin, mark) = (venv.join("bin"), venv.join("installed"));
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == package) {
        return Ok(bin);
    }
    eprintln!("installing {package}");
    apt("python3", "python3")?;
    let path = venv.to_string_lossy().into_owned();
    if command("python3", &["-m", "venv", &path]).is_err() {
        apt("no-such-program", "python3-venv")?;
        command("python3", &["-m", "venv", &path])?;
    }
    let program = bin.join("pip").to_string_lossy().into_owned();
    command(&program, &["install", "--quiet", "--disable-pip-version-check", package])?;
    std::fs::write(&mark, package).map_err(|error| format!("{}: {error}", mark.display()))?;
    Ok(bin)
}

/// Runs a command to its end.
pub fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new(program).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} {}: {status}", arguments.join(" "))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
