//! Interfaces, addresses and routes by rtnetlink, one blocking request at a time.
//!
//! A [`Route`] acts in the network namespace in which it was opened, from whatever thread it is used later.
//! Making what is already there, and removing what is not, succeeds.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A hardware address.
pub type Mac = [u8; 6];

/// A connection to the kernel's tables of one network namespace.
pub struct Route {
    socket: Socket,
    sequence: u32,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The largest packet it takes.
    pub mtu: u32,
    /// Whether it passes packets on.
    pub operates: bool,
}

/// One end of a pair of interfaces that ends in another namespace.
pub struct Veth<'a> {
    /// Name of the end that stays.
    pub name: &'a str,
    /// Index of the bridge that the end is put on.
    pub bridge: u32,
    /// Name of the other end.
    pub peer: &'a str,
    /// Open namespace of the other end.
    pub peer_netns: RawFd,
    /// Hardware address of the other end.
    pub peer_mac: Mac,
    /// The largest packet.
    pub mtu: u32,
}

impl Route {
    /// Opens in the calling thread's network namespace.
    pub fn open() -> io::Result<Route> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Route { socket, sequence: 0 })
    }

    /// Sends one request and collects the answers until the kernel says that it is done.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(65536);
            self.socket.recv(&mut buffer, 0)?;
            let mut rest = buffer.as_slice();
            while rest.len() >= 16 {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }

    fn create(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        match self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other.map(drop),
        }
    }

    fn remove(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        const ABSENT: [i32; 4] = [libc::ENODEV, libc::EADDRNOTAVAIL, libc::ESRCH, libc::ENOENT];
        match self.request(message, NLM_F_ACK) {
            Err(e) if e.raw_os_error().is_some_and(|code| ABSENT.contains(&code)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The interface of this name.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.request(RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
            Ok(answers) => Ok(answers.into_iter().find_map(read_link)),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits until an interface passes packets on, or is not there; false if it still does not at `until`.
    /// The kernel turns that on by itself a moment after its other end came up, and drops packets until then.
    pub fn operates_by(&mut self, name: &str, until: Instant) -> io::Result<bool> {
        while self.link(name)?.is_some_and(|link| !link.operates) {
            if Instant::now() > until {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(read_link).collect())
    }

    /// Makes a bridge.
    pub fn add_bridge(&mut self, name: &str, mac: Mac, mtu: u32) -> io::Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes.extend([
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(mtu),
            // A bridge without an address of its own changes it with its ports, and neighbours would lose it.
            LinkAttribute::Address(mac.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ]);
        self.create(RouteNetlinkMessage::NewLink(message))?;
        let absent = || io::Error::new(io::ErrorKind::NotFound, format!("bridge {name} vanished"));
        self.link(name)?.ok_or_else(absent)
    }

    /// Makes a pair of interfaces, this end up and on its bridge, the other in its namespace: in one step.
    pub fn add_veth(&mut self, veth: &Veth) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.extend([
            LinkAttribute::IfName(veth.peer.into()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Address(veth.peer_mac.to_vec()),
            LinkAttribute::NetNsFd(veth.peer_netns),
        ]);
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend([
            LinkAttribute::IfName(veth.name.into()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Controller(veth.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        self.create(RouteNetlinkMessage::NewLink(message))
    }

    /// Brings an interface up.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Lets a bridge send a packet back by the port it came from. With br_netfilter loaded (Docker does that) the
    /// bridge itself passes on what a container sends to its own host port.
    pub fn set_hairpin(&mut self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.extend([
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
            ]),
        ]);
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK).map(drop)
    }

    /// Removes the interface of this name.
    pub fn delete_link(&mut self, name: &str) -> io::Result<()> {
        let Some(link) = self.link(name)? else { return Ok(()) };
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        self.remove(RouteNetlinkMessage::DelLink(message))
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.create(RouteNetlinkMessage::NewAddress(address_message(index, address, prefix)))
    }

    /// Takes an address from an interface.
    pub fn delete_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.remove(RouteNetlinkMessage::DelAddress(address_message(index, address, prefix)))
    }

    /// All IPv4 addresses: interface, address, prefix.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(read_address).collect())
    }

    /// Sends everything that has no other route to a gateway.
    pub fn add_default_route(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            flags: RouteFlags::Onlink,
            ..RouteHeader::default()
        };
        message
            .attributes
            .extend([RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)]);
        self.create(RouteNetlinkMessage::NewRoute(message))
    }

    /// The interfaces that default routes leave by.
    pub fn default_route_interfaces(&mut self) -> io::Result<Vec<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(default_route).collect())
    }
}

fn read_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link { index: message.header.index, name: String::new(), mtu: 0, operates: false };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.operates = state == State::Up,
            _ => {}
        }
    }
    Some(link)
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    message
}

fn read_address(message: RouteNetlinkMessage) -> Option<(u32, Ipv4Addr, u8)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => {
            Some((message.header.index, *address, message.header.prefix_len))
        }
        _ => None,
    })
}

fn default_route(message: &RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = &message.header;
    let is_default = header.destination_prefix_length == 0 && header.table == RouteHeader::RT_TABLE_MAIN;
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) if is_default => Some(*index),
        _ => None,
    })
}
