//! `roadstead down`: stops tasks and server and cleans up this machine, whether or not the server runs.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::running::Running;
use crate::secrets::Keyring;
use crate::server::{Server, StartError};
use crate::{cli, data_dir};

/// How long a running server may take to stop its tasks: more than all that it waits for itself, which is 190 s.
const PATIENCE: Duration = Duration::from_secs(200);

/// Stops everything.
pub fn run(options: &cli::Down) -> Result<(), StartError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(StartError("containers and networks need root: run it with sudo".into()));
    }
    if !data_dir::is_ours(&options.data_dir) {
        return Err(StartError(format!(
            "{} is not a data directory of Roadstead: name yours with --data-dir",
            options.data_dir.display()
        )));
    }
    let running = Running::read(&options.data_dir);
    let asked = match running.filter(Running::is_alive) {
        Some(running) => ask_server(&options.data_dir, &running).map(|()| true)?,
        None => false,
    };
    // What a server notes of itself goes with the last of what it had: one that was killed on its way has left some.
    let left = Running::read(&options.data_dir);
    if !asked || left.is_some() {
        stop_without_server(&options.data_dir, left)?;
    }
    if options.delete_data {
        let dir = options.data_dir.display();
        match data_dir::delete(&options.data_dir).map_err(|e| StartError(format!("{dir}: {e}")))? {
            true => println!("Everything is stopped and deleted."),
            false => {
                println!("Everything is stopped and deleted. {dir} stays, for not all in it is Roadstead's.")
            }
        }
    } else {
        let dir = options.data_dir.display();
        println!(
            "Everything is stopped. Definitions, images and logs stay in {dir}; --delete-data deletes them."
        );
    }
    Ok(())
}

fn ask_server(data_dir: &Path, running: &Running) -> Result<(), StartError> {
    let bad = |error: std::io::Error| {
        StartError(format!(
            "the server (process {}) does not answer on {}: {error}. End it with `kill {}` and run this again",
            running.pid, running.listen, running.pid
        ))
    };
    let keyring = Keyring::open(data_dir, &running.account, true)
        .map_err(|error| StartError(format!("secret.key: {error}")))?;
    let authorization = format!("Bearer {}", keyring.control_token());
    let answer = match running.ask("POST", "down", &authorization) {
        // Killed before it could answer.
        Err(_) if !running.is_alive() => return Ok(()),
        answer => answer.map_err(bad)?,
    };
    if !answer.starts_with("HTTP/1.1 202") {
        let text = answer.lines().last().unwrap_or_default();
        return Err(StartError(format!("the server refused to stop: {text}")));
    }
    println!("Stopping all tasks …");
    let patience = Instant::now() + PATIENCE;
    while running.is_alive() {
        if Instant::now() > patience {
            return Err(StartError(format!(
                "the server (process {}) has not stopped after {} s",
                running.pid,
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// No server runs: this process takes its place for as long as it takes to stop what it left running.
fn stop_without_server(data_dir: &Path, running: Option<Running>) -> Result<(), StartError> {
    let options = cli::Up {
        listen: running.as_ref().map_or(([127, 0, 0, 1], 4566).into(), |r| r.listen),
        data_dir: data_dir.to_owned(),
        account: running.as_ref().map_or_else(|| "000000000000".into(), |r| r.account.clone()),
        region: running.as_ref().map_or_else(|| "us-east-1".into(), |r| r.region.clone()),
        cpu_overcommit: 4,
        no_hosts_file: running.is_some_and(|r| !r.hosts_file),
        detach: false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StartError(format!("the runtime: {error}")))?;
    runtime.block_on(async {
        let server = Server::start(&options).await?;
        // Before the controllers are there: they would start the tasks that services miss.
        server.stopping.store(true, Ordering::Relaxed);
        let stop = tokio_util::sync::CancellationToken::new();
        let mut background = crate::reconcile::start(&server, &stop).await;
        server.stop_tasks().await;
        stop.cancel();
        while background.join_next().await.is_some() {}
        server.leave_nothing().await;
        Ok(())
    })?;
    Running::forget(data_dir);
    Ok(())
}
