//! Overrides of RunTask and StartTask: a specification changed for one call, and what is shown of the change.

use state::GroupSpec;
use state::Scope;
use state::group::ContainerSpec;
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, refuse, refuse_list};
use super::{definition, document};

/// "A total of 8192 characters are allowed for overrides. This limit includes the JSON formatting characters of the
/// override structure" (RunTask).
const CHARACTERS_MAX: usize = 8192;

/// Applies overrides to a specification. Answers what is shown: every container's name, overridden or not.
pub fn apply(
    scope: &Scope,
    spec: &mut GroupSpec,
    given: Option<w::TaskOverride>,
    fargate: bool,
) -> Result<w::TaskOverride, Fault> {
    let w::TaskOverride {
        container_overrides,
        cpu,
        inference_accelerator_overrides,
        execution_role_arn,
        memory,
        task_role_arn,
        ephemeral_storage,
    } = of_bounded_length(given.unwrap_or_default())?;
    refuse_list("inferenceAcceleratorOverrides", &inference_accelerator_overrides)?;
    refuse("ephemeralStorage", &ephemeral_storage)?;
    let mut shown: Vec<w::ContainerOverride> = Vec::new();
    for change in container_overrides.unwrap_or_default() {
        let name = change.name.clone().unwrap_or_default();
        let container = spec.containers.iter_mut().find(|c| c.name == name).ok_or_else(|| {
            invalid(format!("Override for container named {name} is not a container in the TaskDefinition."))
        })?;
        if shown.iter().any(|other| other.name == change.name) {
            return Err(invalid(format!("Container {name} is overridden more than once.")));
        }
        change_container(container, &change)?;
        shown.push(change);
    }
    for container in &spec.containers {
        if !shown.iter().any(|other| other.name.as_ref() == Some(&container.name)) {
            shown.push(w::ContainerOverride { name: Some(container.name.clone()), ..Default::default() });
        }
    }
    if let Some(cpu) = &cpu {
        spec.cpu_limit_units = Some(definition::cpu_units(cpu)?);
    }
    if let Some(memory) = &memory {
        spec.memory_limit_mib = Some(definition::memory_mib(memory)?);
    }
    if fargate {
        definition::check_size(spec.cpu_limit_units.unwrap_or(0), spec.memory_limit_mib.unwrap_or(0))?;
    }
    check_fit(spec)?;
    let execution_role_arn = definition::role(scope, execution_role_arn)?;
    let task_role_arn = definition::role(scope, task_role_arn)?;
    spec.execution_role_arn = execution_role_arn.clone().or(spec.execution_role_arn.take());
    spec.task_role_arn = task_role_arn.clone().or(spec.task_role_arn.take());
    spec.demand = definition::demand_of(spec);
    Ok(w::TaskOverride {
        container_overrides: Some(shown),
        cpu: spec.cpu_limit_units.filter(|_| cpu.is_some()).map(|units| units.to_string()),
        inference_accelerator_overrides: Some(Vec::new()),
        execution_role_arn,
        memory: spec.memory_limit_mib.filter(|_| memory.is_some()).map(|mib| mib.to_string()),
        task_role_arn,
        ephemeral_storage: None,
    })
}

fn of_bounded_length(given: w::TaskOverride) -> Result<w::TaskOverride, Fault> {
    let json = document::to_json("TaskOverride", given.clone()).to_string();
    if json.chars().count() > CHARACTERS_MAX {
        return Err(invalid(format!("Container Overrides length must be at most {CHARACTERS_MAX}")));
    }
    Ok(given)
}

fn change_container(container: &mut ContainerSpec, change: &w::ContainerOverride) -> Result<(), Fault> {
    let w::ContainerOverride {
        name: _,
        command,
        environment,
        environment_files,
        cpu,
        memory,
        memory_reservation,
        resource_requirements,
    } = change;
    refuse_list("environmentFiles", environment_files)?;
    refuse_list("resourceRequirements", resource_requirements)?;
    // As at registration, an empty list is none.
    if let Some(command) = command.as_ref().filter(|words| !words.is_empty()) {
        container.command = Some(command.clone());
    }
    for w::KeyValuePair { name, value } in environment.iter().flatten() {
        let (name, value) = (name.clone().unwrap_or_default(), value.clone().unwrap_or_default());
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid(format!("Invalid environment variable name '{name}'")));
        }
        match container.environment.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => container.environment.push((name, value)),
        }
    }
    let whole = |what: &str, number: i64, least: i64| {
        let bad = || invalid(format!("Invalid '{what}' override for container {}.", container.name));
        u32::try_from(number).ok().filter(|_| number >= least).ok_or_else(bad)
    };
    if let Some(cpu) = cpu {
        container.cpu_units = whole("cpu", *cpu, 0)?;
    }
    if let Some(memory) = memory {
        container.memory_mib = Some(whole("memory", *memory, 4)?);
    }
    if let Some(reservation) = memory_reservation {
        container.memory_reservation_mib = Some(whole("memoryReservation", *reservation, 4)?);
    }
    Ok(())
}

/// What registration checks of sizes holds after the change as well.
fn check_fit(spec: &GroupSpec) -> Result<(), Fault> {
    for container in &spec.containers {
        let name = &container.name;
        if let (Some(hard), Some(soft)) = (container.memory_mib, container.memory_reservation_mib)
            && hard < soft
        {
            return Err(invalid(format!(
                "Invalid setting for container '{name}'. 'memory' must be greater than or equal to 'memoryReservation'."
            )));
        }
        let most = container.memory_mib.max(container.memory_reservation_mib);
        if let (Some(most), Some(task)) = (most, spec.memory_limit_mib)
            && most > task
        {
            return Err(invalid(format!(
                "The 'memory' setting for container '{name}' is greater than for the task."
            )));
        }
    }
    let cpu: u64 = spec.containers.iter().map(|c| u64::from(c.cpu_units)).sum();
    if spec.cpu_limit_units.is_some_and(|task| cpu > u64::from(task)) {
        return Err(invalid(
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        ));
    }
    Ok(())
}
