//! Host ports of `bridge` mode: static ones as asked, dynamic ones from the range that ECS documents.
//!
//! Packets to a host port are translated before they reach a socket; the socket held here only keeps other programs
//! from taking the port. It is bound to 127.0.0.1, which collides with any program on all addresses and leaves other
//! addresses (those of load balancers) alone.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use state::group::NetworkBinding;

/// The default ephemeral port range of ECS container instances.
const DYNAMIC: RangeInclusive<u16> = 32768..=60999;

/// A port kept from others while this lives.
#[derive(Debug)]
pub enum Reservation {
    /// A TCP port.
    Tcp(#[allow(dead_code, reason = "held for its effect")] TcpListener),
    /// A UDP port.
    Udp(#[allow(dead_code, reason = "held for its effect")] UdpSocket),
}

/// Takes one port, if nobody has it.
pub fn reserve(protocol: &str, port: u16) -> io::Result<Reservation> {
    let address = (Ipv4Addr::LOCALHOST, port);
    match protocol {
        "udp" => UdpSocket::bind(address).map(Reservation::Udp),
        _ => TcpListener::bind(address).map(Reservation::Tcp),
    }
}

/// Takes a free port of the dynamic range, searching on from `next`.
pub fn reserve_dynamic(protocol: &str, next: &mut u16) -> io::Result<(u16, Reservation)> {
    let mut last = None;
    for _ in DYNAMIC {
        let port = if DYNAMIC.contains(next) { *next } else { *DYNAMIC.start() };
        *next = port + 1;
        match reserve(protocol, port) {
            Ok(reservation) => return Ok((port, reservation)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// IANA number of a binding's protocol.
pub fn protocol_number(binding: &NetworkBinding) -> u8 {
    match binding.protocol.as_str() {
        "udp" => libc::IPPROTO_UDP as u8,
        _ => libc::IPPROTO_TCP as u8,
    }
}
