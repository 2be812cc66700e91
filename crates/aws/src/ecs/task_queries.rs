//! DescribeTasks and ListTasks.

use std::sync::Arc;

use state::ecs::Service;
use state::{ContainerGroup, Table};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, refuse};
use super::{instances, refs, task_view};
use crate::Call;

/// DescribeTasks.
pub fn describe(
    call: &mut Call<'_>,
    request: w::DescribeTasksRequest,
) -> Result<w::DescribeTasksResponse, Fault> {
    let w::DescribeTasksRequest { cluster, tasks, include } = request;
    let scope = call.scope().clone();
    let cluster = refs::cluster(call.tx, &scope, cluster.as_deref())?;
    let asked = tasks.unwrap_or_default();
    if asked.is_empty() {
        return Err(invalid("Tasks cannot be empty."));
    }
    if asked.len() > 100 {
        return Err(invalid("Tasks can have at most 100 items."));
    }
    let with_tags = include.iter().flatten().any(|i| i == "TAGS");
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let (named, id) = refs::task_id(&scope, &given)?;
        let key = ContainerGroup::key_of(&scope, &cluster.name, &id);
        let here = named.is_none_or(|named| named == cluster.name);
        match call.tx.get::<ContainerGroup>(&key).filter(|_| here) {
            Some(group) => found.push(task_view::view(call.tx.snapshot(), &key, &group, with_tags)),
            None => {
                let full = scope.arn("ecs", &format!("task/{}/{id}", cluster.name));
                let arn = if given.starts_with("arn:") { given } else { full };
                failures.push(w::Failure { arn: Some(arn), reason: Some("MISSING".into()), detail: None });
            }
        }
    }
    Ok(w::DescribeTasksResponse { tasks: Some(found), failures: Some(failures) })
}

/// What a list of tasks is narrowed to.
struct Filter {
    node: Option<String>,
    family: Option<String>,
    started_by: Option<String>,
    desired_status: &'static str,
    launch_type: Option<String>,
}

fn is(wanted: &Option<String>, have: Option<&str>) -> bool {
    wanted.as_deref().is_none_or(|wanted| Some(wanted) == have)
}

impl Filter {
    fn takes(&self, group: &ContainerGroup) -> bool {
        let task = group.task();
        self.desired_status == group.desired_status()
            && is(&self.node, group.node().filter(|_| !task.is_fargate()))
            && is(&self.family, Some(task.family()))
            && is(&self.started_by, task.started_by.as_deref())
            && is(&self.launch_type, Some(task.launch_kind()))
    }

    /// The values that the tasks taken have in the index `listed`, where a cluster's begin with `prefix`.
    fn values<'a>(&'a self, tasks: &'a Table<ContainerGroup>, prefix: &str) -> Vec<&'a str> {
        let family = self.family.as_ref().map(|family| format!("{family}/"));
        let prefix = format!("{prefix}{}/{}", self.desired_status, family.unwrap_or_default());
        let all = tasks.index_values("listed", &prefix).map(|(value, _)| value);
        all.filter(|value| is(&self.launch_type, value.rsplit('/').nth(1))).collect()
    }
}

/// ListTasks.
pub fn list(call: &mut Call<'_>, request: w::ListTasksRequest) -> Result<w::ListTasksResponse, Fault> {
    let w::ListTasksRequest {
        cluster,
        container_instance,
        family,
        next_token,
        max_results,
        started_by,
        service_name,
        desired_status,
        launch_type,
        daemon_name,
    } = request;
    refuse("daemonName", &daemon_name)?;
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let limit = refs::limit(max_results, 100, 100)?;
    let page = refs::page(next_token.as_deref(), limit)?;
    let node = match container_instance {
        None => None,
        Some(given) => {
            let found = instances::node(call.tx, &cluster, &given);
            Some(found.ok_or_else(|| invalid("The specified container instance was not found."))?.id.clone())
        }
    };
    let desired_status = match desired_status.as_deref() {
        Some("STOPPED") => "STOPPED",
        // No task is ever wanted PENDING: that list is empty, as in ECS.
        Some("PENDING") => "PENDING",
        _ => "RUNNING",
    };
    let filter = Filter { node, family, started_by, desired_status, launch_type };
    let prefix = scope.key(&format!("{}/", cluster.name));
    let from = format!("{prefix}{}", page.from().unwrap_or_default());
    let table = call.tx.table::<ContainerGroup>();
    let of_cluster = |group: &&Arc<ContainerGroup>| group.scope == scope && group.cluster == cluster.name;
    // In the order of ids, read only as far as the page goes.
    let groups: Box<dyn Iterator<Item = &Arc<ContainerGroup>>> = match (service_name, &filter.node) {
        (Some(name), _) => {
            let service = refs::service(call.tx, &scope, &cluster.name, &name)?;
            let key = Service::key_of(&scope, &service.cluster, &service.name);
            Box::new(table.by_index("service", &key))
        }
        (None, Some(node)) => Box::new(table.by_index("node", node).filter(of_cluster)),
        (None, None) => Box::new(table.by_values_from("listed", &filter.values(table, &prefix), &from)),
    };
    let groups = groups.filter(|group| filter.takes(group));
    let (taken, next_token) = page.take(groups, |group| group.id.clone());
    let task_arns = Some(taken.into_iter().map(|group| group.task_arn()).collect());
    Ok(w::ListTasksResponse { task_arns, next_token })
}
