//! Rules of security groups: authorize, revoke, describe.

use std::sync::Arc;

use state::Record;
use state::ec2::{Peer, SecurityGroup, SecurityRule};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{combination, unless_dry};
use super::list::{Asked, Listed, list, one};
use super::{permissions, security_groups, tags, vpcs};
use crate::Call;

/// Rules per direction of a group ("Amazon VPC quotas").
const RULES_MAX: usize = 60;

/// A permission spelled by single parameters, as the first versions of the API had it.
#[derive(Default)]
struct Flat {
    protocol: Option<String>,
    from_port: Option<i64>,
    to_port: Option<i64>,
    cidr: Option<String>,
    group_name: Option<String>,
    group_owner: Option<String>,
}

impl Flat {
    fn is_given(&self) -> bool {
        self.protocol.is_some()
            || self.from_port.is_some()
            || self.to_port.is_some()
            || self.cidr.is_some()
            || self.group_name.is_some()
            || self.group_owner.is_some()
    }

    fn permission(self) -> shape::IpPermission {
        let all_traffic = self.group_name.is_some() && self.protocol.is_none();
        let pair = shape::UserIdGroupPair {
            group_name: self.group_name,
            user_id: self.group_owner,
            ..Default::default()
        };
        let range = self.cidr.map(|cidr| shape::IpRange { cidr_ip: Some(cidr), description: None });
        shape::IpPermission {
            ip_protocol: self.protocol.or(all_traffic.then(|| "-1".into())),
            from_port: self.from_port,
            to_port: self.to_port,
            user_id_group_pairs: pair.group_name.is_some().then(|| vec![pair]),
            ip_ranges: range.map(|range| vec![range]),
            ..Default::default()
        }
    }
}

/// The permissions of a request, in either spelling; `None` if it has none.
fn wanted(
    given: Option<Vec<shape::IpPermission>>,
    flat: Flat,
) -> Result<Option<Vec<shape::IpPermission>>, Fault> {
    match given.filter(|given| !given.is_empty()) {
        Some(_) if flat.is_given() => {
            Err(combination("The parameter 'ipPermissions' may not be used in combination with 'ipProtocol'"))
        }
        Some(given) => Ok(Some(given)),
        None => Ok(flat.is_given().then(|| vec![flat.permission()])),
    }
}

pub(super) fn authorize_ingress(
    call: &mut Call<'_>,
    input: shape::AuthorizeSecurityGroupIngressRequest,
) -> Result<shape::AuthorizeSecurityGroupIngressResult, Fault> {
    let flat = Flat {
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        group_name: input.source_security_group_name,
        group_owner: input.source_security_group_owner_id,
    };
    let group = security_groups::find(call, input.group_id.as_deref(), input.group_name.as_deref())?;
    let wanted = wanted(input.ip_permissions, flat)?;
    let made = authorize(call, &group, false, wanted, input.tag_specifications)?;
    let answer =
        shape::AuthorizeSecurityGroupIngressResult { r#return: Some(true), security_group_rules: Some(made) };
    unless_dry(input.dry_run, answer)
}

pub(super) fn authorize_egress(
    call: &mut Call<'_>,
    input: shape::AuthorizeSecurityGroupEgressRequest,
) -> Result<shape::AuthorizeSecurityGroupEgressResult, Fault> {
    let flat = Flat {
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        group_name: input.source_security_group_name,
        group_owner: input.source_security_group_owner_id,
    };
    let group = security_groups::find(call, input.group_id.as_deref(), None)?;
    let wanted = wanted(input.ip_permissions, flat)?;
    let made = authorize(call, &group, true, wanted, input.tag_specifications)?;
    let answer =
        shape::AuthorizeSecurityGroupEgressResult { r#return: Some(true), security_group_rules: Some(made) };
    unless_dry(input.dry_run, answer)
}

fn authorize(
    call: &mut Call<'_>,
    group: &Arc<SecurityGroup>,
    egress: bool,
    wanted: Option<Vec<shape::IpPermission>>,
    specifications: Option<Vec<shape::TagSpecification>>,
) -> Result<Vec<shape::SecurityGroupRule>, Fault> {
    let wanted = wanted.ok_or_else(|| super::faults::missing("ipPermissions"))?;
    let tags = tags::given(specifications, "security-group-rule")?;
    let mut changed = SecurityGroup::clone(group);
    let mut made = Vec::new();
    for rule in permissions::rules(call, group, egress, wanted)? {
        if group.rules.iter().any(|old| permissions::is_same(old, &rule)) {
            let message = format!("the specified rule \"{}\" already exists", spelled(&rule));
            return Err(Fault::new("InvalidPermission.Duplicate", message));
        }
        let id = format!("sgr-{}", call.ids.hex(17));
        let rule = SecurityRule { id, tags: tags.clone(), ..rule };
        made.push(view(call, group, &rule));
        changed.rules.push(rule);
    }
    if changed.rules.iter().filter(|rule| rule.egress == egress).count() > RULES_MAX {
        let message = "The maximum number of rules per security group has been reached.";
        return Err(Fault::new("RulesPerSecurityGroupLimitExceeded", message));
    }
    call.tx.put(changed);
    Ok(made)
}

/// A rule as EC2's messages spell it.
fn spelled(rule: &SecurityRule) -> String {
    let peer = match &rule.peer {
        Peer::Ipv4(cidr) => cidr.to_string(),
        Peer::Ipv6(cidr) => cidr.clone(),
        Peer::Group(id) => id.clone(),
    };
    match rule.protocol.as_str() {
        "-1" => format!("peer: {peer}, ALL, ALLOW"),
        "icmp" | "icmpv6" => {
            let (protocol, kind, code) = (rule.protocol.to_uppercase(), rule.from_port, rule.to_port);
            format!("peer: {peer}, {protocol}, type: {kind}, code: {code}, ALLOW")
        }
        "tcp" | "udp" => {
            let (protocol, from, to) = (rule.protocol.to_uppercase(), rule.from_port, rule.to_port);
            format!("peer: {peer}, {protocol}, from port: {from}, to port: {to}, ALLOW")
        }
        number => format!("peer: {peer}, {number}, ALLOW"),
    }
}

pub(super) fn revoke_ingress(
    call: &mut Call<'_>,
    input: shape::RevokeSecurityGroupIngressRequest,
) -> Result<shape::RevokeSecurityGroupIngressResult, Fault> {
    let flat = Flat {
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        group_name: input.source_security_group_name,
        group_owner: input.source_security_group_owner_id,
    };
    let group = security_groups::find(call, input.group_id.as_deref(), input.group_name.as_deref())?;
    let wanted = wanted(input.ip_permissions, flat)?;
    let (gone, unknown) = revoke(call, &group, false, wanted, input.security_group_rule_ids)?;
    let answer = shape::RevokeSecurityGroupIngressResult {
        r#return: Some(true),
        unknown_ip_permissions: Some(unknown),
        revoked_security_group_rules: Some(gone),
    };
    unless_dry(input.dry_run, answer)
}

pub(super) fn revoke_egress(
    call: &mut Call<'_>,
    input: shape::RevokeSecurityGroupEgressRequest,
) -> Result<shape::RevokeSecurityGroupEgressResult, Fault> {
    let flat = Flat {
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        group_name: input.source_security_group_name,
        group_owner: input.source_security_group_owner_id,
    };
    let group = security_groups::find(call, input.group_id.as_deref(), None)?;
    let wanted = wanted(input.ip_permissions, flat)?;
    let (gone, unknown) = revoke(call, &group, true, wanted, input.security_group_rule_ids)?;
    let answer = shape::RevokeSecurityGroupEgressResult {
        r#return: Some(true),
        unknown_ip_permissions: Some(unknown),
        revoked_security_group_rules: Some(gone),
    };
    unless_dry(input.dry_run, answer)
}

/// Removes rules by what they permit or by their ids. In the default VPC, a permission that there is not is told and
/// no error; elsewhere it is one ("RevokeSecurityGroupIngress", EC2 API reference).
fn revoke(
    call: &mut Call<'_>,
    group: &Arc<SecurityGroup>,
    egress: bool,
    wanted: Option<Vec<shape::IpPermission>>,
    ids: Option<Vec<String>>,
) -> Result<(Vec<shape::RevokedSecurityGroupRule>, Vec<shape::IpPermission>), Fault> {
    let mut unknown = Vec::new();
    let gone: Vec<&SecurityRule> = match (wanted, ids.filter(|ids| !ids.is_empty())) {
        (Some(_), Some(_)) => {
            return Err(combination(
                "The parameter 'ipPermissions' may not be used in combination with 'securityGroupRuleIds'",
            ));
        }
        (None, None) => {
            let message = "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.";
            return Err(Fault::new("MissingParameter", message));
        }
        (None, Some(ids)) => {
            let of = |id: &String| {
                let found = group.rules.iter().find(|rule| rule.id == *id && rule.egress == egress);
                found.ok_or_else(|| shape::SecurityGroupRule::missing(id))
            };
            ids.iter().map(of).collect::<Result<_, _>>()?
        }
        (Some(wanted), None) => {
            let mut gone = Vec::new();
            for rule in permissions::rules(call, group, egress, wanted)? {
                match group.rules.iter().find(|old| permissions::is_same(old, &rule)) {
                    Some(old) => gone.push(old),
                    None => unknown.push(rule),
                }
            }
            gone
        }
    };
    if !unknown.is_empty() && !vpcs::find(call, &group.vpc_id)?.is_default {
        let message = "The specified rule does not exist in this security group.";
        return Err(Fault::new("InvalidPermission.NotFound", message));
    }
    let mut changed = SecurityGroup::clone(group);
    changed.rules.retain(|rule| !gone.iter().any(|gone| gone.id == rule.id));
    call.tx.put(changed);
    let unknown = permissions::join(&group.scope.account, unknown.iter());
    Ok((gone.into_iter().map(|rule| revoked(group, rule)).collect(), unknown))
}

fn revoked(group: &SecurityGroup, rule: &SecurityRule) -> shape::RevokedSecurityGroupRule {
    let (cidr_ipv4, cidr_ipv6, referenced_group_id) = peer_texts(&rule.peer);
    shape::RevokedSecurityGroupRule {
        security_group_rule_id: Some(rule.id.clone()),
        group_id: Some(group.id.clone()),
        is_egress: Some(rule.egress),
        ip_protocol: Some(rule.protocol.clone()),
        from_port: Some(rule.from_port.into()),
        to_port: Some(rule.to_port.into()),
        cidr_ipv4,
        cidr_ipv6,
        prefix_list_id: None,
        referenced_group_id,
        description: rule.description.clone(),
    }
}

fn peer_texts(peer: &Peer) -> (Option<String>, Option<String>, Option<String>) {
    match peer {
        Peer::Ipv4(cidr) => (Some(cidr.to_string()), None, None),
        Peer::Ipv6(cidr) => (None, Some(cidr.clone()), None),
        Peer::Group(id) => (None, None, Some(id.clone())),
    }
}

fn view(call: &Call<'_>, group: &SecurityGroup, rule: &SecurityRule) -> shape::SecurityGroupRule {
    let (cidr_ipv4, cidr_ipv6, group_id) = peer_texts(&rule.peer);
    let referenced = group_id.map(|id| shape::ReferencedSecurityGroup {
        group_id: Some(id),
        user_id: Some(group.scope.account.clone()),
        ..Default::default()
    });
    shape::SecurityGroupRule {
        security_group_rule_id: Some(rule.id.clone()),
        group_id: Some(group.id.clone()),
        group_owner_id: Some(group.scope.account.clone()),
        is_egress: Some(rule.egress),
        ip_protocol: Some(rule.protocol.clone()),
        from_port: Some(rule.from_port.into()),
        to_port: Some(rule.to_port.into()),
        cidr_ipv4,
        cidr_ipv6,
        prefix_list_id: None,
        referenced_group_info: referenced,
        description: rule.description.clone(),
        tags: tags::shown(&rule.tags),
        security_group_rule_arn: Some(vpcs::arn(call.scope(), "security-group-rule", &rule.id)),
    }
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeSecurityGroupRulesRequest,
) -> Result<shape::DescribeSecurityGroupRulesResult, Fault> {
    let shape::DescribeSecurityGroupRulesRequest {
        filters,
        security_group_rule_ids: ids,
        dry_run,
        next_token,
        max_results,
    } = input;
    let groups = security_groups::all(call);
    let shown =
        groups.iter().flat_map(|group| group.rules.iter().map(|rule| view(call, group, rule))).collect();
    let (rules, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    let answer = shape::DescribeSecurityGroupRulesResult { security_group_rules: Some(rules), next_token };
    unless_dry(dry_run, answer)
}

/// The group and position of a rule.
pub(super) fn find(call: &Call<'_>, id: &str) -> Result<(String, usize), Fault> {
    let place = |group: Arc<SecurityGroup>| {
        let at = group.rules.iter().position(|rule| rule.id == id)?;
        Some((group.key(), at))
    };
    let found = security_groups::all(call).into_iter().find_map(place);
    found.ok_or_else(|| shape::SecurityGroupRule::missing(id))
}

impl Listed for shape::SecurityGroupRule {
    const IDS: &'static str = "securityGroupRuleIds";
    fn id(&self) -> &str {
        self.security_group_rule_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        let message = format!("The security group rule ID '{id}' does not exist");
        Fault::new("InvalidSecurityGroupRuleId.NotFound", message)
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        match filter {
            "group-id" => one(&self.group_id),
            "security-group-rule-id" => one(&self.security_group_rule_id),
            _ => None,
        }
    }
}
