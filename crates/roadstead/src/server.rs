//! Everything that runs in `roadstead up`, put together.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws::Site;
use balancer::{Balancer, Settings};
use cut::cut;
use http::{Request, Response};
use http_body_util::BodyExt;
use registry::{Authenticate, Login, Registry};
use state::cloudmap::Instance;
use state::ecs::Cluster;
use state::elb::Target;
use state::group::{ContainerGroup, StopCause, StopCode};
use state::{Db, Ids, Record, Scope, TimeMs, Tx};
use store::blobs::Blobs;
use store::segments::{SegmentLimits, Segments};
use tokio_util::sync::CancellationToken;

use crate::blobs::Layers;
use crate::bodies::Bodies;
use crate::clock::now_ms;
use crate::dispatch::Dispatch;
use crate::drained::Drained;
use crate::files::files;
use crate::hosts::HostsFile;
use crate::logs::Logs;
use crate::networks::Networks;
use crate::node::LocalNode;
use crate::secrets::{Keyring, random_seed};
use crate::serve::Body;
use crate::{cli, data_dir};

/// The longest stop timeout on Fargate is 120 s. Tasks on EC2 may ask for more, which `down` does not give them.
const STOP_PATIENCE: Duration = Duration::from_secs(130);
/// How long it may take until killed tasks are seen to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// The parts of a running Roadstead.
pub struct Server {
    /// What answers AWS requests, with the control state.
    pub dispatch: Arc<Dispatch>,
    /// The image registry.
    pub registry: Registry,
    /// Image blobs.
    pub blobs: Arc<Blobs>,
    /// The requests being read.
    pub bodies: Bodies,
    /// The load balancers.
    pub balancer: Balancer,
    /// This machine's agent.
    pub node: LocalNode,
    /// Only loopback is bound.
    pub loopback: bool,
    /// Where load balancer names are written, if anywhere.
    pub hosts_file: Option<HostsFile>,
    /// Tasks are being stopped for good: controllers must not replace them.
    pub stopping: AtomicBool,
    /// Cancelled when everything is to be stopped, containers too.
    pub stop_everything: CancellationToken,
    /// Held by whoever ends everything, one at a time: a reset, or the end of the server.
    pub ending: tokio::sync::Mutex<()>,
    /// Who Roadstead itself acts as.
    pub home: Scope,
    data_dir: PathBuf,
}

/// Why Roadstead could not start; the text says what to do.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names what failed.
fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> StartError + '_ {
    move |error| StartError(format!("{what}: {error}"))
}

impl Authenticate for Keyring {
    fn login(&self, password: &str, now_ms: TimeMs) -> Option<Login> {
        let claim = self.registry_claim(password, now_ms)?;
        Some(Login { scope: Scope::new(claim.account, claim.region), arn: claim.arn })
    }
}

impl Server {
    /// Opens the data directory and starts every part; nothing listens for clients yet.
    pub async fn start(options: &cli::Up) -> Result<Arc<Server>, StartError> {
        let data_dir = data_dir::open(&options.data_dir).map_err(failed("the data directory"))?;
        let loopback = options.listen.ip().is_loopback();
        let backend = store::embedded(&data_dir.join("store")).map_err(failed("the store"))?;
        let db = Db::open(Arc::new(backend)).map_err(failed("the store"))?;
        cut!("server.store-opened");
        let keyring = Keyring::open(&data_dir, &options.account, loopback).map_err(failed("secret.key"))?;
        let keyring = Arc::new(keyring);
        let segments = Segments::open(&data_dir.join("logs"), SegmentLimits::default());
        let logs = Arc::new(Logs::new(Arc::new(segments.map_err(failed("the logs"))?)));
        let blobs = Arc::new(Blobs::open(&data_dir.join("blobs")).map_err(failed("the image blobs"))?);
        let vpcs: Vec<_> = db.snapshot().vpcs.iter().map(|(_, vpc)| vpc.cidr).collect();
        let networks = Networks::open(&data_dir, &data_dir::run_dir(&data_dir), &vpcs)
            .map_err(failed("the networks"))?;
        let site = site(options, &networks)?;
        let connections_max = files().balancer_connections_max();
        let settings = Settings { connections_max, ..Settings::new(random_seed()) };
        let balancer = Balancer::start(settings).map_err(failed("the load balancer"))?;
        let node = LocalNode::start(options, &db, &blobs, &logs, &keyring, &site, networks.clone());
        let node = node.await?;
        cut!("server.agent-started");
        let dispatch = Dispatch {
            db: db.clone(),
            keyring: keyring.clone(),
            site,
            networks,
            logs,
            layers: Layers::new(blobs.clone()),
            ids: Mutex::new(Ids::new(random_seed())),
            workers: tokio::runtime::Handle::current(),
        };
        let server = Server {
            dispatch: Arc::new(dispatch),
            registry: Registry::new(db, blobs.clone(), keyring),
            blobs,
            bodies: Bodies::default(),
            balancer,
            node,
            loopback,
            hosts_file: (!options.no_hosts_file)
                .then(|| HostsFile::new("/etc/hosts".into(), &data_dir::suffix(&data_dir))),
            stopping: AtomicBool::new(false),
            stop_everything: CancellationToken::new(),
            ending: tokio::sync::Mutex::default(),
            home: Scope::new(&options.account, &options.region),
            data_dir,
        };
        server.make_defaults().await?;
        cut!("server.defaults-made");
        Ok(Arc::new(server))
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// An id for a request that was refused before it was routed.
    pub fn request_id(&self) -> String {
        self.dispatch.ids.lock().unwrap_or_else(|p| p.into_inner()).uuid()
    }

    /// Answers a request to the registry.
    pub async fn registry_answer(&self, request: Request<Drained>) -> Response<Body> {
        self.registry.handle(request).await.map(|body| body.map_err(std::io::Error::other).boxed_unsync())
    }

    /// What is there from the start: this machine's node, the home account's default VPC and the `default` cluster.
    async fn make_defaults(&self) -> Result<(), StartError> {
        let mut ids = Ids::new(random_seed());
        let (node, home, networks) = (self.node.record(), &self.home, &self.dispatch.site.host_networks);
        let decided = self.dispatch.db.decide(|tx| {
            plan::node_loss::register(tx, node);
            plan::network::ensure_default_vpc(tx, &mut ids, home, networks, now_ms());
            ensure_default_cluster(tx, home);
            Ok::<_, std::convert::Infallible>(())
        });
        decided.await.map(|_| ()).map_err(failed("the defaults"))
    }

    /// Stops all tasks, each with its own stop timeout, and waits until nothing of them is left; what takes too long is
    /// killed. Targets are not drained: nobody is to be served any more.
    pub async fn stop_tasks(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let (mut said, mut killing) = (0, false);
        loop {
            let decided = self.dispatch.db.decide(|tx| Ok::<_, std::convert::Infallible>(stop_all(tx)));
            let left = match decided.await {
                Ok(Ok(left)) => left,
                Err(error) => {
                    tracing::error!(%error, "the tasks' end could not be written down");
                    return;
                }
            };
            if left == 0 {
                cut!("down.tasks-stopped");
                return;
            }
            if begun.elapsed() > STOP_PATIENCE + KILL_PATIENCE {
                tracing::error!(left, "tasks are not seen to have stopped");
                return;
            }
            if begun.elapsed() > STOP_PATIENCE {
                if !killing {
                    tracing::warn!(left, "tasks have not stopped in time; they are killed");
                    killing = true;
                }
                self.node.kill_all().await;
            }
            if left != said {
                println!("  {left} tasks to go");
                said = left;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Removes what is left on the machine: containers, networks, limits, names.
    pub async fn leave_nothing(&self) {
        if let Err(error) = self.node.clear().await {
            tracing::error!(%error, "something of the tasks is left on this machine");
        }
        self.node.remove_traces().await;
        cut!("down.traces-removed");
        if let Some(hosts) = &self.hosts_file
            && let Err(error) = hosts.remove()
        {
            tracing::warn!(%error, "names could not be removed from the hosts file");
        }
        cut!("down.names-removed");
    }

    /// Forgets everything: tasks are killed, records, logs and images are deleted, the defaults are made anew.
    pub async fn reset(&self) -> Result<(), StartError> {
        let _alone = self.ending.lock().await;
        self.stopping.store(true, Ordering::Relaxed);
        let forgotten = self.forget_everything().await;
        // Whatever failed: what is still wanted must run.
        self.node.resume();
        self.stopping.store(false, Ordering::Relaxed);
        forgotten
    }

    async fn forget_everything(&self) -> Result<(), StartError> {
        self.node.clear().await.map_err(failed("stopping the tasks"))?;
        cut!("reset.tasks-killed");
        let decided = self.dispatch.db.decide(|tx| {
            tx.clear();
            Ok::<_, std::convert::Infallible>(())
        });
        decided.await.map(|_| ()).map_err(failed("deleting the records"))?;
        cut!("reset.records-deleted");
        self.dispatch.logs.clear().map_err(failed("deleting the logs"))?;
        cut!("reset.logs-deleted");
        self.blobs.collect_uploads(i64::MAX).map_err(failed("deleting the image uploads"))?;
        for blob in self.blobs.list().map_err(failed("the image blobs"))? {
            self.blobs.delete(&blob.digest).map_err(failed("deleting the image blobs"))?;
            cut!("reset.blob-deleted");
        }
        self.node.remove_unused_layers().await.map_err(failed("deleting the unpacked layers"))?;
        self.make_defaults().await
    }
}

/// Wants all tasks stopped now; how many are not yet.
fn stop_all(tx: &mut Tx) -> usize {
    let groups = tx.table::<ContainerGroup>();
    let left: Vec<String> =
        groups.iter().filter(|(_, group)| !group.is_stopped()).map(|(key, _)| key.to_owned()).collect();
    let now_ms = now_ms();
    for key in &left {
        let reason = "Roadstead is shutting down".to_owned();
        plan::stop(tx, key, StopCause { code: StopCode::TerminationNotice, reason, at_ms: now_ms });
        let targets: Vec<String> = tx.table::<Target>().by_index("owner", key).map(|t| t.key()).collect();
        let instances: Vec<String> = tx.table::<Instance>().by_index("owner", key).map(|i| i.key()).collect();
        for target in targets {
            tx.delete::<Target>(&target);
        }
        for instance in instances {
            tx.delete::<Instance>(&instance);
        }
        tx.update::<ContainerGroup>(key, |group| {
            group.traffic.deactivated_at_ms.get_or_insert(now_ms);
        });
    }
    left.len()
}

/// RunTask without a cluster means `default`, which AWS makes on first use of the console.
fn ensure_default_cluster(tx: &mut Tx, scope: &Scope) {
    if tx.get::<Cluster>(&scope.key("default")).is_none() {
        tx.put(Cluster {
            scope: scope.clone(),
            name: "default".into(),
            active: true,
            settings: vec![("containerInsights".into(), "disabled".into())],
            configuration: None,
            capacity_providers: Vec::new(),
            default_strategy: Vec::new(),
            service_connect_namespace: None,
            tags: Vec::new(),
            created_at_ms: now_ms(),
        });
    }
}

/// How clients name us: `localhost` for loopback, for that is what container clients take plain HTTP from, and this
/// machine's own address where all are listened on.
fn site(options: &cli::Up, networks: &Networks) -> Result<Site, StartError> {
    let address = match options.listen.ip() {
        any if any.is_unspecified() => crate::host::address(any).map_err(failed(
            "this machine has no address to give to clients: name one with --listen instead of all",
        ))?,
        one => one,
    };
    let host = match address {
        ip if ip.is_loopback() => "localhost".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let registry_host = format!("{host}:{}", options.listen.port());
    let host_networks = networks.taken().map_err(failed("the networks"))?;
    Ok(Site { endpoint: format!("http://{registry_host}"), registry_host, host_networks })
}
