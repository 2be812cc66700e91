//! How tasks are to be launched: launch type or capacity provider strategy, platform version, placement.

use state::ecs::{Cluster, StrategyItem, TaskDefinition};
use wire::Fault;
use wire::shapes::ecs as w;

use super::capacity;
use super::faults::{invalid, unsupported};

/// A launch type, or a capacity provider strategy instead of one.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchKind {
    /// `EC2`, `FARGATE`, or empty with a strategy.
    pub launch_type: String,
    /// The strategy.
    pub strategy: Vec<StrategyItem>,
    /// Fargate's platform version as asked for.
    pub platform_version: Option<String>,
}

impl LaunchKind {
    /// Whether tasks run on Fargate: every capacity provider there is does.
    pub fn is_fargate(&self) -> bool {
        self.launch_type == "FARGATE" || !self.strategy.is_empty()
    }
}

/// Chooses as ECS does: what was given, else the cluster's default strategy, else EC2.
pub fn choose(
    cluster: &Cluster,
    definition: &TaskDefinition,
    launch_type: Option<String>,
    strategy: Option<Vec<w::CapacityProviderStrategyItem>>,
    platform_version: Option<String>,
) -> Result<LaunchKind, Fault> {
    let items = strategy.unwrap_or_default();
    let (launch_type, strategy) = match launch_type {
        Some(_) if !items.is_empty() => {
            return Err(invalid(
                "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try \
                 again.",
            ));
        }
        Some(kind) if matches!(kind.as_str(), "EC2" | "FARGATE") => (kind, Vec::new()),
        Some(other) => return Err(unsupported(&format!("launchType '{other}'"))),
        None if !items.is_empty() => {
            (String::new(), capacity::strategy(&items, &cluster.capacity_providers)?)
        }
        None if !cluster.default_strategy.is_empty() => (String::new(), cluster.default_strategy.clone()),
        None => ("EC2".to_owned(), Vec::new()),
    };
    let kind = LaunchKind { launch_type, strategy, platform_version };
    if kind.is_fargate() && !definition.compatibilities.iter().any(|c| c == "FARGATE") {
        return Err(invalid("Task definition does not support launch_type FARGATE."));
    }
    match (kind.is_fargate(), kind.platform_version.as_deref()) {
        (_, None) | (true, Some("LATEST" | plan::service_task::PLATFORM_LATEST)) => Ok(kind),
        (false, Some(_)) => {
            Err(invalid("The platform version must be null when specifying an EC2 launch type."))
        }
        (true, Some("1.0.0" | "1.1.0" | "1.2.0" | "1.3.0")) => {
            let version = kind.platform_version.unwrap_or_default();
            Err(unsupported(&format!("platformVersion '{version}'")))
        }
        (true, Some(_)) => {
            Err(Fault::new("PlatformUnknownException", "The specified platform does not exist."))
        }
    }
}

/// Type and expression, or type and field.
pub type Rules = Vec<(String, Option<String>)>;

/// Reads placement constraints.
pub fn constraints(given: Option<Vec<w::PlacementConstraint>>, fargate: bool) -> Result<Rules, Fault> {
    let given = given.unwrap_or_default();
    if fargate && !given.is_empty() {
        return Err(invalid("Placement constraints are not supported with FARGATE launch type."));
    }
    if given.len() > 10 {
        return Err(invalid("placement constraints can have at most 10 items."));
    }
    let mut rules = Rules::new();
    for w::PlacementConstraint { r#type, expression } in given {
        let kind = r#type.unwrap_or_default();
        match (kind.as_str(), &expression) {
            ("distinctInstance", None) => {}
            ("distinctInstance", Some(_)) => {
                return Err(invalid("distinctInstance expression should not be specified."));
            }
            ("memberOf", Some(text)) => {
                plan::constraint::parse(text).map_err(|error| {
                    invalid(format!("Invalid expression in placement constraint: {error}"))
                })?;
            }
            ("memberOf", None) => return Err(invalid("memberOf expression should be specified.")),
            _ => return Err(invalid(format!("Invalid placement constraint type '{kind}'"))),
        }
        rules.push((kind, expression));
    }
    Ok(rules)
}

/// Reads placement strategies.
pub fn strategies(given: Option<Vec<w::PlacementStrategy>>, fargate: bool) -> Result<Rules, Fault> {
    let given = given.unwrap_or_default();
    if fargate && !given.is_empty() {
        return Err(invalid("Placement strategies are not supported with FARGATE launch type."));
    }
    if given.len() > 5 {
        return Err(invalid("placement strategies can have at most 5 items."));
    }
    let mut rules = Rules::new();
    for w::PlacementStrategy { r#type, field } in given {
        let kind = r#type.unwrap_or_default();
        let value = field.as_deref().unwrap_or_default();
        match kind.as_str() {
            "random" if field.is_none() => {}
            "random" => return Err(invalid("random field should not be specified.")),
            "binpack" if matches!(value.to_ascii_lowercase().as_str(), "cpu" | "memory") => {}
            "binpack" => return Err(invalid(format!("binpack field '{value}' is invalid."))),
            "spread" if matches!(value, "instanceId" | "host" | "attribute:ecs.availability-zone") => {}
            "spread" if value.starts_with("attribute:") => {
                return Err(unsupported(&format!("placementStrategy spread over {value}")));
            }
            "spread" => return Err(invalid(format!("spread field '{value}' is invalid."))),
            _ => return Err(invalid(format!("Invalid placement strategy type '{kind}'"))),
        }
        rules.push((kind, field.map(|field| if field == "CPU" { "cpu".into() } else { field })));
    }
    Ok(rules)
}

/// Placement constraints as the API shows them.
pub fn constraints_view(rules: &Rules) -> Vec<w::PlacementConstraint> {
    let one = |(kind, expression): &(String, Option<String>)| w::PlacementConstraint {
        r#type: Some(kind.clone()),
        expression: expression.clone(),
    };
    rules.iter().map(one).collect()
}

/// Placement strategies as the API shows them.
pub fn strategies_view(rules: &Rules) -> Vec<w::PlacementStrategy> {
    let one = |(kind, field): &(String, Option<String>)| w::PlacementStrategy {
        r#type: Some(kind.clone()),
        field: field.clone(),
    };
    rules.iter().map(one).collect()
}
