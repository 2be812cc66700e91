//! How each step is done.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cut::cut;
use state::assignment::Assignment;
use state::group::{LogDestination, NetworkMode};

use super::Happened;
use crate::act::image::{PullScope, PulledImage};
use crate::act::metadata::EndpointIds;
use crate::act::network::{GroupNetwork, NetworkError};
use crate::act::remove::remove_tree;
use crate::act::runtime::bundle::{self, Inputs};
use crate::act::runtime::cgroup::Limits;
use crate::act::runtime::{DriverKind, ExecSpec, StartSpec};
use crate::act::supervisor::client::Supervisor;
use crate::act::supervisor::{Answer, Ask, RUNNING_ALREADY, container_dir};
use crate::act::volume::{Bind, Places};
use crate::decide::Event;
use crate::node::Node;

/// When a task ends, its last lines may take this long to be delivered.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How much output is kept for the log sink while it is away, unless `max-buffer-size` says otherwise.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much is kept of a container without a log configuration.
const UNREAD_LOG_BYTES_MAX: u64 = 2 << 20;

fn places(node: &Node, dir: &Path) -> Places {
    Places { node: node.config.data_dir.join("volumes"), group: dir.join("volumes") }
}

/// Makes the cgroup, the volumes and the network.
pub async fn make_ground(node: Arc<Node>, dir: PathBuf, assignment: Arc<Assignment>) -> Happened {
    let turns = node.clone();
    let _turn = turns.ground_turns.acquire().await;
    let made = tokio::task::spawn_blocking(move || {
        let spec = &assignment.spec;
        let limits = Limits { cpu_units: spec.cpu_limit_units, memory_mib: spec.memory_limit_mib };
        node.cgroups.make_group(&node.cgroup(&assignment.id), limits).map_err(|err| {
            (None, format!("ResourceInitializationError: failed to set the task's limits: {err}"))
        })?;
        cut!("agent.ground.cgroup-made");
        places(&node, &dir).make(spec).map_err(|reason| (None, reason))?;
        cut!("agent.ground.volumes-made");
        node.shipper.prepare(&assignment).map_err(|(container, reason)| {
            // What is wrong with the initialization is told with the task, the rest with the container.
            ((!reason.starts_with("ResourceInitializationError")).then_some(container), reason)
        })?;
        cut!("agent.ground.logs-prepared");
        node.shipper.follow(&assignment, &dir);
        node.connections.networks.prepare(&assignment).map_err(|err: NetworkError| {
            let container =
                err.container().and_then(|name| spec.containers.iter().position(|c| c.name == name));
            (container, err.reason())
        })
    });
    match made.await {
        Ok(Ok(network)) => {
            cut!("agent.ground.made");
            Happened::Ground(network)
        }
        Ok(Err((container, reason))) => Happened::Event(Event::GroundFailed { container, reason }),
        Err(err) => {
            let reason = format!("ResourceInitializationError: {err}");
            Happened::Event(Event::GroundFailed { container: None, reason })
        }
    }
}

/// Pulls a container's image.
pub async fn pull(node: Arc<Node>, assignment: Arc<Assignment>, container: usize) -> Happened {
    let scope = PullScope { account: assignment.account.clone(), region: assignment.region.clone() };
    let image = assignment.spec.containers[container].image_reference();
    match node.puller.pull(&image, &scope, assignment.spec.cpu_architecture.as_deref()).await {
        Ok(image) => Happened::Image(container, image),
        Err(reason) => Happened::Event(Event::PullFailed { container, reason }),
    }
}

/// What a start needs beside the assignment.
pub struct Start {
    /// The container.
    pub container: usize,
    /// Its run.
    pub run: u32,
    /// Its image.
    pub image: PulledImage,
    /// The group's network.
    pub network: Option<GroupNetwork>,
    /// By what containers ask for metadata and credentials.
    pub ids: EndpointIds,
    /// The group's supervisor, or why there is none.
    pub supervisor: Result<Supervisor, String>,
}

/// Creates and starts a container.
pub async fn start(node: Arc<Node>, dir: PathBuf, assignment: Arc<Assignment>, start: Start) -> Happened {
    let (container, run) = (start.container, start.run);
    match try_start(&node, &dir, &assignment, start).await {
        // The supervisor tells of it as a record.
        Ok(()) => Happened::Nothing,
        Err(reason) => Happened::Event(Event::StartFailed { container, run, reason }),
    }
}

async fn try_start(
    node: &Arc<Node>,
    dir: &Path,
    assignment: &Arc<Assignment>,
    start: Start,
) -> Result<(), String> {
    let supervisor = start.supervisor.clone().map_err(|err| {
        format!("CannotCreateContainerError: the container's supervisor cannot be started: {err}")
    })?;
    let spec = &assignment.spec.containers[start.container];
    let ask = {
        let (node, dir, assignment) = (node.clone(), dir.to_owned(), assignment.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&node, &dir, &assignment, &start));
        prepared.await.map_err(|err| format!("CannotCreateContainerError: {err}"))??
    };
    cut!("agent.start.prepared");
    match supervisor.ask(ask).await {
        Ok(_) => {
            cut!("agent.start.answered");
            Ok(())
        }
        Err(said) if said == RUNNING_ALREADY => Ok(()),
        Err(said) => {
            let origin = match assignment.launch_type.as_str() {
                "FARGATE" => "ResourceInitializationError: failed to create new container runtime task",
                _ => "Error response from daemon: failed to create task for container",
            };
            tracing::debug!(container = spec.name, said, "a container could not be started");
            Err(format!(
                "CannotStartContainerError: {origin}: failed to create shim task: OCI runtime create failed: runc \
                 create failed: unable to start container process: {said}: unknown"
            ))
        }
    }
}

/// Writes all that the container's start needs, and says how to ask for it.
fn prepare(node: &Node, dir: &Path, assignment: &Assignment, start: &Start) -> Result<Ask, String> {
    let failed = |err: io::Error| format!("CannotCreateContainerError: {err}");
    let spec = &assignment.spec.containers[start.container];
    let folder = container_dir(dir, start.container);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let network = start.network.as_ref().and_then(|n| n.containers.get(start.container));
    let hostname = spec.hostname.clone().or_else(|| network.and_then(|n| n.hostname.clone()));
    let mut binds = places(node, dir).binds(&assignment.spec, spec)?;
    let fill = binds.iter().filter(|b| b.fill).map(|b| (b.source.clone(), b.target.clone())).collect();
    if let Some(network) = network {
        let files = [
            ("resolv.conf", network.resolv_conf.clone()),
            ("hosts", network.hosts.clone()),
            ("hostname", hostname.as_ref().map(|name| format!("{name}\n")).unwrap_or_default()),
        ];
        for (name, text) in files.into_iter().filter(|(_, text)| !text.is_empty()) {
            let source = folder.join(name);
            std::fs::write(&source, text).map_err(failed)?;
            let target = format!("/etc/{name}");
            if !binds.iter().any(|b| b.target == target) {
                binds.push(Bind { source, target, read_only: false, fill: false });
            }
        }
    }
    let runtime_id = format!("{}-{}-{}", assignment.id, start.container, start.run);
    let oci = bundle::make(&Inputs {
        spec,
        image: &start.image.config,
        cgroup: format!("{}/c{}", node.cgroup(&assignment.id), start.container),
        network_mode: assignment.spec.network_mode,
        netns: network.and_then(|n| n.netns_path.clone()),
        hostname,
        environment: environment(node, assignment, start),
        binds: binds.into_iter().map(|b| (b.source, b.target, b.read_only)).collect(),
        share_pid: assignment.spec.share_pid,
        capabilities: node.capabilities,
        nofile_max: node.nofile_max,
        // Others refuse a mount in /proc.
        empty_dir: (node.config.driver == DriverKind::Builtin).then(|| node.empty_dir()),
    })
    .map_err(|err| format!("CannotCreateContainerError: Error response from daemon: {err}"))?;
    let file = StartSpec {
        runtime_id: runtime_id.clone(),
        driver: node.config.driver.clone(),
        dir: folder.clone(),
        layers_dir: node.layers.dir().to_owned(),
        layers: start.image.layers.clone(),
        oci,
        user: spec.user.clone().unwrap_or_else(|| start.image.config.user.clone()),
        init: spec.linux.init,
        terminal: spec.pseudo_terminal,
        fill,
    };
    let text = serde_json::to_vec(&file).map_err(|err| failed(err.into()))?;
    crate::act::runtime::write_file(&folder.join("start.json"), &text).map_err(failed)?;
    let (log_bytes_max, log_blocks) = match &spec.log {
        Some(LogDestination::Awslogs { max_buffer_bytes, non_blocking, .. }) => {
            (max_buffer_bytes.unwrap_or(LOG_BYTES_MAX), !non_blocking)
        }
        _ => (UNREAD_LOG_BYTES_MAX, false),
    };
    Ok(Ask::Start {
        container: start.container,
        run: start.run,
        runtime_id,
        driver: node.config.driver.clone(),
        capture: spec.log != Some(LogDestination::Discard),
        log_bytes_max,
        log_blocks,
        stdin_open: spec.interactive,
        terminal: spec.pseudo_terminal,
    })
}

/// What ECS puts into every container's environment. Without a network there is nothing to ask.
fn environment(node: &Node, assignment: &Assignment, start: &Start) -> Vec<(String, String)> {
    let credentials = node.endpoints.gives_credentials();
    let mut all = start.ids.environment(assignment, start.container, credentials);
    if assignment.spec.network_mode == NetworkMode::None {
        all.retain(|(name, _)| !name.ends_with("_URI_V4") && !name.ends_with("_RELATIVE_URI"));
    }
    all
}

/// Runs a container's health check.
pub async fn check(
    node: Arc<Node>,
    dir: PathBuf,
    assignment: Arc<Assignment>,
    container: usize,
    run: u32,
    runtime_id: String,
    supervisor: Option<Supervisor>,
) -> Happened {
    let check = assignment.spec.containers[container].health_check.clone();
    let passed = match (check, supervisor) {
        (Some(check), Some(supervisor)) => {
            let spec = ExecSpec {
                runtime_id,
                driver: node.config.driver.clone(),
                dir: container_dir(&dir, container),
                command: check.command,
                timeout_ms: u64::from(check.timeout_s) * 1000,
            };
            let said = supervisor.ask(Ask::Exec { container, spec: Box::new(spec) }).await;
            matches!(said, Ok(Answer::Ended(outcome)) if outcome.code == Some(0))
        }
        _ => false,
    };
    Happened::Event(Event::Checked { container, run, passed })
}

/// Removes all that a group has on the node, but for the notes that it is gone.
pub async fn remove(
    node: Arc<Node>,
    dir: PathBuf,
    assignment: Arc<Assignment>,
    supervisor: Option<Supervisor>,
) -> Happened {
    node.endpoints.forget(&assignment.key);
    let cgroup = node.cgroup(&assignment.id);
    {
        let (node, cgroup) = (node.clone(), cgroup.clone());
        let turns = node.clone();
        let _turn = turns.ground_turns.acquire().await;
        // A failed join is a panic there; the next start of the agent removes what is left.
        let _ = tokio::task::spawn_blocking(move || node.cgroups.remove_tree(&cgroup)).await;
    }
    cut!("agent.remove.cgroup-removed");
    end_supervisor(&dir, &assignment.key, supervisor).await;
    cut!("agent.remove.supervisor-ended");
    if !node.shipper.drain(&assignment.key, DRAIN_MAX).await {
        tracing::warn!(key = assignment.key, "the last lines of a task could not be delivered");
    }
    cut!("agent.remove.logs-drained");
    let turns = node.clone();
    let _turn = turns.ground_turns.acquire().await;
    let removed = tokio::task::spawn_blocking(move || {
        if let Err(err) = node.connections.networks.release(&assignment.key) {
            tracing::warn!(key = assignment.key, %err, "the group's network could not be removed");
        }
        // Again: a container that was being started when the first was killed.
        node.cgroups.remove_tree(&cgroup);
        empty(&dir)
    });
    if let Ok(Err(err)) = removed.await {
        tracing::warn!(%err, "the group's files could not be removed");
    }
    cut!("agent.remove.files-removed");
    Happened::Event(Event::GroundRemoved)
}

/// Asks the supervisor to end until it does: once the folder is removed, nobody would find it.
async fn end_supervisor(dir: &Path, key: &str, mut supervisor: Option<Supervisor>) {
    for attempt in 1.. {
        if supervisor.is_none() {
            supervisor = Supervisor::connect(dir).await.ok().map(|(supervisor, _)| supervisor);
        }
        let said = match supervisor.take() {
            None => "it cannot be reached".into(),
            Some(supervisor) => match supervisor.ask(Ask::Finish).await {
                Ok(_) => return,
                // Refused while the last command or exit is still being seen to.
                Err(said) => said,
            },
        };
        if !Supervisor::lives(dir) {
            return;
        }
        if attempt % 100 == 0 {
            tracing::warn!(key, said, "the supervisor of a task that is over does not end");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes what is in a group's folder except the notes that say that it is gone.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if ["known.json", "assignment.json", "endpoint.json"].contains(&name.to_str().unwrap_or_default()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
