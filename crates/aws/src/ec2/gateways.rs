//! What there is one of per VPC: its main route table, its network ACL, and the default VPC's internet gateway.
//! They have no records; their ids are derived from the VPC's.

use state::ec2::{Subnet, Vpc};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::unless_dry;
use super::list::{Asked, Listed, flag, list, number, one};
use super::vpcs::{self, derived};
use crate::Call;

fn subnets(call: &Call<'_>, vpc: &Vpc) -> Vec<String> {
    call.tx.table::<Subnet>().by_index("vpc", &vpc.id).map(|subnet| subnet.id.clone()).collect()
}

// === Route tables ===

pub(super) fn describe_route_tables(
    call: &mut Call<'_>,
    input: shape::DescribeRouteTablesRequest,
) -> Result<shape::DescribeRouteTablesResult, Fault> {
    let shape::DescribeRouteTablesRequest { next_token, max_results, dry_run, route_table_ids: ids, filters } =
        input;
    let shown = vpcs::all(call).iter().map(|vpc| route_table(vpc)).collect();
    let (tables, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    unless_dry(dry_run, shape::DescribeRouteTablesResult { route_tables: Some(tables), next_token })
}

fn route_table(vpc: &Vpc) -> shape::RouteTable {
    let id = derived("rtb", &vpc.id);
    let route = |to: String, gateway: String, origin: &str| shape::Route {
        destination_cidr_block: Some(to),
        gateway_id: Some(gateway),
        origin: Some(origin.into()),
        state: Some("active".into()),
        ..Default::default()
    };
    let mut routes = vec![route(vpc.cidr.to_string(), "local".into(), "CreateRouteTable")];
    if vpc.is_default {
        routes.push(route("0.0.0.0/0".into(), derived("igw", &vpc.id), "CreateRoute"));
    }
    let association = shape::RouteTableAssociation {
        main: Some(true),
        route_table_association_id: Some(derived("rtbassoc", &vpc.id)),
        route_table_id: Some(id.clone()),
        association_state: Some(shape::RouteTableAssociationState {
            state: Some("associated".into()),
            status_message: None,
        }),
        ..Default::default()
    };
    shape::RouteTable {
        associations: Some(vec![association]),
        propagating_vgws: Some(Vec::new()),
        route_table_id: Some(id),
        routes: Some(routes),
        tags: Some(Vec::new()),
        vpc_id: Some(vpc.id.clone()),
        owner_id: Some(vpc.scope.account.clone()),
    }
}

impl Listed for shape::RouteTable {
    const IDS: &'static str = "routeTableIds";
    fn id(&self) -> &str {
        self.route_table_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidRouteTableID.NotFound", format!("The routeTable ID '{id}' does not exist"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        let routes = self.routes.as_deref().unwrap_or_default();
        let associations = self.associations.as_deref().unwrap_or_default();
        let of_routes = |of: fn(&shape::Route) -> &Option<String>| {
            Some(routes.iter().filter_map(|route| of(route).clone()).collect())
        };
        let of_associations = |of: fn(&shape::RouteTableAssociation) -> Option<String>| {
            Some(associations.iter().filter_map(of).collect())
        };
        match filter {
            "route-table-id" => one(&self.route_table_id),
            "vpc-id" => one(&self.vpc_id),
            "owner-id" => one(&self.owner_id),
            "association.main" => of_associations(|a| a.main.map(|main| main.to_string())),
            "association.route-table-association-id" => {
                of_associations(|a| a.route_table_association_id.clone())
            }
            "association.route-table-id" => of_associations(|a| a.route_table_id.clone()),
            // Subnets follow the main table; none is associated by itself.
            "association.subnet-id" => of_associations(|a| a.subnet_id.clone()),
            "association.gateway-id" => of_associations(|a| a.gateway_id.clone()),
            "route.destination-cidr-block" => of_routes(|r| &r.destination_cidr_block),
            "route.gateway-id" => of_routes(|r| &r.gateway_id),
            "route.origin" => of_routes(|r| &r.origin),
            "route.state" => of_routes(|r| &r.state),
            "route.destination-ipv6-cidr-block" => of_routes(|r| &r.destination_ipv6_cidr_block),
            "route.destination-prefix-list-id" => of_routes(|r| &r.destination_prefix_list_id),
            "route.egress-only-internet-gateway-id" => of_routes(|r| &r.egress_only_internet_gateway_id),
            "route.instance-id" => of_routes(|r| &r.instance_id),
            "route.nat-gateway-id" => of_routes(|r| &r.nat_gateway_id),
            "route.transit-gateway-id" => of_routes(|r| &r.transit_gateway_id),
            "route.vpc-peering-connection-id" => of_routes(|r| &r.vpc_peering_connection_id),
            _ => None,
        }
    }
}

// === Internet gateways ===

pub(super) fn describe_internet_gateways(
    call: &mut Call<'_>,
    input: shape::DescribeInternetGatewaysRequest,
) -> Result<shape::DescribeInternetGatewaysResult, Fault> {
    let shape::DescribeInternetGatewaysRequest {
        next_token,
        max_results,
        dry_run,
        internet_gateway_ids,
        filters,
    } = input;
    let shown =
        vpcs::all(call).iter().filter(|vpc| vpc.is_default).map(|vpc| internet_gateway(vpc)).collect();
    let asked = Asked { ids: internet_gateway_ids, filters, max_results, next_token };
    let (gateways, next_token) = list(shown, asked)?;
    let answer = shape::DescribeInternetGatewaysResult { internet_gateways: Some(gateways), next_token };
    unless_dry(dry_run, answer)
}

fn internet_gateway(vpc: &Vpc) -> shape::InternetGateway {
    let attachment =
        shape::InternetGatewayAttachment { state: Some("available".into()), vpc_id: Some(vpc.id.clone()) };
    shape::InternetGateway {
        attachments: Some(vec![attachment]),
        internet_gateway_id: Some(derived("igw", &vpc.id)),
        owner_id: Some(vpc.scope.account.clone()),
        tags: Some(Vec::new()),
    }
}

impl Listed for shape::InternetGateway {
    const IDS: &'static str = "internetGatewayIds";
    fn id(&self) -> &str {
        self.internet_gateway_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new(
            "InvalidInternetGatewayID.NotFound",
            format!("The internetGateway ID '{id}' does not exist"),
        )
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        let attachments = self.attachments.as_deref().unwrap_or_default();
        match filter {
            "internet-gateway-id" => one(&self.internet_gateway_id),
            "owner-id" => one(&self.owner_id),
            "attachment.vpc-id" => Some(attachments.iter().filter_map(|a| a.vpc_id.clone()).collect()),
            "attachment.state" => Some(attachments.iter().filter_map(|a| a.state.clone()).collect()),
            _ => None,
        }
    }
}

// === Network ACLs ===

pub(super) fn describe_network_acls(
    call: &mut Call<'_>,
    input: shape::DescribeNetworkAclsRequest,
) -> Result<shape::DescribeNetworkAclsResult, Fault> {
    let shape::DescribeNetworkAclsRequest { next_token, max_results, dry_run, network_acl_ids: ids, filters } =
        input;
    let shown = vpcs::all(call).iter().map(|vpc| network_acl(vpc, subnets(call, vpc))).collect();
    let (acls, next_token) = list(shown, Asked { ids, filters, max_results, next_token })?;
    unless_dry(dry_run, shape::DescribeNetworkAclsResult { network_acls: Some(acls), next_token })
}

/// The number of the entry that denies what no other entry allows; shown as `*` by consoles.
const LAST_ENTRY: i64 = 32767;

fn network_acl(vpc: &Vpc, subnets: Vec<String>) -> shape::NetworkAcl {
    let id = derived("acl", &vpc.id);
    let entry = |egress: bool, number: i64, action: &str| shape::NetworkAclEntry {
        cidr_block: Some("0.0.0.0/0".into()),
        egress: Some(egress),
        protocol: Some("-1".into()),
        rule_action: Some(action.into()),
        rule_number: Some(number),
        ..Default::default()
    };
    let both = |egress| [entry(egress, 100, "allow"), entry(egress, LAST_ENTRY, "deny")];
    let association = |subnet: String| shape::NetworkAclAssociation {
        network_acl_association_id: Some(derived("aclassoc", &subnet)),
        network_acl_id: Some(id.clone()),
        subnet_id: Some(subnet),
    };
    shape::NetworkAcl {
        associations: Some(subnets.into_iter().map(association).collect()),
        entries: Some([both(true), both(false)].concat()),
        is_default: Some(true),
        network_acl_id: Some(id.clone()),
        tags: Some(Vec::new()),
        vpc_id: Some(vpc.id.clone()),
        owner_id: Some(vpc.scope.account.clone()),
    }
}

impl Listed for shape::NetworkAcl {
    const IDS: &'static str = "networkAclIds";
    fn id(&self) -> &str {
        self.network_acl_id.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidNetworkAclID.NotFound", format!("The networkAcl ID '{id}' does not exist"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        Some(self.tags.as_deref().unwrap_or_default())
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        let associations = self.associations.as_deref().unwrap_or_default();
        let entries = self.entries.as_deref().unwrap_or_default();
        let of_entries = |of: fn(&shape::NetworkAclEntry) -> Option<Vec<String>>| {
            Some(entries.iter().filter_map(of).flatten().collect())
        };
        match filter {
            "network-acl-id" => one(&self.network_acl_id),
            "vpc-id" => one(&self.vpc_id),
            "owner-id" => one(&self.owner_id),
            "default" => flag(self.is_default),
            "association.association-id" => {
                Some(associations.iter().filter_map(|a| a.network_acl_association_id.clone()).collect())
            }
            "association.network-acl-id" => {
                Some(associations.iter().filter_map(|a| a.network_acl_id.clone()).collect())
            }
            "association.subnet-id" => {
                Some(associations.iter().filter_map(|a| a.subnet_id.clone()).collect())
            }
            "entry.cidr" => of_entries(|e| one(&e.cidr_block)),
            "entry.egress" => of_entries(|e| flag(e.egress)),
            "entry.protocol" => of_entries(|e| one(&e.protocol)),
            "entry.rule-action" => of_entries(|e| one(&e.rule_action)),
            "entry.rule-number" => of_entries(|e| number(e.rule_number)),
            "entry.icmp.code"
            | "entry.icmp.type"
            | "entry.ipv6-cidr"
            | "entry.port-range.from"
            | "entry.port-range.to" => Some(Vec::new()),
            _ => None,
        }
    }
}
