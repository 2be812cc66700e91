//! All names that the node's DNS server answers: Cloud Map's private namespaces and the load balancers.

use std::net::Ipv4Addr;

use state::Snapshot;
use state::assignment::{NameData, NameRecord, Names};
use state::cloudmap::{DiscoveryService, Instance, Namespace};

/// The zone of load balancer names.
const BALANCER_ZONE: &str = "elb.localhost";
/// Time to live of a load balancer's name, seconds, as of an ALB.
const BALANCER_TTL_S: u32 = 60;

/// The names of a snapshot.
pub fn names(snapshot: &Snapshot) -> Names {
    let mut names = Names { zones: vec![BALANCER_ZONE.to_owned()], records: Vec::new() };
    for (_, balancer) in snapshot.load_balancers.iter() {
        names.records.push(NameRecord {
            name: balancer.dns_name.to_ascii_lowercase(),
            ttl_s: BALANCER_TTL_S,
            vpc_id: None,
            data: NameData::A(balancer.address),
        });
    }
    for (_, namespace) in snapshot.namespaces.iter().filter(|(_, n)| n.kind == "DNS_PRIVATE") {
        names.zones.push(namespace.name.to_ascii_lowercase());
        for service in snapshot.discovery_services.by_index("namespace", &namespace.id) {
            service_records(snapshot, namespace, service, &mut names.records);
        }
    }
    names.zones.sort_unstable();
    names.zones.dedup();
    names.records.sort_unstable();
    names.records.dedup();
    names
}

/// Whether two snapshots have the same names for sure, told without making them.
pub fn same(one: &Snapshot, other: &Snapshot) -> bool {
    one.load_balancers.same(&other.load_balancers)
        && one.namespaces.same(&other.namespaces)
        && one.discovery_services.same(&other.discovery_services)
        && one.discovery_instances.same(&other.discovery_instances)
}

fn service_records(
    snapshot: &Snapshot,
    namespace: &Namespace,
    service: &DiscoveryService,
    records: &mut Vec<NameRecord>,
) {
    let name = format!("{}.{}", service.name, namespace.name).to_ascii_lowercase();
    let all: Vec<&Instance> =
        snapshot.discovery_instances.by_index("service", &service.id).map(|i| &**i).collect();
    // With none healthy, all are given out, as Route 53 does.
    let any_healthy = all.iter().any(|i| i.healthy);
    for instance in all.iter().filter(|i| i.healthy || !any_healthy) {
        let attribute = |key: &str| instance.attributes.get(key);
        let address = attribute("AWS_INSTANCE_IPV4").and_then(|a| a.parse::<Ipv4Addr>().ok());
        let port = attribute("AWS_INSTANCE_PORT").and_then(|p| p.parse::<u16>().ok());
        let host = format!("{}.{name}", instance.id.to_ascii_lowercase());
        for (kind, ttl_s) in &service.dns_records {
            let mut add = |name: &str, data| {
                let vpc_id = namespace.vpc_id.clone();
                records.push(NameRecord { name: name.to_owned(), ttl_s: *ttl_s, vpc_id, data });
            };
            match (kind.as_str(), address, port) {
                ("A", Some(address), _) => add(&name, NameData::A(address)),
                ("SRV", _, Some(port)) => {
                    add(&name, NameData::Srv(1, 1, port, host.clone()));
                    if let Some(address) = address {
                        add(&host, NameData::A(address));
                    }
                }
                ("CNAME", ..) => {
                    if let Some(target) = attribute("AWS_INSTANCE_CNAME") {
                        add(&name, NameData::Cname(target.trim_end_matches('.').to_ascii_lowercase()));
                    }
                }
                _ => {}
            }
        }
    }
}
