//! A small world for the tests of this crate.

use std::sync::Arc;

use state::group::{ContainerSpec, Demand, GroupSpec, NetworkMode, Phase, TaskSource};
use state::node::{Capacity, Node};
use state::{ContainerGroup, Ids, Scope, Tx};

use crate::{Launch, Unplaced};

/// When tests happen.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// Account and region of tests.
pub fn scope() -> Scope {
    Scope::new("000000000000", "us-east-1")
}

/// A node with 4 cores to give away, 2 real ones, and 4 GiB.
pub fn node(id: &str, zone: &str) -> Node {
    Node {
        id: id.into(),
        hostname: id.into(),
        capacity: Capacity { cpu_units: 4096, memory_mib: 4096 },
        cpu_physical_units: 2048,
        availability_zone: zone.into(),
        cpu_architecture: "X86_64".into(),
        address: std::net::Ipv4Addr::new(10, 0, 0, 1).into(),
        silent_since_ms: None,
        registered_at_ms: NOW_MS,
    }
}

/// A transaction over the default VPC and these nodes.
pub fn world(nodes: impl IntoIterator<Item = Node>) -> (Tx, Ids) {
    let (mut tx, mut ids) = (Tx::new(Default::default()), Ids::new(1));
    crate::network::ensure_default_vpc(&mut tx, &mut ids, &scope(), &[], NOW_MS);
    for node in nodes {
        tx.put(node);
    }
    (tx, ids)
}

/// A specification of one container.
pub fn spec(
    network_mode: NetworkMode,
    cpu_units: u32,
    memory_mib: u32,
    host_ports: &[u16],
) -> Arc<GroupSpec> {
    Arc::new(GroupSpec {
        containers: vec![ContainerSpec { name: "app".into(), essential: true, ..ContainerSpec::default() }],
        network_mode,
        demand: Demand {
            cpu_units,
            memory_mib,
            host_ports: host_ports.iter().map(|port| (*port, "tcp".to_owned())).collect(),
        },
        ..GroupSpec::default()
    })
}

/// What a test launches.
pub struct Wish {
    /// What to run.
    pub spec: Arc<GroupSpec>,
    /// Type, expression.
    pub constraints: Vec<(String, Option<String>)>,
    /// Type, field.
    pub strategy: Vec<(String, Option<String>)>,
}

impl Wish {
    /// Without constraints and strategies.
    pub fn of(spec: Arc<GroupSpec>) -> Wish {
        Wish { spec, constraints: vec![], strategy: vec![] }
    }
}

/// Launches it; the group, or why not.
pub fn launch(tx: &mut Tx, ids: &mut Ids, wish: &Wish) -> Result<Arc<ContainerGroup>, Unplaced> {
    let subnets: Vec<String> = tx.snapshot().subnets.iter().map(|(_, s)| s.id.clone()).collect();
    let demand = &wish.spec.demand;
    let spec_id = format!(
        "{:?}/{}/{}/{:?}",
        wish.spec.network_mode, demand.cpu_units, demand.memory_mib, demand.host_ports
    );
    let launch = Launch {
        scope: &scope(),
        cluster: "default",
        source: Arc::new(TaskSource {
            group: "family:app".into(),
            launch_type: "EC2".into(),
            ..TaskSource::default()
        }),
        spec_id,
        spec: wish.spec.clone(),
        subnets: &subnets,
        constraints: &wish.constraints,
        strategy: &wish.strategy,
        node: None,
    };
    let key = crate::launch(tx, ids, NOW_MS, launch)?;
    let group = tx.get::<ContainerGroup>(&key).expect("what was launched is there");
    check(tx);
    Ok(group)
}

/// The key of a group.
pub fn key(group: &ContainerGroup) -> String {
    state::Record::key(group)
}

/// Reports a phase as the agent of the group's node does.
pub fn report(tx: &mut Tx, group: &ContainerGroup, phase: Phase) -> Result<(), crate::reports::Refused> {
    let observed = state::group::Observed { phase, ..group.observed.clone() };
    let report = state::assignment::Report { key: key(group), observed };
    let answer = crate::reports::apply(tx, group.node().expect("it is placed"), &report, NOW_MS + 1);
    check(tx);
    answer
}

/// The checker finds nothing wrong.
pub fn check(tx: &Tx) {
    let wrong = state::check::check(tx.snapshot());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
