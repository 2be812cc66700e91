//! Bridges: one per subnet, one for `bridge` mode, and the load balancers' addresses on them.

use std::io;
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use super::records::BridgeRecord;
use super::route::{Link, Mac, Route};
use super::{NetworkError, sysctl};

/// The first `N` bytes of a digest: names of interfaces are short.
pub fn digest<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|i| bytes[i])
}

/// The name of a subnet's bridge: `rs-` and 8 hexadecimal digits.
pub fn name(instance: &str, subnet_id: &str) -> String {
    format!("rs-{:08x}", u32::from_be_bytes(digest(&[instance, subnet_id])))
}

/// A hardware address of our own making, in the range for such.
pub fn mac(parts: &[&str]) -> Mac {
    let mut mac: Mac = digest(parts);
    mac[0] = 0x02;
    mac
}

/// Makes a bridge with its gateway address, or what is missing of it.
pub fn make(route: &mut Route, bridge: &BridgeRecord, mtu: u32) -> Result<Link, NetworkError> {
    if route.link(&bridge.name)?.is_none() {
        refuse_overlap(route, bridge)?;
    }
    let link = route.add_bridge(&bridge.name, mac(&[&bridge.name]), mtu)?;
    cut::cut!("agent.network.bridge-added");
    sysctl::set_if_present(&format!("net/ipv6/conf/{}/disable_ipv6", bridge.name), "1")?;
    if bridge.subnet_id.is_none() {
        // Connections from 127.0.0.1 to a host port reach containers here, and their answers come back.
        sysctl::set(&format!("net/ipv4/conf/{}/route_localnet", bridge.name), "1")?;
    }
    route.add_address(link.index, bridge.gateway, bridge.cidr.prefix)?;
    route.set_up(link.index)?;
    Ok(link)
}

/// Two interfaces with one network would take each other's packets.
fn refuse_overlap(route: &mut Route, bridge: &BridgeRecord) -> Result<(), NetworkError> {
    let links = route.links()?;
    for (index, address, prefix) in route.addresses()? {
        let name = links.iter().find(|l| l.index == index).map_or("?", |l| l.name.as_str());
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let base = Ipv4Addr::from(u32::from(address) & mask);
        let other = state::ec2::Cidr { base, prefix };
        if name != bridge.name && prefix < 32 && other.overlaps(bridge.cidr) {
            return Err(NetworkError::Refused(format!(
                "network {} cannot be made on this node: interface {name} has {address}/{prefix}",
                bridge.cidr
            )));
        }
    }
    Ok(())
}

/// Puts exactly these addresses on a bridge, beside its gateway's.
pub fn set_addresses(
    route: &mut Route,
    bridge: &BridgeRecord,
    index: u32,
    wanted: &[Ipv4Addr],
) -> io::Result<()> {
    let present: Vec<_> =
        route.addresses()?.into_iter().filter(|(i, a, _)| *i == index && *a != bridge.gateway).collect();
    for (_, address, prefix) in &present {
        if !wanted.contains(address) {
            route.delete_address(index, *address, *prefix)?;
        }
    }
    wanted.iter().try_for_each(|address| route.add_address(index, *address, 32))
}

/// The largest packet that the way out takes, at most Ethernet's: a bridge to a smaller one would drop silently.
pub fn mtu(route: &mut Route) -> io::Result<u32> {
    const ETHERNET: u32 = 1500;
    let ways_out = route.default_route_interfaces()?;
    let links = route.links()?;
    let smallest = links.iter().filter(|l| ways_out.contains(&l.index)).map(|l| l.mtu).min();
    Ok(smallest.unwrap_or(ETHERNET).clamp(1280, ETHERNET))
}
