//! Linux capabilities: their names, Docker's default set, and what a container asks for.

use state::group::LinuxParameters;

/// All names in the kernel's order, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities of this process's bounding set, as bits in the kernel's order.
pub fn available() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounding.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// The capabilities of a container, as names with `CAP_`. `available` limits what `privileged` gives.
///
/// # Errors
/// A name that is no capability, or one that this host's own root does not have.
pub fn of(privileged: bool, linux: &LinuxParameters, available: u64) -> Result<Vec<String>, String> {
    let has =
        |name: &str| NAMES.iter().position(|n| *n == name).is_some_and(|bit| available & (1 << bit) != 0);
    if privileged {
        return Ok(NAMES.iter().filter(|n| has(n)).map(|n| format!("CAP_{n}")).collect());
    }
    let bare = |names: &[String]| -> Result<Vec<String>, String> {
        names
            .iter()
            .map(|name| {
                let bare = name.strip_prefix("CAP_").unwrap_or(name).to_owned();
                let known = bare == "ALL" || NAMES.contains(&bare.as_str());
                known.then_some(bare).ok_or_else(|| format!("invalid capability: {name:?}"))
            })
            .collect()
    };
    let (add, drop) = (bare(&linux.cap_add)?, bare(&linux.cap_drop)?);
    if let Some(missing) = add.iter().find(|name| *name != "ALL" && !has(name)) {
        return Err(format!("capability {missing} is not available to root on this host"));
    }
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let chosen = NAMES.iter().filter(|name| {
        let added = all(&add) || add.iter().any(|a| a == *name);
        let dropped = drop.iter().any(|d| d == *name);
        let base = if all(&drop) { false } else { DEFAULT.contains(name) };
        // As in Docker: an explicit name wins over ALL.
        has(name) && !dropped && (added || base)
    });
    Ok(chosen.map(|n| format!("CAP_{n}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(add: &[&str], drop: &[&str]) -> LinuxParameters {
        LinuxParameters {
            cap_add: add.iter().map(|s| (*s).into()).collect(),
            cap_drop: drop.iter().map(|s| (*s).into()).collect(),
            ..LinuxParameters::default()
        }
    }

    #[test]
    fn sets_are_as_docker_makes_them() {
        assert_eq!(of(false, &linux(&[], &[]), u64::MAX).map(|c| c.len()), Ok(14));
        assert_eq!(of(false, &linux(&["SYS_PTRACE"], &["ALL"]), u64::MAX), Ok(vec!["CAP_SYS_PTRACE".into()]));
        assert_eq!(of(false, &linux(&["ALL"], &[]), u64::MAX).map(|c| c.len()), Ok(41));
        assert_eq!(of(false, &linux(&[], &["MKNOD"]), u64::MAX).map(|c| c.len()), Ok(13));
        assert_eq!(of(true, &linux(&[], &[]), 0b11), Ok(vec!["CAP_CHOWN".into(), "CAP_DAC_OVERRIDE".into()]));
        assert!(of(false, &linux(&["FLY"], &[]), u64::MAX).is_err());
        assert!(of(false, &linux(&["SYS_TIME"], &[]), 0b11).is_err());
    }
}
