//! EC2: the networking that tasks and load balancers need, and views of what there is one of per VPC or node.

mod attributes;
mod faults;
mod gateways;
mod instances;
mod interfaces;
mod list;
mod permissions;
mod rules;
mod security_groups;
mod subnets;
mod tags;
#[cfg(test)]
mod tests;
mod vpcs;
mod zones;

crate::table::operations!(ec2: {
    DescribeVpcs => vpcs::describe,
    CreateVpc => vpcs::create,
    DeleteVpc => vpcs::delete,
    DescribeVpcAttribute => attributes::describe_vpc,
    ModifyVpcAttribute => attributes::modify_vpc,
    DescribeSubnets => subnets::describe,
    CreateSubnet => subnets::create,
    DeleteSubnet => subnets::delete,
    ModifySubnetAttribute => attributes::modify_subnet,
    DescribeSecurityGroups => security_groups::describe,
    CreateSecurityGroup => security_groups::create,
    DeleteSecurityGroup => security_groups::delete,
    AuthorizeSecurityGroupIngress => rules::authorize_ingress,
    AuthorizeSecurityGroupEgress => rules::authorize_egress,
    RevokeSecurityGroupIngress => rules::revoke_ingress,
    RevokeSecurityGroupEgress => rules::revoke_egress,
    DescribeSecurityGroupRules => rules::describe,
    DescribeAvailabilityZones => zones::describe_zones,
    DescribeRegions => zones::describe_regions,
    DescribeNetworkInterfaces => interfaces::describe,
    DescribeRouteTables => gateways::describe_route_tables,
    DescribeInternetGateways => gateways::describe_internet_gateways,
    DescribeNetworkAcls => gateways::describe_network_acls,
    DescribeInstances => instances::describe,
    CreateTags => tags::create,
    DeleteTags => tags::delete,
    DescribeTags => tags::describe,
    DescribeAccountAttributes => attributes::describe_account,
});
