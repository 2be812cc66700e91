//! From RegisterTaskDefinition's document to what is shown again and what is run.
//!
//! Every member of the model is taken apart by name, without `..`: a member that a new model adds does not compile
//! until someone has said what it does. Each is compiled, or shown with its effect, or refused by its name.

use state::GroupSpec;
use state::Scope;
use state::group::{Demand, NetworkMode};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{client, refuse, refuse_list, refuse_true, unsupported};
use super::refs::is_name;

mod attributes;
mod checks;
mod container;
mod defaults;
mod fargate;
mod linux;
mod logs;
mod multiline;
mod units;
mod volumes;

pub use container::demand_of;
pub use fargate::check_size;
pub use units::{cpu_units, memory_mib};

/// A task definition, checked and compiled.
#[derive(Debug)]
pub struct Built {
    /// As it is shown again, with defaults filled in and without ARN, revision, status and times.
    pub document: w::TaskDefinition,
    /// What it runs.
    pub spec: GroupSpec,
    /// `requiresCompatibilities` as given.
    pub requires: Vec<String>,
    /// What it is valid for.
    pub compatibilities: Vec<String>,
}

/// Checks and compiles a task definition. Tags are the caller's affair.
pub fn build(scope: &Scope, request: w::RegisterTaskDefinitionRequest) -> Result<Built, Fault> {
    let w::RegisterTaskDefinitionRequest {
        family,
        task_role_arn,
        execution_role_arn,
        network_mode,
        container_definitions,
        volumes,
        placement_constraints,
        requires_compatibilities,
        cpu,
        memory,
        tags: _,
        pid_mode,
        ipc_mode,
        proxy_configuration,
        inference_accelerators,
        ephemeral_storage,
        runtime_platform,
        enable_fault_injection,
    } = request;
    let family = family.unwrap_or_default();
    if !is_name(&family) {
        return Err(client("Family contains invalid characters."));
    }
    refuse("proxyConfiguration", &proxy_configuration)?;
    refuse_list("inferenceAccelerators", &inference_accelerators)?;
    refuse("ephemeralStorage", &ephemeral_storage)?;
    refuse_true("enableFaultInjection", enable_fault_injection)?;
    let requires = requires_compatibilities.unwrap_or_default();
    if let Some(other) = requires.iter().find(|r| !matches!(r.as_str(), "EC2" | "FARGATE")) {
        return Err(unsupported(&format!("requiresCompatibilities '{other}'")));
    }
    let mode = mode_of(network_mode.as_deref())?;
    let mut document = w::TaskDefinition {
        container_definitions,
        family: Some(family),
        task_role_arn: role(scope, task_role_arn)?,
        execution_role_arn: role(scope, execution_role_arn)?,
        network_mode,
        volumes: Some(volumes.unwrap_or_default()),
        placement_constraints: Some(placement_constraints.unwrap_or_default()),
        runtime_platform,
        requires_compatibilities: (!requires.is_empty()).then(|| requires.clone()),
        cpu: cpu.as_deref().map(cpu_units).transpose()?.map(|units| units.to_string()),
        memory: memory.as_deref().map(memory_mib).transpose()?.map(|mib| mib.to_string()),
        pid_mode,
        ipc_mode,
        enable_fault_injection,
        ..Default::default()
    };
    defaults::fill(&mut document, mode);
    checks::check(&document, mode)?;
    if requires.iter().any(|r| r == "FARGATE") {
        fargate::check(&document, mode)?;
    }
    let spec = compile(&document, mode)?;
    let mut compatibilities = vec!["EC2".to_owned()];
    compatibilities.extend(fargate::check(&document, mode).is_ok().then(|| "FARGATE".to_owned()));
    document.compatibilities = Some(compatibilities.clone());
    document.requires_attributes = Some(attributes::required(&document, mode));
    Ok(Built { document, spec, requires, compatibilities })
}

fn mode_of(text: Option<&str>) -> Result<NetworkMode, Fault> {
    match text {
        Some("awsvpc") => Ok(NetworkMode::Awsvpc),
        // On Linux instances ECS takes `bridge` where none is given.
        None | Some("bridge") => Ok(NetworkMode::Bridge),
        Some("host") => Ok(NetworkMode::Host),
        Some("none") => Ok(NetworkMode::None),
        Some(other) => Err(unsupported(&format!("networkMode '{other}'"))),
    }
}

/// A role by name or ARN, as its ARN.
pub fn role(scope: &Scope, given: Option<String>) -> Result<Option<String>, Fault> {
    let Some(given) = given.filter(|g| !g.is_empty()) else { return Ok(None) };
    let invalid = || client("Role is not valid");
    if !given.starts_with("arn:") {
        let plain = given.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b));
        return if plain { Ok(Some(scope.iam_arn(&format!("role/{given}")))) } else { Err(invalid()) };
    }
    let arn = state::Arn::parse(&given).ok_or_else(invalid)?;
    let account = arn.account.len() == 12 && arn.account.bytes().all(|b| b.is_ascii_digit());
    let named = arn.resource.strip_prefix("role/").is_some_and(|name| !name.is_empty());
    if arn.service == "iam" && account && named { Ok(Some(given)) } else { Err(invalid()) }
}

/// What a document with its defaults filled in runs. Revision 0: the caller numbers it.
fn compile(document: &w::TaskDefinition, mode: NetworkMode) -> Result<GroupSpec, Fault> {
    let number = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<u32>().ok());
    let definitions = document.container_definitions.iter().flatten();
    let mut spec = GroupSpec {
        containers: definitions.map(|c| container::compile(c, mode)).collect::<Result<_, _>>()?,
        network_mode: mode,
        volumes: document.volumes.iter().flatten().map(volumes::compile).collect::<Result<_, _>>()?,
        demand: Demand::default(),
        placement_constraints: constraints(document.placement_constraints.as_deref().unwrap_or_default())?,
        cpu_limit_units: number(&document.cpu),
        memory_limit_mib: number(&document.memory),
        cpu_architecture: architecture(document.runtime_platform.as_ref())?,
        share_pid: pid_mode(document.pid_mode.as_deref())?,
        task_role_arn: document.task_role_arn.clone(),
        execution_role_arn: document.execution_role_arn.clone(),
        family: document.family.clone().unwrap_or_default(),
        revision: 0,
    };
    ipc_mode(document.ipc_mode.as_deref())?;
    spec.demand = demand_of(&spec);
    Ok(spec)
}

/// The expressions of placement constraints: of a task definition they can only be `memberOf`.
fn constraints(given: &[w::TaskDefinitionPlacementConstraint]) -> Result<Vec<String>, Fault> {
    if given.len() > 10 {
        return Err(client("placement constraints can have at most 10 items."));
    }
    let one = |constraint: &w::TaskDefinitionPlacementConstraint| {
        let w::TaskDefinitionPlacementConstraint { r#type, expression } = constraint;
        let kind = r#type.as_deref().unwrap_or_default();
        let text = expression.clone().unwrap_or_default();
        if kind != "memberOf" {
            return Err(client(format!("Invalid placement constraint type '{kind}'")));
        }
        match plan::constraint::parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(client(format!("Invalid expression in placement constraint: {error}"))),
        }
    };
    given.iter().map(one).collect()
}

fn architecture(platform: Option<&w::RuntimePlatform>) -> Result<Option<String>, Fault> {
    let Some(w::RuntimePlatform { cpu_architecture, operating_system_family }) = platform else {
        return Ok(None);
    };
    match operating_system_family.as_deref() {
        None | Some("LINUX") => Ok(cpu_architecture.clone()),
        Some(other) => Err(unsupported(&format!("operatingSystemFamily '{other}'"))),
    }
}

fn pid_mode(given: Option<&str>) -> Result<bool, Fault> {
    match given {
        None => Ok(false),
        Some("task") => Ok(true),
        Some(other) => Err(unsupported(&format!("pidMode '{other}'"))),
    }
}

fn ipc_mode(given: Option<&str>) -> Result<(), Fault> {
    match given {
        // Containers do not share IPC resources: how things are.
        None | Some("none") => Ok(()),
        Some(other) => Err(unsupported(&format!("ipcMode '{other}'"))),
    }
}
