//! `cargo xtask bench NAME… | all [--write]`: measures Roadstead beside a real peer in one run and prints the figures.
//!
//! Every benchmark runs in a network and a mount namespace of its own. CPU time is the figure to trust: wall time on
//! shared cores is shown beside it. `--write` also puts the tables into BENCHMARKS.md.

mod api;
mod client;
mod density;
mod engines;
mod image;
mod install;
mod namespace;
mod peers;
mod placement;
mod process;
mod proxy;
mod registry;
mod report;
mod roadstead;
mod run;
mod start;
mod store;

use std::process::ExitCode;

use report::Report;

/// One benchmark.
struct Bench {
    /// What it is called on the command line and in BENCHMARKS.md.
    name: &'static str,
    /// Installs what it compares to, where there is a network.
    prepare: fn() -> Result<(), String>,
    /// Measures, in namespaces of its own.
    run: fn() -> Result<Report, String>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "start", prepare: peers::install, run: start::run },
    Bench { name: "api", prepare: api::prepare, run: api::run },
    Bench { name: "run", prepare: run::prepare, run: run::run },
    Bench { name: "registry", prepare: registry::prepare, run: registry::run },
    Bench { name: "proxy", prepare: proxy::prepare, run: proxy::run },
    Bench { name: "store", prepare: || Ok(()), run: store::run },
    Bench { name: "placement", prepare: || Ok(()), run: placement::run },
    Bench { name: "density", prepare: density::prepare, run: density::run },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    if let [flag, name] = args
        && flag == namespace::INSIDE
    {
        return namespace::enter().and_then(|()| print(find(name)?));
    }
    let write = args.iter().any(|arg| arg == "--write");
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--write").collect();
    let chosen: Vec<&Bench> = match names[..] {
        [] => return Err(format!("which? all, or some of: {}", known())),
        ["all"] => BENCHES.iter().collect(),
        _ => names.into_iter().map(find).collect::<Result<_, _>>()?,
    };
    install::apt("ip", "iproute2")?;
    for bench in chosen {
        println!("\n== {}", bench.name);
        (bench.prepare)().map_err(|why| format!("{}: {why}", bench.name))?;
        let table = namespace::run_inside(bench.name)?;
        if write {
            report::write(bench.name, &table)?;
        }
    }
    Ok(())
}

fn known() -> String {
    BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ")
}

fn find(name: &str) -> Result<&'static Bench, String> {
    let found = BENCHES.iter().find(|bench| bench.name == name);
    found.ok_or_else(|| format!("there is no benchmark {name}; there are: {}", known()))
}

fn print(bench: &Bench) -> Result<(), String> {
    let report = (bench.run)()?;
    print!("{report}");
    Ok(())
}
