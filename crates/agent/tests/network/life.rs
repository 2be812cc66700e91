//! Networks come, go and outlive the agent: release, teardown, restarts, kills at any time, many at once.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent::act::network::{Network, NetworkConfig};
use state::group::NetworkMode;

use super::WEB;
use super::world::*;

#[test]
fn release_and_teardown_leave_nothing() {
    on_a_machine_of_its_own("life::release_and_teardown_leave_nothing", || {
        let world = World::new();
        let pristine = traces();
        let tasks = [
            vpc_task(1, "172.31.0.10", anything()),
            task(2, NetworkMode::Bridge, &[&[(WEB, 8080, "tcp")], &[]]),
            task(3, NetworkMode::Host, &[&[]]),
            task(4, NetworkMode::None, &[&[]]),
        ];
        tasks.iter().for_each(|t| drop(world.prepare(t)));
        assert_eq!(std::fs::read_dir("/run/roadstead/netns").unwrap().count(), 4);
        let busy = traces();
        for t in &tasks {
            assert_eq!(
                world.network.prepare(t).unwrap(),
                world.network.prepare(t).unwrap(),
                "again changes nothing"
            );
        }
        assert_eq!(traces(), busy);
        for t in &tasks {
            world.network.release(&t.key).unwrap();
            world.network.release(&t.key).unwrap();
        }
        assert_eq!(std::fs::read_dir("/run/roadstead/netns").unwrap().count(), 0);
        assert_eq!(std::fs::read_dir("/run/roadstead/network/groups").unwrap().count(), 0);
        assert!(!run("ip -o link").contains(": rv"));
        tasks.iter().for_each(|t| drop(world.prepare(t)));
        drop(world);
        Network::teardown_all(config()).unwrap();
        assert_eq!(traces(), pristine);
        Network::teardown_all(config()).unwrap();
        assert_eq!(std::fs::read_dir("/run/roadstead").unwrap().count(), 0);
    });
}

#[test]
fn a_subnet_made_anew_has_the_addresses_of_the_one_that_was_deleted() {
    on_a_machine_of_its_own("life::a_subnet_made_anew_has_the_addresses_of_the_one_that_was_deleted", || {
        let world = World::new();
        let old = vpc_task(1, "172.31.0.10", anything());
        let mut new = vpc_task(2, "172.31.0.11", anything());
        new.network.as_mut().unwrap().attachment.subnet_id = "subnet-made-anew".into();
        world.prepare(&old);
        let refused = world.network.prepare(&new).unwrap_err().reason();
        assert!(refused.contains("network 172.31.0.0/20 cannot be made on this node"), "{refused}");
        world.network.release(&old.key).unwrap();
        let network = world.prepare(&new);
        assert_eq!(run("ip -o link").matches(": rs-").count(), 1, "the old one's bridge is gone");
        serve(&netns(&network, 0), WEB);
        assert!(connect(&host(), address("172.31.0.11"), WEB).is_ok());
        assert_eq!(world.network.recover(&[new.key.clone()]).unwrap(), Vec::<String>::new());
        assert!(connect(&host(), address("172.31.0.11"), WEB).is_ok());
    });
}

#[test]
fn a_restarted_agent_takes_in_what_lives_and_removes_the_rest() {
    on_a_machine_of_its_own("life::a_restarted_agent_takes_in_what_lives_and_removes_the_rest", || {
        let world = World::new();
        let live = vpc_task(1, "172.31.0.10", anything());
        let published = task(2, NetworkMode::Bridge, &[&[(WEB, 0, "tcp")]]);
        let dead = vpc_task(3, "172.31.16.10", anything());
        let (one, two) = (world.prepare(&live), world.prepare(&published));
        world.prepare(&dead);
        world.network.names(names());
        serve(&netns(&one, 0), WEB);
        serve(&netns(&two, 0), WEB);
        let port = two.containers[0].bindings[0].host_port;
        let world = world.restart();
        assert!(connect(&host(), Ipv4Addr::LOCALHOST, port).is_ok(), "host ports live on without the agent");
        assert!(connect(&netns(&two, 0), address("172.31.0.10"), WEB).is_ok(), "so do routes");
        run("ip link add rvdead type bridge");
        std::fs::write("/run/roadstead/netns/unknown", "").unwrap();
        let lost_key = "000000000000/us-east-1/default/lost".to_owned();
        let keys = [live.key.clone(), published.key.clone(), lost_key.clone()];
        assert_eq!(world.network.recover(&keys).unwrap(), [lost_key]);
        assert_eq!(std::fs::read_dir("/run/roadstead/netns").unwrap().count(), 2);
        assert_eq!(run("ip -o link").matches(": rs-").count(), 2, "the dead task's bridge is gone");
        assert!(run("ip -o link").contains("rvdead"), "not ours");
        assert_eq!((world.prepare(&live), world.prepare(&published)), (one.clone(), two.clone()));
        assert!(connect(&host(), Ipv4Addr::LOCALHOST, port).is_ok());
        assert!(connect(&host(), address("172.31.0.10"), WEB).is_ok());
        let answer = query(&netns(&one, 0), address("169.254.169.253"), "cart.shop.local", 1, false).unwrap();
        assert_eq!(
            answer[3] & 15,
            2,
            "names that are not known again yet fail, they are not said not to exist"
        );
        world.network.names(names());
        let answer = query(&netns(&one, 0), address("169.254.169.253"), "cart.shop.local", 1, false).unwrap();
        assert!(answer.ends_with(&[172, 31, 0, 10]), "names are answered again");
        assert_eq!(world.network.metadata_listeners(&live.key).unwrap().len(), 1);
        assert!(
            world.network.prepare(&task(5, NetworkMode::Bridge, &[&[(WEB, port, "tcp")]])).is_err(),
            "still taken"
        );
    });
}

#[test]
fn a_restart_interrupts_no_host_port() {
    on_a_machine_of_its_own("life::a_restart_interrupts_no_host_port", || {
        let world = World::new();
        let tasks: Vec<_> = (1..20).map(|n| task(n, NetworkMode::Bridge, &[&[(WEB, 0, "tcp")]])).collect();
        let last = world.prepare(&tasks[18 - 1]);
        tasks.iter().for_each(|t| drop(world.prepare(t)));
        serve(&netns(&last, 0), WEB);
        let port = last.containers[0].bindings[0].host_port;
        let world = world.restart();
        let keys: Vec<String> = tasks.iter().map(|t| t.key.clone()).collect();
        let is_over = AtomicBool::new(false);
        let connected = std::thread::scope(|scope| {
            let probe = scope.spawn(|| {
                let mut connected = 0;
                while !is_over.load(Ordering::Relaxed) {
                    connect(&host(), Ipv4Addr::LOCALHOST, port).unwrap();
                    connected += 1;
                }
                connected
            });
            assert!(world.network.recover(&keys).unwrap().is_empty());
            is_over.store(true, Ordering::Relaxed);
            probe.join().unwrap()
        });
        assert!(connected > 0);
    });
}

#[test]
fn an_interface_that_came_later_does_not_cost_live_groups_their_network() {
    on_a_machine_of_its_own(
        "life::an_interface_that_came_later_does_not_cost_live_groups_their_network",
        || {
            let world = World::new();
            let live = vpc_task(1, "172.31.0.10", anything());
            let one = world.prepare(&live);
            run("ip addr add 172.31.9.9/20 dev uplink");
            let world = world.restart();
            assert!(world.network.recover(std::slice::from_ref(&live.key)).unwrap().is_empty());
            assert_eq!(world.prepare(&live), one);
        },
    );
}

#[test]
fn two_on_one_machine_do_not_touch_each_other() {
    on_a_machine_of_its_own("life::two_on_one_machine_do_not_touch_each_other", || {
        let world = World::new();
        let publish = |n, port| task(n, NetworkMode::Bridge, &[&[(WEB, port, "tcp")]]);
        let one = world.prepare(&publish(1, 8081));
        let second =
            NetworkConfig { run_dir: "/run/second".into(), bridge_cidr: cidr("172.28.0.0/16"), ..config() };
        let other = Network::new(second.clone(), world.runtime.handle().clone()).unwrap();
        // The same task id in both: CI jobs often start alike.
        let two = other.prepare(&publish(1, 8082)).unwrap();
        let three = other.prepare(&vpc_task(3, "172.31.0.10", anything())).unwrap();
        for network in [&one, &two, &three] {
            serve(&netns(network, 0), WEB);
        }
        let both = |expected: [bool; 2]| {
            let reached = [8081, 8082].map(|port| connect(&host(), Ipv4Addr::LOCALHOST, port).is_ok());
            assert_eq!(reached, expected);
        };
        both([true, true]);
        drop(world);
        Network::teardown_all(config()).unwrap();
        both([false, true]);
        serve(&outside(), WEB);
        assert!(
            connect(&netns(&three, 0), address("203.0.113.2"), WEB).is_ok(),
            "packets are still passed on"
        );
        drop(other);
        Network::teardown_all(second).unwrap();
        both([false, false]);
        assert!(!traces().contains("roadstead") && !run("ip -o link").contains(": r"));
    });
}

#[test]
fn a_crash_at_any_step_is_recovered_from() {
    on_a_machine_of_its_own("life::a_crash_at_any_step_is_recovered_from", || {
        let world = World::new();
        let pristine = traces();
        let task = vpc_task(1, "172.31.0.10", anything());
        let prepared = world.prepare(&task);
        let made = traces();
        let path = netns(&prepared, 0);
        let veth = run("ip -o link")
            .lines()
            .find_map(|l| l.split(": ").nth(1).filter(|n| n.starts_with("rv")).map(String::from));
        let veth = veth.unwrap().split('@').next().unwrap().to_owned();
        // What a crash half-way through prepare or release may have left, over the same note.
        let halves: [&dyn Fn(); 4] = [
            &|| drop(run(&format!("ip link del {veth}"))),
            &|| {
                run(&format!("ip link del {veth}"));
                run(&format!("umount -l {}", path.display()));
            },
            &|| {
                run(&format!("umount -l {}", path.display()));
                std::fs::remove_file(&path).unwrap();
            },
            &|| inside(&path, || drop(run("ip addr flush dev eth0"))),
        ];
        let mut world = world;
        for half in halves {
            half();
            world = world.restart();
            world.network.recover(&[]).unwrap();
            assert!(!run("ip -o link").contains(": rv") && !path.exists());
            assert_eq!(world.prepare(&task), prepared);
            assert_eq!(normal(&traces()), normal(&made));
        }
        drop(world);
        Network::teardown_all(config()).unwrap();
        assert_eq!(traces(), pristine);
    });
}

/// Without the numbers that the kernel gives anew.
fn normal(traces: &str) -> String {
    let words = traces.split_whitespace().filter(|w| !w.chars().all(|c| c.is_ascii_digit() || c == ':'));
    let hardware = |w: &&str| w.split(':').count() != 6 && !w.starts_with("net:[");
    words.filter(hardware).map(|w| w.split("@if").next().unwrap_or(w)).collect::<Vec<_>>().join(" ")
}

const CRASHING: &str = "ROADSTEAD_TEST_NETWORK_CRASHING";

/// Not a test of its own: what the next test kills.
fn prepare_and_release_until_killed() -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let network = Network::new(config(), runtime.handle().clone()).unwrap();
    network.recover(&[]).unwrap();
    loop {
        let tasks = [
            vpc_task(1, "172.31.0.10", anything()),
            task(2, NetworkMode::Bridge, &[&[(WEB, 8080, "tcp")], &[]]),
            task(3, NetworkMode::Host, &[&[]]),
        ];
        tasks.iter().for_each(|t| drop(network.prepare(t).unwrap()));
        tasks.iter().for_each(|t| network.release(&t.key).unwrap());
    }
}

#[test]
fn killed_at_any_time_it_comes_back_and_leaves_nothing() {
    on_a_machine_of_its_own("life::killed_at_any_time_it_comes_back_and_leaves_nothing", || {
        if std::env::var_os(CRASHING).is_some() {
            prepare_and_release_until_killed();
        }
        drop(World::new());
        Network::teardown_all(config()).unwrap();
        let pristine = traces();
        for round in 0..40 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["life::killed_at_any_time_it_comes_back_and_leaves_nothing", "--exact", "--nocapture"])
                .env(CRASHING, "1")
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(7 + round * 9));
            assert!(child.try_wait().unwrap().is_none(), "round {round}: it failed before it was killed");
            child.kill().unwrap();
            child.wait().unwrap();
            if round % 4 == 3 {
                Network::teardown_all(config()).unwrap();
                assert_eq!(traces(), pristine, "round {round}");
            }
        }
    });
}

#[test]
fn many_groups_come_and_go_at_once() {
    on_a_machine_of_its_own("life::many_groups_come_and_go_at_once", || {
        let world = World::new();
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let world = &world;
                scope.spawn(move || {
                    for n in (0..8).map(|n| 10 + thread * 10 + n) {
                        let tasks = [
                            vpc_task(n, &format!("172.31.0.{n}"), anything()),
                            task(n + 100, NetworkMode::Bridge, &[&[(WEB, 0, "tcp")]]),
                        ];
                        let made = tasks.each_ref().map(|t| world.prepare(t));
                        serve(&netns(&made[1], 0), WEB);
                        let port = made[1].containers[0].bindings[0].host_port;
                        let reached = connect(&host(), Ipv4Addr::LOCALHOST, port);
                        assert!(reached.is_ok(), "{n}: {reached:?}");
                        tasks.iter().for_each(|t| world.network.release(&t.key).unwrap());
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir("/run/roadstead/netns").unwrap().count(), 0);
    });
}
