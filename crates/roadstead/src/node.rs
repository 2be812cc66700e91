//! This machine's node: the agent, its network, and the channel between them and the control state.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agent::act::image::Sources;
use agent::act::image::remote::RemoteRegistries;
use agent::act::metadata::{CredentialSource, Credentials};
use agent::act::network::{HostAddress, Network, NetworkConfig};
use agent::act::runtime::cgroup::Cgroups;
use agent::{Agent, AgentConfig, Connections};
use aws::{Secrets, Site};
use plan::Assigned;
use state::assignment::{Assignment, Names, Report};
use state::ec2::Cidr;
use state::iam::Role;
use state::node::Node;
use state::{Arn, Db, Scope, Snapshot, TimeMs};
use store::blobs::Blobs;
use tokio::sync::{Notify, mpsc};

use crate::clock::now_ms;
use crate::images::OwnImages;
use crate::log_sink::OwnLogs;
use crate::logs::Logs;
use crate::networks::Networks;
use crate::secrets::Keyring;
use crate::server::StartError;
use crate::{cli, data_dir};

/// How long it may take until nothing is left of killed groups: their last lines may take 30 s.
const CLEAR_PATIENCE: Duration = Duration::from_secs(35);
/// How long the agent may take to end once it was told to clear everything.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Reports that are written down in one decision.
const REPORTS_AT_ONCE: usize = 256;

/// The agent of this machine.
pub struct LocalNode {
    record: Node,
    network_config: NetworkConfig,
    networks: Networks,
    cgroup_parent: String,
    /// `None` once it has ended.
    agent: Mutex<Option<Agent>>,
    network: Arc<Network>,
    reports: tokio::sync::Mutex<mpsc::UnboundedReceiver<Report>>,
    published: Mutex<Published>,
    resumed: Notify,
}

/// What was last told: the same is not told again, and what cannot have changed is not even made again.
#[derive(Default)]
struct Published {
    /// Nothing is told while everything is being removed.
    paused: bool,
    told: Option<Snapshot>,
    assigned: Assigned,
    names: Option<Names>,
    addresses: Option<Vec<HostAddress>>,
    vpcs: Option<Vec<Cidr>>,
}

impl LocalNode {
    /// Starts the agent; what it left running is found again. Nothing is assigned yet.
    pub async fn start(
        options: &cli::Up,
        db: &Arc<Db>,
        blobs: &Arc<Blobs>,
        logs: &Arc<Logs>,
        keyring: &Arc<Keyring>,
        site: &Site,
        networks: Networks,
    ) -> Result<LocalNode, StartError> {
        let data_dir = networks.data_dir();
        let record = crate::host::node(data_dir, &options.region, options.cpu_overcommit, now_ms())
            .map_err(|error| StartError(format!("this machine: {error}")))?;
        let suffix = data_dir::suffix(data_dir);
        let network_config = NetworkConfig {
            run_dir: networks.run_dir().to_owned(),
            bridge_cidr: networks.bridge(),
            ..NetworkConfig::default()
        };
        let network = Network::new(network_config.clone(), tokio::runtime::Handle::current())
            .map_err(|error| StartError(format!("the node's network: {error}")))?;
        let network = Arc::new(network);
        let program =
            std::env::current_exe().map_err(|error| StartError(format!("this program: {error}")))?;
        let port = options.listen.port();
        let registry_hosts =
            vec![site.registry_host.clone(), format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let config = AgentConfig {
            node_id: record.id.clone(),
            data_dir: data_dir.join("node"),
            cgroup_parent: format!("/roadstead{suffix}"),
            program,
            registry_hosts: registry_hosts.clone(),
            driver: Default::default(),
            files_soft: crate::files::files().soft_before,
        };
        let others = RemoteRegistries::open(&data_dir.join("node").join("fetched"), Vec::new())
            .map_err(|error| StartError(format!("the folder of images being fetched: {error}")))?;
        let (sender, reports) = mpsc::unbounded_channel();
        let connections = Connections {
            images: Sources {
                own_hosts: registry_hosts,
                own: Arc::new(OwnImages::new(db.clone(), blobs.clone())),
                others: Some(Arc::new(others)),
            },
            logs: Arc::new(OwnLogs::new(db.clone(), logs.clone())),
            networks: network.clone(),
            credentials: Some(Arc::new(TaskCredentials { db: db.clone(), keyring: keyring.clone() })),
            reports: sender,
        };
        let agent = Agent::start(config, connections)
            .await
            .map_err(|error| StartError(format!("the node's agent: {error}")))?;
        Ok(LocalNode {
            record,
            network_config,
            networks,
            cgroup_parent: format!("/roadstead{suffix}"),
            agent: Mutex::new(Some(agent)),
            network,
            reports: tokio::sync::Mutex::new(reports),
            published: Mutex::default(),
            resumed: Notify::new(),
        })
    }

    /// The node's record.
    pub fn record(&self) -> Node {
        self.record.clone()
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(|p| p.into_inner())
    }

    fn agent(&self) -> MutexGuard<'_, Option<Agent>> {
        self.agent.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Tells the agent what a snapshot asks of it, and the machine the addresses of its load balancers.
    pub async fn publish(&self, snapshot: &Snapshot) {
        let (mut published, agent) = (self.published(), self.agent());
        let Some(agent) = agent.as_ref().filter(|_| !published.paused) else { return };
        let vpcs: Vec<Cidr> = snapshot.vpcs.iter().map(|(_, vpc)| vpc.cidr).collect();
        if published.vpcs.as_ref() != Some(&vpcs) {
            match self.networks.note(vpcs.clone()) {
                Ok(()) => published.vpcs = Some(vpcs),
                Err(error) => tracing::warn!(%error, "the networks could not be noted; trying again"),
            }
        }
        let told = published.told.replace(snapshot.clone());
        let is_told =
            |same: fn(&Snapshot, &Snapshot) -> bool| told.as_ref().is_some_and(|told| same(told, snapshot));
        if published.addresses.is_none() || !is_told(same_addresses) {
            let addresses = host_addresses(snapshot);
            if published.addresses.as_ref() != Some(&addresses) {
                let set = self.network.host_addresses(&addresses);
                if let Err(error) = &set {
                    tracing::warn!(%error, "load balancer addresses could not be set; trying again");
                }
                published.addresses = set.ok().map(|()| addresses);
            }
        }
        if !is_told(plan::names::same) {
            let names = plan::names::names(snapshot);
            if published.names.as_ref() != Some(&names) {
                agent.names(names.clone());
                published.names = Some(names);
            }
        }
        if let Some(assignments) = published.assigned.follow(snapshot, &self.record.id) {
            agent.assign(assignments);
        }
    }

    /// The next reports, in their order; `None` when the agent has ended.
    pub async fn reports(&self) -> Option<Vec<Report>> {
        let mut reports = self.reports.lock().await;
        let mut taken = Vec::new();
        (reports.recv_many(&mut taken, REPORTS_AT_ONCE).await > 0).then_some(taken)
    }

    /// Kills every process of every container, without asking. See [`Agent::kill_all`].
    pub async fn kill_all(&self) {
        let killed = self.agent().as_ref().map(Agent::kill_all);
        if let Some(killed) = killed {
            killed.await;
        }
    }

    /// Kills all groups and waits until nothing is left of them; nothing is told to the agent until [`Self::resume`].
    pub async fn clear(&self) -> Result<(), String> {
        *self.published() = Published { paused: true, ..Published::default() };
        let patience = tokio::time::Instant::now() + CLEAR_PATIENCE;
        loop {
            let told = self.agent().as_ref().map(|agent| {
                // First, so that nothing is started again.
                agent.assign(Vec::<Arc<Assignment>>::new());
                agent.count()
            });
            let Some(left @ 1..) = told else { return Ok(()) };
            if tokio::time::Instant::now() > patience {
                return Err(format!("{left} tasks do not stop"));
            }
            // Each time: some were only just being started.
            self.kill_all().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes the unpacked layers of images that nothing uses any more.
    pub async fn remove_unused_layers(&self) -> std::io::Result<()> {
        let remove = self.agent().as_ref().map(Agent::remove_unused_layers);
        match remove {
            Some(remove) => remove.await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Goes on telling the agent.
    pub fn resume(&self) {
        self.published().paused = false;
        self.resumed.notify_one();
    }

    /// Returns after [`Self::resume`]: what was decided meanwhile is not told yet.
    pub async fn resumed(&self) {
        self.resumed.notified().await;
    }

    /// Ends the agent; containers go on.
    pub async fn leave_running(&self) {
        self.shut_down(true).await;
    }

    async fn shut_down(&self, leave_running: bool) {
        let agent = self.agent().take();
        if let Some(agent) = agent {
            agent.shutdown(leave_running).await;
        }
    }

    /// Ends what still runs and removes what belongs to no group: bridges, rules, control groups.
    pub async fn remove_traces(&self) {
        if tokio::time::timeout(END_PATIENCE, self.shut_down(false)).await.is_err() {
            tracing::error!("the agent does not end; what it has is removed all the same");
        }
        cut::cut!("down.agent-ended");
        Cgroups::detect().remove_tree(&self.cgroup_parent);
        cut::cut!("down.cgroups-removed");
        if let Err(error) = Network::teardown_all(self.network_config.clone()) {
            tracing::warn!(%error, "the network could not be removed");
        } else if let Err(error) = std::fs::remove_dir_all(&self.network_config.run_dir) {
            tracing::warn!(%error, "{} could not be removed", self.network_config.run_dir.display());
        }
    }
}

/// Whether two snapshots have the same addresses for sure, told without making them.
fn same_addresses(one: &Snapshot, other: &Snapshot) -> bool {
    one.load_balancers.same(&other.load_balancers)
        && one.subnets.same(&other.subnets)
        && one.vpcs.same(&other.vpcs)
}

/// The load balancers' own addresses on their subnets' bridges.
fn host_addresses(snapshot: &Snapshot) -> Vec<HostAddress> {
    let of = |lb: &state::elb::LoadBalancer| {
        let subnet = snapshot.subnets.get(&lb.scope.key(lb.subnets.first()?))?;
        let vpc = snapshot.vpcs.get(&lb.scope.key(&subnet.vpc_id))?;
        Some(HostAddress {
            subnet_id: subnet.id.clone(),
            subnet_cidr: subnet.cidr,
            vpc_cidr: vpc.cidr,
            gateway: subnet.gateway(),
            address: lb.address,
        })
    };
    snapshot.load_balancers.iter().filter_map(|(_, lb)| of(lb)).collect()
}

/// Credentials of tasks' roles: temporary ones, of a session named by the task.
struct TaskCredentials {
    db: Arc<Db>,
    keyring: Arc<Keyring>,
}

/// How long a task's credentials are good, as on AWS.
const CREDENTIALS_MS: TimeMs = 6 * 3_600_000;

impl CredentialSource for TaskCredentials {
    fn issue(
        &self,
        role_arn: &str,
        session_name: &str,
        account: &str,
        region: &str,
    ) -> Result<Credentials, String> {
        let role = Arn::parse(role_arn).filter(|arn| arn.service == "iam" && arn.account == account);
        let name = role.and_then(|arn| arn.resource.rsplit('/').next()).unwrap_or_default();
        let known = self
            .db
            .snapshot()
            .roles
            .get(&Role::key_of(account, name))
            .is_some_and(|role| role.arn() == role_arn);
        if !known {
            return Err(format!("the role {role_arn} does not exist"));
        }
        let session = format!("arn:aws:sts::{account}:assumed-role/{name}/{session_name}");
        let expires_at_ms = now_ms() + CREDENTIALS_MS;
        let issued = self.keyring.issue(&session, &Scope::new(account, region), expires_at_ms);
        let (access_key_id, secret_access_key, token) = issued;
        Ok(Credentials { access_key_id, secret_access_key, token, expires_at_ms })
    }
}
