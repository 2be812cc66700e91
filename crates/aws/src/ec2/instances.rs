//! Instances: a view of the nodes. Each stands in for one instance, as it does among ECS's container instances.

use state::node::Node;
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::unless_dry;
use super::list::{Asked, Listed, list, number, one};
use crate::Call;

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeInstancesRequest,
) -> Result<shape::DescribeInstancesResult, Fault> {
    // No instance here is one that a service manages for its users.
    let shape::DescribeInstancesRequest {
        instance_ids: ids,
        include_managed_resources: _,
        dry_run,
        filters,
        next_token,
        max_results,
    } = input;
    if let Some(bad) = ids.iter().flatten().find(|id| !id.starts_with("i-")) {
        return Err(Fault::new("InvalidInstanceID.Malformed", format!("Invalid id: \"{bad}\"")));
    }
    let shown = call.tx.table::<Node>().iter().map(|(_, node)| view(node)).collect();
    let (instances, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    let account = &call.scope().account;
    let reservation = |instance: shape::Instance| shape::Reservation {
        reservation_id: instance.instance_id.as_deref().map(|id| super::vpcs::derived("r", id)),
        owner_id: Some(account.clone()),
        groups: Some(Vec::new()),
        instances: Some(vec![instance]),
        requester_id: None,
    };
    let reservations = Some(instances.into_iter().map(reservation).collect());
    unless_dry(dry_run, shape::DescribeInstancesResult { next_token, reservations })
}

fn view(node: &Node) -> shape::Instance {
    let (code, state) = if node.is_connected() { (16, "running") } else { (80, "stopped") };
    shape::Instance {
        instance_id: Some(node.instance_id()),
        architecture: Some(if node.cpu_architecture == "ARM64" { "arm64" } else { "x86_64" }.into()),
        state: Some(shape::InstanceState { code: Some(code), name: Some(state.into()) }),
        cpu_options: Some(shape::CpuOptions {
            core_count: Some(i64::from(node.cpu_physical_units / 1024)),
            threads_per_core: Some(1),
            ..Default::default()
        }),
        private_dns_name: Some(node.hostname.clone()),
        private_ip_address: Some(node.address.to_string()),
        launch_time: Some(node.registered_at_ms),
        placement: Some(shape::Placement {
            availability_zone: Some(node.availability_zone.clone()),
            tenancy: Some("default".into()),
            ..Default::default()
        }),
        security_groups: Some(Vec::new()),
        network_interfaces: Some(Vec::new()),
        tags: Some(Vec::new()),
        ..Default::default()
    }
}

impl Listed for shape::Instance {
    const IDS: &'static str = "instancesSet";
    fn id(&self) -> &str {
        self.instance_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        match filter {
            "instance-id" => one(&self.instance_id),
            "architecture" => one(&self.architecture),
            "instance-state-name" => one(&self.state.as_ref().and_then(|state| state.name.clone())),
            "instance-state-code" => number(self.state.as_ref().and_then(|state| state.code)),
            "availability-zone" => one(&self.placement.as_ref().and_then(|p| p.availability_zone.clone())),
            "tenancy" => one(&self.placement.as_ref().and_then(|p| p.tenancy.clone())),
            "private-dns-name" => one(&self.private_dns_name),
            "private-ip-address" => one(&self.private_ip_address),
            // What a node has no value for.
            "instance-type"
            | "image-id"
            | "key-name"
            | "vpc-id"
            | "subnet-id"
            | "instance.group-id"
            | "instance.group-name"
            | "instance-lifecycle"
            | "iam-instance-profile.arn"
            | "ip-address"
            | "dns-name"
            | "platform" => Some(Vec::new()),
            _ => None,
        }
    }
}
