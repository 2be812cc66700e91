//! Clusters.

use state::ContainerGroup;
use state::ecs::{Cluster, Service, ServiceStatus};
use state::node::Node;
use state::{Scope, Tx};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{cluster_not_found, invalid, refuse};
use super::{capacity, refs, settings, tags};
use crate::Call;

/// CreateCluster. An active cluster of the same name is answered as it is.
pub fn create(
    call: &mut Call<'_>,
    request: w::CreateClusterRequest,
) -> Result<w::CreateClusterResponse, Fault> {
    let w::CreateClusterRequest {
        cluster_name,
        tags,
        settings,
        configuration,
        capacity_providers,
        default_capacity_provider_strategy,
        service_connect_defaults,
    } = request;
    let scope = call.scope().clone();
    let name = refs::cluster_name(&scope, cluster_name.as_deref())?;
    refuse("configuration", &configuration)?;
    refuse("serviceConnectDefaults", &service_connect_defaults)?;
    let tags = tags::read(tags)?;
    let settings = read_settings(settings)?;
    let capacity_providers = capacity_providers.unwrap_or_default();
    capacity::check_providers(&capacity_providers)?;
    let items = default_capacity_provider_strategy.unwrap_or_default();
    let default_strategy = capacity::strategy(&items, &capacity_providers)?;
    if let Some(found) = call.tx.get::<Cluster>(&scope.key(&name))
        && found.active
    {
        return Ok(w::CreateClusterResponse { cluster: Some(view(call.tx, &found, &["SETTINGS", "TAGS"])) });
    }
    let cluster = Cluster {
        scope,
        name,
        active: true,
        settings,
        configuration: None,
        capacity_providers,
        default_strategy,
        service_connect_namespace: None,
        tags,
        created_at_ms: call.now_ms,
    };
    let view = view(call.tx, &cluster, &["SETTINGS", "TAGS"]);
    call.tx.put(cluster);
    Ok(w::CreateClusterResponse { cluster: Some(view) })
}

/// The settings of a cluster: there is one, and only its default is had.
fn read_settings(given: Option<Vec<w::ClusterSetting>>) -> Result<Vec<(String, String)>, Fault> {
    let mut insights = settings::default_of("containerInsights").unwrap_or_default().to_owned();
    for w::ClusterSetting { name, value } in given.unwrap_or_default() {
        let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
        if name != "containerInsights" {
            return Err(invalid(format!("Invalid setting name: {name}")));
        }
        settings::check(&name, &value)?;
        insights = value;
    }
    Ok(vec![("containerInsights".into(), insights)])
}

/// How many tasks and services a cluster has.
#[derive(Debug, Default)]
struct Counts {
    running: [i64; 2],
    pending: [i64; 2],
    active_services: [i64; 2],
    draining_services: [i64; 2],
}

impl Counts {
    /// Index 0 = EC2, 1 = Fargate.
    fn of(tx: &Tx, cluster: &Cluster) -> Counts {
        let mut counts = Counts::default();
        let prefix = cluster.scope.key(&format!("{}/", cluster.name));
        for (listed, count) in tx.table::<ContainerGroup>().index_values("listed", &prefix) {
            let mut segments = listed.rsplit('/');
            let (status, kind) = (segments.next(), usize::from(segments.next() == Some("FARGATE")));
            match status {
                Some("RUNNING") => counts.running[kind] += count as i64,
                Some("PENDING") => counts.pending[kind] += count as i64,
                _ => {}
            }
        }
        for (_, service) in tx.table::<Service>().scan(&prefix) {
            let template = &service.template;
            let kind = usize::from(is_fargate(&template.launch_type, !template.strategy.is_empty()));
            match service.status {
                ServiceStatus::Active => counts.active_services[kind] += 1,
                ServiceStatus::Draining => counts.draining_services[kind] += 1,
                ServiceStatus::Inactive => {}
            }
        }
        counts
    }

    fn statistics(&self) -> Vec<w::KeyValuePair> {
        let rows = [
            ("runningEC2TasksCount", self.running[0]),
            ("runningFargateTasksCount", self.running[1]),
            ("pendingEC2TasksCount", self.pending[0]),
            ("pendingFargateTasksCount", self.pending[1]),
            ("runningExternalTasksCount", 0),
            ("pendingExternalTasksCount", 0),
            ("activeEC2ServiceCount", self.active_services[0]),
            ("activeFargateServiceCount", self.active_services[1]),
            ("activeExternalServiceCount", 0),
            ("drainingEC2ServiceCount", self.draining_services[0]),
            ("drainingFargateServiceCount", self.draining_services[1]),
            ("drainingExternalServiceCount", 0),
        ];
        let pair =
            |(name, n): (&str, i64)| w::KeyValuePair { name: Some(name.into()), value: Some(n.to_string()) };
        rows.into_iter().map(pair).collect()
    }
}

fn is_fargate(launch_type: &str, by_provider: bool) -> bool {
    by_provider || launch_type == "FARGATE"
}

/// A cluster as the API shows it; `include` as in DescribeClusters.
pub fn view(tx: &Tx, cluster: &Cluster, include: &[&str]) -> w::Cluster {
    let counts = Counts::of(tx, cluster);
    let with = |name: &str| include.contains(&name);
    let setting = |(name, value): &(String, String)| w::ClusterSetting {
        name: Some(name.clone()),
        value: Some(value.clone()),
    };
    w::Cluster {
        cluster_arn: Some(cluster.arn()),
        cluster_name: Some(cluster.name.clone()),
        configuration: None,
        status: Some(if cluster.active { "ACTIVE" } else { "INACTIVE" }.into()),
        registered_container_instances_count: Some(if cluster.active {
            tx.table::<Node>().len() as i64
        } else {
            0
        }),
        running_tasks_count: Some(counts.running.iter().sum()),
        pending_tasks_count: Some(counts.pending.iter().sum()),
        active_services_count: Some(counts.active_services.iter().sum()),
        statistics: Some(if with("STATISTICS") { counts.statistics() } else { Vec::new() }),
        tags: Some(if with("TAGS") { tags::view(&cluster.tags) } else { Vec::new() }),
        settings: Some(if with("SETTINGS") {
            cluster.settings.iter().map(setting).collect()
        } else {
            Vec::new()
        }),
        capacity_providers: Some(cluster.capacity_providers.clone()),
        default_capacity_provider_strategy: Some(capacity::view(&cluster.default_strategy)),
        attachments: with("ATTACHMENTS").then(Vec::new),
        attachments_status: None,
        service_connect_defaults: None,
    }
}

/// DescribeClusters.
pub fn describe(
    call: &mut Call<'_>,
    request: w::DescribeClustersRequest,
) -> Result<w::DescribeClustersResponse, Fault> {
    let w::DescribeClustersRequest { clusters, include } = request;
    let mut asked = clusters.unwrap_or_default();
    if asked.is_empty() {
        asked.push("default".into());
    }
    if asked.len() > 100 {
        return Err(invalid("Clusters can have at most 100 items."));
    }
    let include = include.unwrap_or_default();
    let include: Vec<&str> = include.iter().map(String::as_str).collect();
    let scope = call.scope();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let name = refs::cluster_name(scope, Some(&given))?;
        match call.tx.get::<Cluster>(&scope.key(&name)) {
            Some(cluster) => found.push(view(call.tx, &cluster, &include)),
            None => failures.push(missing(scope, &name)),
        }
    }
    Ok(w::DescribeClustersResponse { clusters: Some(found), failures: Some(failures) })
}

fn missing(scope: &Scope, name: &str) -> w::Failure {
    let arn = scope.arn("ecs", &format!("cluster/{name}"));
    w::Failure { arn: Some(arn), reason: Some("MISSING".into()), detail: None }
}

/// ListClusters.
pub fn list(call: &mut Call<'_>, request: w::ListClustersRequest) -> Result<w::ListClustersResponse, Fault> {
    let w::ListClustersRequest { next_token, max_results } = request;
    let limit = refs::limit(max_results, 100, 100)?;
    let prefix = call.scope().prefix();
    let active = call.tx.table::<Cluster>().scan(&prefix).filter(|(_, cluster)| cluster.active);
    let (page, next_token) =
        refs::page(next_token.as_deref(), limit)?.take(active, |(key, _)| (*key).to_owned());
    let cluster_arns = Some(page.into_iter().map(|(_, cluster)| cluster.arn()).collect());
    Ok(w::ListClustersResponse { cluster_arns, next_token })
}

/// UpdateCluster.
pub fn update(
    call: &mut Call<'_>,
    request: w::UpdateClusterRequest,
) -> Result<w::UpdateClusterResponse, Fault> {
    let w::UpdateClusterRequest { cluster, settings, configuration, service_connect_defaults } = request;
    refuse("configuration", &configuration)?;
    refuse("serviceConnectDefaults", &service_connect_defaults)?;
    let cluster = Some(change_settings(call, cluster, settings)?);
    Ok(w::UpdateClusterResponse { cluster })
}

/// UpdateClusterSettings.
pub fn update_settings(
    call: &mut Call<'_>,
    request: w::UpdateClusterSettingsRequest,
) -> Result<w::UpdateClusterSettingsResponse, Fault> {
    let w::UpdateClusterSettingsRequest { cluster, settings } = request;
    let cluster = Some(change_settings(call, cluster, settings)?);
    Ok(w::UpdateClusterSettingsResponse { cluster })
}

fn change_settings(
    call: &mut Call<'_>,
    cluster: Option<String>,
    settings: Option<Vec<w::ClusterSetting>>,
) -> Result<w::Cluster, Fault> {
    let scope = call.scope().clone();
    let found = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let mut cluster = Cluster::clone(&found);
    if settings.is_some() {
        cluster.settings = read_settings(settings)?;
    }
    let view = view(call.tx, &cluster, &["SETTINGS", "TAGS"]);
    call.tx.put(cluster);
    Ok(view)
}

/// DeleteCluster. The cluster stays, INACTIVE.
pub fn delete(
    call: &mut Call<'_>,
    request: w::DeleteClusterRequest,
) -> Result<w::DeleteClusterResponse, Fault> {
    let w::DeleteClusterRequest { cluster } = request;
    let given = cluster.filter(|c| !c.is_empty()).ok_or_else(|| invalid("Cluster can not be blank."))?;
    let scope = call.scope().clone();
    let found = refs::cluster(call.tx, &scope, Some(&given))?;
    if !found.active {
        return Err(cluster_not_found());
    }
    let prefix = scope.key(&format!("{}/", found.name));
    let services = || call.tx.table::<Service>().scan(&prefix);
    if services().any(|(_, service)| service.status != ServiceStatus::Inactive) {
        return Err(Fault::new(
            "ClusterContainsServicesException",
            "The Cluster cannot be deleted while Services are active.",
        ));
    }
    let tasks = || call.tx.table::<ContainerGroup>().scan(&prefix);
    if tasks().any(|(_, group)| !group.is_stopped()) {
        return Err(Fault::new(
            "ClusterContainsTasksException",
            "The Cluster cannot be deleted while Tasks are active.",
        ));
    }
    let mut cluster = Cluster::clone(&found);
    cluster.active = false;
    cluster.capacity_providers.clear();
    cluster.default_strategy.clear();
    let view = view(call.tx, &cluster, &["SETTINGS", "TAGS"]);
    call.tx.put(cluster);
    Ok(w::DeleteClusterResponse { cluster: Some(view) })
}
