//! VPCs. Those of one machine share its routes, so none may overlap another or a network of the host.

use std::sync::Arc;

use state::Scope;
use state::ec2::{Cidr, SecurityGroup, Subnet, Vpc};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{dependency, invalid, missing, refuse, refuse_on, unless_dry, unsupported};
use super::list::{Asked, Listed, flag, list, one};
use super::tags;
use crate::Call;

/// The VPC of an id.
pub(super) fn find(call: &Call<'_>, id: &str) -> Result<Arc<Vpc>, Fault> {
    call.tx.get::<Vpc>(&call.scope().key(id)).ok_or_else(|| shape::Vpc::missing(id))
}

/// The caller's VPCs.
pub(super) fn all(call: &Call<'_>) -> Vec<Arc<Vpc>> {
    call.tx.table::<Vpc>().scan(&call.scope().prefix()).map(|(_, vpc)| vpc.clone()).collect()
}

/// The caller's default VPC.
pub(super) fn default(call: &Call<'_>) -> Result<Arc<Vpc>, Fault> {
    let none = || Fault::new("VPCIdNotSpecified", "No default VPC for this user");
    all(call).into_iter().find(|vpc| vpc.is_default).ok_or_else(none)
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeVpcsRequest,
) -> Result<shape::DescribeVpcsResult, Fault> {
    let shape::DescribeVpcsRequest { filters, vpc_ids: ids, next_token, max_results, dry_run } = input;
    let shown = all(call).iter().map(|vpc| view(vpc)).collect();
    let (vpcs, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    unless_dry(dry_run, shape::DescribeVpcsResult { next_token, vpcs: Some(vpcs) })
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateVpcRequest,
) -> Result<shape::CreateVpcResult, Fault> {
    refuse(&input.ipv6_pool, "Ipv6Pool")?;
    refuse(&input.ipv6_cidr_block, "Ipv6CidrBlock")?;
    refuse(&input.ipv4_ipam_pool_id, "Ipv4IpamPoolId")?;
    refuse(&input.ipv4_netmask_length, "Ipv4NetmaskLength")?;
    refuse(&input.ipv6_ipam_pool_id, "Ipv6IpamPoolId")?;
    refuse(&input.ipv6_netmask_length, "Ipv6NetmaskLength")?;
    refuse(&input.ipv6_cidr_block_network_border_group, "Ipv6CidrBlockNetworkBorderGroup")?;
    refuse(&input.vpc_encryption_control, "VpcEncryptionControl")?;
    refuse_on(input.amazon_provided_ipv6_cidr_block, "AmazonProvidedIpv6CidrBlock")?;
    if input.instance_tenancy.as_deref().is_some_and(|tenancy| tenancy != "default") {
        return Err(unsupported("InstanceTenancy"));
    }
    let cidr = parse_cidr(&input.cidr_block.ok_or_else(|| missing("cidrBlock"))?)?;
    check_network(call, cidr)?;
    let vpc = Vpc {
        scope: call.scope().clone(),
        id: format!("vpc-{}", call.ids.hex(17)),
        cidr,
        is_default: false,
        dns_hostnames: false,
        dns_support: true,
        tags: tags::given(input.tag_specifications, "vpc")?,
    };
    let scope = call.scope().clone();
    plan::network::put_default_security_group(call.tx, call.ids, &scope, &vpc.id, call.now_ms);
    let shown = view(&vpc);
    call.tx.put(vpc);
    unless_dry(input.dry_run, shape::CreateVpcResult { vpc: Some(shown) })
}

/// A network as EC2 reads one: bits behind the prefix are cleared.
pub(super) fn parse_cidr(text: &str) -> Result<Cidr, Fault> {
    let canonical = || {
        let (base, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let mask = Cidr { base: std::net::Ipv4Addr::UNSPECIFIED, prefix }.mask();
        let base: std::net::Ipv4Addr = base.parse().ok()?;
        Some(Cidr { base: std::net::Ipv4Addr::from(u32::from(base) & mask), prefix })
    };
    canonical().ok_or_else(|| {
        invalid(format!("Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block."))
    })
}

fn check_network(call: &Call<'_>, cidr: Cidr) -> Result<(), Fault> {
    let range =
        |why: &str| Err(Fault::new("InvalidVpc.Range", format!("The CIDR '{cidr}' is invalid{why}.")));
    if !(16..=28).contains(&cidr.prefix) {
        return range("");
    }
    if let Some(host) = call.site.host_networks.iter().find(|host| host.overlaps(cidr)) {
        return range(&format!(
            ": it overlaps the network {host} of this machine, whose routes all VPCs share"
        ));
    }
    let mut others = call.tx.table::<Vpc>().iter().map(|(_, vpc)| vpc);
    let Some(other) = others.find(|other| other.cidr.overlaps(cidr)) else { return Ok(()) };
    let of = if other.scope == *call.scope() {
        format!("VPC {}", other.id)
    } else {
        "a VPC of another account or region".to_owned()
    };
    range(&format!(
        ": it overlaps the network {} of {of}, and all VPCs of a machine share its routes",
        other.cidr
    ))
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteVpcRequest) -> Result<(), Fault> {
    let vpc = find(call, input.vpc_id.as_deref().unwrap_or_default())?;
    let groups: Vec<Arc<SecurityGroup>> =
        call.tx.table::<SecurityGroup>().by_index("vpc", &vpc.id).cloned().collect();
    let has_subnets = call.tx.table::<Subnet>().by_index("vpc", &vpc.id).next().is_some();
    if has_subnets || groups.iter().any(|group| group.name != "default") {
        return Err(dependency(format!("The vpc '{}' has dependencies and cannot be deleted.", vpc.id)));
    }
    for group in groups {
        call.tx.delete::<SecurityGroup>(&state::Record::key(&*group));
    }
    call.tx.delete::<Vpc>(&state::Record::key(&*vpc));
    unless_dry(input.dry_run, ())
}

fn view(vpc: &Vpc) -> shape::Vpc {
    let state = shape::VpcCidrBlockState { state: Some("associated".into()), status_message: None };
    let association = shape::VpcCidrBlockAssociation {
        association_id: Some(derived("vpc-cidr-assoc", &vpc.id)),
        cidr_block: Some(vpc.cidr.to_string()),
        cidr_block_state: Some(state),
    };
    shape::Vpc {
        owner_id: Some(vpc.scope.account.clone()),
        instance_tenancy: Some("default".into()),
        cidr_block_association_set: Some(vec![association]),
        ipv6_cidr_block_association_set: None,
        is_default: Some(vpc.is_default),
        tags: tags::shown(&vpc.tags),
        vpc_id: Some(vpc.id.clone()),
        state: Some("available".into()),
        cidr_block: Some(vpc.cidr.to_string()),
        // What EC2 shows for a VPC that no set of DHCP options was given to.
        dhcp_options_id: Some("default".into()),
        ..Default::default()
    }
}

/// The id of what there is one of per VPC (or subnet): `rtb-…` with the digits of `vpc-…`.
pub(super) fn derived(kind: &str, id: &str) -> String {
    format!("{kind}-{}", id.rsplit('-').next().unwrap_or_default())
}

/// `arn:aws:ec2:…`.
pub(super) fn arn(scope: &Scope, kind: &str, id: &str) -> String {
    scope.arn("ec2", &format!("{kind}/{id}"))
}

impl Listed for shape::Vpc {
    const IDS: &'static str = "vpcIds";
    fn id(&self) -> &str {
        self.vpc_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        let association = self.cidr_block_association_set.as_deref().unwrap_or_default().first();
        match filter {
            "vpc-id" => one(&self.vpc_id),
            "cidr" | "cidrBlock" | "cidr-block-association.cidr-block" => one(&self.cidr_block),
            "cidr-block-association.association-id" => {
                one(&association.and_then(|a| a.association_id.clone()))
            }
            "cidr-block-association.state" => one(&association.map(|_| "associated".into())),
            "dhcp-options-id" => one(&self.dhcp_options_id),
            "is-default" | "isDefault" => flag(self.is_default),
            "owner-id" => one(&self.owner_id),
            "state" => one(&self.state),
            "ipv6-cidr-block-association.ipv6-cidr-block"
            | "ipv6-cidr-block-association.ipv6-pool"
            | "ipv6-cidr-block-association.association-id"
            | "ipv6-cidr-block-association.state" => Some(Vec::new()),
            _ => None,
        }
    }
}
