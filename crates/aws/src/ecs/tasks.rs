//! RunTask, StartTask and StopTask.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::{Launch, Unplaced};
use state::ecs::{Cluster, TaskDefinition};
use state::group::{StopCause, StopCode, TaskSource};
use state::node::Node;
use state::{ContainerGroup, GroupSpec, Record, Tags};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, refuse, refuse_list, refuse_true};
use super::launch_kind::{self, LaunchKind, Rules};
use super::network::{self, Network};
use super::{capacity, document, instances, overrides, refs, tags, task_view};
use crate::Call;
use crate::table::Later;

/// What RunTask and StartTask have in common.
struct Common {
    network_configuration: Option<w::NetworkConfiguration>,
    overrides: Option<w::TaskOverride>,
    group: Option<String>,
    started_by: Option<String>,
    tags: Option<Vec<w::Tag>>,
    propagate_tags: Option<String>,
    managed_tags: Option<bool>,
}

/// Tasks that can be launched as often as asked.
struct Ready {
    cluster: Arc<Cluster>,
    source: Arc<TaskSource>,
    spec_id: String,
    spec: Arc<GroupSpec>,
    network: Network,
    constraints: Rules,
    strategy: Rules,
}

/// RunTask.
pub fn run(call: &mut Call<'_>, request: w::RunTaskRequest) -> Result<Later<w::RunTaskResponse>, Fault> {
    let w::RunTaskRequest {
        capacity_provider_strategy,
        cluster,
        count,
        enable_ecs_managed_tags,
        enable_execute_command,
        group,
        launch_type,
        network_configuration,
        overrides,
        placement_constraints,
        placement_strategy,
        platform_version,
        propagate_tags,
        reference_id,
        started_by,
        tags,
        task_definition,
        client_token,
        volume_configurations,
    } = request;
    refuse("referenceId", &reference_id)?;
    refuse_true("enableExecuteCommand", enable_execute_command)?;
    refuse_list("volumeConfigurations", &volume_configurations)?;
    let count = count.unwrap_or(1);
    if !(1..=10).contains(&count) {
        return Err(invalid("Count must be between 1 and 10."));
    }
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let definition = refs::runnable_definition(call.tx, &scope, task_definition.as_deref())?;
    let kind = launch_kind::choose(
        &cluster,
        &definition,
        launch_type,
        capacity_provider_strategy,
        platform_version,
    )?;
    if !kind.is_fargate() && call.tx.table::<Node>().is_empty() {
        return Err(invalid("No Container Instances were found in your cluster."));
    }
    let constraints = launch_kind::constraints(placement_constraints, kind.is_fargate())?;
    let strategy = launch_kind::strategies(placement_strategy, kind.is_fargate())?;
    let managed_tags = enable_ecs_managed_tags;
    let common =
        Common { network_configuration, overrides, group, started_by, tags, propagate_tags, managed_tags };
    let mut ready = prepare(call, cluster, &definition, &kind, common)?;
    ready.constraints = constraints;
    ready.strategy = strategy;
    Arc::make_mut(&mut ready.source).client_token = client_token.filter(|token| !token.is_empty());
    if let Some(keys) = same_call(call, &ready, &kind, count)? {
        let tasks = shown(call, keys);
        return Ok(Later::new(|| w::RunTaskResponse { tasks: Some(tasks()), failures: Some(Vec::new()) }));
    }
    let (mut keys, mut failures, mut providers) = (Vec::new(), Vec::new(), BTreeMap::new());
    for _ in 0..count {
        if let Some(provider) = capacity::next_provider(&kind.strategy, &providers) {
            *providers.entry(provider.to_owned()).or_insert(0) += 1;
            Arc::make_mut(&mut ready.source).capacity_provider = Some(provider.to_owned());
        }
        match launch(call, &ready, None) {
            Ok(key) => keys.push(key),
            Err(unplaced) => failures.push(failure(&ready.cluster, &unplaced)),
        }
    }
    let tasks = shown(call, keys);
    Ok(Later::new(|| w::RunTaskResponse { tasks: Some(tasks()), failures: Some(failures) }))
}

/// StartTask: on the container instances named, and nowhere else.
pub fn start(
    call: &mut Call<'_>,
    request: w::StartTaskRequest,
) -> Result<Later<w::StartTaskResponse>, Fault> {
    let w::StartTaskRequest {
        cluster,
        container_instances,
        enable_ecs_managed_tags,
        enable_execute_command,
        group,
        network_configuration,
        overrides,
        propagate_tags,
        reference_id,
        started_by,
        tags,
        task_definition,
        volume_configurations,
    } = request;
    refuse("referenceId", &reference_id)?;
    refuse_true("enableExecuteCommand", enable_execute_command)?;
    refuse_list("volumeConfigurations", &volume_configurations)?;
    let wanted = container_instances.unwrap_or_default();
    if wanted.is_empty() {
        return Err(invalid("Container Instances cannot be empty."));
    }
    if wanted.len() > 10 {
        return Err(invalid("Container Instances can have at most 10 items."));
    }
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let definition = refs::runnable_definition(call.tx, &scope, task_definition.as_deref())?;
    let kind = LaunchKind { launch_type: "EC2".into(), strategy: Vec::new(), platform_version: None };
    let managed_tags = enable_ecs_managed_tags;
    let common =
        Common { network_configuration, overrides, group, started_by, tags, propagate_tags, managed_tags };
    let ready = prepare(call, cluster, &definition, &kind, common)?;
    let (mut keys, mut failures) = (Vec::new(), Vec::new());
    for given in wanted {
        let Some(node) = instances::node(call.tx, &ready.cluster, &given) else {
            let arn = if given.starts_with("arn:") {
                given
            } else {
                scope.arn("ecs", &format!("container-instance/{}/{given}", ready.cluster.name))
            };
            failures.push(w::Failure { arn: Some(arn), reason: Some("MISSING".into()), detail: None });
            continue;
        };
        match launch(call, &ready, Some(&node.id)) {
            Ok(key) => keys.push(key),
            Err(unplaced) => failures.push(failure(&ready.cluster, &unplaced)),
        }
    }
    let tasks = shown(call, keys);
    Ok(Later::new(|| w::StartTaskResponse { tasks: Some(tasks()), failures: Some(failures) }))
}

/// Checks what a call says and makes what every task of it is launched from.
fn prepare(
    call: &Call<'_>,
    cluster: Arc<Cluster>,
    definition: &TaskDefinition,
    kind: &LaunchKind,
    common: Common,
) -> Result<Ready, Fault> {
    let scope = call.scope();
    let Common { network_configuration, overrides, group, started_by, tags, propagate_tags, managed_tags } =
        common;
    let mode = definition.spec.network_mode;
    let network = network::read(call.tx, scope, mode, network_configuration, kind.is_fargate())?;
    let mut spec = GroupSpec::clone(&definition.spec);
    let is_overridden = overrides.is_some();
    let shown = overrides::apply(scope, &mut spec, overrides, kind.is_fargate())?;
    let group = group.filter(|group| !group.is_empty());
    if group.as_ref().is_some_and(|group| group.starts_with("service:") || group.len() > 255) {
        return Err(invalid(
            "Invalid group: it may have at most 255 characters and not begin with service:.",
        ));
    }
    if started_by.as_ref().is_some_and(|text| text.chars().count() > 128) {
        return Err(invalid("startedBy can have at most 128 characters."));
    }
    let source = TaskSource {
        task_definition_arn: definition.arn(),
        launch_type: kind.launch_type.clone(),
        capacity_provider: None,
        group: group.unwrap_or_else(|| format!("family:{}", definition.family)),
        started_by,
        service: None,
        // Without any, the view says so of each container.
        overrides: is_overridden.then(|| document::to_json("TaskOverride", shown)),
        platform_version: kind.is_fargate().then(|| plan::service_task::PLATFORM_LATEST.to_owned()),
        enable_execute_command: false,
        security_groups: network.security_groups.clone(),
        client_token: None,
        tags: task_tags(&cluster, definition, tags, propagate_tags.as_deref(), managed_tags)?,
        load_balancers: Vec::new(),
        registries: Vec::new(),
    };
    let (spec_id, spec) = spec_record(call, definition, spec);
    Ok(Ready {
        cluster,
        source: Arc::new(source),
        spec_id,
        spec,
        network,
        constraints: Rules::new(),
        strategy: Rules::new(),
    })
}

/// The spec's name: the definition's, plus a digest of what overrides made of it.
fn spec_record(call: &Call<'_>, definition: &TaskDefinition, spec: GroupSpec) -> (String, Arc<GroupSpec>) {
    state::group::changed(call.tx, definition, spec)
}

fn task_tags(
    cluster: &Cluster,
    definition: &TaskDefinition,
    given: Option<Vec<w::Tag>>,
    propagate: Option<&str>,
    managed: Option<bool>,
) -> Result<Tags, Fault> {
    let mut all = match propagate {
        None | Some("NONE") => Tags::new(),
        Some("TASK_DEFINITION") => definition.tags.clone(),
        Some(other) => return Err(invalid(format!("Invalid value for propagateTags: {other}"))),
    };
    tags::merge(&mut all, tags::read(given)?);
    if all.len() > 50 {
        return Err(invalid("Tags can have a maximum of 50 items."));
    }
    if managed == Some(true) {
        all.push(state::Tag { key: "aws:ecs:clusterName".into(), value: cluster.name.clone() });
    }
    Ok(all)
}

/// What is shown of the tasks at some keys, as they are now.
fn shown(call: &Call<'_>, keys: Vec<String>) -> impl FnOnce() -> Vec<w::Task> + Send + use<> {
    let state = call.tx.snapshot().clone();
    move || {
        let found = keys.iter().filter_map(|key| Some((key, state.groups.get(key)?)));
        found.map(|(key, group)| task_view::view(&state, key, group, true)).collect()
    }
}

/// The keys of the tasks of an earlier call with the same token; a fault if that call asked for something else.
fn same_call(
    call: &Call<'_>,
    ready: &Ready,
    kind: &LaunchKind,
    count: i64,
) -> Result<Option<Vec<String>>, Fault> {
    let Some(token) = &ready.source.client_token else { return Ok(None) };
    let index = format!("{}|{token}", ready.cluster.key());
    let found: Vec<_> = call.tx.table::<ContainerGroup>().by_index("token", &index).cloned().collect();
    let Some(first) = found.first() else { return Ok(None) };
    let old = TaskSource {
        capacity_provider: None,
        security_groups: ready.source.security_groups.clone(),
        ..first.task().clone()
    };
    // Some of the earlier call's tasks may have found no room, so there may be fewer of them, never more.
    let other_kind = first.task().capacity_provider.is_some() == kind.strategy.is_empty();
    if old != *ready.source || first.spec != ready.spec_id || other_kind || found.len() as i64 > count {
        let arns: Vec<String> = found.iter().map(|group| group.task_arn()).collect();
        let fault = Fault::new(
            "ConflictException",
            "The RunTask request could not be processed due to conflicts: its clientToken was used with other parameters.",
        );
        return Err(fault.with("resourceIds", arns));
    }
    Ok(Some(found.iter().map(|group| group.key()).collect()))
}

fn launch(call: &mut Call<'_>, ready: &Ready, node: Option<&str>) -> Result<String, Unplaced> {
    let launch = Launch {
        scope: &ready.cluster.scope,
        cluster: &ready.cluster.name,
        source: ready.source.clone(),
        spec_id: ready.spec_id.clone(),
        spec: ready.spec.clone(),
        subnets: &ready.network.subnets,
        constraints: &ready.constraints,
        strategy: &ready.strategy,
        node,
    };
    plan::launch(call.tx, call.ids, call.now_ms, launch)
}

fn failure(cluster: &Cluster, unplaced: &Unplaced) -> w::Failure {
    w::Failure {
        arn: unplaced.node.as_ref().map(|node| instances::arn(&cluster.scope, &cluster.name, node)),
        reason: Some(unplaced.reason.as_failure()),
        detail: None,
    }
}

/// StopTask.
pub fn stop(call: &mut Call<'_>, request: w::StopTaskRequest) -> Result<w::StopTaskResponse, Fault> {
    let w::StopTaskRequest { cluster, task, reason } = request;
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let (named, id) = refs::task_id(&scope, &task.unwrap_or_default())?;
    let not_found = || invalid("The referenced task was not found.");
    if named.is_some_and(|named| named != cluster.name) {
        return Err(not_found());
    }
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > 1024) {
        return Err(invalid("reason can have at most 1024 characters."));
    }
    let key = ContainerGroup::key_of(&scope, &cluster.name, &id);
    let group = call.tx.get::<ContainerGroup>(&key).ok_or_else(not_found)?;
    if !group.is_stopping() {
        let cause = StopCause {
            code: StopCode::UserInitiated,
            reason: reason.filter(|r| !r.is_empty()).unwrap_or_else(|| "Task stopped by user".into()),
            at_ms: call.now_ms,
        };
        plan::stop(call.tx, &key, cause);
    }
    let group = call.tx.get::<ContainerGroup>(&key).ok_or_else(not_found)?;
    Ok(w::StopTaskResponse { task: Some(task_view::view(call.tx.snapshot(), &key, &group, true)) })
}
