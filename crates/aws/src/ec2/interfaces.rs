//! Network interfaces: a view of the addresses that tasks and load balancers hold.

use state::ContainerGroup;
use state::ec2::{SecurityGroup, Subnet};
use state::elb::LoadBalancer;
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::unless_dry;
use super::list::{Asked, Listed, flag, list, one};
use super::zones;
use crate::Call;

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeNetworkInterfacesRequest,
) -> Result<shape::DescribeNetworkInterfacesResult, Fault> {
    // Each interface here is one of a service, and EC2 shows those whether they are asked for or not.
    let shape::DescribeNetworkInterfacesRequest {
        next_token,
        max_results,
        include_managed_resources: _,
        dry_run,
        network_interface_ids: ids,
        filters,
    } = input;
    let prefix = call.scope().prefix();
    let tasks = call.tx.table::<ContainerGroup>().scan(&prefix).filter(|(_, group)| !group.is_stopped());
    let mut shown: Vec<shape::NetworkInterface> =
        tasks.filter_map(|(_, group)| of_task(call, group)).collect();
    let balancers = call.tx.table::<LoadBalancer>().iter().map(|(_, balancer)| balancer);
    let balancers = balancers.filter(|balancer| balancer.scope == *call.scope());
    shown.extend(balancers.filter_map(|balancer| of_balancer(call, balancer)));
    let (interfaces, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    let answer = shape::DescribeNetworkInterfacesResult { network_interfaces: Some(interfaces), next_token };
    unless_dry(dry_run, answer)
}

fn of_task(call: &Call<'_>, group: &ContainerGroup) -> Option<shape::NetworkInterface> {
    let held = group.attachment()?;
    let mut shown = common(call, &held.subnet_id, held.private_ip, &group.task().security_groups)?;
    shown.network_interface_id = Some(held.eni_id.clone());
    shown.mac_address = Some(held.mac.clone());
    shown.description = Some(group.scope.arn("ecs", &format!("attachment/{}", held.id)));
    shown.attachment = Some(shape::NetworkInterfaceAttachment {
        attach_time: Some(group.created_at_ms),
        attachment_id: Some(format!("eni-attach-{}", held.id.replace('-', "").get(..17)?)),
        delete_on_termination: Some(true),
        device_index: Some(1),
        network_card_index: Some(0),
        status: Some("attached".into()),
        instance_owner_id: Some(group.scope.account.clone()),
        ..Default::default()
    });
    Some(shown)
}

/// The one interface of a load balancer, in its first subnet.
fn of_balancer(call: &Call<'_>, balancer: &LoadBalancer) -> Option<shape::NetworkInterface> {
    let subnet = balancer.subnets.first()?;
    let resource = balancer.arn.split_once(":loadbalancer/")?.1;
    let id = resource.rsplit('/').next()?;
    let mut shown = common(call, subnet, balancer.address, &balancer.security_groups)?;
    shown.network_interface_id = Some(format!("eni-0{id}"));
    shown.description = Some(format!("ELB {resource}"));
    shown.requester_id = Some("amazon-elb".into());
    shown.requester_managed = Some(true);
    shown.attachment = Some(shape::NetworkInterfaceAttachment {
        attach_time: Some(balancer.created_at_ms),
        attachment_id: Some(format!("eni-attach-0{id}")),
        delete_on_termination: Some(false),
        device_index: Some(1),
        network_card_index: Some(0),
        status: Some("attached".into()),
        instance_owner_id: Some("amazon-elb".into()),
        ..Default::default()
    });
    Some(shown)
}

fn common(
    call: &Call<'_>,
    subnet_id: &str,
    address: std::net::Ipv4Addr,
    groups: &[String],
) -> Option<shape::NetworkInterface> {
    let subnet = call.tx.table::<Subnet>().by_index("id", subnet_id).next()?;
    let names = groups.iter().map(|id| shape::GroupIdentifier {
        group_id: Some(id.clone()),
        group_name: call
            .tx
            .table::<SecurityGroup>()
            .by_index("id", id)
            .next()
            .map(|group| group.name.clone()),
    });
    let address = address.to_string();
    Some(shape::NetworkInterface {
        availability_zone: Some(subnet.availability_zone.clone()),
        availability_zone_id: Some(zones::id(&subnet.availability_zone)),
        groups: Some(names.collect()),
        interface_type: Some("interface".into()),
        ipv6_addresses: Some(Vec::new()),
        owner_id: Some(subnet.scope.account.clone()),
        private_ip_address: Some(address.clone()),
        private_ip_addresses: Some(vec![shape::NetworkInterfacePrivateIpAddress {
            primary: Some(true),
            private_ip_address: Some(address),
            ..Default::default()
        }]),
        requester_managed: Some(false),
        source_dest_check: Some(true),
        status: Some("in-use".into()),
        subnet_id: Some(subnet.id.clone()),
        tag_set: Some(Vec::new()),
        vpc_id: Some(subnet.vpc_id.clone()),
        ..Default::default()
    })
}

impl Listed for shape::NetworkInterface {
    const IDS: &'static str = "networkInterfaceIds";
    fn id(&self) -> &str {
        self.network_interface_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        let message = format!("The networkInterface ID '{id}' does not exist");
        Fault::new("InvalidNetworkInterfaceID.NotFound", message)
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tag_set.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        let groups = self.groups.as_deref().unwrap_or_default();
        let attachment = self.attachment.clone().unwrap_or_default();
        match filter {
            "network-interface-id" => one(&self.network_interface_id),
            "subnet-id" => one(&self.subnet_id),
            "vpc-id" => one(&self.vpc_id),
            "availability-zone" => one(&self.availability_zone),
            "availability-zone-id" => one(&self.availability_zone_id),
            "description" => one(&self.description),
            "group-id" => Some(groups.iter().filter_map(|group| group.group_id.clone()).collect()),
            "group-name" => Some(groups.iter().filter_map(|group| group.group_name.clone()).collect()),
            "interface-type" => one(&self.interface_type),
            "mac-address" => one(&self.mac_address),
            "owner-id" => one(&self.owner_id),
            "private-ip-address" | "addresses.private-ip-address" => one(&self.private_ip_address),
            "addresses.primary" => flag(self.private_ip_address.as_ref().map(|_| true)),
            "requester-id" => one(&self.requester_id),
            "requester-managed" => flag(self.requester_managed),
            "source-dest-check" => flag(self.source_dest_check),
            "status" => one(&self.status),
            "attachment.attachment-id" => one(&attachment.attachment_id),
            "attachment.delete-on-termination" => flag(attachment.delete_on_termination),
            "attachment.instance-id" => one(&attachment.instance_id),
            "attachment.instance-owner-id" => one(&attachment.instance_owner_id),
            "attachment.status" => one(&attachment.status),
            "attachment.device-index" => super::list::number(attachment.device_index),
            "private-dns-name"
            | "addresses.association.public-ip"
            | "addresses.association.owner-id"
            | "association.association-id"
            | "association.allocation-id"
            | "association.ip-owner-id"
            | "association.public-ip"
            | "association.public-dns-name"
            | "ipv6-addresses.ipv6-address" => Some(Vec::new()),
            _ => None,
        }
    }
}
