//! Networks that change all at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::Networks;
use agent::act::network::{GroupNetwork, NetworkError};
use state::assignment::{Assignment, Names};
use state::group::Phase;

use super::world::{HostNetworks, World, group, script};
use super::{common, interface};

/// Networks that take their time to be brought up to date, and note when.
#[derive(Default)]
struct SlowNetworks {
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    updates: Mutex<Vec<(String, String)>>,
}

impl Networks for SlowNetworks {
    fn prepare(&self, assignment: &Assignment) -> Result<GroupNetwork, NetworkError> {
        HostNetworks.prepare(assignment)
    }

    fn update(&self, assignment: &Assignment) -> Result<(), NetworkError> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let vpc_id = assignment.network.as_ref().unwrap().vpc_id.clone();
        self.updates.lock().unwrap().push((assignment.id.clone(), vpc_id));
        Ok(())
    }

    fn release(&self, _: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    fn recover(&self, _: &[String]) -> Result<(), NetworkError> {
        Ok(())
    }

    fn metadata_listeners(&self, _: &str) -> Result<Vec<std::net::TcpListener>, NetworkError> {
        Ok(vec![])
    }

    fn names(&self, _: Names) {}
}

#[tokio::test]
async fn many_networks_that_change_at_once_take_turns_and_skip_what_is_old() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Arc::new(SlowNetworks::default());
    let mut world = World::with(dir.path(), "turns", networks.clone()).await;
    let groups: Vec<Assignment> = (0..6)
        .map(|n| {
            let mut group = group(&format!("t{n}"), vec![script("main", "sleep 1000")]);
            group.network = Some(interface("vpc-0"));
            group
        })
        .collect();
    for group in &groups {
        let key = world.run(group.clone());
        world.phase(&key, Phase::Running).await;
    }
    for vpc_id in ["vpc-1", "vpc-2", "vpc-3"] {
        let changed = |group: &Assignment| Assignment { network: Some(interface(vpc_id)), ..group.clone() };
        world.agent.assign(groups.iter().map(changed).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let is_newest = |group: &Assignment| {
        let updates = networks.updates.lock().unwrap();
        updates.iter().rfind(|(id, _)| *id == group.id).is_some_and(|(_, vpc_id)| vpc_id == "vpc-3")
    };
    for _ in 0..500 {
        if !groups.iter().all(is_newest) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let updates = networks.updates.lock().unwrap().clone();
    assert!(groups.iter().all(is_newest), "{updates:?}");
    assert_eq!(networks.most_at_once.load(Ordering::SeqCst), 1, "each waits in a thread: {updates:?}");
    assert!(updates.len() <= groups.len() + 2, "what was wanted meanwhile was done one by one: {updates:?}");
    for group in groups {
        world.take_away(&group.key);
    }
    world.finish().await;
}
