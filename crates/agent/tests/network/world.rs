//! A machine to try the network on: fresh network and mount namespaces, an outside world, and tasks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agent::act::network::{GroupNetwork, Network, NetworkConfig};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use state::assignment::{
    AgentDesired, Assignment, FirewallRule, NameData, NameRecord, Names, NetworkAssignment,
};
use state::ec2::{Cidr, Peer};
use state::group::{Attachment, ContainerSpec, GroupSpec, NetworkMode, Observed, PortMapping};

const INSIDE: &str = "ROADSTEAD_TEST_NETWORK_INSIDE";

/// Runs a test's body in a process of its own with fresh network and mount namespaces, so that nothing touches the
/// machine. Says why if it cannot.
pub fn on_a_machine_of_its_own(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped {name}: making network namespaces takes root");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return eprintln!("skipped {name}: the test needs iproute2 to build the world around the node");
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    // SAFETY: between fork and exec only system calls are made.
    unsafe { again.pre_exec(private_namespaces) };
    let output = again.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn private_namespaces() -> io::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    Ok(())
}

/// Runs a command that must succeed; answers what it printed.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The node under test.
pub struct World {
    pub network: Network,
    pub runtime: tokio::runtime::Runtime,
}

impl World {
    /// A host with `lo` up and an uplink: 203.0.113.1 here, 203.0.113.2 outside.
    pub fn new() -> World {
        run("ip link set lo up");
        run("ip netns add outside");
        run("ip link add uplink type veth peer name eth0 netns outside");
        run("ip addr add 203.0.113.1/24 dev uplink");
        // Addresses that come by and by would look like traces.
        run("ip link set uplink addrgenmode none");
        run("ip link set uplink up");
        run("ip -n outside addr add 203.0.113.2/24 dev eth0");
        run("ip -n outside link set eth0 up");
        run("ip -n outside link set lo up");
        run("ip route add default via 203.0.113.2");
        std::fs::write("/run/resolv.conf", "nameserver 203.0.113.2\n").unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        World { network: Network::new(config(), runtime.handle().clone()).unwrap(), runtime }
    }

    /// What a killed and restarted agent has: the same machine, nothing in memory.
    pub fn restart(self) -> World {
        let World { network, runtime } = self;
        drop(network);
        runtime.shutdown_timeout(Duration::from_secs(5));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        World { network: Network::new(config(), runtime.handle().clone()).unwrap(), runtime }
    }

    pub fn prepare(&self, assignment: &Assignment) -> GroupNetwork {
        self.network.prepare(assignment).unwrap()
    }
}

pub fn config() -> NetworkConfig {
    NetworkConfig { resolv_conf: "/run/resolv.conf".into(), ..NetworkConfig::default() }
}

/// Everything that a network could leave behind, as text.
pub fn traces() -> String {
    let mut text = run("ip -o addr") + &links() + &run("ip route").replace("linkdown ", "") + &run("ip rule");
    if Command::new("nft").arg("-v").output().is_ok() {
        text += &run("nft list ruleset");
    }
    text += &std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text + &mounts.lines().filter(|l| l.contains("/run/roadstead")).collect::<Vec<_>>().join("\n")
}

/// The interfaces, without states that settle by and by.
fn links() -> String {
    let text = run("ip -o link");
    let is_settled =
        |w: &&str| !w.starts_with('<') && !["UP", "DOWN", "UNKNOWN", "LOWERLAYERDOWN"].contains(w);
    text.lines()
        .map(|l| l.split_whitespace().filter(is_settled).collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

/// The namespace of the world outside.
pub fn outside() -> PathBuf {
    "/run/netns/outside".into()
}

/// Runs a function in a network namespace.
pub fn inside<T: Send>(netns: &Path, body: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(netns).unwrap();
    std::thread::scope(|scope| {
        let enter = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        };
        scope.spawn(enter).join().unwrap()
    })
}

/// The host's own namespace.
pub fn host() -> PathBuf {
    "/proc/self/ns/net".into()
}

/// A server that answers each connection with the address it came from.
pub fn serve(netns: &Path, port: u16) -> SocketAddr {
    let listener = inside(netns, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    });
    address
}

/// Connects from a namespace; answers whom the server saw.
pub fn connect(netns: &Path, to: Ipv4Addr, port: u16) -> io::Result<IpAddr> {
    let mut stream = inside(netns, || {
        TcpStream::connect_timeout(&SocketAddr::from((to, port)), Duration::from_millis(700))
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.parse().map_err(io::Error::other)
}

pub fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

/// A rule; `peer` is a network, or addresses of a group's members separated by commas.
pub fn rule(egress: bool, protocol: &str, ports: (i32, i32), peer: &str) -> FirewallRule {
    let (peer, members) = match Cidr::parse(peer) {
        Some(cidr) => (Peer::Ipv4(cidr), Vec::new()),
        None => (Peer::Group("sg-1".into()), peer.split(',').map(address).collect()),
    };
    FirewallRule { egress, protocol: protocol.into(), from_port: ports.0, to_port: ports.1, peer, members }
}

pub fn anything() -> Vec<FirewallRule> {
    [false, true].map(|egress| rule(egress, "-1", (-1, -1), "0.0.0.0/0")).into()
}

/// A task of containers that publish these (container port, host port).
pub fn task(n: u8, mode: NetworkMode, ports: &[&[(u16, u16, &str)]]) -> Assignment {
    let mapping = |(container_port, host_port, protocol): &(u16, u16, &str)| PortMapping {
        container_port: *container_port,
        host_port: Some(*host_port),
        protocol: (*protocol).into(),
        ..PortMapping::default()
    };
    let container = |(i, ports): (usize, &&[(u16, u16, &str)])| ContainerSpec {
        name: format!("c{i}"),
        port_mappings: ports.iter().map(mapping).collect(),
        ..ContainerSpec::default()
    };
    let containers = ports.iter().enumerate().map(container).collect();
    let id = format!("{n:032x}");
    Assignment {
        key: format!("000000000000/us-east-1/default/{id}"),
        task_arn: format!("arn:aws:ecs:us-east-1:000000000000:task/default/{id}"),
        id,
        account: "000000000000".into(),
        region: "us-east-1".into(),
        cluster: "default".into(),
        service: None,
        tags: Vec::new(),
        launch_type: "FARGATE".into(),
        availability_zone: "us-east-1a".into(),
        spec: Arc::new(GroupSpec { containers, network_mode: mode, ..GroupSpec::default() }),
        desired: AgentDesired::Run,
        network: None,
        observed: Observed::default(),
        created_at_ms: 0,
    }
}

/// An `awsvpc` task with an address in a /20 subnet of a /16 VPC.
pub fn vpc_task(n: u8, ip: &str, firewall: Vec<FirewallRule>) -> Assignment {
    let ip = address(ip);
    let within = |prefix: u8| {
        let base = Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - prefix)));
        Cidr { base, prefix }
    };
    let subnet = within(20);
    let mut assignment = task(n, NetworkMode::Awsvpc, &[&[]]);
    assignment.network = Some(NetworkAssignment {
        attachment: Attachment {
            id: format!("attachment-{n}"),
            eni_id: format!("eni-{n}"),
            subnet_id: format!("subnet-{}", subnet.base),
            availability_zone: "us-east-1a".into(),
            private_ip: ip,
            mac: format!("02:00:00:00:00:{n:02x}"),
        },
        subnet_cidr: subnet,
        vpc_id: format!("vpc-{}", within(16).base),
        vpc_cidr: within(16),
        gateway: subnet.nth(1),
        firewall,
    });
    assignment
}

/// The namespace of a group's container.
pub fn netns(network: &GroupNetwork, container: usize) -> PathBuf {
    network.containers[container].netns_path.clone().unwrap()
}

/// A name query by datagram or stream, asked from a namespace; answers the message.
pub fn query(netns: &Path, server: Ipv4Addr, name: &str, kind: u16, by_stream: bool) -> Option<Vec<u8>> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    question.extend([0, (kind >> 8) as u8, kind as u8, 0, 1]);
    let server = SocketAddrV4::new(server, 53);
    if by_stream {
        let mut stream = inside(netns, || TcpStream::connect(server)).ok()?;
        stream.write_all(&[&(question.len() as u16).to_be_bytes(), question.as_slice()].concat()).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).ok()?;
        return Some(answer);
    }
    let socket = inside(netns, || std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(6))).ok()?;
    socket.send_to(&question, server).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// Names of a shop, most of them private to one VPC.
pub fn names() -> Names {
    let record = |name: &str, data, vpc: Option<&str>| NameRecord {
        name: name.into(),
        ttl_s: 60,
        vpc_id: vpc.map(Into::into),
        data,
    };
    let vpc = Some("vpc-172.31.0.0");
    let mut records = vec![
        record("balancer.example", NameData::Cname("www.outside.example".into()), None),
        record("cart.shop.local", NameData::A(address("172.31.0.10")), vpc),
    ];
    records.extend(
        (0..100).map(|n| record("many.shop.local", NameData::Srv(1, 1, n, "cart.shop.local".into()), vpc)),
    );
    Names { zones: vec!["shop.local".into()], records }
}
