//! What the registry pays for a byte that is pushed and one that is pulled, beside docker-registry.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::Client;
use crate::image::hex;
use crate::process::Process;
use crate::report::Report;
use crate::roadstead::{PORT, Roadstead};
use crate::{image, install};

const PEER_PORT: u16 = 5002;
const BYTES: usize = 256 << 20;
/// The registries in turn, each so often; the median counts.
const ROUNDS: usize = 5;
/// How often skopeo pushes and pulls.
const SKOPEO_ROUNDS: usize = 3;

/// Installs the peer.
pub fn prepare() -> Result<(), String> {
    install::apt("docker-registry", "docker-registry")?;
    install::apt("skopeo", "skopeo")
}

/// A registry that is measured.
struct Registry<'a> {
    process: &'a Process,
    port: u16,
    /// Base64 of `user:password`.
    login: String,
}

/// What a byte cost.
#[derive(Clone, Copy)]
struct Cost {
    cpu_ns: f64,
    wall_ns: f64,
}

/// The benchmark.
pub fn run() -> Result<Report, String> {
    let folder = TempDir::new().map_err(|error| format!("a temporary folder: {error}"))?;
    let server = Roadstead::start()?;
    let peer = docker_registry(folder.path())?;
    Client::new(PORT, "ecr").json("CreateRepository", &json!({"repositoryName": "bench"}))?;
    let login = format!("AWS:{}", image::password()?);
    let login = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, login);
    let registries = [
        Registry { process: &server.process, port: PORT, login: login.clone() },
        Registry { process: &peer, port: PEER_PORT, login },
    ];
    let (mut pushes, mut pulls) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    let mut data = noise();
    for round in 0..ROUNDS {
        data[..8].copy_from_slice(&(round as u64).to_le_bytes());
        let digest = format!("sha256:{}", hex(&Sha256::digest(&data)));
        for (at, registry) in registries.iter().enumerate() {
            pushes[at].push(registry.cost(|| registry.push(&data, &digest))?);
            pulls[at].push(registry.cost(|| registry.pull(&digest, round == 0))?);
        }
    }
    let (mut skopeo_pushes, mut skopeo_pulls) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for round in 0..SKOPEO_ROUNDS {
        data[..8].copy_from_slice(&(1000 + round as u64).to_le_bytes());
        let layout = folder.path().join(format!("layout{round}"));
        image::layout(&layout, &[layer(&data)?], &json!({"Entrypoint": ["/none"]}))
            .map_err(|error| format!("the image: {error}"))?;
        for (at, registry) in registries.iter().enumerate() {
            let name = format!("localhost:{}/bench:{round}", registry.port);
            skopeo_pushes[at].push(registry.cost(|| registry.skopeo_push(&layout, &name))?);
            let into = folder.path().join(format!("pulled{round}-{at}"));
            skopeo_pulls[at].push(registry.cost(|| registry.skopeo_pull(&name, &into))?);
            std::fs::remove_dir_all(&into).map_err(|error| error.to_string())?;
        }
        std::fs::remove_dir_all(&layout).map_err(|error| error.to_string())?;
    }
    let mut report = Report::new(&["CPU of the server per byte (wall)", "Roadstead", "docker-registry 2.8"]);
    for (title, costs) in [
        ("push: POST, one PATCH, PUT", pushes),
        ("pull: GET", pulls),
        ("push by skopeo", skopeo_pushes),
        ("pull by skopeo", skopeo_pulls),
    ] {
        report.row(std::iter::once(title.to_owned()).chain(costs.into_iter().map(median)));
    }
    report.note(format!("Blobs of {} MiB.", BYTES >> 20));
    Ok(report)
}

/// Bytes that do not compress.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BYTES / 8).flat_map(next).collect()
}

/// A layer with the data in one file.
fn layer(data: &[u8]) -> Result<Vec<u8>, String> {
    let mut layer = tar::Builder::new(Vec::with_capacity(BYTES + 4096));
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    layer
        .append_data(&mut header, "data", data)
        .and_then(|()| layer.into_inner())
        .map_err(|error| error.to_string())
}

fn docker_registry(folder: &Path) -> Result<Process, String> {
    let config = folder.join("registry.yml");
    let root = folder.join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: \"{}\"}}}}\nhttp: {{addr: \"127.0.0.1:{PEER_PORT}\"}}\n",
        root.display()
    );
    std::fs::write(&config, text).map_err(|error| format!("the peer's configuration: {error}"))?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::start("docker-registry", &mut command)?;
    process.wait_for_port(PEER_PORT, Duration::from_secs(20))?;
    Ok(process)
}

fn median(mut costs: Vec<Cost>) -> String {
    costs.sort_by(|a, b| a.cpu_ns.total_cmp(&b.cpu_ns));
    let Cost { cpu_ns, wall_ns } = costs[costs.len() / 2];
    format!("{cpu_ns:.2} ns ({wall_ns:.2})")
}

impl Registry<'_> {
    fn cost(&self, work: impl FnOnce() -> Result<(), String>) -> Result<Cost, String> {
        let (begun, cpu) = (Instant::now(), self.process.own_cpu());
        work()?;
        let each = |time: Duration| time.as_secs_f64() * 1e9 / BYTES as f64;
        Ok(Cost { cpu_ns: each(self.process.own_cpu() - cpu), wall_ns: each(begun.elapsed()) })
    }

    fn push(&self, data: &[u8], digest: &str) -> Result<(), String> {
        let pushed = || -> std::io::Result<()> {
            let mut http = Http::connect(self.port, &self.login)?;
            let upload = http.request("POST", "/v2/bench/blobs/uploads/", "", &[], 202)?.location;
            let upload = http.request("PATCH", &upload, "application/octet-stream", data, 202)?.location;
            let join = if upload.contains('?') { '&' } else { '?' };
            http.request("PUT", &format!("{upload}{join}digest={digest}"), "", &[], 201).map(drop)
        };
        pushed().map_err(|error| format!("push to {}: {error}", self.port))
    }

    /// Reads a blob, and checks what was read if asked to.
    fn pull(&self, digest: &str, check: bool) -> Result<(), String> {
        let pulled = || -> std::io::Result<()> {
            let mut http = Http::connect(self.port, &self.login)?;
            let answer = http.request("GET", &format!("/v2/bench/blobs/{digest}"), "", &[], 200)?;
            let (mut left, mut hash, mut buffer) = (answer.length, Sha256::new(), vec![0; 1 << 20]);
            let mut take = |bytes: &[u8]| {
                if check {
                    hash.update(bytes);
                }
            };
            while left > 0 {
                match http.stream.read(&mut buffer)? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    count => {
                        take(&buffer[..count]);
                        left -= count;
                    }
                }
            }
            if check && format!("sha256:{}", hex(&hash.finalize())) != digest {
                return Err(std::io::Error::other("it is not what was pushed"));
            }
            Ok(())
        };
        pulled().map_err(|error| format!("pull from {}: {error}", self.port))
    }

    fn credentials(&self) -> Result<String, String> {
        let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &self.login);
        decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| "a bad login".into())
    }

    fn skopeo_push(&self, layout: &Path, name: &str) -> Result<(), String> {
        image::skopeo_push(name, layout, &["--dest-creds", &self.credentials()?])
    }

    fn skopeo_pull(&self, name: &str, into: &Path) -> Result<(), String> {
        let (from, into) = (format!("docker://{name}"), format!("dir:{}", into.display()));
        let credentials = self.credentials()?;
        let login = ["--src-creds", &credentials];
        let copy = [
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            login[0],
            login[1],
            &from,
            &into,
        ];
        crate::engines::quietly("skopeo", &copy)
    }
}

/// A connection that sends large bodies and leaves large answers to be read.
struct Http {
    stream: TcpStream,
    host: String,
    login: String,
}

/// The head of an answer.
struct Answer {
    location: String,
    /// Of the body that is still to be read.
    length: usize,
}

impl Http {
    fn connect(port: u16, login: &str) -> std::io::Result<Http> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Http { stream, host: format!("localhost:{port}"), login: login.to_owned() })
    }

    /// Sends a request and reads the head of its answer.
    fn request(
        &mut self,
        method: &str,
        to: &str,
        kind: &str,
        body: &[u8],
        wanted: u16,
    ) -> std::io::Result<Answer> {
        let path = to.strip_prefix("http://").map_or(to, |rest| &rest[rest.find('/').unwrap_or(0)..]);
        let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Basic {}\r\n{kind}content-length: {}\r\n\r\n",
            self.host,
            self.login,
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.head(wanted)
    }

    fn head(&mut self, wanted: u16) -> std::io::Result<Answer> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        // Byte by byte: what follows is the body, which is read in large pieces.
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| {
            let fields = head.lines().filter_map(|line| line.split_once(':'));
            let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        if head.split(' ').nth(1) != Some(wanted.to_string().as_str()) {
            return Err(std::io::Error::other(head));
        }
        Ok(Answer { location: field("location"), length: field("content-length").parse().unwrap_or(0) })
    }
}
