//! What this machine is: its id and capacity.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use state::TimeMs;
use state::node::{Capacity, Node};

/// Memory kept for the machine itself and for Roadstead.
const RESERVED_MEMORY_MIB: u64 = 256;

/// The node record of this machine. `cpu_overcommit`: how many times the real cores placement may give away.
pub fn node(data_dir: &Path, region: &str, cpu_overcommit: u32, now_ms: TimeMs) -> std::io::Result<Node> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let total_mib = memory_total_kib()? / 1024;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    Ok(Node {
        id: node_id(data_dir)?,
        hostname,
        capacity: Capacity {
            cpu_units: cores * 1024 * cpu_overcommit,
            memory_mib: u32::try_from(total_mib.saturating_sub(RESERVED_MEMORY_MIB)).unwrap_or(u32::MAX),
        },
        cpu_physical_units: cores * 1024,
        availability_zone: format!("{region}a"),
        cpu_architecture: if cfg!(target_arch = "aarch64") { "ARM64" } else { "X86_64" }.into(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        silent_since_ms: None,
        registered_at_ms: now_ms,
    })
}

/// The id of this machine's node: made once, kept in the data directory.
fn node_id(data_dir: &Path) -> std::io::Result<String> {
    let path = data_dir.join("node-id");
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = crate::secrets::random_hex()[..32].to_owned();
            std::fs::write(&path, &id)?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

/// The address that this machine has towards others: the sender's on its default route. `family`: any of the same kind.
///
/// # Errors
/// When there is no such route.
pub fn address(family: IpAddr) -> std::io::Result<IpAddr> {
    // Connecting sends nothing yet; both are for documentation alone (RFC 5737, RFC 3849).
    let others: IpAddr = match family {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((family, 0))?;
    socket.connect((others, 9))?;
    Ok(socket.local_addr()?.ip())
}

fn memory_total_kib() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok());
    kib.ok_or_else(|| std::io::Error::other("/proc/meminfo does not say MemTotal"))
}
