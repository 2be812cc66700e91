//! The node's network on a machine of its own: real namespaces, bridges, rules and packets.

#[path = "network/life.rs"]
mod life;
#[path = "network/world.rs"]
mod world;

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use agent::act::network::{HostAddress, Network};
use state::group::NetworkMode;
use world::*;

const WEB: u16 = 80;

fn refused(result: io::Result<IpAddr>) -> bool {
    result.is_err()
}

#[test]
fn tasks_reach_each_other_the_host_and_the_outside() {
    on_a_machine_of_its_own("tasks_reach_each_other_the_host_and_the_outside", || {
        let world = World::new();
        let one = netns(&world.prepare(&vpc_task(1, "172.31.0.10", anything())), 0);
        let two = netns(&world.prepare(&vpc_task(2, "172.31.0.11", anything())), 0);
        let far = netns(&world.prepare(&vpc_task(3, "172.31.16.10", anything())), 0);
        let foreign = netns(&world.prepare(&vpc_task(4, "10.0.0.10", anything())), 0);
        for task in [&one, &two, &far, &foreign] {
            serve(task, WEB);
        }
        serve(&outside(), WEB);
        assert_eq!(
            connect(&one, address("172.31.0.11"), WEB).unwrap(),
            address("172.31.0.10"),
            "same subnet"
        );
        assert_eq!(
            connect(&one, address("172.31.16.10"), WEB).unwrap(),
            address("172.31.0.10"),
            "other subnet"
        );
        assert_eq!(connect(&one, Ipv4Addr::LOCALHOST, WEB).unwrap(), Ipv4Addr::LOCALHOST, "its own lo");
        assert_eq!(
            connect(&host(), address("172.31.0.10"), WEB).unwrap(),
            address("172.31.0.1"),
            "from the host"
        );
        assert_eq!(
            connect(&one, address("203.0.113.2"), WEB).unwrap(),
            address("203.0.113.1"),
            "outside, translated"
        );
        assert!(refused(connect(&one, address("10.0.0.10"), WEB)), "another VPC");
        assert!(refused(connect(&foreign, address("172.31.0.10"), WEB)), "another VPC");
        let text = run("ip -n outside neigh");
        assert!(!text.contains("172.31"), "no untranslated packet left: {text}");
        let link = inside(&one, || run("ip -o link show eth0"));
        assert!(link.contains("02:00:00:00:00:01"), "{link}");
    });
}

#[test]
fn link_local_addresses_lead_nowhere_beyond_the_namespace() {
    on_a_machine_of_its_own("link_local_addresses_lead_nowhere_beyond_the_namespace", || {
        let world = World::new();
        let one = netns(&world.prepare(&vpc_task(1, "172.31.0.10", anything())), 0);
        run("ip -n outside addr add 169.254.169.254/32 dev lo");
        serve(&outside(), WEB);
        assert!(
            connect(&host(), address("169.254.169.254"), WEB).is_ok(),
            "the cloud's metadata, from the host"
        );
        assert!(refused(connect(&one, address("169.254.169.254"), WEB)), "not from a task");
    });
}

#[test]
fn the_metadata_endpoint_leaves_port_80_to_the_task() {
    on_a_machine_of_its_own("the_metadata_endpoint_leaves_port_80_to_the_task", || {
        let world = World::new();
        let task = vpc_task(1, "172.31.0.10", anything());
        let one = netns(&world.prepare(&task), 0);
        let listeners = world.network.metadata_listeners(&task.key).unwrap();
        assert_eq!(listeners.len(), 1);
        answer_with(listeners.into_iter().next().unwrap(), "192.0.2.1");
        serve(&one, WEB);
        assert_eq!(
            connect(&one, address("169.254.170.2"), WEB).unwrap(),
            address("192.0.2.1"),
            "the endpoint"
        );
        assert_eq!(connect(&host(), address("172.31.0.10"), WEB).unwrap(), address("172.31.0.1"), "the task");
    });
}

/// Answers connections with a text, as a metadata server would.
fn answer_with(listener: TcpListener, text: &'static str) {
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = io::Write::write_all(&mut stream, text.as_bytes());
        }
    });
}

#[test]
fn security_groups_permit_and_block_and_change_live() {
    on_a_machine_of_its_own("security_groups_permit_and_block_and_change_live", || {
        let world = World::new();
        let all_out = || rule(true, "-1", (-1, -1), "0.0.0.0/0");
        let client = netns(&world.prepare(&vpc_task(1, "172.31.0.10", anything())), 0);
        let other = netns(&world.prepare(&vpc_task(2, "172.31.0.11", anything())), 0);
        let mut guarded =
            vpc_task(3, "172.31.0.12", vec![all_out(), rule(false, "tcp", (80, 90), "172.31.0.10")]);
        let inside_guarded = netns(&world.prepare(&guarded), 0);
        for port in [79, 80, 90, 91] {
            serve(&inside_guarded, port);
        }
        let to = address("172.31.0.12");
        let open = |from: &std::path::Path| [79, 80, 90, 91].map(|port| connect(from, to, port).is_ok());
        assert_eq!(open(&client), [false, true, true, false], "a member, the ports given");
        assert_eq!(open(&other), [false; 4], "no member");
        assert_eq!(open(&host()), [false; 4], "the host is no member");
        serve(&client, WEB);
        assert!(connect(&inside_guarded, address("172.31.0.10"), WEB).is_ok(), "answers come back");

        guarded.network.as_mut().unwrap().firewall = vec![
            all_out(),
            rule(false, "tcp", (91, 91), "172.31.0.10,172.31.0.11"),
            rule(false, "icmp", (8, -1), "172.31.0.0/20"),
        ];
        world.network.update(&guarded).unwrap();
        assert_eq!(open(&client), [false, false, false, true], "as changed");
        assert_eq!(open(&other), [false, false, false, true], "as changed");
        assert!(ping(&other, address("172.31.0.12")), "as changed");

        guarded.network.as_mut().unwrap().firewall = vec![rule(true, "udp", (53, 53), "0.0.0.0/0")];
        world.network.update(&guarded).unwrap();
        assert!(refused(connect(&inside_guarded, address("172.31.0.10"), WEB)), "outbound rules bind, too");
        assert!(!ping(&inside_guarded, address("172.31.0.10")) && !ping(&other, address("172.31.0.12")));
    });
}

/// Sends an echo request and waits for its answer.
fn ping(from: &std::path::Path, to: Ipv4Addr) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let open = || socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), SockProtocol::Icmp);
    let socket = UdpSocket::from(inside(from, open).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], (to, 0)).is_ok() && socket.recv(&mut [0; 64]).is_ok()
}

#[test]
fn a_balancer_that_is_a_member_opens_the_task_to_the_gateway() {
    on_a_machine_of_its_own("a_balancer_that_is_a_member_opens_the_task_to_the_gateway", || {
        let world = World::new();
        let rules = vec![rule(false, "tcp", (80, 80), "172.31.0.5"), rule(true, "-1", (-1, -1), "0.0.0.0/0")];
        let task = netns(&world.prepare(&vpc_task(1, "172.31.0.10", rules)), 0);
        serve(&task, WEB);
        assert!(refused(connect(&host(), address("172.31.0.10"), WEB)), "no balancer yet");
        let balancer = HostAddress {
            subnet_id: "subnet-172.31.0.0".into(),
            subnet_cidr: cidr("172.31.0.0/20"),
            vpc_cidr: cidr("172.31.0.0/16"),
            gateway: address("172.31.0.1"),
            address: address("172.31.0.5"),
        };
        world.network.host_addresses(std::slice::from_ref(&balancer)).unwrap();
        assert_eq!(connect(&host(), address("172.31.0.10"), WEB).unwrap(), address("172.31.0.1"));
        let listener = TcpListener::bind((address("172.31.0.5"), 8080)).unwrap();
        answer_with(listener, "192.0.2.5");
        assert_eq!(
            connect(&task, address("172.31.0.5"), 8080).unwrap(),
            address("192.0.2.5"),
            "tasks reach it"
        );
        // A host port of the same number belongs to containers, at every address but the balancer's.
        let publishing = world.prepare(&publishing_task());
        serve(&netns(&publishing, 0), 8080);
        assert_eq!(connect(&task, address("172.31.0.5"), 8080).unwrap(), address("192.0.2.5"));
        assert!(connect(&task, address("172.31.0.1"), 8080).is_ok());
        world.network.host_addresses(&[]).unwrap();
        assert!(!run("ip -o addr").contains("172.31.0.5/"));
        assert!(refused(connect(&host(), address("172.31.0.10"), WEB)));
    });
}

fn publishing_task() -> state::assignment::Assignment {
    task(9, NetworkMode::Bridge, &[&[(8080, 8080, "tcp")]])
}

#[test]
fn host_ports_lead_to_containers() {
    on_a_machine_of_its_own("host_ports_lead_to_containers", || {
        let world = World::new();
        let web = world.prepare(&task(
            1,
            NetworkMode::Bridge,
            &[&[(WEB, 8080, "tcp")], &[(WEB, 0, "tcp"), (53, 0, "udp")]],
        ));
        let peer = world.prepare(&task(2, NetworkMode::Bridge, &[&[]]));
        serve(&netns(&web, 0), WEB);
        serve(&netns(&web, 1), WEB);
        let bindings = &web.containers[1].bindings;
        let dynamic = bindings[0].host_port;
        assert!((32768..=60999).contains(&dynamic) && (32768..=60999).contains(&bindings[1].host_port));
        assert_eq!((bindings[0].container_port, bindings[0].bind_ip.as_str()), (WEB, "0.0.0.0"));
        assert_eq!(web.containers[0].bindings[0].host_port, 8080);
        for (port, bridges_filter) in [(8080, "1"), (dynamic, "1"), (8080, "0")] {
            // Whether bridged packets pass the packet filter, too: where Docker runs, they do.
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", bridges_filter);
            assert!(connect(&host(), Ipv4Addr::LOCALHOST, port).is_ok(), "{port} on 127.0.0.1");
            assert!(connect(&host(), address("203.0.113.1"), port).is_ok(), "{port} on the host's address");
            assert_eq!(
                connect(&outside(), address("203.0.113.1"), port).unwrap(),
                address("203.0.113.2"),
                "from outside"
            );
            assert!(connect(&netns(&peer, 0), address("203.0.113.1"), port).is_ok(), "from a neighbour");
            assert!(connect(&netns(&web, 0), address("203.0.113.1"), port).is_ok(), "from the task itself");
        }
        serve(&outside(), WEB);
        assert_eq!(
            connect(&netns(&web, 0), address("203.0.113.2"), WEB).unwrap(),
            address("203.0.113.1"),
            "outwards"
        );
        run("ip -n outside route add 172.29.0.0/16 via 203.0.113.1");
        let own = web.containers[0].address.unwrap();
        assert!(refused(connect(&outside(), own, WEB)), "not by the container's own address");
        udp_answers(&netns(&web, 1), bindings[1].host_port);
        world.network.release(&task(1, NetworkMode::Bridge, &[]).key).unwrap();
        assert!(refused(connect(&host(), Ipv4Addr::LOCALHOST, 8080)), "released");
    });
}

#[test]
fn datagrams_follow_the_container_that_has_the_port_now() {
    on_a_machine_of_its_own("datagrams_follow_the_container_that_has_the_port_now", || {
        let world = World::new();
        let client = inside(&outside(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        let send = || drop(client.send_to(b"ping", (address("203.0.113.1"), 5353)));
        send();
        std::thread::sleep(Duration::from_millis(50));
        for n in 1..4 {
            let publishing = task(n, NetworkMode::Bridge, &[&[(53, 5353, "udp")]]);
            let made = world.prepare(&publishing);
            let server = inside(&netns(&made, 0), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
            server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            send();
            assert_eq!(server.recv(&mut [0; 16]).unwrap(), 4, "container {n}, the same client socket");
            world.network.release(&publishing.key).unwrap();
        }
    });
}

fn udp_answers(container: &std::path::Path, host_port: u16) {
    let server = inside(container, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
    let client = inside(&outside(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    client.send_to(b"ping", (address("203.0.113.1"), host_port)).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"pong", from).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
}

#[test]
fn a_host_port_already_taken_is_refused_in_dockers_words() {
    on_a_machine_of_its_own("a_host_port_already_taken_is_refused_in_dockers_words", || {
        let world = World::new();
        let before = traces();
        let _program = TcpListener::bind("0.0.0.0:8080").unwrap();
        let publish = |n, port| task(n, NetworkMode::Bridge, &[&[(WEB, port, "tcp")]]);
        let error = world.network.prepare(&publish(1, 8080)).unwrap_err();
        let prefix = "CannotStartContainerError: Error response from daemon: driver failed programming external \
                      connectivity on endpoint c0: ";
        assert_eq!(error.reason(), format!("{prefix}listen tcp4 0.0.0.0:8080: bind: address already in use"));
        assert_eq!(error.container(), Some("c0"));
        assert_eq!(traces(), before, "nothing is left of it");
        world.prepare(&publish(1, 8081));
        let error = world.network.prepare(&publish(2, 8081)).unwrap_err();
        assert_eq!(
            error.reason(),
            format!("{prefix}Bind for 0.0.0.0:8081 failed: port is already allocated")
        );
        world.network.prepare(&task(3, NetworkMode::Bridge, &[&[(WEB, 8081, "udp")]])).unwrap();
        assert!(TcpListener::bind("0.0.0.0:8081").is_err(), "the port is kept from other programs");
        world.network.release(&publish(1, 8081).key).unwrap();
        world.prepare(&publish(2, 8081));
    });
}

#[test]
fn host_mode_and_none() {
    on_a_machine_of_its_own("host_mode_and_none", || {
        let world = World::new();
        let none = world.prepare(&task(1, NetworkMode::None, &[&[]]));
        let links = inside(&netns(&none, 0), || run("ip -o addr"));
        assert_eq!(
            (links.lines().filter(|l| l.contains("inet ")).count(), links.contains("eth0")),
            (1, false),
            "{links}"
        );
        let shared = task(2, NetworkMode::Host, &[&[(WEB, WEB, "tcp")]]);
        let network = world.prepare(&shared);
        assert_eq!(network.containers[0].netns_path, None);
        assert_eq!(network.containers[0].bindings[0].host_port, WEB);
        assert!(network.containers[0].resolv_conf.contains("nameserver 169.254.170.2\n"));
        let listener = world.network.host_metadata_listener().unwrap().unwrap();
        answer_with(listener, "192.0.2.1");
        serve(&host(), WEB);
        assert_eq!(connect(&host(), address("169.254.170.2"), WEB).unwrap(), address("192.0.2.1"));
        world.network.names(names());
        let answer = query(&host(), address("169.254.170.2"), "cart.shop.local", 1, false).unwrap();
        assert!(answer.ends_with(&[172, 31, 0, 10]), "{answer:?}");
        assert!(world.network.metadata_listeners(&shared.key).unwrap().is_empty());
    });
}

#[test]
fn names_are_answered_and_others_passed_on() {
    on_a_machine_of_its_own("names_are_answered_and_others_passed_on", || {
        let world = World::new();
        let network = world.prepare(&vpc_task(1, "172.31.0.10", Vec::new()));
        let one = netns(&network, 0);
        let foreign = netns(&world.prepare(&vpc_task(2, "10.0.0.10", Vec::new())), 0);
        assert_eq!(network.containers[0].resolv_conf, "search ec2.internal\nnameserver 169.254.169.253\n");
        assert_eq!(
            network.containers[0].hosts,
            "127.0.0.1 localhost\n172.31.0.10 ip-172-31-0-10.ec2.internal\n"
        );
        world.network.names(names());
        let server = address("169.254.169.253");
        let code = |answer: &[u8]| answer[3] & 15;
        for by_stream in [false, true] {
            let answer = query(&one, server, "Cart.shop.local", 1, by_stream).unwrap();
            assert!(answer.ends_with(&[172, 31, 0, 10]), "{answer:?}");
            assert_eq!(code(&query(&one, server, "no.shop.local", 1, by_stream).unwrap()), 3);
            assert_eq!(
                code(&query(&foreign, server, "cart.shop.local", 1, by_stream).unwrap()),
                3,
                "another VPC's name"
            );
        }
        outside_name_server();
        let answer = query(&one, server, "www.outside.example", 1, false).unwrap();
        assert!(
            answer.ends_with(&[198, 51, 100, 7]),
            "passed on, though the task itself may send nothing: {answer:?}"
        );
        let alias = query(&one, server, "balancer.example", 1, false).unwrap();
        assert!(alias.ends_with(&[198, 51, 100, 7]) && alias[7] == 2, "an alias is followed: {alias:?}");
        std::fs::write("/run/resolv.conf", "nameserver 203.0.113.3\n").unwrap();
        let began = Instant::now();
        assert_eq!(
            code(&query(&one, server, "www.outside.example", 1, false).unwrap()),
            2,
            "nobody answers: SERVFAIL"
        );
        assert!(began.elapsed() < Duration::from_millis(5000));
        println!("answered locally in {:?}", median_latency(&one, server));
    });
}

/// A server outside that answers every question with 198.51.100.7.
fn outside_name_server() {
    let socket = inside(&outside(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            (answer[2], answer[3], answer[7], answer[11]) = (0x81, 0x80, 1, 0);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
            let _ = socket.send_to(&answer, from);
        }
    });
}

fn median_latency(from: &std::path::Path, server: Ipv4Addr) -> Duration {
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let socket = inside(from, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
            let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04cart\x04shop\x05local\x00\x00\x01\x00\x01";
            let began = Instant::now();
            socket.send_to(question, (server, 53)).unwrap();
            socket.recv(&mut [0; 512]).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[100]
}

#[test]
fn docker_dropping_what_passes_does_not_cut_tasks_off() {
    on_a_machine_of_its_own("docker_dropping_what_passes_does_not_cut_tasks_off", || {
        if Command::new("nft").arg("-v").output().is_err() {
            return eprintln!("skipped: the test needs nft to play Docker");
        }
        let world = World::new();
        std::fs::write(
            "/run/docker.nft",
            "table ip filter {\nchain FORWARD {\ntype filter hook forward priority 0; policy drop;\n}\n}\n",
        )
        .unwrap();
        run("nft -f /run/docker.nft");
        let pristine = traces();
        let one = netns(&world.prepare(&vpc_task(1, "172.31.0.10", anything())), 0);
        let far = netns(&world.prepare(&vpc_task(2, "172.31.16.10", anything())), 0);
        serve(&far, WEB);
        serve(&outside(), WEB);
        assert!(connect(&one, address("172.31.16.10"), WEB).is_ok());
        assert!(connect(&one, address("203.0.113.2"), WEB).is_ok());
        run("nft flush ruleset");
        run("nft -f /run/docker.nft");
        assert!(refused(connect(&one, address("172.31.16.10"), WEB)), "Docker started anew");
        world.network.refresh().unwrap();
        world.network.refresh().unwrap();
        assert!(connect(&one, address("172.31.16.10"), WEB).is_ok());
        assert_eq!(run("nft list chain ip filter FORWARD").matches("accept").count(), 2, "once each");
        drop(world);
        Network::teardown_all(config()).unwrap();
        assert_eq!(traces(), pristine);
    });
}

#[test]
fn a_network_that_the_host_has_already_is_refused() {
    on_a_machine_of_its_own("a_network_that_the_host_has_already_is_refused", || {
        let world = World::new();
        let error = world.network.prepare(&vpc_task(1, "203.0.113.10", anything())).unwrap_err();
        let text = "ResourceInitializationError: network 203.0.112.0/20 cannot be made on this node: interface uplink \
                    has 203.0.113.1/24";
        assert_eq!(error.reason(), text);
    });
}

#[test]
fn many_tasks_are_made_and_removed_quickly() {
    on_a_machine_of_its_own("many_tasks_are_made_and_removed_quickly", || {
        let world = World::new();
        let tasks: Vec<_> = (10..110).map(|n| vpc_task(n, &format!("172.31.0.{n}"), anything())).collect();
        let began = Instant::now();
        tasks.iter().for_each(|t| drop(world.prepare(t)));
        let made = began.elapsed();
        std::thread::scope(|scope| {
            for some in tasks.chunks(7) {
                scope.spawn(|| some.iter().for_each(|t| world.network.release(&t.key).unwrap()));
            }
        });
        println!("100 tasks: made in {made:?}, removed in {:?}", began.elapsed() - made);
        assert!(began.elapsed() < Duration::from_secs(20));
    });
}
