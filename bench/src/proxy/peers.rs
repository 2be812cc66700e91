//! nginx and HAProxy over the same origins, by the same rules, with the forwarding headers that are usual.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Proxy;
use super::origin::{self, Daemon};
use crate::process::Process;

/// nginx as a proxy.
pub struct Nginx(Daemon);

/// HAProxy.
pub struct HaProxy(Daemon);

const NGINX_PORT: u16 = 8081;
const HAPROXY_PORT: u16 = 8082;

impl Nginx {
    /// Starts one with so many worker processes.
    pub fn start(folder: &Path, workers: usize) -> Result<Nginx, String> {
        let upstream = |name: &str, port: u16| {
            format!(
                "upstream {name} {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 1000000000; }}"
            )
        };
        let config = format!(
            "daemon off; worker_processes {workers}; pid {folder}/nginx.pid; error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{
               access_log off; keepalive_requests 1000000000; tcp_nodelay on; proxy_temp_path {folder}/temp;
               {} {}
               proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host:$server_port;
               proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
               proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port;
               proxy_set_header X-Proxy nginx; proxy_max_temp_file_size 0;
               server {{ listen 127.0.0.1:{NGINX_PORT} reuseport;
                 location /a/ {{ proxy_pass http://a; }}
                 location /b/ {{ proxy_pass http://b; }} }} }}",
            upstream("a", origin::PORTS[0]),
            upstream("b", origin::PORTS[1]),
            folder = folder.display(),
        );
        let mut daemon = origin::nginx(folder, "nginx", &config)?;
        daemon.0.wait_for_port(NGINX_PORT, Duration::from_secs(10))?;
        Ok(Nginx(daemon))
    }
}

impl HaProxy {
    /// Starts one with so many threads.
    pub fn start(folder: &Path, workers: usize) -> Result<HaProxy, String> {
        let [a, b] = origin::PORTS;
        let config = format!(
            "global\n nbthread {workers}\n maxconn 4096\n\
             defaults\n mode http\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n \
             option forwardfor\n http-reuse always\n\
             frontend front\n bind 127.0.0.1:{HAPROXY_PORT}\n \
             http-request set-header X-Forwarded-Proto http\n \
             http-request set-header X-Forwarded-Port %[dst_port]\n \
             http-request set-header X-Proxy haproxy\n \
             use_backend a if {{ path_beg /a/ }}\n use_backend b if {{ path_beg /b/ }}\n\
             backend a\n server a 127.0.0.1:{a}\n\
             backend b\n server b 127.0.0.1:{b}\n"
        );
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, config).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        let mut daemon = Daemon(Process::start("haproxy", &mut command)?);
        daemon.0.wait_for_port(HAPROXY_PORT, Duration::from_secs(10))?;
        Ok(HaProxy(daemon))
    }
}

impl Proxy for Nginx {
    fn name(&self) -> String {
        "nginx".into()
    }

    fn port(&self) -> u16 {
        NGINX_PORT
    }

    fn cpu(&mut self) -> Result<Duration, String> {
        self.0.0.check_alive().map(|()| self.0.0.cpu())
    }

    fn mark(&self) -> &'static str {
        "proxy=nginx"
    }
}

impl Proxy for HaProxy {
    fn name(&self) -> String {
        "HAProxy".into()
    }

    fn port(&self) -> u16 {
        HAPROXY_PORT
    }

    fn cpu(&mut self) -> Result<Duration, String> {
        self.0.0.check_alive().map(|()| self.0.0.cpu())
    }

    fn mark(&self) -> &'static str {
        "proxy=haproxy"
    }
}
