//! Development commands: `cargo xtask <command>`.

mod bench;
mod codegen;
mod coverage;
mod fuzz;
mod sim;
mod tidy;

const USAGE: &str = "usage: cargo xtask codegen [--botocore DIR] | coverage [--check] | tidy | \
                     bench NAME… | bench all [--write] | sim [--seeds N | --minutes N | --weeks N | SCRIPT…] | \
                     fuzz [TARGET…] [--seconds N] | fuzz TARGET --replay FILE";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("codegen") => codegen::run(rest),
        Some("coverage") => coverage::run(rest),
        Some("sim") => sim::run(rest),
        Some("tidy") => tidy::run(rest),
        Some("bench") => bench::run(rest),
        Some("fuzz") => fuzz::run(rest),
        _ => Err(USAGE.to_string()),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            std::process::ExitCode::FAILURE
        }
    }
}
