//! `networkConfiguration` of tasks and services.

use state::ec2::{SecurityGroup, Subnet};
use state::group::NetworkMode;
use state::{Scope, Tx};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::invalid;

/// Where `awsvpc` tasks are connected; empty for the other modes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Network {
    /// Subnets, all of one VPC.
    pub subnets: Vec<String>,
    /// Security groups of that VPC; empty = its `default` one.
    pub security_groups: Vec<String>,
    /// `ENABLED` or `DISABLED`, which is the default. Tasks reach the world through their node either way.
    pub assign_public_ip: Option<String>,
}

/// Checks a network configuration against the task definition's mode and what there is in EC2.
pub fn read(
    tx: &Tx,
    scope: &Scope,
    mode: NetworkMode,
    given: Option<w::NetworkConfiguration>,
    fargate: bool,
) -> Result<Network, Fault> {
    let given = given.and_then(|w::NetworkConfiguration { awsvpc_configuration }| awsvpc_configuration);
    let config = match (mode, given) {
        (NetworkMode::Awsvpc, Some(config)) => config,
        (NetworkMode::Awsvpc, None) => {
            return Err(invalid(
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            ));
        }
        (_, None) => return Ok(Network::default()),
        (_, Some(_)) => {
            return Err(invalid(
                "Network Configuration is not valid for the given networkMode of this task definition.",
            ));
        }
    };
    let w::AwsVpcConfiguration { subnets, security_groups, assign_public_ip } = config;
    let (subnets, security_groups) = (subnets.unwrap_or_default(), security_groups.unwrap_or_default());
    if subnets.is_empty() {
        return Err(invalid("subnets can not be empty."));
    }
    if subnets.len() > 16 {
        return Err(invalid("subnets can have at most 16 items."));
    }
    if security_groups.len() > 5 {
        return Err(invalid("securityGroups can have at most 5 items."));
    }
    if !fargate && assign_public_ip.as_deref() == Some("ENABLED") {
        return Err(invalid("Assign public IP is not supported for this launch type."));
    }
    let vpc = vpc_of(tx, scope, &subnets)?;
    check_security_groups(tx, scope, &security_groups, &vpc)?;
    let assign_public_ip = Some(assign_public_ip.unwrap_or_else(|| "DISABLED".into()));
    Ok(Network { subnets, security_groups, assign_public_ip })
}

/// The VPC that all the subnets are of.
fn vpc_of(tx: &Tx, scope: &Scope, subnets: &[String]) -> Result<String, Fault> {
    let mut vpc: Option<String> = None;
    for id in subnets {
        let subnet = tx.get::<Subnet>(&scope.key(id)).ok_or_else(|| {
            invalid(format!(
                "Error retrieving subnet information for [{}]: The subnet ID '{id}' does not exist (ErrorCode: \
                 InvalidSubnetID.NotFound)",
                subnets.join(", ")
            ))
        })?;
        if *vpc.get_or_insert_with(|| subnet.vpc_id.clone()) != subnet.vpc_id {
            return Err(invalid("Subnets must belong to the same VPC."));
        }
    }
    Ok(vpc.unwrap_or_default())
}

fn check_security_groups(tx: &Tx, scope: &Scope, groups: &[String], vpc: &str) -> Result<(), Fault> {
    for id in groups {
        let group = tx.get::<SecurityGroup>(&scope.key(id)).ok_or_else(|| {
            invalid(format!(
                "Error retrieving security group information for [{}]: The security group '{id}' does not exist \
                 (ErrorCode: InvalidGroup.NotFound)",
                groups.join(", ")
            ))
        })?;
        if group.vpc_id != vpc {
            return Err(invalid(format!(
                "Security Group {id} does not appear to belong to the same VPC as the input subnets."
            )));
        }
    }
    Ok(())
}
