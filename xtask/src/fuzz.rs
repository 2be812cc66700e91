//! `cargo xtask fuzz`: builds the fuzz targets for libFuzzer and runs each for a bounded time.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "usage: cargo xtask fuzz [TARGET…] [--seconds N] | TARGET --replay FILE";

/// What libFuzzer needs of the compiler: counters of edges, and comparisons to see through. All of it is stable.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Runs the targets named, or all. What is found is printed, with how to repeat it, and is a failure at the end.
///
/// # Errors
/// Arguments that are not understood, what does not build, and finds.
pub fn run(args: &[String]) -> Result<(), String> {
    let (mut names, mut seconds, mut replay) = (Vec::new(), 60_u64, None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--seconds" => seconds = rest.next().and_then(|text| text.parse().ok()).ok_or(USAGE)?,
            "--replay" => replay = Some(rest.next().ok_or(USAGE)?),
            name if !name.starts_with('-') => names.push(name.to_owned()),
            _ => return Err(USAGE.into()),
        }
    }
    let known = folders(&seeds())?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("there is no target {unknown}: {}", known.join(", ")));
    }
    if let Some(file) = replay {
        let [name] = names.as_slice() else { return Err(USAGE.into()) };
        // What is no file would be taken for a corpus, and fuzzed without end.
        if !Path::new(file).is_file() {
            return Err(format!("{file} is no file"));
        }
        let program = build()?;
        let status = fuzzer(&program, name).arg(file).status().map_err(|error| error.to_string())?;
        return if status.success() { Ok(()) } else { Err(format!("{name} fails on {file}")) };
    }
    let program = build()?;
    let names = if names.is_empty() { known } else { names };
    println!("| target | executions | per second | edges | new inputs | found |\n|---|---|---|---|---|---|");
    let mut finds = Vec::new();
    for name in &names {
        finds.extend(one(&program, name, seconds)?);
    }
    if finds.is_empty() { Ok(()) } else { Err(finds.join("\n")) }
}

/// Runs one target, and prints its row. What was found, in words.
fn one(program: &Path, name: &str, seconds: u64) -> Result<Option<String>, String> {
    let root = working();
    let (corpus, log, found) =
        (root.join("corpus").join(name), root.join(format!("{name}.log")), root.join("found"));
    let failed = |error: std::io::Error| format!("{}: {error}", root.display());
    fs::create_dir_all(&corpus).and_then(|()| fs::create_dir_all(&found)).map_err(failed)?;
    let prefix = found.join(format!("{name}-"));
    let said = File::create(&log).map_err(failed)?;
    let status = fuzzer(program, name)
        .arg(format!("-max_total_time={seconds}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}", prefix.display()))
        .args([&corpus, &seeds().join(name)])
        .stdout(said.try_clone().map_err(failed)?)
        .stderr(said)
        .status()
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&fs::read(&log).map_err(failed)?).into_owned();
    let stat = |name: &str| after(&text, &format!("stat::{name}:")).unwrap_or("?");
    let edges = text.rsplit("cov: ").next().and_then(|rest| rest.split(' ').next()).unwrap_or("?");
    let (runs, speed) = (stat("number_of_executed_units"), stat("average_exec_per_sec"));
    let outcome = if status.success() { "nothing" } else { "**a failure**" };
    println!("| {name} | {runs} | {speed} | {edges} | {} | {outcome} |", stat("new_units_added"));
    if status.success() {
        return Ok(None);
    }
    let why =
        text.lines().skip_while(|line| !line.contains("panicked at")).take(2).collect::<Vec<_>>().join(" ");
    let input = text.lines().find_map(|line| line.split("Test unit written to ").nth(1)).map(str::trim);
    let Some(input) = input else {
        let signal = status.signal().map_or(String::new(), |signal| format!(" by signal {signal}"));
        return Ok(Some(format!("{name} ended{signal} and left no input: see {}", log.display())));
    };
    let bytes = fs::read(input).map_err(failed)?;
    let shown: String = bytes.escape_ascii().to_string().chars().take(2000).collect();
    Ok(Some(format!(
        "{name}: {why}\n  input: b\"{shown}\"\n  again: cargo xtask fuzz {name} --replay {input}\n  \
         to keep: copy it to fuzz/seeds/{name}/, where `cargo test -p fuzz` runs it\n  all that was said: {}",
        log.display()
    )))
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// The program, for a target and within the limits of time and memory that make an input a find.
fn fuzzer(program: &Path, name: &str) -> Command {
    let mut fuzzer = Command::new(program);
    fuzzer.env("FUZZ_TARGET", name).args(["-timeout=20", "-rss_limit_mb=3000"]);
    fuzzer
}

/// Builds the program beside everything else, as nothing else has its flags. A target triple is given so that build
/// scripts are built without them.
fn build() -> Result<PathBuf, String> {
    let told = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let triple = after(&told, "host:").ok_or("rustc names no host")?;
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return Err("libFuzzer is built by a C++ compiler, and there is none: apt-get install g++".into());
    }
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", "fuzz", "--bin", "fuzz", "--features", "libfuzzer"])
        .args(["--profile", "fuzz", "--target", triple])
        .arg("--target-dir")
        .arg(working())
        .env("RUSTFLAGS", FLAGS.join(" "))
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cargo build: {status}"));
    }
    Ok(working().join(triple).join("fuzz").join("fuzz"))
}

/// A folder for each target.
fn seeds() -> PathBuf {
    crate::codegen::root().join("fuzz").join("seeds")
}

fn working() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| crate::codegen::root().join("target")).join("fuzz")
}

fn folders(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}
