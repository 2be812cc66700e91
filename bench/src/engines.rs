//! Container engines to compare with: docker, its daemon started by hand, and podman. Both keep all they have in a
//! temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::install;
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(60);

/// Installs them.
pub fn install() -> Result<(), String> {
    install::apt("podman", "podman")?;
    install::apt("crun", "crun")?;
    install::apt("dockerd", "docker.io")
}

/// Where version 1 of cgroups is in use, an empty version 2 beside it confuses crun: it is hidden in our mounts.
pub fn hide_empty_cgroups() {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.is_dir() {
        // Not mounted: nothing to hide.
        let _ = nix::mount::umount2(unified, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Runs a command that says nothing; its error output when it fails.
pub fn quietly(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A docker daemon.
pub struct Docker {
    _daemon: Process,
    socket: String,
}

impl Docker {
    /// Starts the daemon and loads an image. What is wrong is the last it said.
    pub fn start(folder: &Path, image: &Path) -> Result<Docker, String> {
        let folder = folder.join("docker");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let log = folder.join("log");
        let out = std::fs::File::create(&log).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", folder.join("socket").display());
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(folder.join("data")).arg("--exec-root").arg(folder.join("run"));
        command.arg("--pidfile").arg(folder.join("pid")).args(["--host", &socket]);
        // Not systemd's: that is another program to wait for, and may not be there.
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
        let mut daemon = Process::start("dockerd", &mut command)?;
        let begun = Instant::now();
        while quietly("docker", &["-H", &socket, "version"]).is_err() {
            if daemon.check_alive().is_err() || begun.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(said.lines().last().unwrap_or("it says nothing").to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        quietly("docker", &["-H", &socket, "load", "-i", &image.to_string_lossy()])?;
        Ok(Docker { _daemon: daemon, socket })
    }

    /// The command that runs a container of the image `first` in a network mode.
    pub fn run(&self, network: &str, told: &Path) -> Vec<String> {
        let docker = ["docker", "-H", &self.socket].map(str::to_owned);
        run(docker.to_vec(), network, told, &["first:1"])
    }
}

/// podman, which has no daemon.
pub struct Podman {
    folder: PathBuf,
}

impl Podman {
    /// Loads an image.
    pub fn load(folder: &Path, image: &Path) -> Result<Podman, String> {
        let podman = Podman { folder: folder.join("podman") };
        let mut command = podman.command();
        command.extend(["load", "-q", "-i"].map(str::to_owned));
        command.push(image.to_string_lossy().into_owned());
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
        quietly(&command[0], &arguments)?;
        Ok(podman)
    }

    fn command(&self) -> Vec<String> {
        let at = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let mut command =
            vec!["podman".to_owned(), "--root".into(), at("data"), "--runroot".into(), at("run")];
        let rest = ["--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "crun"];
        command.extend(rest.map(str::to_owned));
        command
    }

    /// The command that runs a container of the image `first` in a network mode.
    pub fn run(&self, network: &str, told: &Path) -> Vec<String> {
        let options = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--pull=never"];
        run(self.command(), network, told, &[&options[..], &["docker.io/library/first:1"]].concat())
    }
}

/// How both run a container: in the background, and gone when it has ended.
fn run(mut engine: Vec<String>, network: &str, told: &Path, rest: &[&str]) -> Vec<String> {
    let mount = format!("{}:/told", told.display());
    let options = ["run", "-d", "--rm", "--network", network, "-v", &mount];
    engine.extend(options.iter().chain(rest).map(|argument| (*argument).to_owned()));
    engine
}
