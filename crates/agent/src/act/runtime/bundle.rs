//! The OCI runtime configuration of a container ("Open Container Initiative runtime specification", `config.json`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use state::group::{ContainerSpec, NetworkMode, Ulimit};

use super::users::User;
use super::{capabilities, devices, seccomp};
use crate::act::image::ImageConfig;

/// Where programs are found when the image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's default.
const SHM_MIB: u32 = 64;
/// Fargate's default number of open files.
const NOFILE: u64 = 65_535;

/// What a container's configuration is made of.
pub struct Inputs<'a> {
    /// The container.
    pub spec: &'a ContainerSpec,
    /// Its image's configuration.
    pub image: &'a ImageConfig,
    /// The cgroup's path.
    pub cgroup: String,
    /// The group's connection.
    pub network_mode: NetworkMode,
    /// Its network namespace; none = the host's.
    pub netns: Option<PathBuf>,
    /// Its host name; none = the host's own.
    pub hostname: Option<String>,
    /// Environment that the agent adds, before the container's own.
    pub environment: Vec<(String, String)>,
    /// Folders and files mounted: source, target, read-only.
    pub binds: Vec<(PathBuf, String, bool)>,
    /// All containers of the group share one PID namespace.
    pub share_pid: bool,
    /// Bits of the capabilities that root has here.
    pub capabilities: u64,
    /// The largest hard limit of open files that may be given; none = any.
    pub nofile_max: Option<u64>,
    /// A folder with nothing in it, to hide folders of the host with; none = as the runtime does it.
    pub empty_dir: Option<PathBuf>,
}

/// What of the host's hardware and kernel a container must not see.
const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Makes the configuration. The user's numbers are filled in by [`complete`] once the root is there.
///
/// # Errors
/// In words that can be shown after `CannotCreateContainerError: `.
pub fn make(inputs: &Inputs) -> Result<Value, String> {
    let spec = inputs.spec;
    let caps = capabilities::of(spec.privileged, &spec.linux, inputs.capabilities)?;
    let mut process = json!({
        // The supervisor keeps the terminal's other end: for the runtime it is like any other stream.
        "terminal": false,
        "user": {"uid": 0, "gid": 0},
        "args": arguments(spec, inputs.image)?,
        "env": environment(inputs),
        "cwd": working_directory(spec, inputs.image),
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": !spec.privileged,
        "oomScoreAdj": 0,
    });
    process["rlimits"] = rlimits(spec, inputs.nofile_max)?;
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "../rootfs", "readonly": spec.readonly_root_filesystem},
        "process": process,
        "mounts": mounts(inputs)?,
        "linux": linux(inputs, &caps)?,
    });
    if let Some(hostname) = &inputs.hostname {
        config["hostname"] = json!(hostname);
    }
    Ok(config)
}

/// Fills in what is known only beside the root: the user, its home, and a shared PID namespace.
pub fn complete(oci: &mut Value, user: &User, pid_namespace: Option<i32>) {
    oci["process"]["user"] =
        json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids});
    if let Some(env) = oci["process"]["env"].as_array_mut()
        && !env.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("HOME=")))
    {
        env.push(json!(format!("HOME={}", user.home.as_deref().unwrap_or("/"))));
    }
    if let (Some(pid), Some(namespaces)) = (pid_namespace, oci["linux"]["namespaces"].as_array_mut()) {
        for namespace in namespaces.iter_mut().filter(|n| n["type"] == "pid") {
            namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    }
}

fn arguments(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, String> {
    // As in Docker: an entry point that is given takes the image's command away as well.
    let mut arguments = match &spec.entry_point {
        Some(given) => given.clone(),
        None => image.entrypoint.clone(),
    };
    match (&spec.command, &spec.entry_point) {
        (Some(given), _) => arguments.extend(given.iter().cloned()),
        (None, None) => arguments.extend(image.cmd.iter().cloned()),
        (None, Some(_)) => {}
    }
    if arguments.is_empty() { Err("no command specified".into()) } else { Ok(arguments) }
}

fn working_directory(spec: &ContainerSpec, image: &ImageConfig) -> String {
    let given = spec.working_directory.as_deref().filter(|d| !d.is_empty()).unwrap_or(&image.working_dir);
    if given.starts_with('/') { given.to_owned() } else { format!("/{given}") }
}

/// The image's variables, the agent's, then the container's own: the last of a name counts.
fn environment(inputs: &Inputs) -> Vec<String> {
    let hostname = inputs.hostname.iter().map(|name| format!("HOSTNAME={name}"));
    let given = inputs.environment.iter().chain(&inputs.spec.environment).map(|(k, v)| format!("{k}={v}"));
    let all =
        std::iter::once(PATH.to_owned()).chain(hostname).chain(inputs.image.env.iter().cloned()).chain(given);
    let mut result: Vec<String> = Vec::new();
    for variable in all {
        let name = format!("{}=", variable.split('=').next().unwrap_or_default());
        match result.iter_mut().find(|seen| seen.starts_with(&name)) {
            Some(seen) => *seen = variable,
            None => result.push(variable),
        }
    }
    result
}

fn rlimits(spec: &ContainerSpec, nofile_max: Option<u64>) -> Result<Value, String> {
    let limit = |value: i64| if value < 0 { u64::MAX } else { value as u64 };
    let mut all = Vec::new();
    for ulimit in &spec.ulimits {
        if !Ulimit::NAMES.contains(&ulimit.name.as_str()) {
            return Err(format!("invalid ulimit type: {}", ulimit.name));
        }
        let kind = format!("RLIMIT_{}", ulimit.name.to_uppercase());
        all.push(json!({"type": kind, "soft": limit(ulimit.soft), "hard": limit(ulimit.hard)}));
    }
    if !spec.ulimits.iter().any(|u| u.name == "nofile") {
        let count = NOFILE.min(nofile_max.unwrap_or(NOFILE));
        all.push(json!({"type": "RLIMIT_NOFILE", "soft": count, "hard": count}));
    }
    Ok(json!(all))
}

fn mounts(inputs: &Inputs) -> Result<Value, String> {
    let spec = inputs.spec;
    let shm = spec.linux.shared_memory_mib.unwrap_or(SHM_MIB);
    let shm_size = format!("size={}k", u64::from(shm) * 1024);
    let read_only = if spec.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", read_only]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", read_only]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", shm_size]}),
    ];
    for (path, size_mib, options) in &spec.linux.tmpfs {
        let mut all = vec!["nosuid".to_owned(), "nodev".into(), "noexec".into(), format!("size={size_mib}m")];
        all.extend(options.iter().cloned());
        mounts.push(json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": all}));
    }
    for (source, target, read_only) in &inputs.binds {
        let access = if *read_only { "ro" } else { "rw" };
        mounts.push(json!({"destination": target, "type": "bind", "source": source,
            "options": ["rbind", "rprivate", access]}));
    }
    for path in hidden_folders(inputs) {
        mounts.push(json!({"destination": path, "type": "bind", "source": inputs.empty_dir,
            "options": ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]}));
    }
    Ok(json!(mounts))
}

/// The folders that are hidden by the empty one. Runtimes hide each by a filesystem of its own, and for every
/// filesystem of the machine the kernel keeps 8 bytes in every memory cgroup: a thousand such containers cost each of
/// them a hundred kilobytes.
fn hidden_folders(inputs: &Inputs) -> Vec<&'static str> {
    let all = HIDDEN.into_iter().filter(|path| Path::new(path).is_dir());
    all.filter(|_| inputs.empty_dir.is_some() && !inputs.spec.privileged).collect()
}

fn linux(inputs: &Inputs, caps: &[String]) -> Result<Value, String> {
    let spec = inputs.spec;
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "ipc"}), json!({"type": "pid"})];
    if inputs.hostname.is_some() {
        namespaces.push(json!({"type": "uts"}));
    }
    if inputs.network_mode != NetworkMode::Host {
        let netns = inputs.netns.as_ref().ok_or("the container has no network namespace")?;
        namespaces.push(json!({"type": "network", "path": netns}));
    }
    let (devices, device_rules) = devices::of(spec)?;
    let mut resources = resources(spec);
    resources["devices"] = device_rules;
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": inputs.cgroup,
        "resources": resources,
        "devices": devices,
        "sysctl": sysctls(inputs)?,
    });
    if !spec.privileged {
        linux["seccomp"] = seccomp::oci(caps);
        let folders = hidden_folders(inputs);
        let others: Vec<_> = HIDDEN.into_iter().filter(|path| !folders.contains(path)).collect();
        linux["maskedPaths"] = json!(others);
        linux["readonlyPaths"] =
            json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    }
    Ok(linux)
}

fn resources(spec: &ContainerSpec) -> Value {
    let bytes = |mib: u32| u64::from(mib) << 20;
    let mut memory = serde_json::Map::new();
    if let Some(mib) = spec.memory_mib {
        memory.insert("limit".into(), json!(bytes(mib)));
    }
    if let Some(mib) = spec.memory_reservation_mib {
        memory.insert("reservation".into(), json!(bytes(mib)));
    }
    if let (Some(limit), Some(swap)) = (spec.memory_mib, spec.linux.max_swap_mib) {
        memory.insert("swap".into(), json!(bytes(limit) + bytes(swap)));
    }
    if let Some(swappiness) = spec.linux.swappiness {
        memory.insert("swappiness".into(), json!(swappiness));
    }
    // ECS: "null and zero CPU values are passed as 2 shares".
    json!({"memory": memory, "cpu": {"shares": spec.cpu_units.max(2)}})
}

/// Kernel parameters that belong to the container's own namespaces; Docker refuses all others.
fn sysctls(inputs: &Inputs) -> Result<Value, String> {
    let mut all = serde_json::Map::new();
    if inputs.network_mode != NetworkMode::Host
        && !inputs.spec.system_controls.iter().any(|(n, _)| n == UNPRIVILEGED)
    {
        // As Docker since 20.10: ports below 1024 and ping without capabilities.
        all.insert(UNPRIVILEGED.into(), json!("0"));
    }
    for (name, value) in &inputs.spec.system_controls {
        let ipc = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ];
        let own_ipc = ipc.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        let own_net = name.starts_with("net.") && inputs.network_mode != NetworkMode::Host;
        if !own_ipc && !own_net {
            return Err(format!("sysctl '{name}' is not whitelisted"));
        }
        all.insert(name.clone(), json!(value));
    }
    Ok(Value::Object(all))
}

const UNPRIVILEGED: &str = "net.ipv4.ip_unprivileged_port_start";
