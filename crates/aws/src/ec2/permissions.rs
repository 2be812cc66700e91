//! Permissions: how requests and answers group the rules of a security group.

use state::ec2::{Cidr, Peer, SecurityGroup, SecurityRule};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{invalid, missing, unsupported};
use super::{security_groups, vpcs};
use crate::Call;

/// The rules that permissions ask for, without ids.
pub(super) fn rules(
    call: &Call<'_>,
    group: &SecurityGroup,
    egress: bool,
    given: Vec<shape::IpPermission>,
) -> Result<Vec<SecurityRule>, Fault> {
    let mut rules: Vec<SecurityRule> = Vec::new();
    for permission in given {
        let (protocol, from_port, to_port) = traffic(&permission)?;
        let peers = peers(call, group, permission)?;
        if peers.is_empty() {
            let message = "Missing source specification: include source security group or CIDR information";
            return Err(Fault::new("MissingParameter", message));
        }
        for (peer, description) in peers {
            let id = String::new();
            let protocol = protocol.clone();
            let tags = Vec::new();
            let rule = SecurityRule { id, egress, protocol, from_port, to_port, peer, description, tags };
            if rules.iter().any(|other| is_same(other, &rule)) {
                return Err(invalid("The same permission must not appear multiple times"));
            }
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// Whether two rules permit the same: descriptions, tags and ids aside.
pub(super) fn is_same(a: &SecurityRule, b: &SecurityRule) -> bool {
    (a.egress, &a.protocol, a.from_port, a.to_port, &a.peer)
        == (b.egress, &b.protocol, b.from_port, b.to_port, &b.peer)
}

/// Protocol and range of a permission, checked and normalised.
fn traffic(permission: &shape::IpPermission) -> Result<(String, i32, i32), Fault> {
    let given = permission.ip_protocol.as_deref().ok_or_else(|| missing("ipProtocol"))?.to_lowercase();
    let unknown = || invalid(format!("Invalid value '{given}' for IP protocol. Unknown protocol."));
    let protocol = match given.as_str() {
        "-1" | "all" => return Ok(("-1".into(), -1, -1)),
        "tcp" | "6" => "tcp",
        "udp" | "17" => "udp",
        "icmp" | "1" => "icmp",
        "icmpv6" | "58" => "icmpv6",
        other => {
            let number: u8 = other.parse().map_err(|_| unknown())?;
            return Ok((number.to_string(), -1, -1));
        }
    };
    let (from, to) = (permission.from_port, permission.to_port);
    match protocol {
        "tcp" | "udp" => {
            let (Some(from), Some(to)) = (from, to) else {
                let why = "Must specify both from and to ports with TCP/UDP.";
                return Err(invalid(format!("Invalid value '{why}' for portRange.")));
            };
            if let Some(port) = [from, to].into_iter().find(|port| !(0..=65535).contains(port)) {
                return Err(invalid(format!("TCP/UDP port ({port}) out of range")));
            }
            if from > to {
                return Err(invalid(format!("Invalid TCP/UDP port range ({from}:{to})")));
            }
            Ok((protocol.into(), from as i32, to as i32))
        }
        _ => {
            let (kind, code) = (from.unwrap_or(-1), to.unwrap_or(-1));
            if !(-1..=255).contains(&kind) {
                return Err(invalid(format!("ICMP type ({kind}) out of range")));
            }
            if !(-1..=255).contains(&code) || kind == -1 && code != -1 {
                return Err(invalid(format!("ICMP code ({code}) out of range")));
            }
            Ok((protocol.into(), kind as i32, code as i32))
        }
    }
}

/// Who a permission names, each with its description.
fn peers(
    call: &Call<'_>,
    group: &SecurityGroup,
    permission: shape::IpPermission,
) -> Result<Vec<(Peer, Option<String>)>, Fault> {
    if permission.prefix_list_ids.is_some_and(|lists| !lists.is_empty()) {
        return Err(unsupported("PrefixListIds"));
    }
    let mut peers = Vec::new();
    for range in permission.ip_ranges.unwrap_or_default() {
        let text = range.cidr_ip.unwrap_or_default();
        peers.push((Peer::Ipv4(ipv4(&text)?), description(range.description)?));
    }
    for range in permission.ipv6_ranges.unwrap_or_default() {
        let text = range.cidr_ipv6.unwrap_or_default();
        peers.push((Peer::Ipv6(ipv6(&text)?), description(range.description)?));
    }
    for pair in permission.user_id_group_pairs.unwrap_or_default() {
        let text = description(pair.description.clone())?;
        peers.push((Peer::Group(peer_group(call, group, pair)?), text));
    }
    Ok(peers)
}

fn description(text: Option<String>) -> Result<Option<String>, Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    match text.filter(|text| !text.is_empty()) {
        Some(text) if text.chars().count() > 255 || !text.chars().all(allowed) => Err(invalid(
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the following \
             set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        )),
        other => Ok(other),
    }
}

fn malformed(text: &str) -> Fault {
    invalid(format!("CIDR block {text} is malformed"))
}

fn ipv4(text: &str) -> Result<Cidr, Fault> {
    vpcs::parse_cidr(text).map_err(|_| malformed(text))
}

/// An IPv6 network with the bits behind its prefix cleared.
fn ipv6(text: &str) -> Result<String, Fault> {
    let parts = text.split_once('/').ok_or_else(|| malformed(text))?;
    let base: std::net::Ipv6Addr = parts.0.parse().map_err(|_| malformed(text))?;
    let prefix: u32 = parts.1.parse().ok().filter(|p| *p <= 128).ok_or_else(|| malformed(text))?;
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    Ok(format!("{}/{prefix}", std::net::Ipv6Addr::from(u128::from(base) & mask)))
}

/// The id of a group of the same VPC.
fn peer_group(call: &Call<'_>, group: &SecurityGroup, pair: shape::UserIdGroupPair) -> Result<String, Fault> {
    if pair.vpc_peering_connection_id.is_some() {
        return Err(unsupported("VpcPeeringConnectionId"));
    }
    // The status of a peering connection is shown by answers, and sent back by clients.
    if pair.peering_status.is_some() {
        return Err(unsupported("PeeringStatus"));
    }
    if pair.user_id.as_ref().is_some_and(|user| *user != group.scope.account) {
        return Err(unsupported("UserId of another account"));
    }
    let found = match (&pair.group_id, &pair.group_name) {
        (None, Some(name)) => {
            let mut groups = security_groups::all(call).into_iter();
            groups.find(|other| other.vpc_id == group.vpc_id && other.name == *name).ok_or_else(|| {
                let message = format!("The security group '{name}' does not exist in VPC '{}'", group.vpc_id);
                Fault::new("InvalidGroup.NotFound", message)
            })?
        }
        (Some(id), _) => security_groups::by_id(call, id)?,
        (None, None) => return Err(missing("GroupId")),
    };
    let other_vpc = pair.vpc_id.as_ref().is_some_and(|vpc| *vpc != found.vpc_id);
    if found.vpc_id != group.vpc_id || other_vpc {
        let message = "You have specified two resources that belong to different networks.";
        return Err(Fault::new("InvalidGroup.NotFound", message));
    }
    Ok(found.id.clone())
}

/// The permissions of a group, one for each protocol and range.
pub(super) fn shown(group: &SecurityGroup, egress: bool) -> Vec<shape::IpPermission> {
    let rules = group.rules.iter().filter(|rule| rule.egress == egress);
    join(&group.scope.account, rules)
}

/// Rules joined to permissions.
pub(super) fn join<'a>(
    account: &str,
    rules: impl Iterator<Item = &'a SecurityRule>,
) -> Vec<shape::IpPermission> {
    let mut shown: Vec<shape::IpPermission> = Vec::new();
    for rule in rules {
        let ranged = matches!(rule.protocol.as_str(), "tcp" | "udp" | "icmp" | "icmpv6");
        let (from, to) = (ranged.then_some(rule.from_port.into()), ranged.then_some(rule.to_port.into()));
        let protocol = Some(rule.protocol.clone());
        let at =
            shown.iter().position(|p| p.ip_protocol == protocol && p.from_port == from && p.to_port == to);
        let at = at.unwrap_or_else(|| {
            shown.push(shape::IpPermission {
                ip_protocol: protocol,
                from_port: from,
                to_port: to,
                user_id_group_pairs: Some(Vec::new()),
                ip_ranges: Some(Vec::new()),
                ipv6_ranges: Some(Vec::new()),
                prefix_list_ids: Some(Vec::new()),
            });
            shown.len() - 1
        });
        add_peer(&mut shown[at], account, rule);
    }
    shown
}

fn add_peer(permission: &mut shape::IpPermission, account: &str, rule: &SecurityRule) {
    let description = rule.description.clone();
    match &rule.peer {
        Peer::Ipv4(cidr) => {
            let range = shape::IpRange { description, cidr_ip: Some(cidr.to_string()) };
            permission.ip_ranges.get_or_insert_default().push(range);
        }
        Peer::Ipv6(cidr) => {
            let range = shape::Ipv6Range { description, cidr_ipv6: Some(cidr.clone()) };
            permission.ipv6_ranges.get_or_insert_default().push(range);
        }
        Peer::Group(id) => {
            let pair = shape::UserIdGroupPair {
                description,
                user_id: Some(account.to_owned()),
                group_id: Some(id.clone()),
                ..Default::default()
            };
            permission.user_id_group_pairs.get_or_insert_default().push(pair);
        }
    }
}

/// What permissions show to a filter `ip-permission.…`.
pub(super) fn values(permissions: &[shape::IpPermission], filter: &str) -> Option<Vec<String>> {
    let each =
        |of: &dyn Fn(&shape::IpPermission) -> Vec<String>| Some(permissions.iter().flat_map(of).collect());
    match filter {
        "protocol" => each(&|p| p.ip_protocol.iter().cloned().collect()),
        "from-port" => each(&|p| p.from_port.iter().map(i64::to_string).collect()),
        "to-port" => each(&|p| p.to_port.iter().map(i64::to_string).collect()),
        "cidr" => each(&|p| p.ip_ranges.iter().flatten().filter_map(|r| r.cidr_ip.clone()).collect()),
        "ipv6-cidr" => {
            each(&|p| p.ipv6_ranges.iter().flatten().filter_map(|r| r.cidr_ipv6.clone()).collect())
        }
        "group-id" => {
            each(&|p| p.user_id_group_pairs.iter().flatten().filter_map(|g| g.group_id.clone()).collect())
        }
        "user-id" => {
            each(&|p| p.user_id_group_pairs.iter().flatten().filter_map(|g| g.user_id.clone()).collect())
        }
        "prefix-list-id" | "group-name" => Some(Vec::new()),
        _ => None,
    }
}
