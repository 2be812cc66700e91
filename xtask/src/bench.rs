//! `cargo xtask bench NAME…`: builds what is measured and what measures, both optimised, and runs it.

use std::process::Command;

/// The command; its arguments are the benchmarks' own.
///
/// # Errors
/// When something cannot be built, or a benchmark fails.
pub fn run(args: &[String]) -> Result<(), String> {
    cargo(&["build", "--quiet", "--release", "--package", "roadstead"], &[])?;
    cargo(&["run", "--quiet", "--release", "--package", "bench", "--features", "peers", "--"], args)
}

fn cargo(what: &[&str], args: &[String]) -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo.args(what).args(args).status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {}: {status}", what.join(" "))) }
}
