//! What the tests share: targets that do what a test says, clients that send and read raw HTTP/1.1, configurations.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use balancer::config::*;
use balancer::{Balancer, ListenerStatus, Settings};

/// A message as it came: its first line, its headers in order, its body.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub first_line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads a head; `None` at the end of the stream.
pub fn read_head(reader: &mut impl BufRead) -> Option<Message> {
    let mut message = Message::default();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if message.first_line.is_empty() {
            message.first_line = line.into();
        } else if line.is_empty() {
            return Some(message);
        } else {
            let (name, value) = line.split_once(':')?;
            message.headers.push((name.trim().into(), value.trim().into()));
        }
    }
}

/// Reads the body that the head announces; trailers are appended to the headers.
pub fn read_body(reader: &mut impl BufRead, message: &mut Message, to_end: bool) -> Option<()> {
    if message.header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim().split(';').next()?, 16).ok()?;
            if size == 0 {
                break;
            }
            let start = message.body.len();
            message.body.resize(start + size, 0);
            reader.read_exact(&mut message.body[start..]).ok()?;
            reader.read_line(&mut String::new()).ok()?;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().split_once(':') {
                None => return Some(()),
                Some((name, value)) => message.headers.push((name.into(), value.trim().into())),
            }
        }
    } else if let Some(length) = message.header("content-length") {
        message.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut message.body).ok()?;
    } else if to_end {
        reader.read_to_end(&mut message.body).ok()?;
    }
    Some(())
}

/// What a handler gets: the request's head and the connection to answer on.
pub struct Exchange<'a> {
    pub request: Message,
    pub reader: &'a mut BufReader<TcpStream>,
    pub stream: &'a mut TcpStream,
    /// Requests on this connection so far, this one included.
    pub nth: usize,
}

impl Exchange<'_> {
    pub fn read_body(&mut self) {
        let mut request = std::mem::take(&mut self.request);
        read_body(self.reader, &mut request, false);
        self.request = request;
    }

    pub fn reply(&mut self, head: &str, body: &str) -> bool {
        let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(text.as_bytes()).is_ok()
    }
}

/// A target: a thread per connection.
pub struct Origin {
    pub addr: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// Connections open now.
    pub open: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    /// The handler returns whether the connection is kept.
    pub fn start(handler: impl Fn(&mut Exchange<'_>) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (stopped, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let now_open = open.clone();
        let (handler, opened, counted, ended) =
            (Arc::new(handler), connections.clone(), requests.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                opened.fetch_add(1, SeqCst);
                now_open.fetch_add(1, SeqCst);
                let (handler, counted, now_open) = (handler.clone(), counted.clone(), now_open.clone());
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut nth = 0;
                    while let Some(request) = read_head(&mut reader) {
                        nth += 1;
                        counted.fetch_add(1, SeqCst);
                        if !handler(&mut Exchange { request, reader: &mut reader, stream: &mut stream, nth })
                        {
                            break;
                        }
                    }
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    now_open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { addr, connections, open, requests, stopped }
    }

    /// Answers everything with 200 and its name.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |exchange| {
            exchange.read_body();
            exchange.reply("200 OK", name)
        })
    }

    /// Answers everything with 200 and the request's head as it came.
    pub fn mirror() -> Self {
        Self::start(|exchange| {
            exchange.read_body();
            let request = &exchange.request;
            let lines = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
            let body = format!("{}\n{}\n{}", request.first_line, lines.collect::<String>(), request.text());
            exchange.reply("200 OK", &body)
        })
    }

    /// Stops listening: connections are refused from now on.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
        let _ = TcpStream::connect(self.addr);
        wait("the port to close", || TcpStream::connect(self.addr).is_err());
    }
}

/// A client's connection.
pub struct Client {
    pub stream: TcpStream,
    pub reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// `None` when the connection ends instead.
    pub fn read(&mut self, head_request: bool) -> Option<Message> {
        let mut message = read_head(&mut self.reader)?;
        let bodiless = head_request || matches!(message.status(), 204 | 304 | 101 | 100);
        if !bodiless {
            read_body(&mut self.reader, &mut message, true)?;
        }
        Some(message)
    }

    pub fn get(&mut self, path: &str) -> Message {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
    }

    pub fn request(&mut self, text: &str) -> Message {
        self.send(text);
        self.read(text.starts_with("HEAD")).expect("a response")
    }

    /// Whether the other side has ended the connection.
    pub fn is_ended(&mut self) -> bool {
        self.reader.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

/// One request on a connection of its own.
pub fn get(addr: SocketAddr, path: &str) -> Message {
    Client::connect(addr).get(path)
}

/// A loopback address that no other test of this machine uses just now.
pub fn fresh_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id().wrapping_mul(251).wrapping_add(NEXT.fetch_add(1, SeqCst));
    Ipv4Addr::new(127, 1 + (n >> 16 & 0x7f) as u8, (n >> 8) as u8, 1 + (n as u8 % 250)).into()
}

pub const GROUP: &str = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/main/1";

pub fn target(addr: SocketAddr) -> Target {
    Target { id: addr.ip().to_string(), address: addr.ip(), port: addr.port(), draining: false }
}

pub fn group(arn: &str, targets: &[SocketAddr]) -> TargetGroup {
    TargetGroup {
        arn: arn.into(),
        algorithm: Algorithm::RoundRobin,
        stickiness: None,
        slow_start_ms: 0,
        health_check: HealthCheck {
            interval_ms: 100,
            timeout_ms: 1000,
            healthy_threshold: 2,
            ..Default::default()
        },
        targets: targets.iter().map(|addr| target(*addr)).collect(),
    }
}

pub fn forward_to(arn: &str) -> Action {
    let target_groups = vec![WeightedGroup { target_group: arn.into(), weight: 1 }];
    Action::Forward(Forward { target_groups, stickiness_duration_s: None })
}

pub fn path_rule(pattern: &str, action: Action) -> Rule {
    Rule {
        arn: format!("rule/{pattern}"),
        conditions: vec![Condition::PathPattern(vec![pattern.into()])],
        action,
    }
}

pub fn load_balancer(name: &str, address: IpAddr, rules: Vec<Rule>, default_action: Action) -> LoadBalancer {
    LoadBalancer {
        arn: format!("lb/{name}"),
        dns_name: format!("{name}.elb.localhost"),
        address,
        attributes: LoadBalancerAttributes::default(),
        listeners: vec![Listener { arn: format!("listener/{name}"), port: 8080, rules, default_action }],
    }
}

/// A balancer with one load balancer that forwards everything to one group.
pub struct Fixture {
    pub balancer: Arc<Balancer>,
    pub config: BalancerConfig,
    pub addr: SocketAddr,
}

impl Fixture {
    pub fn new(targets: &[SocketAddr]) -> Self {
        Self::with(targets, |_| {})
    }

    /// With changes to the usual configuration.
    pub fn with(targets: &[SocketAddr], change: impl FnOnce(&mut BalancerConfig)) -> Self {
        let address = fresh_address();
        let mut config = BalancerConfig {
            load_balancers: vec![load_balancer("main", address, vec![], forward_to(GROUP))],
            target_groups: vec![group(GROUP, targets)],
        };
        change(&mut config);
        let settings = Settings { seed: 7, workers: 2, fronts: vec![], connections_max: usize::MAX };
        let balancer = Arc::new(Balancer::start(settings).unwrap());
        let fixture = Self { balancer, config, addr: SocketAddr::new(address, 8080) };
        let errors: Vec<_> = fixture.apply().into_iter().filter_map(|status| status.error).collect();
        assert_eq!(errors, Vec::<String>::new());
        fixture
    }

    pub fn apply(&self) -> Vec<ListenerStatus> {
        apply(&self.balancer, self.config.clone())
    }

    pub fn group(&mut self) -> &mut TargetGroup {
        &mut self.config.target_groups[0]
    }

    /// State and reason of each target of the first group.
    pub fn health(&self) -> Vec<String> {
        let said = |health: balancer::decide::health::TargetHealth| match health.reason {
            None => health.state.as_str().to_owned(),
            Some(reason) => format!("{} {reason}", health.state.as_str()),
        };
        self.balancer.targets().into_iter().map(|target| said(target.health)).collect()
    }

    pub fn wait_healthy(&self) {
        wait("all targets to be healthy", || self.health().iter().all(|health| health == "healthy"));
    }
}

pub fn apply(balancer: &Balancer, config: BalancerConfig) -> Vec<ListenerStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(balancer.apply(config))
}

/// Waits until something is so; fails after 20 s.
pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
