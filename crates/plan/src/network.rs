//! Addresses: the default VPC, and the choice of a free address in a subnet.

use std::net::Ipv4Addr;

use state::ec2::{Cidr, Peer, SecurityGroup, SecurityRule, Subnet, Vpc};
use state::{Ids, Scope, Snapshot, Tx};

/// The first four addresses of a subnet and its last are reserved ("Subnet sizing", VPC user guide).
const FIRST_HOST: u32 = 4;

/// Takes a free address of a subnet. It is taken once a group or a load balancer with it is written.
/// `None` if there is no such subnet or no free address.
pub fn allocate_address(tx: &mut Tx, subnet_id: &str) -> Option<Ipv4Addr> {
    let subnet = subnet(tx.snapshot(), subnet_id)?;
    let end = u32::try_from(subnet.cidr.size()).ok()?.checked_sub(1)?;
    let hosts = end.checked_sub(FIRST_HOST).filter(|hosts| *hosts > 0)?;
    // The search goes on where it ended: an address rests as long as possible before another gets it.
    let start = subnet.next_host.clamp(FIRST_HOST, end - 1) - FIRST_HOST;
    let free = (0..hosts)
        .map(|step| FIRST_HOST + (start + step) % hosts)
        .find(|host| !is_taken(tx.snapshot(), subnet_id, subnet.cidr.nth(*host)))?;
    tx.put(Subnet { next_host: free + 1, ..Subnet::clone(&subnet) });
    Some(subnet.cidr.nth(free))
}

/// The subnet of an id.
pub fn subnet(snapshot: &Snapshot, subnet_id: &str) -> Option<std::sync::Arc<Subnet>> {
    snapshot.subnets.by_index("id", subnet_id).next().cloned()
}

/// Whether an address of a subnet belongs to a group or a load balancer.
pub fn is_taken(snapshot: &Snapshot, subnet_id: &str, address: Ipv4Addr) -> bool {
    let at = format!("{subnet_id}|{address}");
    snapshot.groups.by_index("ip", &at).next().is_some()
        || snapshot.load_balancers.by_index("ip", &at).next().is_some()
}

/// How many addresses of a subnet are free (`AvailableIpAddressCount`).
pub fn free_addresses(snapshot: &Snapshot, subnet: &Subnet) -> u64 {
    let groups = snapshot.groups.by_index("subnet", &subnet.id).count();
    let balancers =
        snapshot.load_balancers.iter().filter(|(_, b)| b.subnets.first() == Some(&subnet.id)).count();
    subnet.cidr.size().saturating_sub(5).saturating_sub((groups + balancers) as u64)
}

/// The id of a VPC's `default` security group.
pub fn default_security_group(snapshot: &Snapshot, vpc_id: &str) -> Option<String> {
    snapshot
        .security_groups
        .by_index("vpc", vpc_id)
        .find(|group| group.name == "default")
        .map(|g| g.id.clone())
}

/// Makes the scope's default VPC, its three default subnets and its `default` security group, unless they are there
/// ("Default VPCs", VPC user guide). Answers the VPC's id. `now_ms` stamps the security group.
pub fn ensure_default_vpc(
    tx: &mut Tx,
    ids: &mut Ids,
    scope: &Scope,
    host_networks: &[Cidr],
    now_ms: state::TimeMs,
) -> String {
    let prefix = scope.prefix();
    if let Some((_, vpc)) = tx.table::<Vpc>().scan(&prefix).find(|(_, vpc)| vpc.is_default) {
        return vpc.id.clone();
    }
    let cidr = free_network(tx.snapshot(), host_networks);
    let vpc_id = format!("vpc-{}", ids.hex(17));
    tx.put(Vpc {
        scope: scope.clone(),
        id: vpc_id.clone(),
        cidr,
        is_default: true,
        dns_hostnames: true,
        dns_support: true,
        tags: Vec::new(),
    });
    for (n, zone) in ["a", "b", "c"].into_iter().enumerate() {
        tx.put(Subnet {
            scope: scope.clone(),
            id: format!("subnet-{}", ids.hex(17)),
            vpc_id: vpc_id.clone(),
            cidr: Cidr { base: cidr.nth(n as u32 * 4096), prefix: 20 },
            availability_zone: format!("{}{zone}", scope.region),
            default_for_az: true,
            map_public_ip: true,
            next_host: FIRST_HOST,
            tags: Vec::new(),
        });
    }
    put_default_security_group(tx, ids, scope, &vpc_id, now_ms);
    vpc_id
}

/// Makes a VPC's `default` security group: all from its own members in, everything out. Answers its id.
pub fn put_default_security_group(
    tx: &mut Tx,
    ids: &mut Ids,
    scope: &Scope,
    vpc_id: &str,
    now_ms: state::TimeMs,
) -> String {
    let id = format!("sg-{}", ids.hex(17));
    let mut all = |egress, peer| SecurityRule {
        id: format!("sgr-{}", ids.hex(17)),
        egress,
        protocol: "-1".into(),
        from_port: -1,
        to_port: -1,
        peer,
        description: None,
        tags: Vec::new(),
    };
    let anywhere = Cidr { base: Ipv4Addr::UNSPECIFIED, prefix: 0 };
    let rules = vec![all(false, Peer::Group(id.clone())), all(true, Peer::Ipv4(anywhere))];
    tx.put(SecurityGroup {
        scope: scope.clone(),
        id: id.clone(),
        name: "default".into(),
        description: "default VPC security group".into(),
        vpc_id: vpc_id.to_owned(),
        rules,
        tags: Vec::new(),
        created_at_ms: now_ms,
    });
    id
}

/// The first /16 that neither a VPC nor the host uses: AWS's own 172.31, then its neighbours, then less usual ones.
/// A host that uses every private network gets 198.18/16 (RFC 2544), which nothing routes.
fn free_network(snapshot: &Snapshot, host_networks: &[Cidr]) -> Cidr {
    let of = |a: u8, b: u8| Cidr { base: Ipv4Addr::new(a, b, 0, 0), prefix: 16 };
    let candidates = (16..=31).rev().map(|b| of(172, b));
    let candidates = candidates.chain((0..=255).rev().map(|b| of(10, b)));
    let mut candidates = candidates.chain([of(192, 168)]).chain((64..=127).map(|b| of(100, b)));
    let used = |cidr: Cidr| {
        host_networks.iter().any(|other| cidr.overlaps(*other))
            || snapshot.vpcs.iter().any(|(_, vpc)| cidr.overlaps(vpc.cidr))
    };
    candidates.find(|cidr| !used(*cidr)).unwrap_or(of(198, 18))
}
