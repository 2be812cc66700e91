//! Capacity providers: FARGATE and FARGATE_SPOT, what a cluster associates, and how a strategy divides tasks.

use std::collections::BTreeMap;

use state::Scope;
use state::ecs::{Cluster, StrategyItem};
use wire::Fault;
use wire::shapes::ecs::*;

use super::faults::{client, invalid, refuse};
use super::{clusters, refs};
use crate::Call;

/// The capacity providers there are.
const PROVIDERS: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

/// Checks the capacity providers that a cluster is to be associated with.
pub fn check_providers(names: &[String]) -> Result<(), Fault> {
    match names.iter().find(|name| !PROVIDERS.contains(&name.as_str())) {
        Some(name) => Err(invalid(format!(
            "The specified capacity provider '{name}' was not found. Specify a valid name or ARN and try again."
        ))),
        None => Ok(()),
    }
}

/// Reads a capacity provider strategy whose providers must be among those associated with the cluster.
pub fn strategy(
    items: &[CapacityProviderStrategyItem],
    associated: &[String],
) -> Result<Vec<StrategyItem>, Fault> {
    let mut strategy = Vec::with_capacity(items.len());
    for item in items {
        let CapacityProviderStrategyItem { capacity_provider, weight, base } = item;
        let provider = capacity_provider.clone().unwrap_or_default();
        check_providers(std::slice::from_ref(&provider))?;
        if !associated.contains(&provider) {
            return Err(invalid(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated \
                 with the cluster. Associate the capacity provider with the cluster and try again.",
            ));
        }
        let number = |what: &str, given: Option<i64>, max: i64| match given.unwrap_or(0) {
            n if (0..=max).contains(&n) => Ok(n as u32),
            n => Err(invalid(format!(
                "Capacity provider strategy {what} must be between 0 and {max}, but was {n}"
            ))),
        };
        strategy.push(StrategyItem {
            weight: number("weight", *weight, 1_000)?,
            base: number("base", *base, 100_000)?,
            provider,
        });
    }
    if strategy.iter().filter(|item| item.base > 0).count() > 1 {
        return Err(invalid(
            "There are multiple capacity providers in the specified capacity provider strategy with a base value \
             defined. Only one capacity provider in a capacity provider strategy can have a base value.",
        ));
    }
    // A single provider without a weight gets all tasks, as in ECS.
    if let [only] = strategy.as_mut_slice()
        && only.weight == 0
        && items[0].weight.is_none()
    {
        only.weight = 1;
    }
    if !strategy.is_empty() && strategy.iter().all(|item| item.weight == 0) {
        return Err(invalid(
            "There are no capacity providers in the capacity provider strategy with a weight value greater than zero.",
        ));
    }
    Ok(strategy)
}

/// The provider of the next task, after `given` tasks of the same call have theirs: the base first, then by weight.
pub fn next_provider<'a>(strategy: &'a [StrategyItem], given: &BTreeMap<String, u32>) -> Option<&'a str> {
    let count = |item: &StrategyItem| given.get(&item.provider).copied().unwrap_or(0);
    if let Some(item) = strategy.iter().find(|item| count(item) < item.base) {
        return Some(&item.provider);
    }
    // The least filled in proportion to its weight, compared without division.
    let weighted = strategy.iter().filter(|item| item.weight > 0);
    let filled = |item: &StrategyItem| u64::from(count(item) - item.base.min(count(item)));
    let least = weighted.min_by(|a, b| {
        (filled(a) * u64::from(b.weight))
            .cmp(&(filled(b) * u64::from(a.weight)))
            .then(b.weight.cmp(&a.weight))
    });
    least.map(|item| item.provider.as_str())
}

/// A strategy as the API shows it.
pub fn view(strategy: &[StrategyItem]) -> Vec<CapacityProviderStrategyItem> {
    let item = |item: &StrategyItem| CapacityProviderStrategyItem {
        capacity_provider: Some(item.provider.clone()),
        weight: Some(i64::from(item.weight)),
        base: Some(i64::from(item.base)),
    };
    strategy.iter().map(item).collect()
}

/// PutClusterCapacityProviders.
pub fn put(
    call: &mut Call<'_>,
    request: PutClusterCapacityProvidersRequest,
) -> Result<PutClusterCapacityProvidersResponse, Fault> {
    let PutClusterCapacityProvidersRequest {
        cluster,
        capacity_providers,
        default_capacity_provider_strategy,
    } = request;
    let scope = call.scope().clone();
    let mut cluster = Cluster::clone(&*refs::active_cluster(call.tx, &scope, cluster.as_deref())?);
    let providers = capacity_providers.unwrap_or_default();
    check_providers(&providers)?;
    let items = default_capacity_provider_strategy.unwrap_or_default();
    cluster.default_strategy = strategy(&items, &providers)?;
    if let Some(used) = cluster.capacity_providers.iter().find(|p| !providers.contains(p))
        && in_use(call, &cluster, used)
    {
        return Err(Fault::new(
            "ResourceInUseException",
            "The specified capacity provider is in use and cannot be removed.",
        ));
    }
    cluster.capacity_providers = providers;
    let view = clusters::view(call.tx, &cluster, &["SETTINGS", "TAGS"]);
    call.tx.put(cluster);
    Ok(PutClusterCapacityProvidersResponse { cluster: Some(view) })
}

/// Whether a service of the cluster, or a task that is not over, uses the provider.
fn in_use(call: &Call<'_>, cluster: &Cluster, provider: &str) -> bool {
    let prefix = cluster.scope.key(&format!("{}/", cluster.name));
    let services = call.tx.table::<state::ecs::Service>().scan(&prefix);
    let mut services = services.filter(|(_, s)| s.status == state::ecs::ServiceStatus::Active);
    let mut tasks = call.tx.table::<state::ContainerGroup>().scan(&prefix).filter(|(_, g)| !g.is_stopped());
    services.any(|(_, s)| s.template.strategy.iter().any(|item| item.provider == provider))
        || tasks.any(|(_, g)| g.task().capacity_provider.as_deref() == Some(provider))
}

fn arn(scope: &Scope, name: &str) -> String {
    scope.arn("ecs", &format!("capacity-provider/{name}"))
}

/// DescribeCapacityProviders.
pub fn describe(
    call: &mut Call<'_>,
    request: DescribeCapacityProvidersRequest,
) -> Result<DescribeCapacityProvidersResponse, Fault> {
    // `include` can only name TAGS, and the providers there are have none.
    let DescribeCapacityProvidersRequest { capacity_providers, cluster, include: _, max_results, next_token } =
        request;
    refuse("cluster", &cluster)?;
    let scope = call.scope();
    let asked = capacity_providers.filter(|names| !names.is_empty());
    if asked.is_some() && next_token.is_some() {
        return Err(client("capacityProviders and nextToken cannot both be specified."));
    }
    let asked = asked.unwrap_or_else(|| PROVIDERS.map(String::from).to_vec());
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in asked {
        let short = name.rsplit('/').next().unwrap_or_default().to_owned();
        if PROVIDERS.contains(&short.as_str()) {
            found.push(short);
        } else {
            let arn = if name.starts_with("arn:") { name } else { arn(scope, &name) };
            failures.push(Failure { arn: Some(arn), reason: Some("MISSING".into()), detail: None });
        }
    }
    let limit = refs::limit(max_results, 10, 10)?;
    let (page, next_token) = refs::page(next_token.as_deref(), limit)?.take(found, Clone::clone);
    let provider = |name: String| CapacityProvider {
        capacity_provider_arn: Some(arn(scope, &name)),
        status: Some("ACTIVE".into()),
        r#type: Some(name.clone()),
        name: Some(name),
        tags: Some(Vec::new()),
        ..Default::default()
    };
    let capacity_providers = Some(page.into_iter().map(provider).collect());
    Ok(DescribeCapacityProvidersResponse { capacity_providers, failures: Some(failures), next_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(provider: &str, base: u32, weight: u32) -> StrategyItem {
        StrategyItem { provider: provider.into(), base, weight }
    }

    #[test]
    fn the_base_comes_first_and_the_rest_follows_the_weights() {
        let strategy = [item("FARGATE", 2, 1), item("FARGATE_SPOT", 0, 3)];
        let mut given = BTreeMap::new();
        let mut order = Vec::new();
        for _ in 0..10 {
            let provider = next_provider(&strategy, &given).unwrap().to_owned();
            *given.entry(provider.clone()).or_insert(0) += 1;
            order.push(provider);
        }
        assert_eq!(order[..2], ["FARGATE", "FARGATE"]);
        assert_eq!(given["FARGATE"], 4);
        assert_eq!(given["FARGATE_SPOT"], 6);
    }
}
