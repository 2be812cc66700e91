//! The name server of a node's containers: answers Cloud Map's and load balancers' names itself, passes the rest on.
//!
//! It serves any number of socket pairs, one per network namespace, each with its [`View`]. Its sockets for queries
//! passed on are the host's.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use state::assignment::Names;
use state::ec2::Cidr;

mod decide;
mod forward;
mod serve;

use decide::Zones;
pub use decide::owned;

/// Who asks: decides which private names there are for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its VPC; `None` (a task without an interface of its own) sees the names of all.
    pub vpc_id: Option<String>,
    /// Its VPC's network: host names in it are answered forwards and backwards.
    pub vpc_cidr: Option<Cidr>,
    /// Its region, for host names.
    pub region: String,
}

/// The name server.
#[derive(Clone)]
pub struct DnsServer {
    runtime: tokio::runtime::Handle,
    shared: Arc<Shared>,
}

/// What a query is answered without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtOnce {
    /// These bytes.
    Answer(Vec<u8>),
    /// Nothing: it is no query.
    Silence,
    /// It depends on the host's servers.
    AskOthers,
}

/// What all sockets share.
struct Shared {
    zones: RwLock<Arc<Zones>>,
    forwarder: forward::Forwarder,
}

impl Shared {
    fn zones(&self) -> Arc<Zones> {
        self.zones.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A pair of sockets being served; dropping it ends that.
#[derive(Debug)]
pub struct Serving(Vec<tokio::task::AbortHandle>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

impl DnsServer {
    /// A server that knows no records yet. `resolv_conf`: the host's, read again whenever it changes. `awaited`: what
    /// [`owned`] said of the names before the agent was restarted; they fail until they are set.
    pub fn new(runtime: tokio::runtime::Handle, resolv_conf: PathBuf, awaited: Vec<String>) -> DnsServer {
        let forwarder = forward::Forwarder::new(resolv_conf);
        let zones = RwLock::new(Arc::new(Zones::awaited(awaited)));
        DnsServer { runtime, shared: Arc::new(Shared { zones, forwarder }) }
    }

    /// Replaces all names: the next query sees them.
    pub fn set_names(&self, names: Names) {
        let zones = Arc::new(Zones::new(names));
        *self.shared.zones.write().unwrap_or_else(PoisonError::into_inner) = zones;
    }

    /// What a client that sees this view is answered at once, as a datagram or on a stream.
    pub fn at_once(&self, query: &[u8], view: View, is_datagram: bool) -> AtOnce {
        serve::Client::new(self.shared.clone(), view).at_once(query, is_datagram)
    }

    /// Serves a pair of bound sockets.
    pub fn serve(&self, udp: UdpSocket, tcp: TcpListener, view: View) -> io::Result<Serving> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let _entered = self.runtime.enter();
        let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let client = Arc::new(serve::Client::new(self.shared.clone(), view));
        let datagrams = self.runtime.spawn(serve::datagrams(udp, client.clone()));
        let streams = self.runtime.spawn(serve::streams(tcp, client));
        Ok(Serving(vec![datagrams.abort_handle(), streams.abort_handle()]))
    }
}
