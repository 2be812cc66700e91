//! The node's services in a namespace: sockets of the metadata endpoint and of the name server.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::super::dns::{DnsServer, Serving, View};
use super::firewall::ServicePorts;

/// Preferred ports, so that connections made before the agent was restarted still lead somewhere; any free one will do.
const METADATA_PORT: u16 = 51679;
const DNS_PORT: u16 = 51653;

/// Sockets bound in a namespace, not yet served.
pub struct Sockets {
    metadata: TcpListener,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Services that are up.
#[derive(Debug)]
pub struct Services {
    /// Where they listen.
    pub ports: ServicePorts,
    metadata: TcpListener,
    /// Held: the name server stops serving the namespace when this is dropped.
    _names: Serving,
}

/// Binds the sockets in the calling thread's namespace, which must have the addresses.
pub fn bind(metadata: Ipv4Addr, dns: Ipv4Addr) -> io::Result<Sockets> {
    let stream =
        |address, port| TcpListener::bind((address, port)).or_else(|_| TcpListener::bind((address, 0)));
    Ok(Sockets {
        metadata: stream(metadata, METADATA_PORT)?,
        udp: UdpSocket::bind((dns, DNS_PORT)).or_else(|_| UdpSocket::bind((dns, 0)))?,
        tcp: stream(dns, DNS_PORT)?,
    })
}

impl Sockets {
    /// Where they are bound.
    pub fn ports(&self) -> io::Result<ServicePorts> {
        Ok(ServicePorts {
            metadata: Some(self.metadata.local_addr()?.port()),
            dns_udp: self.udp.local_addr()?.port(),
            dns_tcp: self.tcp.local_addr()?.port(),
        })
    }

    /// Starts the name server on its sockets; the metadata endpoint's is kept for whoever serves it.
    pub fn serve(self, server: &DnsServer, view: View) -> io::Result<Services> {
        let ports = self.ports()?;
        Ok(Services { ports, metadata: self.metadata, _names: server.serve(self.udp, self.tcp, view)? })
    }
}

impl Services {
    /// The metadata endpoint's listener.
    pub fn metadata_listener(&self) -> io::Result<TcpListener> {
        self.metadata.try_clone()
    }
}
