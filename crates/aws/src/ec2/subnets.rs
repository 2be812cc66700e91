//! Subnets.

use std::sync::Arc;

use state::ec2::{Cidr, Subnet, Vpc};
use state::elb::LoadBalancer;
use state::{ContainerGroup, Record};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{combination, dependency, invalid, missing, refuse, refuse_on, unless_dry};
use super::list::{Asked, Listed, flag, list, number, one};
use super::{tags, vpcs, zones};
use crate::Call;

/// The subnet of an id.
pub(super) fn find(call: &Call<'_>, id: &str) -> Result<Arc<Subnet>, Fault> {
    call.tx.get::<Subnet>(&call.scope().key(id)).ok_or_else(|| shape::Subnet::missing(id))
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeSubnetsRequest,
) -> Result<shape::DescribeSubnetsResult, Fault> {
    let shape::DescribeSubnetsRequest { filters, subnet_ids: ids, next_token, max_results, dry_run } = input;
    let prefix = call.scope().prefix();
    let shown = call.tx.table::<Subnet>().scan(&prefix).map(|(_, subnet)| view(call, subnet)).collect();
    let (subnets, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    unless_dry(dry_run, shape::DescribeSubnetsResult { next_token, subnets: Some(subnets) })
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateSubnetRequest,
) -> Result<shape::CreateSubnetResult, Fault> {
    refuse(&input.ipv6_cidr_block, "Ipv6CidrBlock")?;
    refuse(&input.outpost_arn, "OutpostArn")?;
    refuse_on(input.ipv6_native, "Ipv6Native")?;
    refuse(&input.ipv4_ipam_pool_id, "Ipv4IpamPoolId")?;
    refuse(&input.ipv4_netmask_length, "Ipv4NetmaskLength")?;
    refuse(&input.ipv6_ipam_pool_id, "Ipv6IpamPoolId")?;
    refuse(&input.ipv6_netmask_length, "Ipv6NetmaskLength")?;
    let vpc = vpcs::find(call, input.vpc_id.as_deref().unwrap_or_default())?;
    let cidr = vpcs::parse_cidr(&input.cidr_block.ok_or_else(|| missing("cidrBlock"))?)?;
    check_network(call, &vpc, cidr)?;
    let subnet = Subnet {
        scope: call.scope().clone(),
        id: format!("subnet-{}", call.ids.hex(17)),
        vpc_id: vpc.id.clone(),
        cidr,
        availability_zone: zone(call, &vpc, input.availability_zone, input.availability_zone_id)?,
        default_for_az: false,
        map_public_ip: false,
        next_host: 0,
        tags: tags::given(input.tag_specifications, "subnet")?,
    };
    let shown = view(call, &subnet);
    call.tx.put(subnet);
    unless_dry(input.dry_run, shape::CreateSubnetResult { subnet: Some(shown) })
}

fn check_network(call: &Call<'_>, vpc: &Vpc, cidr: Cidr) -> Result<(), Fault> {
    let inside = cidr.prefix >= vpc.cidr.prefix && vpc.cidr.contains(cidr.base);
    if !inside || !(16..=28).contains(&cidr.prefix) {
        return Err(Fault::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid.")));
    }
    if call.tx.table::<Subnet>().by_index("vpc", &vpc.id).any(|other| other.cidr.overlaps(cidr)) {
        let message = format!("The CIDR '{cidr}' conflicts with another subnet");
        return Err(Fault::new("InvalidSubnet.Conflict", message));
    }
    Ok(())
}

/// The zone asked for, or that with the fewest subnets of the VPC.
fn zone(call: &Call<'_>, vpc: &Vpc, name: Option<String>, id: Option<String>) -> Result<String, Fault> {
    let region = &call.scope().region;
    let names = zones::names(region);
    let listed = |ids: Vec<String>, given: &str, parameter: &str| {
        invalid(format!(
            "Value ({given}) for parameter {parameter} is invalid. Subnets can currently only be created in the \
             following availability zones: {}.",
            ids.join(", ")
        ))
    };
    match (name, id) {
        (Some(_), Some(_)) => {
            Err(combination("The parameters availabilityZone and availabilityZoneId cannot be used together"))
        }
        (Some(name), None) if names.contains(&name) => Ok(name),
        (Some(name), None) => Err(listed(names.to_vec(), &name, "availabilityZone")),
        (None, Some(id)) => {
            let ids: Vec<String> = names.iter().map(|name| zones::id(name)).collect();
            let at = ids.iter().position(|known| *known == id);
            at.map(|at| names[at].clone()).ok_or_else(|| listed(ids, &id, "availabilityZoneId"))
        }
        (None, None) => {
            let subnets = |zone: &String| {
                call.tx
                    .table::<Subnet>()
                    .by_index("vpc", &vpc.id)
                    .filter(|s| s.availability_zone == *zone)
                    .count()
            };
            let emptiest = names.iter().min_by_key(|zone| subnets(zone));
            Ok(emptiest.cloned().unwrap_or_default())
        }
    }
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteSubnetRequest) -> Result<(), Fault> {
    let subnet = find(call, input.subnet_id.as_deref().unwrap_or_default())?;
    let has_tasks = call.tx.table::<ContainerGroup>().by_index("subnet", &subnet.id).next().is_some();
    let has_balancers = call.tx.table::<LoadBalancer>().iter().any(|(_, b)| b.subnets.contains(&subnet.id));
    if has_tasks || has_balancers {
        let message = format!("The subnet '{}' has dependencies and cannot be deleted.", subnet.id);
        return Err(dependency(message));
    }
    call.tx.delete::<Subnet>(&subnet.key());
    unless_dry(input.dry_run, ())
}

fn view(call: &Call<'_>, subnet: &Subnet) -> shape::Subnet {
    let free = plan::network::free_addresses(call.tx.snapshot(), subnet);
    let dns = shape::PrivateDnsNameOptionsOnLaunch {
        hostname_type: Some("ip-name".into()),
        enable_resource_name_dns_a_record: Some(false),
        enable_resource_name_dns_aaaa_record: Some(false),
    };
    shape::Subnet {
        availability_zone_id: Some(zones::id(&subnet.availability_zone)),
        map_customer_owned_ip_on_launch: Some(false),
        owner_id: Some(subnet.scope.account.clone()),
        assign_ipv6_address_on_creation: Some(false),
        ipv6_cidr_block_association_set: Some(Vec::new()),
        tags: tags::shown(&subnet.tags),
        subnet_arn: Some(subnet.arn()),
        enable_dns64: Some(false),
        ipv6_native: Some(false),
        private_dns_name_options_on_launch: Some(dns),
        subnet_id: Some(subnet.id.clone()),
        state: Some("available".into()),
        vpc_id: Some(subnet.vpc_id.clone()),
        cidr_block: Some(subnet.cidr.to_string()),
        available_ip_address_count: Some(free as i64),
        availability_zone: Some(subnet.availability_zone.clone()),
        default_for_az: Some(subnet.default_for_az),
        map_public_ip_on_launch: Some(subnet.map_public_ip),
        ..Default::default()
    }
}

impl Listed for shape::Subnet {
    const IDS: &'static str = "subnetIds";
    fn id(&self) -> &str {
        self.subnet_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        match filter {
            "subnet-id" => one(&self.subnet_id),
            "subnet-arn" => one(&self.subnet_arn),
            "vpc-id" => one(&self.vpc_id),
            "availability-zone" | "availabilityZone" => one(&self.availability_zone),
            "availability-zone-id" | "availabilityZoneId" => one(&self.availability_zone_id),
            "available-ip-address-count" => number(self.available_ip_address_count),
            "cidr-block" | "cidr" | "cidrBlock" => one(&self.cidr_block),
            "default-for-az" | "defaultForAz" => flag(self.default_for_az),
            "map-public-ip-on-launch" => flag(self.map_public_ip_on_launch),
            "owner-id" => one(&self.owner_id),
            "state" => one(&self.state),
            "ipv6-native" => flag(self.ipv6_native),
            "enable-dns64" => flag(self.enable_dns64),
            "map-customer-owned-ip-on-launch" => flag(self.map_customer_owned_ip_on_launch),
            "private-dns-name-options-on-launch.hostname-type" => {
                one(&self.private_dns_name_options_on_launch.as_ref().and_then(|o| o.hostname_type.clone()))
            }
            "customer-owned-ipv4-pool"
            | "enable-lni-at-device-index"
            | "ipv6-cidr-block-association.ipv6-cidr-block"
            | "ipv6-cidr-block-association.association-id"
            | "ipv6-cidr-block-association.state"
            | "outpost-arn" => Some(Vec::new()),
            _ => None,
        }
    }
}
