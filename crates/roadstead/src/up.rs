//! `roadstead up`.

use std::io::Write;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::files::files;
use crate::running::{Noted, Running};
use crate::server::{Server, StartError};
use crate::{cli, reconcile, serve};

/// Serves until Ctrl-C or SIGTERM (containers go on) or `roadstead down` (everything is stopped).
pub fn run(options: &cli::Up) -> Result<(), StartError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(StartError("containers, networks and limits need root: run it with sudo".into()));
    }
    if options.detach {
        return crate::detach::run(options);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StartError(format!("the runtime: {error}")))?;
    let result = runtime.block_on(serve_until_told(options));
    // Blocking reads of a stopped process need not be waited for.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}

async fn serve_until_told(options: &cli::Up) -> Result<(), StartError> {
    // Before anything answers: who has seen an answer may signal at once, and not end the process unheard.
    let mut signals = Signals::listen()?;
    // Before anything is started, for the port may be taken; clients wait until they are accepted.
    let listeners = serve::bind(options.listen).await.map_err(|error| busy(options, &error))?;
    let listen = listeners[0].local_addr().map_err(|error| busy(options, &error))?;
    let options = &cli::Up { listen, ..options.clone() };
    let server = Server::start(options).await?;
    // `down` may come as soon as something answers.
    let noted = note(&server, options)?;
    cut::cut!("server.noted");
    let stop = CancellationToken::new();
    let mut background = reconcile::start(&server, &stop).await;
    greet(&server, options);
    let places = Arc::new(Semaphore::new(files().api_connections_max()));
    let lanes = serve::lanes(&server, &stop, &mut background);
    let lanes = Arc::new(lanes.map_err(|error| StartError(format!("the API's threads: {error}")))?);
    for listener in listeners {
        background.spawn(serve::accept(listener, lanes.clone(), places.clone(), stop.clone()));
    }
    drop(lanes);
    let everything = tokio::select! {
        () = signals.told() => false,
        () = server.stop_everything.cancelled() => true,
    };
    // A reset is finished first, and none begins any more.
    let _alone = server.ending.lock().await;
    if everything {
        println!("Stopping all tasks …");
        cut::cut!("down.told");
        server.stop_tasks().await;
    }
    stop.cancel();
    while background.join_next().await.is_some() {}
    if everything {
        server.leave_nothing().await;
    } else {
        server.node.leave_running().await;
        say_what_stays(&server, options);
    }
    drop(noted);
    Ok(())
}

fn busy(options: &cli::Up, error: &std::io::Error) -> StartError {
    let dir = options.data_dir.display();
    // Most often it is the same command given twice.
    if let Some(Running { pid, .. }) = Running::read(&options.data_dir).filter(Running::is_alive) {
        return StartError(format!(
            "data directory {dir} is in use by process {pid}: stop that process (`roadstead down --data-dir {dir}`) \
             or choose another --data-dir"
        ));
    }
    StartError(format!("cannot listen on {}: {error}. Choose another with --listen", options.listen))
}

/// Ctrl-C and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    fn listen() -> Result<Signals, StartError> {
        let listen = |kind| signal(kind).map_err(|error| StartError(format!("signals: {error}")));
        Ok(Signals(listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
    }

    /// Returns when one came, since the start.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn note(server: &Server, options: &cli::Up) -> Result<Noted, StartError> {
    let running = Running {
        pid: std::process::id().cast_signed(),
        listen: options.listen,
        account: options.account.clone(),
        region: options.region.clone(),
        hosts_file: !options.no_hosts_file,
    };
    running
        .note(server.data_dir())
        .map_err(|error| StartError(format!("up.json in the data directory: {error}")))
}

fn greet(server: &Server, options: &cli::Up) {
    let endpoint = &server.dispatch.site.endpoint;
    println!("Roadstead {} serves {endpoint}", env!("CARGO_PKG_VERSION"));
    println!(
        "  data in {}, account {}, region {}",
        server.data_dir().display(),
        options.account,
        options.region
    );
    let capacity = server.node.record().capacity;
    let vcpu = f64::from(capacity.cpu_units) / 1024.0;
    println!("  room for tasks: {vcpu} vCPU, {} MiB", capacity.memory_mib);
    let (access, secret) = match &server.dispatch.keyring.root {
        Some((access, secret)) => (access.as_str(), secret.as_str()),
        None => (crate::secrets::DEFAULT_KEY, crate::secrets::DEFAULT_KEY),
    };
    // The root key is shown once: at the first start of this data directory.
    let shown = server.data_dir().join("root-key-shown");
    if server.dispatch.keyring.root.is_none() || !shown.exists() {
        println!(
            "  try: AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION={} \\",
            options.region
        );
        println!("       aws --endpoint-url {endpoint} ecs list-clusters");
    }
    if server.dispatch.keyring.root.is_some() {
        let _ = std::fs::write(shown, "");
    }
    println!("Ctrl-C stops serving and leaves the containers running; `roadstead down` stops everything.");
    let _ = std::io::stdout().flush();
}

fn say_what_stays(server: &Server, options: &cli::Up) {
    let snapshot = server.dispatch.db.snapshot();
    let running = snapshot.groups.live();
    let dir = options.data_dir.display();
    println!("Stopped serving. {running} tasks go on running.");
    println!(
        "  `roadstead up --data-dir {dir}` finds them again, `roadstead down --data-dir {dir}` stops them."
    );
}
