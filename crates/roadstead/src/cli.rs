//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// ECS, ECR and Application Load Balancing outside AWS, with real containers.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: API, registry, load balancers and this machine's containers. Ctrl-C leaves the containers running.
    Up(Up),
    /// Stop all tasks and the server, and clean up this machine.
    Down(Down),
    /// List the places at which a test can end this program, each with what is done there. Release builds have none.
    #[command(hide = true)]
    CutPoints,
}

/// Options of `up`.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// The address of the one endpoint. Off loopback, real keys are required and shown once.
    #[arg(long, default_value = "127.0.0.1:4566")]
    pub listen: SocketAddr,
    /// Where everything is kept.
    #[arg(long, default_value = "/var/lib/roadstead")]
    pub data_dir: PathBuf,
    /// The account of the default credentials.
    #[arg(long, default_value = "000000000000", value_parser = account)]
    pub account: String,
    /// The region of what Roadstead creates itself (the `default` cluster). Callers name theirs.
    #[arg(long, default_value = "us-east-1", value_parser = region)]
    pub region: String,
    /// How many times this machine's cores tasks may reserve in sum. Each task's own limit holds all the same, and no
    /// task may ask for more than the cores there are. Memory is never overcommitted.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpu_overcommit: u32,
    /// Do not write load balancer names to /etc/hosts.
    #[arg(long)]
    pub no_hosts_file: bool,
    /// Go to the background once serving; the log goes to `roadstead.log` in the data directory.
    #[arg(long)]
    pub detach: bool,
}

/// Options of `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// The data directory given to `up`.
    #[arg(long, default_value = "/var/lib/roadstead")]
    pub data_dir: PathBuf,
    /// Delete the data directory as well: images, logs and definitions.
    #[arg(long)]
    pub delete_data: bool,
}

fn account(text: &str) -> Result<String, String> {
    match text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(text.to_owned()),
        false => Err("an account is twelve digits, such as 000000000000".into()),
    }
}

fn region(text: &str) -> Result<String, String> {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    match text.split('-').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err("a region is lower-case words joined by hyphens, such as us-east-1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_has_the_documented_defaults() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let Command::Up(up) = Cli::parse_from(["roadstead", "up"]).command else { panic!("not up") };
        assert_eq!((up.listen.to_string(), &up.account[..]), ("127.0.0.1:4566".into(), "000000000000"));
        assert!(Cli::try_parse_from(["roadstead", "up", "--account", "12"]).is_err());
        for bad in ["", "US-EAST-1", "us--1", "us east"] {
            assert!(Cli::try_parse_from(["roadstead", "up", "--region", bad]).is_err(), "{bad:?}");
        }
    }
}
