//! Kernel settings of the network namespace of the calling thread; the host's own are remembered and put back.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Settings of every namespace that is made for containers, as Docker sets them, and two of our own: redirects are
/// not believed (the host sends some when it translates between neighbours), and IPv6 is off where there is no route.
const OF_CONTAINERS: [(&str, &str); 5] = [
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

fn file(name: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(name)
}

/// Sets one, named by its path below `/proc/sys`.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(file(name), value).map_err(|e| io::Error::new(e.kind(), format!("sysctl {name}: {e}")))
}

/// Sets one if the kernel has it.
pub fn set_if_present(name: &str, value: &str) -> io::Result<()> {
    if file(name).exists() { set(name, value) } else { Ok(()) }
}

/// What containers' namespaces are set to.
pub fn set_for_containers() -> io::Result<()> {
    OF_CONTAINERS.iter().try_for_each(|(name, value)| set_if_present(name, value))
}

/// Sets one of the host's, if it differs, and notes in the file what it was before.
pub fn change(notes: &Path, name: &str, value: &str) -> io::Result<()> {
    let before = std::fs::read_to_string(file(name))?.trim().to_owned();
    if before == value {
        return Ok(());
    }
    let mut noted = noted(notes)?;
    noted.entry(name.to_owned()).or_insert(before);
    super::records::write(notes, &noted)?;
    cut::cut!("agent.network.setting-noted");
    set(name, value)
}

/// Puts back what the file notes, and removes it.
pub fn restore(notes: &Path) -> io::Result<()> {
    for (name, value) in noted(notes)? {
        set(&name, &value)?;
    }
    super::records::remove(notes)
}

fn noted(notes: &Path) -> io::Result<BTreeMap<String, String>> {
    Ok(super::records::read(notes)?.unwrap_or_default())
}
