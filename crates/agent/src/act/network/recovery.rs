//! After a restart: what lives is taken in again, what is left over is removed; and at the end, all of it.

use std::collections::BTreeSet;

use cut::cut;

use super::firewall::METADATA_ADDRESS;
use super::group::Group;
use super::records::{self, BridgeRecord, GroupRecord};
use super::{Inner, Network, NetworkConfig, NetworkError, bridge, host_rules, netns, ports, sysctl};

impl Network {
    /// Takes in the networks of groups that live (their namespaces, rules and ports go on unchanged) and removes
    /// everything else of ours. Answers the keys of living groups whose network is lost.
    pub fn recover(&self, live: &[String]) -> Result<Vec<String>, NetworkError> {
        let mut inner = self.lock();
        inner.balancers = records::read(&self.balancers_note())?.unwrap_or_default();
        let records: Vec<GroupRecord> = records::read_all(&self.config.run_dir.join("network/groups"))?;
        let (kept, left): (Vec<_>, Vec<_>) = records.into_iter().partition(|r| {
            live.contains(&r.key) && r.namespaces().iter().all(|n| netns::exists(&self.netns_path(n)))
        });
        for record in &left {
            self.remove_record(record)?;
        }
        self.recover_bridges(&mut inner, &kept)?;
        // All are taken in before the first is made: the host's rules are replaced as a whole, and must miss nobody.
        let keys: Vec<String> = kept.iter().map(|r| r.key.clone()).collect();
        for record in kept {
            let ports = reserve_again(&record);
            inner.groups.insert(record.key.clone(), Group::planned(record, ports));
        }
        for key in keys {
            if let Err(error) = self.make(&mut inner, &key) {
                // One group's fate is not the others'.
                tracing::warn!(key, %error, "a group's network could not be taken in again");
                if let Some(record) = self.take_out(&mut inner, &key)? {
                    self.remove_record(&record)?;
                }
            }
        }
        self.remove_strays(&mut inner)?;
        self.place_balancers(&mut inner)?;
        if !inner.bridges.is_empty() || inner.host_services.is_some() {
            self.apply_host_rules(&inner)?;
        }
        Ok(live.iter().filter(|key| !inner.groups.contains_key(*key)).cloned().collect())
    }

    /// Removes all that Roadstead has made on this host with this configuration, whether or not it runs.
    pub fn teardown_all(config: NetworkConfig) -> Result<(), NetworkError> {
        if !config.run_dir.join("network").exists() {
            return Ok(());
        }
        // On a thread of its own: a runtime may not end within another.
        let remove = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            Network::new(config, runtime.handle().clone())?.remove_everything()
        };
        let failed = |_| Err(std::io::Error::other("the thread that removes the network panicked").into());
        std::thread::scope(|scope| scope.spawn(remove).join().unwrap_or_else(failed))
    }

    fn remove_everything(&self) -> Result<(), NetworkError> {
        let run_dir = &self.config.run_dir;
        records::remove(&self.balancers_note())?;
        self.recover(&[])?;
        cut!("down.network.interfaces-removed");
        let inner = self.lock();
        host_rules::close_foreign_chains(&self.instance)?;
        host_rules::remove(&self.instance)?;
        cut!("down.network.rules-removed");
        // Another Roadstead on this machine goes on needing what it found set.
        if !host_rules::others_present(&self.instance)? {
            sysctl::restore(&self.sysctl_note())?;
        }
        cut!("down.network.settings-restored");
        drop(inner);
        for folder in ["network", "netns"] {
            std::fs::remove_dir_all(run_dir.join(folder))?;
        }
        cut!("down.network.removed");
        Ok(())
    }

    /// Bridges that a group or a load balancer is on stay, the others go.
    fn recover_bridges(&self, inner: &mut Inner, kept: &[GroupRecord]) -> Result<(), NetworkError> {
        let mut used: BTreeSet<String> = kept.iter().filter_map(|r| self.bridge_name(r)).collect();
        for b in &inner.balancers {
            used.insert(self.subnet_bridge(&b.subnet_id, b.subnet_cidr, b.vpc_cidr, b.gateway).name);
        }
        let folder = self.config.run_dir.join("network/bridges");
        let records: Vec<BridgeRecord> = records::read_all(&folder)?;
        for record in records {
            if used.contains(&record.name) {
                let mtu = bridge::mtu(&mut inner.route)?;
                bridge::make(&mut inner.route, &record, mtu)?;
                inner.bridges.insert(record.name.clone(), record);
            } else {
                inner.route.delete_link(&record.name)?;
                records::remove(&folder.join(format!("{}.json", record.name)))?;
            }
        }
        Ok(())
    }

    fn bridge_name(&self, record: &GroupRecord) -> Option<String> {
        match &record.interface {
            Some(interface) => Some(self.interface_bridge(interface).name),
            None if record.mode == state::group::NetworkMode::Bridge => Some(self.container_bridge().name),
            None => None,
        }
    }

    /// Namespaces, interfaces and addresses that belong to no group.
    fn remove_strays(&self, inner: &mut Inner) -> Result<(), NetworkError> {
        let names: Vec<String> = inner.groups.values().flat_map(|g| g.record.namespaces()).collect();
        for entry in std::fs::read_dir(self.config.run_dir.join("netns"))? {
            let entry = entry?;
            if !names.iter().any(|n| entry.file_name() == n.as_str()) {
                netns::remove(&entry.path())?;
            }
        }
        let veths: Vec<String> = names.iter().map(|n| self.veth_name(n)).collect();
        for link in inner.route.links()? {
            if link.name.starts_with(&self.veth_prefix()) && !veths.contains(&link.name) {
                inner.route.delete_link(&link.name)?;
            }
        }
        let note = self.config.run_dir.join("network/loopback.json");
        if note.exists() && inner.host_services.is_none() {
            inner.route.delete_address(1, METADATA_ADDRESS, 32)?;
            records::remove(&note)?;
        }
        Ok(())
    }
}

/// Host ports of a group that lives lead to it whether or not they can be kept from other programs again.
fn reserve_again(record: &GroupRecord) -> Vec<ports::Reservation> {
    let bindings = record.containers.iter().filter(|c| c.address.is_some()).flat_map(|c| &c.bindings);
    let reserve = |b: &state::group::NetworkBinding| match ports::reserve(&b.protocol, b.host_port) {
        Ok(reservation) => Some(reservation),
        Err(error) => {
            tracing::warn!(port = b.host_port, protocol = b.protocol, %error, "a program has taken a container's host port");
            None
        }
    };
    bindings.filter_map(reserve).collect()
}
