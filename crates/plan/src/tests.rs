//! The life of a group: where it is placed, what address it gets, what its agent is told and may tell.

use proptest::prelude::*;
use state::assignment::{AgentDesired, Report};
use state::cloudmap::{DiscoveryService, Instance, Namespace};
use state::ec2::{Cidr, Peer, Subnet};
use state::elb::{LoadBalancer, Target};
use state::group::{ContainerState, NetworkBinding, NetworkMode, Observed, Phase, StopCause, StopCode};
use state::node::{Ledger, Node};
use state::{ContainerGroup, Ids, Tx};

use crate::Next;
use crate::fixture::{NOW_MS, Wish, check, key, launch, node, report, scope, spec, world};
use crate::placement::Reason;
use crate::reports::Refused;

fn some(kind: &str, field: &str) -> Vec<(String, Option<String>)> {
    vec![(kind.to_owned(), Some(field.to_owned()))]
}

// === placement ===

fn check_unplaced(nodes: Vec<Node>, wish: &Wish, reason: Reason, text: &str) {
    let (mut tx, mut ids) = world(nodes);
    let unplaced = launch(&mut tx, &mut ids, wish).unwrap_err();
    assert_eq!(unplaced.reason, reason);
    assert_eq!(unplaced.reason.as_failure(), text);
    assert!(tx.snapshot().groups.is_empty() && tx.snapshot().ledgers.is_empty(), "nothing is written");
}

#[test]
fn what_does_not_fit_says_why() {
    let here = || vec![node("n1", "us-east-1a")];
    let of = |cpu, memory, ports: &[u16]| Wish::of(spec(NetworkMode::Bridge, cpu, memory, ports));
    check_unplaced(vec![], &of(1, 1, &[]), Reason::Agent, "AGENT");
    let away = Node { silent_since_ms: Some(NOW_MS), ..node("n1", "us-east-1a") };
    check_unplaced(vec![away], &of(1, 1, &[]), Reason::Agent, "AGENT");
    check_unplaced(here(), &of(2049, 1, &[]), Reason::Cpu, "RESOURCE:CPU");
    check_unplaced(here(), &of(1, 4097, &[]), Reason::Memory, "RESOURCE:MEMORY");
    let arm = Node { cpu_architecture: "ARM64".into(), ..node("n1", "us-east-1a") };
    let mut x86 = of(1, 1, &[]);
    std::sync::Arc::make_mut(&mut x86.spec).cpu_architecture = Some("X86_64".into());
    check_unplaced(vec![arm], &x86, Reason::Attribute, "ATTRIBUTE");
    let elsewhere = Wish {
        constraints: some("memberOf", "attribute:ecs.availability-zone == us-east-1b"),
        ..of(1, 1, &[])
    };
    check_unplaced(here(), &elsewhere, Reason::MemberOf, "MemberOf placement constraint unsatisfied.");
}

#[test]
fn what_is_taken_is_taken_until_it_is_gone() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let big = Wish::of(spec(NetworkMode::Bridge, 2048, 1024, &[80]));
    let first = launch(&mut tx, &mut ids, &big).unwrap();
    assert_eq!(launch(&mut tx, &mut ids, &big).unwrap_err().reason, Reason::Ports);
    // CPU may be given away beyond the cores, but not beyond the capacity.
    let other = Wish::of(spec(NetworkMode::Bridge, 2048, 1024, &[81]));
    launch(&mut tx, &mut ids, &other).unwrap();
    let third = Wish::of(spec(NetworkMode::Bridge, 1, 1, &[82]));
    assert_eq!(launch(&mut tx, &mut ids, &third).unwrap_err().reason, Reason::Cpu);
    report(&mut tx, &first, Phase::Stopping).unwrap();
    assert_eq!(launch(&mut tx, &mut ids, &third).unwrap_err().reason, Reason::Cpu);
    report(&mut tx, &first, Phase::Gone).unwrap();
    launch(&mut tx, &mut ids, &third).unwrap();
    launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::Bridge, 1, 1, &[80]))).unwrap();
    assert_eq!(tx.get::<Ledger>("n1").unwrap().groups, 3);
}

#[test]
fn strategies_and_constraints_choose_the_node() {
    let nodes = || [node("n1", "us-east-1a"), node("n2", "us-east-1a"), node("n3", "us-east-1b")];
    let placed = |strategy: &[(String, Option<String>)], constraints: &[(String, Option<String>)]| {
        let (mut tx, mut ids) = world(nodes());
        let spec = spec(NetworkMode::None, 256, 512, &[]);
        let wish = Wish { spec, strategy: strategy.to_vec(), constraints: constraints.to_vec() };
        let on =
            |group: Result<std::sync::Arc<ContainerGroup>, _>| group.map(|g| g.node().unwrap().to_owned());
        (0..4).map(|_| on(launch(&mut tx, &mut ids, &wish))).collect::<Vec<_>>()
    };
    let names = |all: Vec<Result<String, crate::Unplaced>>| {
        all.into_iter().map(|n| n.unwrap_or_else(|e| e.reason.as_failure())).collect::<Vec<_>>()
    };
    assert_eq!(names(placed(&[], &[])), ["n1", "n2", "n3", "n1"]);
    assert_eq!(names(placed(&some("binpack", "memory"), &[])), ["n1", "n1", "n1", "n1"]);
    assert_eq!(
        names(placed(&some("spread", "attribute:ecs.availability-zone"), &[])),
        ["n1", "n3", "n2", "n3"]
    );
    let distinct = vec![("distinctInstance".to_owned(), None)];
    assert_eq!(
        names(placed(&some("binpack", "cpu"), &distinct)),
        ["n1", "n2", "n3", "DistinctInstance placement constraint unsatisfied."]
    );
    let zone_b = some("memberOf", "attribute:ecs.availability-zone in [us-east-1b]");
    assert_eq!(names(placed(&[], &zone_b)), ["n3", "n3", "n3", "n3"]);
}

// === addresses ===

#[test]
fn the_default_vpc_is_made_once_and_away_from_the_host() {
    let (mut tx, mut ids) = (Tx::new(Default::default()), Ids::new(1));
    let host = [Cidr::parse("172.30.0.0/15").unwrap(), Cidr::parse("172.29.5.0/24").unwrap()];
    let vpc = crate::network::ensure_default_vpc(&mut tx, &mut ids, &scope(), &host, NOW_MS);
    assert_eq!(crate::network::ensure_default_vpc(&mut tx, &mut ids, &scope(), &host, NOW_MS), vpc);
    let subnets: Vec<String> = tx
        .snapshot()
        .subnets
        .by_index("vpc", &vpc)
        .map(|s| format!("{} {}", s.availability_zone, s.cidr))
        .collect();
    for wanted in ["us-east-1a 172.28.0.0/20", "us-east-1b 172.28.16.0/20", "us-east-1c 172.28.32.0/20"] {
        assert!(subnets.iter().any(|s| s == wanted), "{subnets:?}");
    }
    // Another account's is another network: both are on the same machine.
    let other = state::Scope::new("111111111111", "us-east-1");
    let other = crate::network::ensure_default_vpc(&mut tx, &mut ids, &other, &host, NOW_MS);
    assert_ne!(vpc, other);
    let cidrs: Vec<_> = tx.snapshot().vpcs.iter().map(|(_, v)| v.cidr).collect();
    assert!(cidrs.len() == 2 && !cidrs[0].overlaps(cidrs[1]));
    // A host that uses every private network still gets one.
    let all =
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].map(|c| Cidr::parse(c).unwrap());
    let mut tx = Tx::new(Default::default());
    crate::network::ensure_default_vpc(&mut tx, &mut ids, &scope(), &all, NOW_MS);
    assert_eq!(tx.snapshot().vpcs.iter().next().unwrap().1.cidr.to_string(), "198.18.0.0/16");
}

#[test]
fn a_subnet_gives_each_address_once_and_rests_it() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let small: Vec<Subnet> = tx.snapshot().subnets.iter().map(|(_, s)| Subnet::clone(s)).collect();
    for (n, subnet) in small.iter().enumerate() {
        // Three subnets of 16 addresses: 11 hosts each.
        let base = subnet.cidr.nth(n as u32 * 16);
        tx.put(Subnet { cidr: Cidr { base, prefix: 28 }, ..subnet.clone() });
    }
    let wish = Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]));
    let mut groups: Vec<_> = (0..33).map(|_| launch(&mut tx, &mut ids, &wish).unwrap()).collect();
    let full = launch(&mut tx, &mut ids, &wish).unwrap_err();
    assert!(matches!(&full.reason, Reason::NoAddress(_)), "{full:?}");
    assert!(full.reason.as_failure().ends_with("InsufficientFreeAddressesInSubnet"));
    for group in &groups {
        let attachment = group.attachment().unwrap();
        let subnet = crate::network::subnet(tx.snapshot(), &attachment.subnet_id).unwrap();
        let host = u32::from(attachment.private_ip) - u32::from(subnet.cidr.base);
        assert!((4..=14).contains(&host), "{host}");
        let [a, b, c, d] = attachment.private_ip.octets();
        assert_eq!(attachment.mac, format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
        assert_eq!(group.task().security_groups.len(), 1, "the VPC's default group");
    }
    let gone = groups.remove(5);
    report(&mut tx, &gone, Phase::Gone).unwrap();
    let next = launch(&mut tx, &mut ids, &wish).unwrap();
    assert_eq!(next.attachment().unwrap().private_ip, gone.attachment().unwrap().private_ip);
}

#[test]
fn an_address_just_freed_is_not_the_next_one_given() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let others: Vec<String> = tx.snapshot().subnets.iter().skip(1).map(|(key, _)| key.to_owned()).collect();
    for key in others {
        tx.delete::<Subnet>(&key);
    }
    let wish = Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]));
    let first = launch(&mut tx, &mut ids, &wish).unwrap();
    report(&mut tx, &first, Phase::Gone).unwrap();
    let again = launch(&mut tx, &mut ids, &wish).unwrap();
    let ip = |group: &ContainerGroup| group.attachment().unwrap().private_ip;
    assert_ne!(ip(&first), ip(&again));
}

proptest! {
    /// Whatever comes and goes: no address twice, no ledger wrong (the checker looks after each step).
    #[test]
    fn launches_and_ends_in_any_order_keep_the_books(seed in any::<u64>(), steps in proptest::collection::vec(0..6u8, 1..60)) {
        let (mut tx, _) = world([node("n1", "us-east-1a"), node("n2", "us-east-1b")]);
        let mut ids = Ids::new(seed);
        let mut live: Vec<std::sync::Arc<ContainerGroup>> = Vec::new();
        for step in steps {
            let wish = match step {
                0 | 1 => Wish::of(spec(NetworkMode::Awsvpc, 512, 700, &[])),
                2 => Wish::of(spec(NetworkMode::Bridge, 100, 300, &[8080])),
                3 => Wish { strategy: vec![("random".into(), None)], ..Wish::of(spec(NetworkMode::Host, 1, 1, &[])) },
                _ if live.is_empty() => continue,
                _ => {
                    let group = live.remove((ids.next_u64() % live.len() as u64) as usize);
                    report(&mut tx, &group, Phase::Gone).unwrap();
                    continue;
                }
            };
            live.extend(launch(&mut tx, &mut ids, &wish).ok());
        }
        for group in live {
            report(&mut tx, &group, Phase::Gone).unwrap();
        }
        prop_assert!(tx.snapshot().ledgers.iter().all(|(_, l)| l.groups == 0 && l.host_ports.is_empty()));
    }
}

// === assignments and reports ===

fn cause(reason: &str) -> StopCause {
    StopCause { code: StopCode::UserInitiated, reason: reason.into(), at_ms: NOW_MS }
}

#[test]
fn an_agent_is_told_to_stop_only_after_its_targets_are_gone() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let group = launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]))).unwrap();
    report(&mut tx, &group, Phase::Running).unwrap();
    assert!(crate::stop(&mut tx, &key(&group), cause("first")));
    assert!(!crate::stop(&mut tx, &key(&group), cause("second")), "the first cause stays");
    assert_eq!(crate::assignments(tx.snapshot(), "n1")[0].desired, AgentDesired::Run);
    crate::traffic::reconcile(&mut tx, &mut ids, NOW_MS, [key(&group).as_str()]);
    assert_eq!(crate::assignments(tx.snapshot(), "n1")[0].desired, AgentDesired::Stop(cause("first")));
    report(&mut tx, &group, Phase::Gone).unwrap();
    assert!(crate::assignments(tx.snapshot(), "n1").is_empty());
    assert!(crate::assignments(tx.snapshot(), "n2").is_empty());
}

#[test]
fn security_groups_are_told_with_the_addresses_of_their_members() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let wish = Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]));
    let (a, b) = (launch(&mut tx, &mut ids, &wish).unwrap(), launch(&mut tx, &mut ids, &wish).unwrap());
    let subnet = a.attachment().unwrap().subnet_id.clone();
    let address = crate::network::allocate_address(&mut tx, &subnet).unwrap();
    tx.put(LoadBalancer {
        scope: scope(),
        arn: "arn:lb".into(),
        name: "lb".into(),
        dns_name: "LB-1.us-east-1.elb.localhost".into(),
        scheme: "internal".into(),
        vpc_id: String::new(),
        subnets: vec![subnet],
        address,
        security_groups: a.task().security_groups.clone(),
        attributes: Default::default(),
        tags: vec![],
        created_at_ms: NOW_MS,
        active: false,
    });
    check(&tx);
    let assignments = crate::assignments(tx.snapshot(), "n1");
    let network = assignments[0].network.clone().unwrap();
    assert_eq!(network.gateway, network.subnet_cidr.nth(1));
    let inbound = network.firewall.iter().find(|rule| !rule.egress).unwrap();
    assert!(matches!(inbound.peer, Peer::Group(_)));
    let mut wanted = vec![a.attachment().unwrap().private_ip, b.attachment().unwrap().private_ip, address];
    wanted.sort_unstable();
    assert_eq!(inbound.members, wanted);
    let names = crate::names::names(tx.snapshot());
    assert_eq!(names.records[0].name, "lb-1.us-east-1.elb.localhost");
}

#[test]
fn assignments_are_made_again_only_where_something_changed() {
    let (mut tx, mut ids) = world([node("n1", "a")]);
    let one = launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::None, 1, 1, &[]))).unwrap();
    launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]))).unwrap();
    let mut assigned = crate::Assigned::default();
    let mut follow = |tx: &Tx| {
        let told = assigned.follow(tx.snapshot(), "n1")?;
        let all: Vec<_> =
            told.iter().map(|assignment| state::assignment::Assignment::clone(assignment)).collect();
        assert_eq!(all, crate::assignments(tx.snapshot(), "n1"));
        Some(told)
    };
    let first = follow(&tx).unwrap();
    assert_eq!(follow(&tx), None);
    // One that its node tells of: the other is the same as before.
    report(&mut tx, &one, Phase::Pending).unwrap();
    let second = follow(&tx).unwrap();
    let kept = |now: &[std::sync::Arc<_>], before: &[std::sync::Arc<_>]| {
        now.iter().filter(|now| before.iter().any(|before| std::sync::Arc::ptr_eq(now, before))).count()
    };
    assert_eq!(kept(&second, &first), 1);
    // A member more of the security group: its addresses are told to all.
    launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]))).unwrap();
    assert_eq!(follow(&tx).unwrap().len(), 3);
    tx.delete::<ContainerGroup>(&key(&one));
    assert_eq!(follow(&tx).unwrap().len(), 2);
}

#[test]
fn a_report_goes_forward_only_and_comes_from_the_right_node() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a"), node("n2", "us-east-1a")]);
    let group = launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::None, 1, 1, &[]))).unwrap();
    let of = |key: String, phase| Report { key, observed: Observed { phase, ..group.observed.clone() } };
    let mut tell = |node: &str, told: &Report| crate::reports::apply(&mut tx, node, told, NOW_MS);
    assert_eq!(tell("n2", &of(key(&group), Phase::Pending)), Err(Refused::NotYours));
    assert_eq!(tell("n1", &of("x".into(), Phase::Pending)), Err(Refused::Unknown));
    assert_eq!(tell("n1", &of(key(&group), Phase::Running)), Ok(()));
    assert_eq!(tell("n1", &of(key(&group), Phase::Pending)), Err(Refused::Stale));
    // The agent may forget names and ids; the record does not.
    let mut forgetful = of(key(&group), Phase::Gone);
    forgetful.observed.containers.clear();
    assert_eq!(tell("n1", &forgetful), Ok(()));
    assert_eq!(tell("n1", &of(key(&group), Phase::Gone)), Err(Refused::Stale));
    let after = tx.get::<ContainerGroup>(&key(&group)).unwrap();
    assert_eq!(after.observed.containers[0].id, group.observed.containers[0].id);
    assert!(matches!(after.observed.containers[0].state, ContainerState::Exited { code: None, .. }));
    assert_eq!(after.observed.stopped_at_ms, Some(NOW_MS));
}

#[test]
fn a_group_that_is_gone_leaves_no_target_for_the_next_one_with_its_address() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let group = launch(&mut tx, &mut ids, &Wish::of(spec(NetworkMode::Awsvpc, 1, 1, &[]))).unwrap();
    let target = target_of(&group);
    tx.put(target_group("arn:tg", "ip"));
    tx.put(target);
    report(&mut tx, &group, Phase::Gone).unwrap();
    assert!(tx.snapshot().targets.is_empty());
}

// === traffic and names ===

fn target_group(arn: &str, target_type: &str) -> state::elb::TargetGroup {
    state::elb::TargetGroup {
        scope: scope(),
        arn: arn.into(),
        name: "tg".into(),
        protocol: "HTTP".into(),
        protocol_version: "HTTP1".into(),
        port: 80,
        vpc_id: String::new(),
        target_type: target_type.into(),
        health_check: state::elb::HealthCheck {
            enabled: true,
            protocol: "HTTP".into(),
            port: "traffic-port".into(),
            path: "/".into(),
            interval_s: 30,
            timeout_s: 5,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: "200".into(),
        },
        attributes: Default::default(),
        tags: vec![],
    }
}

fn target_of(group: &ContainerGroup) -> Target {
    let address = group.attachment().unwrap().private_ip;
    Target {
        target_group_arn: "arn:tg".into(),
        id: address.to_string(),
        port: 80,
        address: address.into(),
        availability_zone: None,
        owner: Some(key(group)),
        registered_at_ms: NOW_MS,
        draining_since_ms: None,
        drained: false,
        health: state::elb::TargetHealth { state: "healthy".into(), reason: None, description: None },
    }
}

/// A running group with this target group and Cloud Map service, observed with these host ports.
fn running(
    tx: &mut Tx,
    ids: &mut Ids,
    mode: NetworkMode,
    bindings: Vec<NetworkBinding>,
) -> std::sync::Arc<ContainerGroup> {
    let group = launch(tx, ids, &Wish::of(spec(mode, 1, 1, &[]))).unwrap();
    tx.update::<ContainerGroup>(&key(&group), |group| {
        let state::group::Source::Task(task) = &mut group.source;
        let task = std::sync::Arc::make_mut(task);
        task.task_definition_arn = scope().arn("ecs", "task-definition/app:3");
        task.load_balancers = vec![state::ecs::ServiceLoadBalancer {
            target_group_arn: "arn:tg".into(),
            container_name: "app".into(),
            container_port: 8080,
        }];
        task.registries = vec![state::ecs::ServiceRegistry {
            registry_arn: scope().arn("servicediscovery", "service/srv-1"),
            container_name: Some("app".into()),
            container_port: Some(8080),
            port: None,
        }];
        group.observed.phase = Phase::Running;
        group.observed.containers[0].state = ContainerState::Running { since_ms: NOW_MS };
        group.observed.containers[0].bindings = bindings;
    });
    tx.get::<ContainerGroup>(&key(&group)).unwrap()
}

fn cloud_map(tx: &mut Tx) {
    tx.put(Namespace {
        scope: scope(),
        id: "ns-1".into(),
        name: "shop.local".into(),
        http_name: None,
        kind: "DNS_PRIVATE".into(),
        vpc_id: Some("vpc-1".into()),
        soa_ttl_s: 15,
        hosted_zone_id: None,
        description: None,
        creator_request_id: None,
        tags: vec![],
        created_at_ms: NOW_MS,
    });
    tx.put(DiscoveryService {
        scope: scope(),
        id: "srv-1".into(),
        name: "App".into(),
        namespace_id: "ns-1".into(),
        routing_policy: Some("MULTIVALUE".into()),
        dns_records: vec![("A".into(), 10), ("SRV".into(), 20)],
        custom_health: true,
        description: None,
        creator_request_id: None,
        instances_revision: 0,
        tags: vec![],
        created_at_ms: NOW_MS,
    });
}

#[test]
fn a_running_task_is_registered_by_its_own_address_and_named() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    cloud_map(&mut tx);
    let group = running(&mut tx, &mut ids, NetworkMode::Awsvpc, vec![]);
    let step =
        |tx: &mut Tx, ids: &mut Ids| crate::traffic::reconcile(tx, ids, NOW_MS, [key(&group).as_str()]);
    // Without its target group it is not RUNNING.
    assert!(step(&mut tx, &mut ids)[0].again_at_ms.is_some());
    assert_eq!(tx.get::<ContainerGroup>(&key(&group)).unwrap().traffic.activated_at_ms, None);
    assert!(tx.snapshot().discovery_instances.is_empty(), "all or nothing");
    tx.put(target_group("arn:tg", "ip"));
    step(&mut tx, &mut ids);
    assert_eq!(tx.get::<ContainerGroup>(&key(&group)).unwrap().traffic.activated_at_ms, Some(NOW_MS));
    let address = group.attachment().unwrap().private_ip;
    let target = tx.get::<Target>(&Target::key_of("arn:tg", &address.to_string(), 8080)).expect("the target");
    assert_eq!(target.health.state, "initial");
    let instance = tx.snapshot().discovery_instances.by_index("service", "srv-1").next().unwrap().clone();
    let attributes: Vec<String> = instance.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let zone = &group.attachment().unwrap().availability_zone;
    assert_eq!(
        attributes,
        [
            format!("AVAILABILITY_ZONE={zone}"),
            format!("AWS_INSTANCE_IPV4={address}"),
            "AWS_INSTANCE_PORT=8080".into(),
            "ECS_CLUSTER_NAME=default".into(),
            "ECS_TASK_DEFINITION_FAMILY=app".into(),
            "REGION=us-east-1".into(),
        ]
    );
    let names = crate::names::names(tx.snapshot());
    assert_eq!(names.zones, ["elb.localhost", "shop.local"]);
    let said: Vec<String> =
        names.records.iter().map(|r| format!("{} {} {:?}", r.name, r.ttl_s, r.data)).collect();
    let host = format!("{}.app.shop.local", group.id);
    assert!(said.contains(&format!("app.shop.local 10 A({address})")), "{said:?}");
    assert!(said.contains(&format!("app.shop.local 20 Srv(1, 1, 8080, {host:?})")), "{said:?}");
    assert!(said.contains(&format!("{host} 20 A({address})")), "{said:?}");
    let revision = |tx: &Tx| tx.get::<DiscoveryService>(&scope().key("srv-1")).unwrap().instances_revision;
    assert_eq!(revision(&tx), 1);
    // Stopping: the name goes at once, the target drains first.
    crate::stop(&mut tx, &key(&group), cause("x"));
    let next = step(&mut tx, &mut ids);
    assert_eq!(next, [Next::at(NOW_MS + 300_000)], "the deregistration delay");
    assert!(tx.snapshot().discovery_instances.is_empty() && revision(&tx) == 2);
    tx.update::<Target>(&state::Record::key(&*target), |t| t.drained = true);
    step(&mut tx, &mut ids);
    assert!(tx.snapshot().targets.is_empty());
    assert_eq!(tx.get::<ContainerGroup>(&key(&group)).unwrap().traffic.deactivated_at_ms, Some(NOW_MS));
}

#[test]
fn grace_begins_when_the_task_is_started_not_its_containers() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    let group = running(&mut tx, &mut ids, NetworkMode::Awsvpc, vec![]);
    tx.put(target_group("arn:tg", "ip"));
    tx.put(Target {
        health: state::elb::TargetHealth { state: "unhealthy".into(), ..target_of(&group).health },
        ..target_of(&group)
    });
    tx.update::<ContainerGroup>(&key(&group), |group| {
        group.observed.started_at_ms = Some(NOW_MS);
        // Registered half a second later: what DescribeTasks calls startedAt.
        group.traffic.activated_at_ms = Some(NOW_MS + 500);
    });
    let group = tx.get::<ContainerGroup>(&key(&group)).unwrap();
    let judge = |now_ms| crate::target_health::judge(tx.snapshot(), &group, 9, now_ms);
    assert_eq!(judge(NOW_MS + 9_499).again_at_ms, Some(NOW_MS + 9_500));
    assert!(judge(NOW_MS + 9_499).why.is_none() && judge(NOW_MS + 9_500).why.is_some());
}

#[test]
fn a_bridge_task_is_registered_by_its_node_and_host_port() {
    let (mut tx, mut ids) = world([node("0123456789abcdef0123", "us-east-1a")]);
    cloud_map(&mut tx);
    tx.put(target_group("arn:tg", "instance"));
    let unknown = running(&mut tx, &mut ids, NetworkMode::Bridge, vec![]);
    let again = crate::traffic::reconcile(&mut tx, &mut ids, NOW_MS, [key(&unknown).as_str()]);
    assert!(again[0].again_at_ms.is_some());
    let binding = NetworkBinding {
        bind_ip: "0.0.0.0".into(),
        container_port: 8080,
        host_port: 32768,
        protocol: "tcp".into(),
    };
    let group = running(&mut tx, &mut ids, NetworkMode::Bridge, vec![binding]);
    crate::traffic::reconcile(&mut tx, &mut ids, NOW_MS, [key(&group).as_str()]);
    let target = tx.get::<Target>("arn:tg|i-0123456789abcdef0:32768").expect("the target");
    assert_eq!(target.address.to_string(), "10.0.0.1");
    let instance: Instance = Instance::clone(tx.snapshot().discovery_instances.iter().next().unwrap().1);
    assert_eq!(instance.attributes["AWS_INSTANCE_PORT"], "32768");
}

#[test]
fn a_passed_deregistration_delay_ends_the_wait() {
    let (mut tx, mut ids) = world([node("n1", "us-east-1a")]);
    cloud_map(&mut tx);
    tx.put(target_group("arn:tg", "ip"));
    let group = running(&mut tx, &mut ids, NetworkMode::Awsvpc, vec![]);
    let step =
        |tx: &mut Tx, ids: &mut Ids, at| crate::traffic::reconcile(tx, ids, at, [key(&group).as_str()]);
    step(&mut tx, &mut ids, NOW_MS);
    crate::stop(&mut tx, &key(&group), cause("x"));
    step(&mut tx, &mut ids, NOW_MS);
    step(&mut tx, &mut ids, NOW_MS + 299_999);
    assert_eq!(tx.snapshot().targets.len(), 1);
    step(&mut tx, &mut ids, NOW_MS + 300_000);
    assert!(tx.snapshot().targets.is_empty());
}

#[test]
fn unhealthy_instances_are_named_only_if_there_are_no_others() {
    let (mut tx, _) = world([]);
    cloud_map(&mut tx);
    let mut put = |id: &str, healthy| {
        let attributes = [("AWS_INSTANCE_IPV4".to_owned(), format!("10.1.1.{id}"))].into();
        tx.put(Instance {
            scope: scope(),
            service_id: "srv-1".into(),
            id: id.into(),
            attributes,
            healthy,
            owner: None,
            registered_at_ms: NOW_MS,
        });
        crate::names::names(tx.snapshot()).records.iter().map(|r| format!("{:?}", r.data)).collect::<Vec<_>>()
    };
    assert_eq!(put("1", false), ["A(10.1.1.1)"]);
    assert_eq!(put("2", false), ["A(10.1.1.1)", "A(10.1.1.2)"]);
    assert_eq!(put("3", true), ["A(10.1.1.3)"]);
}
