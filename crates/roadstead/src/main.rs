//! Roadstead: ECS, ECR and Application Load Balancing outside AWS. The one binary.

mod balance;
mod blobs;
mod bodies;
mod bytes_first;
mod cli;
mod clock;
mod data_dir;
mod detach;
mod dispatch;
mod down;
mod drained;
mod files;
mod host;
mod hosts;
mod images;
mod lanes;
mod log_sink;
mod logs;
mod networks;
mod node;
mod own_api;
mod reconcile;
mod running;
mod secrets;
mod serve;
mod server;
mod up;

use std::process::ExitCode;

use clap::Parser;
use nix::sys::stat::{Mode, umask};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whatever the user's own is: what is made for containers is for all their users, and they begin with this one, as
    // under runc. What is for root alone is made so by name.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    // The helpers of containers are this program too, and must not start what the server starts.
    if let Some(code) = agent::reexec(std::env::args_os()) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("ROADSTEAD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let result = match cli::Cli::parse().command {
        cli::Command::Up(options) => up::run(&options),
        cli::Command::Down(options) => down::run(&options),
        cli::Command::CutPoints => {
            cut::points().iter().for_each(|(name, done)| println!("{name}\t{done}"));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roadstead: {error}");
            ExitCode::FAILURE
        }
    }
}
