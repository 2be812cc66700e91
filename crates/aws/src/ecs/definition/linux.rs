//! `linuxParameters` of a container definition.

use state::group::LinuxParameters;
use wire::Fault;
use wire::shapes::ecs as w;

use crate::ecs::faults::{client, invalid};

/// The names that `capabilities` may hold ("KernelCapabilities", ECS API reference).
const CAPABILITIES: [&str; 38] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// Compiles `linuxParameters`.
pub fn compile(linux: &w::LinuxParameters) -> Result<LinuxParameters, Fault> {
    let w::LinuxParameters {
        capabilities,
        devices,
        init_process_enabled,
        shared_memory_size,
        tmpfs,
        max_swap,
        swappiness,
    } = linux;
    let (add, drop) = match capabilities {
        Some(w::KernelCapabilities { add, drop }) => (names(add)?, names(drop)?),
        None => (Vec::new(), Vec::new()),
    };
    let swappiness = match swappiness {
        None => None,
        Some(n @ 0..=100) => Some(*n as u8),
        Some(n) => return Err(client(format!("'swappiness' must be between 0 and 100, but was {n}"))),
    };
    Ok(LinuxParameters {
        init: init_process_enabled.unwrap_or(false),
        cap_add: add,
        cap_drop: drop,
        shared_memory_mib: shared_memory_size.map(|n| whole("sharedMemorySize", n, 1)).transpose()?,
        tmpfs: tmpfs.iter().flatten().map(mount).collect::<Result<_, _>>()?,
        devices: devices.iter().flatten().map(device).collect::<Result<_, _>>()?,
        max_swap_mib: max_swap.map(|n| whole("maxSwap", n, 0)).transpose()?,
        // Without maxSwap a swappiness says nothing, as in ECS.
        swappiness: swappiness.filter(|_| max_swap.is_some()),
    })
}

fn names(given: &Option<Vec<String>>) -> Result<Vec<String>, Fault> {
    let given = given.clone().unwrap_or_default();
    match given.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
        Some(other) => Err(invalid(format!("Invalid capability '{other}'"))),
        None => Ok(given),
    }
}

fn whole(what: &str, number: i64, least: i64) -> Result<u32, Fault> {
    let bad = || client(format!("'{what}' must be at least {least}, but was {number}"));
    u32::try_from(number).ok().filter(|_| number >= least).ok_or_else(bad)
}

fn mount(tmpfs: &w::Tmpfs) -> Result<(String, u32, Vec<String>), Fault> {
    let w::Tmpfs { container_path, size, mount_options } = tmpfs;
    let path = container_path.clone().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(client(format!("Invalid 'containerPath' setting for tmpfs: '{path}' is not absolute.")));
    }
    let size = whole("size", size.unwrap_or(0), 1)?;
    Ok((path, size, mount_options.clone().unwrap_or_default()))
}

fn device(device: &w::Device) -> Result<(String, String, String), Fault> {
    let w::Device { host_path, container_path, permissions } = device;
    let host = host_path.clone().unwrap_or_default();
    if !host.starts_with('/') {
        return Err(client(format!("Invalid 'hostPath' setting for device: '{host}' is not absolute.")));
    }
    let container = container_path.clone().unwrap_or_else(|| host.clone());
    let mut letters = String::new();
    for permission in permissions.iter().flatten() {
        letters.push(match permission.as_str() {
            "read" => 'r',
            "write" => 'w',
            "mknod" => 'm',
            other => return Err(client(format!("Invalid device permission '{other}'"))),
        });
    }
    if letters.is_empty() {
        letters.push_str("rwm");
    }
    Ok((host, container, letters))
}
