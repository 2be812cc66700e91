//! The orders of `state::room` choose as a search through all nodes does.

use proptest::prelude::*;
use state::node::{Capacity, Ledger, Node};
use state::{ContainerGroup, Ids, Snapshot, Tx};

use super::{Constraints, Held, Reason, Request, Unplaced, choose, fits};
use crate::fixture::{self, Wish};

type Rules = Vec<(String, Option<String>)>;

/// The rule as it is written down: every node is looked at, the least rank is chosen, then the lowest id. A strategy
/// `random` leaves all that are equally good before it.
fn by_looking_at_all(snapshot: &Snapshot, request: &Request) -> Vec<String> {
    let (constraints, held) = (Constraints::compile(request), Held::count(snapshot, request));
    let nothing = Ledger::default();
    let mut found: Vec<(Vec<i64>, String)> = Vec::new();
    for (id, node) in snapshot.nodes.iter() {
        let ledger = snapshot.ledgers.get(id).map_or(&nothing, |ledger| ledger);
        let named = request.only_node.is_none_or(|only| only == id);
        if named && fits(snapshot, node, ledger, request, &constraints, &held).is_ok() {
            found.push((rank(snapshot, node, ledger, request), id.to_owned()));
        }
    }
    found.sort();
    let is_random = request.strategy.iter().any(|(kind, _)| kind == "random");
    let best = found.first().map(|(rank, _)| rank.clone());
    found.retain(|(rank, _)| Some(rank) == best.as_ref());
    found.truncate(if is_random { usize::MAX } else { 1 });
    found.into_iter().map(|(_, id)| id).collect()
}

/// Every node is asked what it lacks; the most is chosen, then the lowest id.
fn closest_of_all(snapshot: &Snapshot, request: &Request) -> Unplaced {
    let (constraints, held) = (Constraints::compile(request), Held::count(snapshot, request));
    let nothing = Ledger::default();
    let named = |id: &str| request.only_node.is_none_or(|only| only == id);
    let mut lacking = Vec::new();
    for (id, node) in snapshot.nodes.iter().filter(|(id, _)| named(id)) {
        let ledger = snapshot.ledgers.get(id).map_or(&nothing, |ledger| ledger);
        let lacks = fits(snapshot, node, ledger, request, &constraints, &held).expect_err("no node fits");
        lacking.push((std::cmp::Reverse(lacks), id.to_owned()));
    }
    match lacking.into_iter().min() {
        Some((std::cmp::Reverse(reason), id)) => Unplaced { reason, node: Some(id) },
        None => Unplaced { reason: Reason::Agent, node: None },
    }
}

fn rank(snapshot: &Snapshot, node: &Node, ledger: &Ledger, request: &Request) -> Vec<i64> {
    let alike = |on: &dyn Fn(&str) -> bool| {
        let groups = snapshot.groups.iter().map(|(_, group)| group);
        let alike = groups.filter(|g| !g.is_stopping() && g.task().group == request.group);
        alike.filter(|g| g.node().is_some_and(on)).count() as i64
    };
    let mut rank = Vec::new();
    for (kind, field) in request.strategy {
        rank.push(match (kind.as_str(), field.as_deref()) {
            ("random", _) => return rank,
            ("binpack", Some("cpu")) => i64::from(node.capacity.cpu_units) - i64::from(ledger.used.cpu_units),
            ("binpack", _) => i64::from(node.capacity.memory_mib) - i64::from(ledger.used.memory_mib),
            ("spread", Some("attribute:ecs.availability-zone")) => alike(&|id| {
                snapshot.nodes.get(id).is_some_and(|n| n.availability_zone == node.availability_zone)
            }),
            _ => alike(&|id| id == node.id),
        });
    }
    rank.push(i64::from(ledger.groups));
    rank
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (0..3u8, any::<bool>(), 0..8u8, 1..6u32, 1..6u32, 1..4u32);
    let node = node.prop_map(|(zone, arm, ready, cpu, memory, cores)| Node {
        capacity: Capacity { cpu_units: cpu * 512, memory_mib: memory * 512 },
        cpu_physical_units: cores * 512,
        cpu_architecture: if arm { "ARM64" } else { "X86_64" }.into(),
        silent_since_ms: (ready == 0).then_some(0),
        ..fixture::node("", ["a", "b", "c"][usize::from(zone)])
    });
    proptest::collection::vec(node, 0..12).prop_map(|nodes| {
        let named = |(n, node)| Node { id: format!("{:02}", (n * 7) % 12), ..node };
        nodes.into_iter().enumerate().map(named).collect()
    })
}

fn strategy() -> impl Strategy<Value = Rules> {
    let one = prop_oneof![
        Just(("spread", "attribute:ecs.availability-zone")),
        Just(("spread", "instanceId")),
        Just(("binpack", "cpu")),
        Just(("binpack", "memory")),
        Just(("random", "")),
    ];
    let owned = |rules: Vec<(&str, &str)>| {
        rules.into_iter().map(|(kind, field)| (kind.to_owned(), Some(field.to_owned()))).collect()
    };
    proptest::collection::vec(one, 0..4).prop_map(owned)
}

fn constraints() -> impl Strategy<Value = Rules> {
    let member = |text: &str| ("memberOf".to_owned(), Some(text.to_owned()));
    prop_oneof![
        4 => Just(vec![]),
        1 => Just(vec![("distinctInstance".to_owned(), None)]),
        1 => Just(vec![member("attribute:ecs.availability-zone == a")]),
        1 => Just(vec![member("runningTasksCount < 2")]),
    ]
}

/// Launches, ends and node changes in the world, so that some nodes are full, some gone and some hold tasks to be stopped.
fn live(tx: &mut Tx, ids: &mut Ids, steps: &[(u8, u32, u32)]) {
    for (step, cpu, memory) in steps {
        let groups: Vec<_> = tx.table::<ContainerGroup>().iter().map(|(key, _)| key.to_owned()).collect();
        let some = groups.get(*cpu as usize % groups.len().max(1));
        match (step, some) {
            (0, Some(key)) => {
                let code = state::group::StopCode::UserInitiated;
                let cause = state::group::StopCause { code, reason: "test".into(), at_ms: 1 };
                crate::stop(tx, key, cause);
            }
            (1, Some(key)) => {
                let node = tx.get::<ContainerGroup>(key).and_then(|g| g.node().map(str::to_owned));
                tx.update::<Node>(&node.unwrap_or_default(), |node| {
                    node.silent_since_ms = if node.is_connected() { Some(0) } else { None };
                });
            }
            _ => {
                let port = (step == &2).then_some(80);
                let spec = fixture::spec(
                    state::group::NetworkMode::Host,
                    cpu * 128,
                    memory * 128,
                    &Vec::from_iter(port),
                );
                let _ = fixture::launch(tx, ids, &Wish::of(spec));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_index_chooses_as_a_search_through_all_nodes_does(
        nodes in nodes(),
        steps in proptest::collection::vec((0..6u8, 0..5u32, 0..5u32), 0..40),
        strategy in strategy(),
        constraints in constraints(),
        (cpu, memory, port, architecture) in (0..8u32, 0..8u32, any::<bool>(), 0..3usize),
        (only, alike) in (0..40u8, any::<bool>()),
    ) {
        let (mut tx, mut ids) = fixture::world(nodes);
        live(&mut tx, &mut ids, &steps);
        let host_ports = if port { vec![(80, "tcp".to_owned())] } else { vec![] };
        let demand = state::group::Demand { cpu_units: cpu * 128, memory_mib: memory * 128, host_ports };
        let only = format!("{only:02}");
        let request = Request {
            demand: &demand,
            cpu_architecture: [None, Some("X86_64"), Some("ARM64")][architecture],
            group: if alike { "family:app" } else { "family:other" },
            constraints: &constraints,
            strategy: &strategy,
            only_node: Some(only.as_str()).filter(|only| *only < "12"),
        };
        let wanted = by_looking_at_all(tx.snapshot(), &request);
        match choose(tx.snapshot(), &mut ids, &request) {
            Ok(node) => prop_assert!(wanted.contains(&node), "{node} of {wanted:?}"),
            Err(unplaced) => {
                prop_assert_eq!(wanted, Vec::<String>::new());
                prop_assert_eq!(unplaced, closest_of_all(tx.snapshot(), &request));
            }
        }
    }

    #[test]
    fn what_is_free_is_the_same_after_a_load_as_after_the_writes(
        nodes in nodes(),
        steps in proptest::collection::vec((0..6u8, 0..5u32, 0..5u32), 0..40),
    ) {
        let (mut tx, mut ids) = fixture::world(nodes);
        live(&mut tx, &mut ids, &steps);
        let (snapshot, writes, _) = tx.finish();
        let mut loaded = Snapshot::default();
        for write in writes {
            loaded.apply(write.table, &write.key, 1, write.value.as_deref()).unwrap();
        }
        let in_order = |room: &state::room::Room| {
            (0..room.len()).map(|n| room.nth(n).map(str::to_owned)).collect::<Vec<_>>()
        };
        prop_assert_eq!(in_order(&snapshot.room), in_order(&loaded.room));
        prop_assert_eq!(snapshot.room.zones().collect::<Vec<_>>(), loaded.room.zones().collect::<Vec<_>>());
    }
}
