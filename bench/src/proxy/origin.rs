//! The origins behind every proxy: one nginx with two ports, answers that cost next to nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Process;

/// The ports of origin `a` and origin `b`.
pub const PORTS: [u16; 2] = [9001, 9002];
/// The size of a large response.
pub const LARGE_BYTES: u32 = 1 << 20;

/// The running origins.
pub struct Origin {
    _daemon: Daemon,
}

/// A process with workers: asked to end, it ends them too.
pub struct Daemon(pub Process);

impl Drop for Daemon {
    fn drop(&mut self) {
        let begun = Instant::now();
        if kill(Pid::from_raw(self.0.pid().cast_signed()), Signal::SIGTERM).is_ok() {
            while self.0.check_alive().is_ok() && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Origin {
    /// Starts them, on all loopback addresses.
    pub fn start(folder: &Path) -> Result<Origin, String> {
        let root = folder.join("origin");
        let large = vec![b'x'; LARGE_BYTES as usize];
        for name in ["a", "b"] {
            let path = root.join(name);
            std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            std::fs::write(path.join("large"), &large).map_err(|error| error.to_string())?;
        }
        let server = |name: &str, port: u16| {
            format!(
                "server {{ listen 0.0.0.0:{port} backlog=1024; root {root}; default_type text/plain;
                   location / {{ return 200 'hello from {name}\\n'; }}
                   location /{name}/large {{ sendfile on; open_file_cache max=10; }}
                   location /{name}/who {{ return 200 '{name} trace=$http_x_amzn_trace_id proxy=$http_x_proxy\\n'; }} }}",
                root = root.display()
            )
        };
        let config = format!(
            "daemon off; worker_processes 1; pid {folder}/origin.pid; error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on; {} {} }}",
            server("a", PORTS[0]),
            server("b", PORTS[1]),
            folder = folder.display(),
        );
        let mut daemon = nginx(folder, "origin", &config)?;
        for port in PORTS {
            daemon.0.wait_for_port(port, Duration::from_secs(10))?;
        }
        Ok(Origin { _daemon: daemon })
    }
}

/// Starts an nginx with a configuration.
pub fn nginx(folder: &Path, name: &str, config: &str) -> Result<Daemon, String> {
    let path = folder.join(format!("{name}.conf"));
    std::fs::write(&path, config).map_err(|error| format!("{}: {error}", path.display()))?;
    // The user that workers change to must be able to read what they serve.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, open).map_err(|error| error.to_string())?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start(name, &mut command).map(Daemon)
}
