//! A world for an agent: images made of busybox, a log sink in memory, and networks that are the host's own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use agent::act::image::{Answer, Blob, ImageSource, ManifestBytes, PullError, PullScope, Reference, Sources};
use agent::act::logs::{LogSink, LogSinkError, LogStreamName, Retry};
use agent::act::network::{ContainerNetwork, GroupNetwork, NetworkError};
use agent::act::runtime::DriverKind;
use agent::{Agent, AgentConfig, Connections, Networks};
use sha2::{Digest, Sha256};
use state::assignment::{AgentDesired, Assignment, Names, Report};
use state::group::{
    ContainerObserved, ContainerSpec, GroupSpec, NetworkMode, Observed, Phase, StopCause, StopCode,
};
use tokio::sync::mpsc;

/// A registry with one image, `localhost:4566/busybox:latest`.
pub struct Images {
    blobs: HashMap<String, PathBuf>,
    manifest: ManifestBytes,
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

impl Images {
    /// Makes the image's blobs in a folder.
    pub fn new(dir: &Path) -> Images {
        let layers = dir.join("build");
        crate::common::busybox_layer(&layers);
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all("", layers.join("busybox")).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &tar).unwrap();
        let packed = packed.finish().unwrap();
        let config = serde_json::json!({"architecture": "amd64", "os": "linux",
            "config": {"Env": ["FROM=image"], "Cmd": ["/bin/sh"], "WorkingDir": "/srv/app"},
            "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]}});
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({"schemaVersion": 2,
            "config": {"digest": digest(&config), "mediaType": "c", "size": config.len()},
            "layers": [{"digest": digest(&packed), "mediaType": "l", "size": packed.len()}]});
        let bytes = manifest.to_string().into_bytes();
        let mut blobs = HashMap::new();
        for blob in [config, packed] {
            let path = dir.join(digest(&blob).replace(':', "-"));
            std::fs::write(&path, &blob).unwrap();
            blobs.insert(digest(&blob), path);
        }
        Images { blobs, manifest: ManifestBytes { digest: digest(&bytes), bytes } }
    }
}

impl ImageSource for Images {
    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
        _digest: Option<&'a str>,
        scope: &'a PullScope,
    ) -> Answer<'a, ManifestBytes> {
        assert_eq!(scope.account, "000000000000");
        Box::pin(async move {
            match reference.repository.as_str() {
                "busybox" => Ok(self.manifest.clone()),
                _ => Err(PullError::NotFound(reference.to_string())),
            }
        })
    }

    fn blob<'a>(&'a self, _: &'a Reference, digest: &'a str, _: &'a PullScope) -> Answer<'a, Blob> {
        Box::pin(async move { Ok(Blob::File(std::fs::File::open(&self.blobs[digest]).unwrap())) })
    }
}

/// Log events in memory.
#[derive(Default)]
pub struct Sink {
    /// Stream and message.
    pub events: Mutex<Vec<(String, String)>>,
    /// It takes nothing.
    pub down: Mutex<bool>,
}

impl LogSink for Sink {
    fn append(&self, to: &LogStreamName, events: &[(i64, String)]) -> Result<(), LogSinkError> {
        if *self.down.lock().unwrap() {
            return Err(LogSinkError { retry: Retry::Always, text: "down".into() });
        }
        let mut all = self.events.lock().unwrap();
        all.extend(events.iter().map(|(_, text)| (to.stream.clone(), text.clone())));
        Ok(())
    }
}

/// The host's network for everybody.
pub struct HostNetworks;

impl Networks for HostNetworks {
    fn prepare(&self, assignment: &Assignment) -> Result<GroupNetwork, NetworkError> {
        let one = ContainerNetwork {
            netns_path: None,
            address: None,
            hostname: Some("task".into()),
            resolv_conf: "nameserver 192.0.2.1\n".into(),
            hosts: "127.0.0.1 localhost\n".into(),
            bindings: vec![],
        };
        Ok(GroupNetwork { containers: vec![one; assignment.spec.containers.len()] })
    }

    fn update(&self, _: &Assignment) -> Result<(), NetworkError> {
        Ok(())
    }

    fn release(&self, _: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    fn recover(&self, _: &[String]) -> Result<(), NetworkError> {
        Ok(())
    }

    fn metadata_listeners(&self, _: &str) -> Result<Vec<std::net::TcpListener>, NetworkError> {
        Ok(vec![])
    }

    fn names(&self, _: Names) {}
}

/// An agent and what it reports.
pub struct World {
    /// Its folder, kept over restarts of the agent.
    pub dir: PathBuf,
    /// Where its logs go.
    pub sink: Arc<Sink>,
    /// The agent.
    pub agent: Agent,
    reports: mpsc::UnboundedReceiver<Report>,
    seen: HashMap<String, Vec<Observed>>,
    assigned: Vec<Assignment>,
    mark: String,
}

/// The setup of an agent.
pub async fn start_agent(
    dir: &Path,
    mark: &str,
    sink: Arc<Sink>,
    networks: Arc<dyn Networks>,
) -> (Agent, mpsc::UnboundedReceiver<Report>) {
    let config = AgentConfig {
        node_id: "n".into(),
        data_dir: dir.join("data"),
        cgroup_parent: format!("/roadstead-test-{mark}"),
        program: crate::common::PROGRAM.into(),
        registry_hosts: vec!["localhost:4566".into()],
        // The same tests with another runtime: the path of an OCI runtime.
        files_soft: None,
        driver: std::env::var_os("ROADSTEAD_TEST_RUNTIME")
            .map_or(DriverKind::Builtin, |path| DriverKind::OciCli(path.into())),
    };
    std::fs::create_dir_all(dir.join("images")).unwrap();
    let (sender, reports) = mpsc::unbounded_channel();
    let connections = Connections {
        images: Sources {
            own_hosts: config.registry_hosts.clone(),
            own: Arc::new(Images::new(&dir.join("images"))),
            others: None,
        },
        logs: sink,
        networks,
        credentials: None,
        reports: sender,
    };
    (Agent::start(config, connections).await.unwrap(), reports)
}

impl World {
    /// A new agent on a folder. `mark` names its cgroup.
    pub async fn new(dir: &Path, mark: &str) -> World {
        World::with(dir, mark, Arc::new(HostNetworks)).await
    }

    /// A new agent with networks of another kind.
    pub async fn with(dir: &Path, mark: &str, networks: Arc<dyn Networks>) -> World {
        let sink = Arc::new(Sink::default());
        let (agent, reports) = start_agent(dir, mark, sink.clone(), networks).await;
        let (seen, assigned) = (HashMap::new(), Vec::new());
        World { dir: dir.to_owned(), sink, agent, reports, seen, assigned, mark: mark.into() }
    }

    /// Ends the agent, leaves its containers, and starts another.
    pub async fn restart(self) -> World {
        let World { dir, mark, agent, assigned, .. } = self;
        agent.shutdown(true).await;
        let mut world = World::new(&dir, &mark).await;
        world.assigned = assigned;
        world.assign();
        world
    }

    fn assign(&self) {
        self.agent.assign(self.assigned.clone());
    }

    /// Assigns one more group.
    pub fn run(&mut self, assignment: Assignment) -> String {
        let key = assignment.key.clone();
        self.assigned.push(assignment);
        self.assign();
        key
    }

    /// Asks a group to stop.
    pub fn stop(&mut self, key: &str) {
        let cause = StopCause { code: StopCode::UserInitiated, reason: "by hand".into(), at_ms: 0 };
        let assignment = self.assigned.iter_mut().find(|a| a.key == key).unwrap();
        assignment.desired = AgentDesired::Stop(cause);
        self.assign();
    }

    /// Takes a group away altogether.
    pub fn take_away(&mut self, key: &str) {
        self.assigned.retain(|a| a.key != key);
        self.assign();
    }

    /// Waits until what is reported of a group is as wanted.
    pub async fn until(&mut self, key: &str, what: &str, wanted: impl Fn(&Observed) -> bool) -> Observed {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            if let Some(last) = self.seen.get(key).and_then(|all| all.last()).filter(|last| wanted(last)) {
                return last.clone();
            }
            match tokio::time::timeout_at(deadline, self.reports.recv()).await {
                Ok(Some(report)) => self.seen.entry(report.key).or_default().push(report.observed),
                _ => panic!(
                    "{key} did not become {what}; last seen: {:#?}",
                    self.seen.get(key).and_then(|a| a.last())
                ),
            }
        }
    }

    /// Waits until a group is in a phase.
    pub async fn phase(&mut self, key: &str, phase: Phase) -> Observed {
        self.until(key, &format!("{phase:?}"), |seen| seen.phase == phase).await
    }

    /// Stops everything, and checks that nothing is left.
    pub async fn finish(self) {
        self.agent.shutdown(false).await;
        assert_eq!(crate::common::left_over(&self.mark), Vec::<String>::new());
        let groups = std::fs::read_dir(self.dir.join("data/groups")).unwrap().count();
        assert_eq!(groups, 0, "folders of groups are left");
        assert_eq!(crate::common::holders(&self.dir), Vec::<i32>::new(), "processes are left");
    }
}

/// A container that runs a shell script.
pub fn script(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: "localhost:4566/busybox".into(),
        command: Some(vec!["/bin/sh".into(), "-c".into(), text.into()]),
        essential: true,
        stop_timeout_s: 1,
        ..ContainerSpec::default()
    }
}

/// A group on Fargate in the host's network.
pub fn group(id: &str, containers: Vec<ContainerSpec>) -> Assignment {
    let observed = Observed {
        containers: containers
            .iter()
            .map(|c| ContainerObserved {
                name: c.name.clone(),
                id: format!("api-{}", c.name),
                ..Default::default()
            })
            .collect(),
        ..Observed::default()
    };
    Assignment {
        key: format!("000000000000/us-east-1/main/{id}"),
        id: id.into(),
        task_arn: format!("arn:aws:ecs:us-east-1:000000000000:task/main/{id}"),
        account: "000000000000".into(),
        region: "us-east-1".into(),
        cluster: "main".into(),
        service: None,
        launch_type: "FARGATE".into(),
        availability_zone: "us-east-1a".into(),
        spec: GroupSpec { containers, network_mode: NetworkMode::Host, ..GroupSpec::default() }.into(),
        desired: AgentDesired::Run,
        network: None,
        observed,
        created_at_ms: 0,
        tags: Default::default(),
    }
}
