//! Attributes of VPCs, of subnets and of the account.

use state::ec2::{Subnet, Vpc};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{combination, invalid, missing, refuse, unless_dry, unsupported};
use super::{subnets, vpcs};
use crate::Call;

fn boolean(value: bool) -> Option<shape::AttributeBooleanValue> {
    Some(shape::AttributeBooleanValue { value: Some(value) })
}

/// Whether a switch of a Modify request is turned on.
fn is_on(given: &Option<shape::AttributeBooleanValue>) -> bool {
    given.as_ref().is_some_and(|given| given.value == Some(true))
}

pub(super) fn describe_vpc(
    call: &mut Call<'_>,
    input: shape::DescribeVpcAttributeRequest,
) -> Result<shape::DescribeVpcAttributeResult, Fault> {
    let vpc = vpcs::find(call, input.vpc_id.as_deref().unwrap_or_default())?;
    let mut answer = shape::DescribeVpcAttributeResult { vpc_id: Some(vpc.id.clone()), ..Default::default() };
    match input.attribute.as_deref().unwrap_or_default() {
        "enableDnsSupport" => answer.enable_dns_support = boolean(vpc.dns_support),
        "enableDnsHostnames" => answer.enable_dns_hostnames = boolean(vpc.dns_hostnames),
        "enableNetworkAddressUsageMetrics" => answer.enable_network_address_usage_metrics = boolean(false),
        other => {
            return Err(invalid(format!(
                "Value ({other}) for parameter attribute is invalid. Unknown attribute."
            )));
        }
    }
    unless_dry(input.dry_run, answer)
}

pub(super) fn modify_vpc(call: &mut Call<'_>, input: shape::ModifyVpcAttributeRequest) -> Result<(), Fault> {
    let mut vpc = Vpc::clone(&*vpcs::find(call, input.vpc_id.as_deref().unwrap_or_default())?);
    let metrics = input.enable_network_address_usage_metrics;
    match (&input.enable_dns_support, &input.enable_dns_hostnames, &metrics) {
        (None, None, None) => {
            return Err(missing("EnableDnsSupport, EnableDnsHostnames or EnableNetworkAddressUsageMetrics"));
        }
        (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_)) => {}
        _ => return Err(combination("Fields for multiple attribute types specified")),
    }
    // Tasks always resolve names by the VPC's server.
    if input.enable_dns_support.is_some_and(|given| given.value == Some(false)) {
        return Err(unsupported("EnableDnsSupport=false"));
    }
    if is_on(&metrics) {
        return Err(unsupported("EnableNetworkAddressUsageMetrics"));
    }
    if let Some(value) = input.enable_dns_hostnames.and_then(|given| given.value) {
        vpc.dns_hostnames = value;
    }
    call.tx.put(vpc);
    Ok(())
}

pub(super) fn modify_subnet(
    call: &mut Call<'_>,
    input: shape::ModifySubnetAttributeRequest,
) -> Result<(), Fault> {
    let mut subnet = Subnet::clone(&*subnets::find(call, input.subnet_id.as_deref().unwrap_or_default())?);
    let switches = [
        (&input.assign_ipv6_address_on_creation, "AssignIpv6AddressOnCreation"),
        (&input.map_customer_owned_ip_on_launch, "MapCustomerOwnedIpOnLaunch"),
        (&input.enable_dns64, "EnableDns64"),
        (&input.enable_resource_name_dns_a_record_on_launch, "EnableResourceNameDnsARecordOnLaunch"),
        (&input.enable_resource_name_dns_aaaa_record_on_launch, "EnableResourceNameDnsAAAARecordOnLaunch"),
    ];
    if let Some((_, name)) = switches.into_iter().find(|(given, _)| is_on(given)) {
        return Err(unsupported(name));
    }
    refuse(&input.customer_owned_ipv4_pool, "CustomerOwnedIpv4Pool")?;
    refuse(&input.enable_lni_at_device_index, "EnableLniAtDeviceIndex")?;
    refuse(&input.disable_lni_at_device_index, "DisableLniAtDeviceIndex")?;
    if input.private_dns_hostname_type_on_launch.as_deref().is_some_and(|kind| kind != "ip-name") {
        return Err(unsupported("PrivateDnsHostnameTypeOnLaunch"));
    }
    if let Some(value) = input.map_public_ip_on_launch.and_then(|given| given.value) {
        subnet.map_public_ip = value;
    }
    call.tx.put(subnet);
    Ok(())
}

pub(super) fn describe_account(
    call: &mut Call<'_>,
    input: shape::DescribeAccountAttributesRequest,
) -> Result<shape::DescribeAccountAttributesResult, Fault> {
    let default_vpc = vpcs::default(call).map_or("none".to_owned(), |vpc| vpc.id.clone());
    // There are no instances to run and no elastic addresses to give.
    let all = [
        ("supported-platforms", "VPC"),
        ("vpc-max-security-groups-per-interface", "5"),
        ("max-elastic-ips", "0"),
        ("max-instances", "0"),
        ("vpc-max-elastic-ips", "0"),
        ("default-vpc", &default_vpc),
    ];
    let wanted = input.attribute_names.unwrap_or_default();
    if let Some(unknown) = wanted.iter().find(|name| !all.iter().any(|(known, _)| known == *name)) {
        return Err(invalid(format!("Value ({unknown}) for parameter attributeName is invalid.")));
    }
    let shown = all.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name));
    let shown = shown.map(|(name, value)| shape::AccountAttribute {
        attribute_name: Some(name.into()),
        attribute_values: Some(vec![shape::AccountAttributeValue { attribute_value: Some(value.into()) }]),
    });
    let answer = shape::DescribeAccountAttributesResult { account_attributes: Some(shown.collect()) };
    unless_dry(input.dry_run, answer)
}
