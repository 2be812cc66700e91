//! Where tasks were put: each on a node that its constraints allow, that no other was better than by its strategies,
//! and with the capacity provider whose turn it was.
//!
//! A commit may stop tasks and start others, in an order that is not seen: what counts is what holds for any order.

use std::sync::Arc;

use state::ecs::{Service, StrategyItem};
use state::node::Node;
use state::{ContainerGroup, Record, Snapshot};

use crate::place::{PROVIDERS, Place, Rules, holds};

/// How a task was to be placed.
#[derive(Debug, Default, PartialEq)]
struct Wish {
    constraints: Rules,
    strategy: Rules,
    providers: Vec<StrategyItem>,
}

impl Wish {
    /// By its service's deployment, or by what RunTask was told; `None`: on a node that was named (StartTask).
    fn of(snapshot: &Snapshot, group: &ContainerGroup) -> Option<Wish> {
        let task = group.task();
        if let Some(owner) = &task.service {
            let service: &Service = snapshot.services.get(&owner.key)?;
            let deployment = service.deployments.iter().find(|d| d.id == owner.deployment_id)?;
            return Some(Wish::of_template(&deployment.template));
        }
        let place: Place = task.started_by.as_deref()?.strip_prefix("run")?.parse().ok()?;
        let providers = place.providers.into_iter().flatten().zip(PROVIDERS);
        let item = |((base, weight), provider): ((u32, u32), &str)| StrategyItem {
            provider: provider.to_owned(),
            weight,
            base,
        };
        Some(Wish {
            constraints: place.constraints(),
            strategy: place.strategies(),
            providers: providers.map(item).collect(),
        })
    }

    fn of_template(template: &state::ecs::ServiceTemplate) -> Wish {
        Wish {
            constraints: template.placement_constraints.clone(),
            strategy: template.placement_strategy.clone(),
            providers: template.strategy.clone(),
        }
    }

    fn is_distinct(&self) -> bool {
        self.constraints.iter().any(|(kind, _)| kind == "distinctInstance")
    }

    fn expressions(&self) -> impl Iterator<Item = &str> {
        self.constraints.iter().filter_map(|(_, expression)| expression.as_deref())
    }
}

/// Looks at the groups that a commit has launched.
pub(crate) fn check(
    before: &Snapshot,
    after: &Snapshot,
    new: &[Arc<ContainerGroup>],
    wrong: &mut Vec<String>,
) {
    for group in new {
        let Some(wish) = Wish::of(after, group) else { continue };
        let Some(node) = group.node().and_then(|id| after.nodes.get(id)) else { continue };
        constraints(before, after, group, node, &wish, wrong);
        if new.len() == 1 {
            strategy(before, after, group, &wish, wrong);
        }
        providers(before, after, group, &wish, new, wrong);
    }
}

fn constraints(
    before: &Snapshot,
    after: &Snapshot,
    group: &ContainerGroup,
    node: &Node,
    wish: &Wish,
    wrong: &mut Vec<String>,
) {
    for expression in wish.expressions() {
        let held = |snapshot| holds(expression, snapshot, node, &group.id) != Some(false);
        if !held(before) && !held(after) {
            wrong.push(format!("{} is on a node that is not one of those with {expression}", group.key()));
        }
    }
    if !wish.is_distinct() {
        return;
    }
    for other in after.groups.by_index("node", &node.id).filter(|other| other.id != group.id) {
        // One that came in the same commit and may stand beside others may have come later.
        let came_first = before.groups.get(&other.key()).is_some()
            || Wish::of(after, other).is_some_and(|wish| wish.is_distinct());
        if other.task().group == group.task().group && !other.is_stopping() && came_first {
            wrong.push(format!(
                "{} is on a node with another of its group, which is to be apart",
                group.key()
            ));
        }
    }
}

// === strategies ===

/// What was held when a task was launched: all that was there before, or only what does not stop in the same commit.
struct View<'a> {
    before: &'a Snapshot,
    after: Option<&'a Snapshot>,
    group: &'a str,
}

impl View<'_> {
    fn on_node(&self, node: &str) -> i64 {
        let stays =
            |key: &str| self.after.is_none_or(|s| s.groups.get(key).is_some_and(|g| !g.is_stopping()));
        let groups = self.before.groups.by_index("node", node);
        groups.filter(|g| g.task().group == self.group && !g.is_stopping() && stays(&g.key())).count() as i64
    }

    fn in_zone(&self, zone: &str) -> i64 {
        let nodes = self.before.nodes.iter().filter(|(_, node)| node.availability_zone == zone);
        nodes.map(|(id, _)| self.on_node(id)).sum()
    }

    /// Free CPU and memory, if what is asked for fits.
    fn free(&self, node: &Node, demand: &state::group::Demand) -> Option<(i64, i64)> {
        let (mut cpu, mut memory) = (i64::from(node.capacity.cpu_units), i64::from(node.capacity.memory_mib));
        for group in self.before.groups.by_index("node", &node.id) {
            let spec = self.before.specs.get(&group.spec)?;
            cpu -= i64::from(spec.spec.demand.cpu_units);
            memory -= i64::from(spec.spec.demand.memory_mib);
            if spec.spec.demand.host_ports.iter().any(|port| demand.host_ports.contains(port)) {
                return None;
            }
        }
        let fits = node.is_connected()
            && i64::from(demand.cpu_units) <= cpu.min(i64::from(node.cpu_physical_units))
            && i64::from(demand.memory_mib) <= memory;
        fits.then_some((cpu, memory))
    }

    /// Whether a task may go to a node.
    fn allows(&self, node: &Node, demand: &state::group::Demand, wish: &Wish) -> bool {
        let is_there = |expression: &str| holds(expression, self.before, node, "") != Some(false);
        self.free(node, demand).is_some()
            && wish.expressions().all(is_there)
            && !(wish.is_distinct() && self.on_node(&node.id) > 0)
    }

    /// The lower, the better: one number for each strategy, up to the first that takes any node.
    fn rank(&self, node: &Node, demand: &state::group::Demand, wish: &Wish) -> Vec<i64> {
        let (cpu, memory) = self.free(node, demand).unwrap_or_default();
        if wish.strategy.is_empty() {
            return vec![self.before.groups.by_index("node", &node.id).count() as i64];
        }
        let ordered = wish.strategy.iter().take_while(|(kind, _)| kind != "random");
        let one = |(kind, field): &(String, Option<String>)| match (kind.as_str(), field.as_deref()) {
            ("binpack", Some("cpu")) => cpu,
            ("binpack", _) => memory,
            (_, Some("attribute:ecs.availability-zone")) => self.in_zone(&node.availability_zone),
            _ => self.on_node(&node.id),
        };
        ordered.map(one).collect()
    }
}

/// No node was better than the one that was taken.
fn strategy(
    before: &Snapshot,
    after: &Snapshot,
    group: &ContainerGroup,
    wish: &Wish,
    wrong: &mut Vec<String>,
) {
    let Some(spec) = after.specs.get(&group.spec) else { return };
    let Some(taken) = group.node().and_then(|id| before.nodes.get(id)) else { return };
    let demand = &spec.spec.demand;
    let better = |after: Option<&Snapshot>| {
        let view = View { before, after, group: &group.task().group };
        let rank = view.rank(taken, demand, wish);
        let allowed = before.nodes.iter().filter(|(_, node)| view.allows(node, demand, wish));
        allowed.map(|(id, node)| (id, view.rank(node, demand, wish))).any(|(_, other)| other < rank)
    };
    if better(None) && better(Some(after)) {
        let strategy = &wish.strategy;
        wrong.push(format!(
            "{} is on a node though another was better by its strategy {strategy:?}",
            group.key()
        ));
    }
}

/// Whether another task of a service would fit somewhere.
pub(crate) fn has_room(snapshot: &Snapshot, service: &Service) -> bool {
    let Some(primary) = service.primary() else { return false };
    let key = plan::service_task::definition_key(&service.scope, &primary.template.task_definition_arn);
    let Some(definition) = key.and_then(|key| snapshot.task_definitions.get(&key)) else { return false };
    let (wish, group) = (Wish::of_template(&primary.template), format!("service:{}", service.name));
    let view = View { before: snapshot, after: None, group: &group };
    snapshot.nodes.iter().any(|(_, node)| view.allows(node, &definition.spec.demand, &wish))
}

// === capacity providers ===

/// The base comes first, and what is beyond it follows the weights.
fn providers(
    before: &Snapshot,
    after: &Snapshot,
    group: &ContainerGroup,
    wish: &Wish,
    new: &[Arc<ContainerGroup>],
    wrong: &mut Vec<String>,
) {
    let provider = &group.task().capacity_provider;
    let Some(own) = wish.providers.iter().find(|item| provider.as_ref() == Some(&item.provider)) else {
        if provider.is_some() || !wish.providers.is_empty() {
            wrong.push(format!("{} has capacity provider {provider:?} of {:?}", group.key(), wish.providers));
        }
        return;
    };
    let (task, of) = (group.task(), |item: &StrategyItem, g: &ContainerGroup| {
        g.task().capacity_provider.as_ref() == Some(&item.provider) && !g.is_stopping()
    });
    let new = |item: &StrategyItem| {
        let alike = |g: &&Arc<ContainerGroup>| g.task().started_by == task.started_by;
        new.iter().filter(alike).filter(|g| of(item, g)).count() as u32
    };
    let at = |snapshot: &Snapshot, item: &StrategyItem| match &task.service {
        Some(owner) => {
            snapshot.groups.by_index("deployment", &owner.deployment_id).filter(|g| of(item, g)).count()
                as u32
        }
        None => 0,
    };
    // At least so many had the task's own when it was given it; at most so many had each of the others.
    let least = match task.service {
        Some(_) => at(after, own),
        None => new(own),
    }
    .saturating_sub(1);
    let most = |item: &StrategyItem| at(before, item) + new(item);
    let beyond = |count: u32, item: &StrategyItem| u64::from(count.saturating_sub(item.base));
    for other in wish.providers.iter().filter(|other| other.provider != own.provider) {
        let is_before_base = most(other) < other.base;
        let is_behind = least >= own.base
            && beyond(least, own) * u64::from(other.weight)
                > beyond(most(other), other) * u64::from(own.weight);
        let is_last = least >= own.base && own.weight == 0 && other.weight > 0;
        if (is_before_base && least >= own.base) || is_behind || is_last {
            wrong.push(format!(
                "{} has {}, and it was the turn of {} by {:?}",
                group.key(),
                own.provider,
                other.provider,
                wish.providers
            ));
        }
    }
}
