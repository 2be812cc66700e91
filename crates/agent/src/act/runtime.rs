//! How one container is made and entered: the [`Driver`] trait, its two drivers, and what they are asked.
//!
//! Drivers are called in a short-lived single-threaded process that the group's supervisor forks, never in the
//! threaded agent. What is the same for every driver is not part of the trait: a container is signalled by its process
//! id by the process that reaps it (the supervisor), its use is read from its cgroup ([`cgroup`]), and what happened
//! while no agent ran is read from the supervisor's journal.

use std::path::{Path, PathBuf};

use cut::cut;
use serde::{Deserialize, Serialize};

pub mod builtin;
pub mod bundle;
pub mod capabilities;
pub mod cgroup;
mod devices;
mod fill;
mod init;
mod oci_cli;
mod rootfs;
pub mod seccomp;
pub mod users;

pub use oci_cli::first_output;
pub use rootfs::open_in_root;

/// Which runtime makes the containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DriverKind {
    /// `libcontainer`, linked into the program.
    #[default]
    Builtin,
    /// Any OCI runtime: the program's path (`crun`, `runc`, `runsc`, `kata-runtime`).
    OciCli(PathBuf),
}

/// What to start. Written by the agent as a file, read by the process that starts the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartSpec {
    /// The runtime's id of this run of the container.
    pub runtime_id: String,
    /// Which runtime.
    pub driver: DriverKind,
    /// The container's folder: `bundle`, `rootfs`, `upper`, `work` and `state` are made in it.
    pub dir: PathBuf,
    /// The folder of unpacked layers.
    pub layers_dir: PathBuf,
    /// Names in `layers_dir`, lowest first.
    pub layers: Vec<String>,
    /// The OCI runtime configuration, complete but for the user's numbers and a shared PID namespace.
    pub oci: serde_json::Value,
    /// The user as written: `user`, `user:group`, `uid`, `uid:gid`, …; empty = root.
    pub user: String,
    /// An init process reaps children and forwards signals.
    pub init: bool,
    /// Its standard streams are a terminal, which is to control it.
    pub terminal: bool,
    /// Volumes that are filled, while they are empty, with what the image has at the path: folder and path.
    pub fill: Vec<(PathBuf, String)>,
}

/// A command to run in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The runtime's id of the container.
    pub runtime_id: String,
    /// Which runtime.
    pub driver: DriverKind,
    /// The container's folder.
    pub dir: PathBuf,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// After this it is killed.
    pub timeout_ms: u64,
}

/// How a command run in a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// Its exit code, 128+n after signal n; `None` = it was killed because the time was over.
    pub code: Option<i32>,
    /// The first bytes of its output.
    pub output: String,
}

/// A container runtime. Standard input, output and error are those of the calling process.
pub trait Driver {
    /// Creates and starts the container whose bundle is prepared, and returns its first process's id.
    ///
    /// # Errors
    /// In the words of `runc`, which users of ECS know (`exec: "x": executable file not found in $PATH`).
    fn start(&self, spec: &StartSpec, paths: &Paths) -> Result<i32, String>;

    /// Runs a command in the container and waits for it. The caller sets the time limit by an alarm.
    ///
    /// # Errors
    /// When the command could not be started.
    fn exec(&self, spec: &ExecSpec, paths: &Paths) -> Result<ExecOutcome, String>;

    /// Removes what the runtime keeps of a container that is over, besides its cgroup.
    fn delete(&self, runtime_id: &str, paths: &Paths);
}

/// The folders of one container.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Holds `config.json`.
    pub bundle: PathBuf,
    /// Where the layers are joined, in the container's own mount namespace.
    pub rootfs: PathBuf,
    /// What the container writes.
    pub upper: PathBuf,
    /// overlayfs's work folder.
    pub work: PathBuf,
    /// The runtime's own state.
    pub state: PathBuf,
}

impl Paths {
    /// The folders below a container's folder.
    pub fn of(dir: &Path) -> Paths {
        Paths {
            bundle: dir.join("bundle"),
            rootfs: dir.join("rootfs"),
            upper: dir.join("upper"),
            work: dir.join("work"),
            state: dir.join("state"),
        }
    }
}

impl DriverKind {
    fn driver(&self) -> Box<dyn Driver> {
        match self {
            DriverKind::Builtin => Box::new(builtin::Builtin),
            DriverKind::OciCli(program) => Box::new(oci_cli::OciCli { program: program.clone() }),
        }
    }
}

/// Starts a container: joins its layers in a mount namespace of its own, looks up its user, and asks the driver.
/// Called in a process of its own. `pid_namespace` is the process whose PID namespace the group shares.
///
/// # Errors
/// In words that can be shown after `CannotStartContainerError: `.
pub fn start(spec: &mut StartSpec, pid_namespace: Option<i32>) -> Result<i32, String> {
    let paths = Paths::of(&spec.dir);
    cut!("runtime.begun");
    rootfs::enter_private_mounts()?;
    rootfs::mount(spec, &paths)?;
    cut!("runtime.root-mounted");
    for (volume, path) in &spec.fill {
        fill::fill(&paths.rootfs, path, volume).map_err(|err| format!("volume at {path}: {err}"))?;
    }
    let user = users::lookup(&paths.rootfs, &spec.user)?;
    bundle::complete(&mut spec.oci, &user, pid_namespace);
    rootfs::make_working_directory(&paths.rootfs, &spec.oci)?;
    write_file(&paths.bundle.join("config.json"), spec.oci.to_string().as_bytes())
        .map_err(|err| format!("the container's configuration cannot be written: {err}"))?;
    cut!("runtime.configured");
    if spec.driver == DriverKind::Builtin {
        control_devices(&spec.oci)?;
    }
    let pid = spec.driver.driver().start(spec, &paths)?;
    cut!("runtime.started");
    Ok(pid)
}

/// Enforces the device rules where the runtime does not: `libcontainer` leaves them to others on version 2 cgroups.
fn control_devices(oci: &serde_json::Value) -> Result<(), String> {
    let root = Path::new("/sys/fs/cgroup");
    if !cgroup::Cgroups::at(root).is_v2() {
        return Ok(());
    }
    let path = oci["linux"]["cgroupsPath"].as_str().ok_or("the container has no cgroup")?;
    let folder = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
    devices::enforce(&folder, &oci["linux"]["resources"]["devices"])
}

/// Runs a command in a container. Called in a process of its own.
///
/// # Errors
/// When the command could not be started.
pub fn exec(spec: &ExecSpec) -> Result<ExecOutcome, String> {
    rootfs::enter_private_mounts()?;
    let outcome = spec.driver.driver().exec(spec, &Paths::of(&spec.dir))?;
    cut!("runtime.exec.ended");
    Ok(outcome)
}

/// Removes what a runtime keeps of a container that is over.
pub fn delete(driver: &DriverKind, runtime_id: &str, dir: &Path) {
    driver.driver().delete(runtime_id, &Paths::of(dir));
}

/// Writes a file that only root reads.
pub fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
