//! The host's own rules: address translation outwards, host ports inwards, and what containers must not reach.
//!
//! All of them stand in one table that is Roadstead's own, and are replaced as a whole in one transaction.

use std::io;
use std::net::Ipv4Addr;

use state::ec2::Cidr;

use super::firewall::{METADATA_ADDRESS, ServicePorts, lead_to_services};
use super::nft::{self, Batch, ChainKind, FAMILY_IPV4, Hook, Rule, Verdict};
use super::records::BridgeRecord;

/// Every bridge of every Roadstead is called so.
pub const BRIDGES: &str = "rs-*";

const LOOPBACK: Cidr = Cidr { base: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };
const LINK_LOCAL: Cidr = Cidr { base: Ipv4Addr::new(169, 254, 0, 0), prefix: 16 };
const FAMILY_INET: u8 = 1;

/// A host port that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// IANA protocol number.
    pub protocol: u8,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The container's port.
    pub container_port: u16,
}

/// All that the host's rules follow from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostRules {
    /// All bridges.
    pub bridges: Vec<BridgeRecord>,
    /// Host ports of `bridge` mode.
    pub ports: Vec<HostPort>,
    /// Addresses of load balancers: a host port does not take their traffic.
    pub balancers: Vec<Ipv4Addr>,
    /// The services for tasks in `host` mode.
    pub services: Option<ServicePorts>,
}

impl HostRules {
    /// Replaces the table's rules with these.
    pub fn apply(&self, table: &str) -> io::Result<()> {
        let mut batch = Batch::new(FAMILY_IPV4, table);
        batch.table();
        batch.chain("ports");
        batch.base_chain("guard", ChainKind::Filter, Hook::Prerouting, -300, false);
        batch.base_chain("inward", ChainKind::Nat, Hook::Prerouting, -100, false);
        batch.base_chain("local", ChainKind::Nat, Hook::Output, -100, false);
        batch.base_chain("passing", ChainKind::Filter, Hook::Forward, 0, false);
        batch.base_chain("outward", ChainKind::Nat, Hook::Postrouting, 100, false);
        batch.flush();
        self.guard(&mut batch);
        self.inward(&mut batch);
        self.passing(&mut batch);
        self.outward(&mut batch);
        batch.commit()
    }

    /// Containers reach no loopback address (the bridge of `bridge` mode routes them, for host ports on 127.0.0.1)
    /// and nothing link-local beyond their namespace: neither the host's own services nor a cloud's metadata.
    fn guard(&self, batch: &mut Batch) {
        for bridge in &self.bridges {
            for forbidden in [LOOPBACK, LINK_LOCAL] {
                batch.rule(
                    "guard",
                    &Rule::new().incoming(&bridge.name).destination(forbidden).verdict(Verdict::Drop),
                );
            }
        }
    }

    fn inward(&self, batch: &mut Batch) {
        if let Some(services) = self.services {
            lead_to_services(batch, "local", METADATA_ADDRESS, METADATA_ADDRESS, services);
        }
        for balancer in &self.balancers {
            for chain in ["inward", "local"] {
                batch.rule(chain, &Rule::new().destination_address(*balancer).verdict(Verdict::Return));
            }
        }
        // Of the loopback addresses only 127.0.0.1 leads to containers; others are load balancers' or the user's.
        let others = Rule::new().destination(LOOPBACK).not_destination_address(Ipv4Addr::LOCALHOST);
        batch.rule("local", &others.verdict(Verdict::Return));
        for chain in ["inward", "local"] {
            batch.rule(chain, &Rule::new().destination_local().verdict(Verdict::Jump("ports")));
        }
        for port in &self.ports {
            let rule = Rule::new().protocol(port.protocol).port(port.host_port, port.host_port);
            batch.rule("ports", &rule.translate_to(port.address, port.container_port));
        }
    }

    /// A subnet's tasks reach their own VPC and the world, not other VPCs; containers in `bridge` mode are reached by
    /// their host ports only.
    fn passing(&self, batch: &mut Batch) {
        batch.rule("passing", &Rule::new().known_connection().verdict(Verdict::Accept));
        for bridge in &self.bridges {
            if bridge.subnet_id.is_some() {
                let from_here = || Rule::new().incoming(&bridge.name);
                batch.rule("passing", &from_here().translated().verdict(Verdict::Accept));
                let abroad = from_here().outgoing(BRIDGES).not_destination(bridge.vpc_cidr);
                batch.rule("passing", &abroad.verdict(Verdict::Drop));
            } else {
                let to_here = || Rule::new().outgoing(&bridge.name);
                batch.rule("passing", &to_here().translated().verdict(Verdict::Accept));
                batch.rule("passing", &to_here().incoming(&bridge.name).verdict(Verdict::Accept));
                batch.rule("passing", &to_here().verdict(Verdict::Drop));
            }
        }
    }

    fn outward(&self, batch: &mut Batch) {
        for bridge in &self.bridges {
            let from_here = || Rule::new().source(bridge.cidr).not_outgoing("lo");
            if bridge.subnet_id.is_some() {
                batch.rule("outward", &from_here().not_outgoing(BRIDGES).masquerade());
                continue;
            }
            let to_here = || Rule::new().outgoing(&bridge.name);
            // Answers must come back this way to be translated: from the host's loopback, and between neighbours.
            batch.rule("outward", &to_here().source(LOOPBACK).masquerade());
            batch.rule("outward", &to_here().source(bridge.cidr).translated().masquerade());
            batch.rule("outward", &from_here().not_outgoing(&bridge.name).masquerade());
        }
    }
}

/// Removes the table.
pub fn remove(table: &str) -> io::Result<()> {
    let mut batch = Batch::new(FAMILY_IPV4, table);
    // Made first, so that removing one that is not there succeeds.
    batch.table();
    batch.delete_table();
    batch.commit()
}

/// Whether another Roadstead has a table on this host.
pub fn others_present(own_table: &str) -> io::Result<bool> {
    let chains = nft::base_chains(FAMILY_IPV4)?;
    Ok(chains.iter().any(|c| c.table != own_table && c.table.starts_with(super::DEFAULT_INSTANCE)))
}

/// Where others (Docker, ufw) drop what passes through the host, lets our bridges' traffic through. One accept in our
/// own table would not do: a packet must be accepted by every table.
pub fn open_foreign_chains(own_table: &str) -> io::Result<()> {
    for (family, chain) in foreign_chains(own_table)? {
        let present = nft::rules_of(family, &chain.table, &chain.name)?;
        if present.iter().any(|r| r.is_labelled(own_table)) {
            continue;
        }
        let mut batch = Batch::new(family, &chain.table);
        for rule in [Rule::new().incoming(BRIDGES), Rule::new().outgoing(BRIDGES)] {
            batch.rule_first(&chain.name, &rule.count().verdict(Verdict::Accept).label(own_table));
        }
        batch.commit()?;
    }
    Ok(())
}

/// Takes out what [`open_foreign_chains`] put in.
pub fn close_foreign_chains(own_table: &str) -> io::Result<()> {
    for family in [FAMILY_INET, FAMILY_IPV4] {
        for chain in nft::base_chains(family)? {
            let present = nft::rules_of(family, &chain.table, &chain.name)?;
            let mut batch = Batch::new(family, &chain.table);
            for rule in present.iter().filter(|r| r.is_labelled(own_table)) {
                batch.delete_rule(&chain.name, rule.handle);
            }
            batch.commit()?;
        }
    }
    Ok(())
}

fn foreign_chains(own_table: &str) -> io::Result<Vec<(u8, nft::FoundChain)>> {
    let mut found = Vec::new();
    for family in [FAMILY_INET, FAMILY_IPV4] {
        let chains = nft::base_chains(family)?.into_iter();
        let dropping = chains.filter(|c| c.drops && c.hook == Hook::Forward as u32 && c.table != own_table);
        found.extend(dropping.map(|c| (family, c)));
    }
    Ok(found)
}
