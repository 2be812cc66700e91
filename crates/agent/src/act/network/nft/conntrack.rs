//! Connections that the kernel remembers: datagrams of a known "connection" are not translated anew, so those to a host
//! port must be forgotten when what the port leads to changes. (TCP needs none of it: a new connection is a new one.)

use std::io;
use std::net::Ipv4Addr;

use state::ec2::Cidr;

use super::query::{find, request};
use super::{Attributes, FAMILY_IPV4, NESTED};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const DUMP: u16 = 0x300;
const ACKNOWLEDGE: u16 = 4;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;

/// One direction of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Direction {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    destination_port: u16,
}

/// Forgets datagram connections to these ports that are not translated, or translated to a container in the network.
pub fn forget_datagrams(ports: &[u16], containers: Cidr) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut stale = Vec::new();
    request(SUBSYSTEM, GET, DUMP, FAMILY_IPV4, &[], |attributes| {
        let (original, reply) = (find(attributes, TUPLE_ORIGINAL), find(attributes, TUPLE_REPLY));
        let directions = original.and_then(direction).zip(reply.and_then(direction));
        let (Some(tuple), Some((to, back))) = (original, directions) else { return };
        let is_plain = back.source == to.destination && back.destination == to.source;
        let is_udp = i32::from(to.protocol) == libc::IPPROTO_UDP;
        if is_udp && ports.contains(&to.destination_port) && (is_plain || containers.contains(back.source)) {
            stale.push((tuple.to_vec(), find(attributes, ZONE).map(<[u8]>::to_vec)));
        }
    })?;
    for (tuple, zone) in stale {
        let mut attributes = Attributes::default();
        attributes.raw(TUPLE_ORIGINAL | NESTED, &tuple);
        if let Some(zone) = zone {
            attributes.raw(ZONE, &zone);
        }
        match request(SUBSYSTEM, DELETE, ACKNOWLEDGE, FAMILY_IPV4, &attributes.bytes, |_| ()) {
            // It ended by itself meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

fn direction(tuple: &[u8]) -> Option<Direction> {
    let (ip, protocol) = (find(tuple, 1)?, find(tuple, 2)?);
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(ip, kind)?).ok()?));
    // ICMP has no ports.
    let port = find(protocol, 3).and_then(|p| Some(u16::from_be_bytes(p.try_into().ok()?)));
    Some(Direction {
        source: address(1)?,
        destination: address(2)?,
        protocol: *find(protocol, 1)?.first()?,
        destination_port: port.unwrap_or(0),
    })
}
