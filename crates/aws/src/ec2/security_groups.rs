//! Security groups. Each task's network interface is filtered by the rules of its groups.

use std::sync::Arc;

use state::ec2::{Cidr, Peer, SecurityGroup, SecurityRule};
use state::elb::LoadBalancer;
use state::{ContainerGroup, Record};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{dependency, invalid, missing, unless_dry};
use super::list::{Asked, Listed, list, one};
use super::{permissions, tags, vpcs};
use crate::Call;

/// The caller's security groups.
pub(super) fn all(call: &Call<'_>) -> Vec<Arc<SecurityGroup>> {
    call.tx.table::<SecurityGroup>().scan(&call.scope().prefix()).map(|(_, group)| group.clone()).collect()
}

/// A group by its id, or by its name in the default VPC.
pub(super) fn find(
    call: &Call<'_>,
    id: Option<&str>,
    name: Option<&str>,
) -> Result<Arc<SecurityGroup>, Fault> {
    match (id, name) {
        (Some(id), _) => by_id(call, id),
        (None, Some(name)) => by_name(call, name),
        (None, None) => Err(missing("GroupName or GroupId")),
    }
}

pub(super) fn by_id(call: &Call<'_>, id: &str) -> Result<Arc<SecurityGroup>, Fault> {
    if !id.starts_with("sg-") {
        let message = format!("Invalid id: \"{id}\" (expecting \"sg-...\")");
        return Err(Fault::new("InvalidGroupId.Malformed", message));
    }
    call.tx.get::<SecurityGroup>(&call.scope().key(id)).ok_or_else(|| shape::SecurityGroup::missing(id))
}

fn by_name(call: &Call<'_>, name: &str) -> Result<Arc<SecurityGroup>, Fault> {
    let vpc = vpcs::default(call)?;
    let table = call.tx.table::<SecurityGroup>();
    table.by_index("vpc", &vpc.id).find(|group| group.name == name).cloned().ok_or_else(|| {
        let message = format!("The security group '{name}' does not exist in default VPC '{}'", vpc.id);
        Fault::new("InvalidGroup.NotFound", message)
    })
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeSecurityGroupsRequest,
) -> Result<shape::DescribeSecurityGroupsResult, Fault> {
    let shape::DescribeSecurityGroupsRequest {
        group_ids,
        group_names,
        next_token,
        max_results,
        dry_run,
        filters,
    } = input;
    let mut ids = Vec::new();
    for id in group_ids.unwrap_or_default() {
        ids.push(by_id(call, &id)?.id.clone());
    }
    for name in group_names.unwrap_or_default() {
        ids.push(by_name(call, &name)?.id.clone());
    }
    let shown = all(call).iter().map(|group| view(group)).collect();
    let asked = Asked { ids: Some(ids), filters, max_results, next_token };
    let (groups, next_token) = list(shown, asked)?;
    unless_dry(dry_run, shape::DescribeSecurityGroupsResult { next_token, security_groups: Some(groups) })
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateSecurityGroupRequest,
) -> Result<shape::CreateSecurityGroupResult, Fault> {
    let name = input.group_name.unwrap_or_default();
    let description = input.description.unwrap_or_default();
    check_text("GroupName", &name)?;
    check_text("GroupDescription", &description)?;
    if name.starts_with("sg-") {
        return Err(invalid("Invalid group name. Group names may not be in the format sg-*"));
    }
    if name == "default" {
        return Err(invalid("Cannot use reserved security group name: default"));
    }
    let vpc = match &input.vpc_id {
        Some(id) => vpcs::find(call, id)?,
        None => vpcs::default(call)?,
    };
    if call.tx.table::<SecurityGroup>().by_index("vpc", &vpc.id).any(|group| group.name == name) {
        let message = format!("The security group '{name}' already exists for VPC '{}'", vpc.id);
        return Err(Fault::new("InvalidGroup.Duplicate", message));
    }
    let anywhere = Cidr { base: std::net::Ipv4Addr::UNSPECIFIED, prefix: 0 };
    let everything_out = SecurityRule {
        id: format!("sgr-{}", call.ids.hex(17)),
        egress: true,
        protocol: "-1".into(),
        from_port: -1,
        to_port: -1,
        peer: Peer::Ipv4(anywhere),
        description: None,
        tags: Vec::new(),
    };
    let group = SecurityGroup {
        scope: call.scope().clone(),
        id: format!("sg-{}", call.ids.hex(17)),
        name,
        description,
        vpc_id: vpc.id.clone(),
        rules: vec![everything_out],
        tags: tags::given(input.tag_specifications, "security-group")?,
        created_at_ms: call.now_ms,
    };
    let answer = shape::CreateSecurityGroupResult {
        group_id: Some(group.id.clone()),
        tags: tags::shown(&group.tags),
        security_group_arn: Some(vpcs::arn(&group.scope, "security-group", &group.id)),
    };
    call.tx.put(group);
    unless_dry(input.dry_run, answer)
}

/// What a name or a description may hold ("CreateSecurityGroup", EC2 API reference).
fn check_text(parameter: &str, text: &str) -> Result<(), Fault> {
    let fails =
        |why: String| Err(invalid(format!("Value ({text}) for parameter {parameter} is invalid. {why}")));
    if text.is_empty() {
        return fails("The value cannot be empty".into());
    }
    if text.chars().count() > 255 {
        return fails("The value cannot be longer than 255 characters".into());
    }
    if !text.is_ascii() {
        return fails("Character sets beyond ASCII are not supported.".into());
    }
    if let Some(other) =
        text.chars().find(|c| !c.is_ascii_alphanumeric() && !" ._-:/()#,@[]+=&;{}!$*".contains(*c))
    {
        return fails(format!(
            "Invalid character '{other}'. Valid are a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{{}}!$*"
        ));
    }
    Ok(())
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteSecurityGroupRequest,
) -> Result<shape::DeleteSecurityGroupResult, Fault> {
    let group = find(call, input.group_id.as_deref(), input.group_name.as_deref())?;
    if group.name == "default" {
        let message =
            format!("the specified group: \"{}\" name: \"default\" cannot be deleted by a user", group.id);
        return Err(Fault::new("CannotDelete", message));
    }
    let by_group = Peer::Group(group.id.clone());
    let used = call.tx.table::<ContainerGroup>().by_index("security-group", &group.id).next().is_some()
        || call.tx.table::<LoadBalancer>().iter().any(|(_, b)| b.security_groups.contains(&group.id))
        || all(call)
            .iter()
            .any(|other| other.id != group.id && other.rules.iter().any(|r| r.peer == by_group));
    if used {
        return Err(dependency(format!("resource {} has a dependent object", group.id)));
    }
    call.tx.delete::<SecurityGroup>(&group.key());
    let answer = shape::DeleteSecurityGroupResult { r#return: Some(true), group_id: Some(group.id.clone()) };
    unless_dry(input.dry_run, answer)
}

fn view(group: &SecurityGroup) -> shape::SecurityGroup {
    shape::SecurityGroup {
        group_id: Some(group.id.clone()),
        ip_permissions_egress: Some(permissions::shown(group, true)),
        tags: tags::shown(&group.tags),
        vpc_id: Some(group.vpc_id.clone()),
        security_group_arn: Some(vpcs::arn(&group.scope, "security-group", &group.id)),
        owner_id: Some(group.scope.account.clone()),
        group_name: Some(group.name.clone()),
        description: Some(group.description.clone()),
        ip_permissions: Some(permissions::shown(group, false)),
    }
}

impl Listed for shape::SecurityGroup {
    const IDS: &'static str = "groupIds";
    fn id(&self) -> &str {
        self.group_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        if let Some(rest) = filter.strip_prefix("egress.ip-permission.") {
            return permissions::values(self.ip_permissions_egress.as_deref().unwrap_or_default(), rest);
        }
        if let Some(rest) = filter.strip_prefix("ip-permission.") {
            return permissions::values(self.ip_permissions.as_deref().unwrap_or_default(), rest);
        }
        match filter {
            "group-id" => one(&self.group_id),
            "group-name" => one(&self.group_name),
            "description" => one(&self.description),
            "owner-id" => one(&self.owner_id),
            "vpc-id" => one(&self.vpc_id),
            _ => None,
        }
    }
}
