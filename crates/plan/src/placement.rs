//! Why a group runs where it runs: the choice of a node for a demand, and the reason where none is chosen.
//!
//! The rule: a node that is connected, has the architecture, meets every constraint and has the CPU, memory and host ports
//! free; among those the best by the strategies in their order ("Amazon ECS task placement", ECS developer guide);
//! without a strategy the one with the fewest groups.

use std::collections::{BTreeMap, BTreeSet};

use state::ecs::Service;
use state::group::Demand;
use state::node::{Ledger, Node, container_instance_id};
use state::room::{Need, Order, Room};
use state::{Ids, Snapshot};

use crate::constraint;

#[cfg(test)]
mod tests;

/// How often a node is drawn for the strategy `random` before all that fit are listed.
const DRAWS: usize = 16;

/// What is asked of placement.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is reserved on the node.
    pub demand: &'a Demand,
    /// `X86_64` or `ARM64`; `None` = any.
    pub cpu_architecture: Option<&'a str>,
    /// The task's group (`service:web`): what `distinctInstance` and spreading count.
    pub group: &'a str,
    /// Placement constraints: `distinctInstance` or `memberOf`, expression.
    pub constraints: &'a [(String, Option<String>)],
    /// Placement strategies: `spread`, `binpack` or `random`, field.
    pub strategy: &'a [(String, Option<String>)],
    /// This node and no other (StartTask).
    pub only_node: Option<&'a str>,
}

/// Why a group could not be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// What was missing on the node that came closest.
    pub reason: Reason,
    /// That node; `None` if there is no node at all.
    pub node: Option<String>,
}

/// What was missing. The order is how close the node came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No node's agent takes new groups.
    Agent,
    /// Another CPU architecture.
    Attribute,
    /// A `memberOf` expression is false.
    MemberOf,
    /// Another task of the group is there.
    DistinctInstance,
    /// Too little CPU.
    Cpu,
    /// Too little memory.
    Memory,
    /// A host port is taken.
    Ports,
    /// No subnet of this id.
    NoSubnet(String),
    /// The subnets have no free address; the first of them.
    NoAddress(String),
    /// The task definition of this ARN is gone.
    NoDefinition(String),
}

impl Reason {
    /// The `reason` of a RunTask failure ("API failure reasons", ECS developer guide).
    pub fn as_failure(&self) -> String {
        match self {
            Reason::Agent => "AGENT".into(),
            Reason::Attribute => "ATTRIBUTE".into(),
            Reason::MemberOf => "MemberOf placement constraint unsatisfied.".into(),
            Reason::DistinctInstance => "DistinctInstance placement constraint unsatisfied.".into(),
            Reason::Cpu => "RESOURCE:CPU".into(),
            Reason::Memory => "RESOURCE:MEMORY".into(),
            Reason::Ports => "RESOURCE:PORTS".into(),
            Reason::NoSubnet(id) => format!("The subnet ID '{id}' does not exist"),
            Reason::NoAddress(id) => format!(
                "Unexpected EC2 error while attempting to Create Network Interface in subnet '{id}': \
                 InsufficientFreeAddressesInSubnet"
            ),
            Reason::NoDefinition(arn) => format!("TaskDefinition not found: {arn}"),
        }
    }
}

/// How all events of what could not be placed end.
const MORE: &str = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.";

impl Unplaced {
    /// The rest of a service's event after `was unable to place a task` ("Service event messages", ECS developer guide).
    pub fn as_event(&self, service: &Service) -> String {
        if service.template.is_fargate() {
            return self.as_fargate_event();
        }
        let nowhere = " because no container instance met all of its requirements.";
        let closest = match &self.node {
            Some(node) => {
                let id = container_instance_id(&service.scope, &service.cluster, node);
                format!("The closest matching (container-instance {id})")
            }
            None => {
                return format!(
                    "{nowhere} Reason: No Container Instances were found in your cluster. {MORE}"
                );
            }
        };
        match &self.reason {
            Reason::Cpu => format!("{nowhere} {closest} has insufficient CPU units available. {MORE}"),
            Reason::Memory => format!("{nowhere} {closest} has insufficient memory available. {MORE}"),
            Reason::Ports => {
                format!("{nowhere} {closest} is already using a port required by your task. {MORE}")
            }
            Reason::Attribute => {
                format!("{nowhere} {closest} is missing an attribute required by your task. {MORE}")
            }
            Reason::Agent => format!("{nowhere} {closest} has the agent disconnected. {MORE}"),
            other => format!("{nowhere} {closest} encountered error \"{}\". {MORE}", other.as_failure()),
        }
    }

    /// Fargate has no container instances that could be named.
    fn as_fargate_event(&self) -> String {
        let reason = match &self.reason {
            Reason::NoSubnet(_) | Reason::NoAddress(_) | Reason::NoDefinition(_) => {
                format!("{}.", self.reason.as_failure())
            }
            _ => "Capacity is unavailable at this time. Please try again later or in a different availability zone."
                .into(),
        };
        format!(". Reason: {reason} {MORE}")
    }
}

/// The node for a request.
pub fn choose(snapshot: &Snapshot, ids: &mut Ids, request: &Request) -> Result<String, Unplaced> {
    let search = Search {
        snapshot,
        request,
        constraints: Constraints::compile(request),
        held: Held::count(snapshot, request),
    };
    let found = match request.only_node {
        Some(only) => Some(only).filter(|id| search.accepts(id, &[])),
        None => search.best(ids, request.strategy, &mut Vec::new()),
    };
    found.map(str::to_owned).ok_or_else(|| search.closest())
}

/// One search. The orders of [`state::room`] find the best, or that none has room and why, without looking at the rest;
/// only where nothing fits a request with constraints, all nodes are looked at to say why.
struct Search<'a> {
    snapshot: &'a Snapshot,
    request: &'a Request<'a>,
    constraints: Constraints,
    held: Held<'a>,
}

/// What an earlier strategy leaves to choose among: the nodes that are equally good by it.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// So many tasks of the group are on the node.
    OnNode(i64),
    /// So many are in its zone.
    InZone(i64),
    /// So much of what the order goes by is free.
    Free(Order, i64),
}

impl<'a> Search<'a> {
    /// The best node by the strategies left, among those of all levels.
    fn best(
        &self,
        ids: &mut Ids,
        strategy: &[(String, Option<String>)],
        levels: &mut Vec<Level>,
    ) -> Option<&'a str> {
        let Some(((kind, field), rest)) = strategy.split_first() else {
            return self.first(Order::Groups, levels);
        };
        let order = match (kind.as_str(), field.as_deref()) {
            ("random", _) => return self.any(ids, levels),
            ("binpack", Some("cpu" | "CPU")) => Order::FreeCpu,
            ("binpack", _) => Order::FreeMemory,
            ("spread", Some("attribute:ecs.availability-zone")) => {
                let zones = self.snapshot.room.zones().map(|zone| self.held.in_zone(zone));
                let counts: BTreeSet<i64> = zones.collect();
                return self.best_of(ids, rest, levels, counts.into_iter().map(Level::InZone));
            }
            _ => {
                let counts = self.held.counts(&self.snapshot.room);
                return self.best_of(ids, rest, levels, counts.into_iter().map(Level::OnNode));
            }
        };
        let first = self.first(order, levels)?;
        if rest.is_empty() {
            return Some(first);
        }
        levels.push(Level::Free(order, self.snapshot.room.rank(order, first)?));
        self.best(ids, rest, levels)
    }

    /// The best of the first level that has any.
    fn best_of(
        &self,
        ids: &mut Ids,
        rest: &[(String, Option<String>)],
        levels: &mut Vec<Level>,
        of: impl Iterator<Item = Level>,
    ) -> Option<&'a str> {
        let before = levels.len();
        for level in of {
            levels.push(level);
            let found = self.best(ids, rest, levels);
            levels.truncate(before);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn need(&self) -> Need<'a> {
        Need {
            cpu_units: self.request.demand.cpu_units,
            memory_mib: self.request.demand.memory_mib,
            cpu_architecture: self.request.cpu_architecture,
        }
    }

    fn first(&self, order: Order, levels: &[Level]) -> Option<&'a str> {
        self.snapshot.room.first(order, self.need(), |id| self.accepts(id, levels))
    }

    /// Any node that fits, each as likely: a few are drawn, and if none of them fits one of all that do.
    fn any(&self, ids: &mut Ids, levels: &[Level]) -> Option<&'a str> {
        let room = &self.snapshot.room;
        let draw = |ids: &mut Ids, of: usize| usize::try_from(ids.next_u64() % of.max(1) as u64).unwrap_or(0);
        for _ in 0..DRAWS {
            let drawn = room.nth(draw(ids, room.len()))?;
            if self.accepts(drawn, levels) {
                return Some(drawn);
            }
        }
        let mut fitting = Vec::new();
        room.first(Order::Id, self.need(), |id| {
            fitting.extend(Some(id).filter(|id| self.accepts(id, levels)));
            false
        });
        fitting.get(draw(ids, fitting.len())).copied()
    }

    fn accepts(&self, id: &str, levels: &[Level]) -> bool {
        let Some(node) = self.snapshot.nodes.get(id) else { return false };
        levels.iter().all(|level| match level {
            Level::OnNode(count) => self.held.on_node(id) == *count,
            Level::InZone(count) => self.held.in_zone(&node.availability_zone) == *count,
            Level::Free(order, rank) => self.snapshot.room.rank(*order, id) == Some(*rank),
        }) && self.fits(node).is_ok()
    }

    fn fits(&self, node: &Node) -> Result<(), Reason> {
        let nothing = Ledger::default();
        let ledger = self.snapshot.ledgers.get(&node.id).map_or(&nothing, |ledger| ledger);
        fits(self.snapshot, node, ledger, self.request, &self.constraints, &self.held)
    }

    /// Which node came closest, and what it lacks; where several did, the one of the lowest id.
    fn closest(&self) -> Unplaced {
        if self.constraints.is_none() && self.request.only_node.is_none() {
            return self.closest_by_room();
        }
        let only = |id: &str| self.request.only_node.is_none_or(|only| only == id);
        let mut closest: Option<(Reason, &Node)> = None;
        for (_, node) in self.snapshot.nodes.iter().filter(|(id, _)| only(id)) {
            if let Err(reason) = self.fits(node)
                && closest.as_ref().is_none_or(|(most, _)| reason > *most)
            {
                closest = Some((reason, node));
            }
        }
        match closest {
            Some((reason, node)) => Unplaced { reason, node: Some(node.id.clone()) },
            None => Unplaced { reason: Reason::Agent, node: None },
        }
    }

    /// As [`Search::closest`], where only room and architecture are asked for: each reason, the closest first, is looked
    /// for among the nodes that have all that comes before it.
    fn closest_by_room(&self) -> Unplaced {
        let need = self.need();
        let all_but = [
            (Reason::Ports, need),
            (Reason::Memory, Need { memory_mib: 0, ..need }),
            (Reason::Cpu, Need { memory_mib: 0, cpu_units: 0, ..need }),
            (Reason::Attribute, Need::default()),
        ];
        for (reason, need) in all_but {
            let lacks = |id: &str| {
                self.snapshot.nodes.get(id).is_some_and(|node| self.fits(node).as_ref() == Err(&reason))
            };
            if let Some(node) = self.snapshot.room.first(Order::Id, need, lacks) {
                return Unplaced { node: Some(node.to_owned()), reason };
            }
        }
        // A connected one lacks one of these.
        let node = self.snapshot.nodes.iter().next().map(|(id, _)| id.to_owned());
        Unplaced { reason: Reason::Agent, node }
    }
}

/// Constraints as parsed. One that cannot be parsed was refused by the API; here it is met by no node.
struct Constraints {
    distinct: bool,
    members: Vec<Option<constraint::Expr>>,
}

impl Constraints {
    fn is_none(&self) -> bool {
        !self.distinct && self.members.is_empty()
    }

    fn compile(request: &Request) -> Constraints {
        let of = |kind: &'static str| request.constraints.iter().filter(move |(k, _)| k == kind);
        Constraints {
            distinct: of("distinctInstance").next().is_some(),
            members: of("memberOf")
                .map(|(_, text)| text.as_deref().and_then(|text| constraint::parse(text).ok()))
                .collect(),
        }
    }
}

fn fits(
    snapshot: &Snapshot,
    node: &Node,
    ledger: &Ledger,
    request: &Request,
    constraints: &Constraints,
    held: &Held,
) -> Result<(), Reason> {
    if !node.is_connected() {
        return Err(Reason::Agent);
    }
    if request.cpu_architecture.is_some_and(|wanted| wanted != node.cpu_architecture) {
        return Err(Reason::Attribute);
    }
    if !constraints.members.is_empty() {
        let attributes = attributes(snapshot, node, ledger);
        if !constraints.members.iter().all(|e| e.as_ref().is_some_and(|e| e.matches(&attributes))) {
            return Err(Reason::MemberOf);
        }
    }
    if constraints.distinct && held.on_node(&node.id) > 0 {
        return Err(Reason::DistinctInstance);
    }
    let demand = request.demand;
    let free = |capacity: u32, used: u32| capacity.saturating_sub(used);
    if demand.cpu_units > node.cpu_physical_units
        || demand.cpu_units > free(node.capacity.cpu_units, ledger.used.cpu_units)
    {
        return Err(Reason::Cpu);
    }
    if demand.memory_mib > free(node.capacity.memory_mib, ledger.used.memory_mib) {
        return Err(Reason::Memory);
    }
    let taken =
        |(port, protocol): &(u16, String)| ledger.host_ports.contains_key(&format!("{port}/{protocol}"));
    if demand.host_ports.iter().any(taken) { Err(Reason::Ports) } else { Ok(()) }
}

/// What `memberOf` expressions may ask of a node.
pub fn attributes(snapshot: &Snapshot, node: &Node, ledger: &Ledger) -> BTreeMap<String, Vec<String>> {
    let architecture = if node.cpu_architecture == "X86_64" { "x86_64" } else { "arm64" };
    let mut all = BTreeMap::from([
        ("attribute:ecs.cpu-architecture".to_owned(), vec![architecture.to_owned()]),
        ("attribute:ecs.os-type".to_owned(), vec!["linux".to_owned()]),
        ("attribute:ecs.os-family".to_owned(), vec!["LINUX".to_owned()]),
        ("attribute:ecs.availability-zone".to_owned(), vec![node.availability_zone.clone()]),
        ("ec2InstanceId".to_owned(), vec![node.instance_id()]),
        ("runningTasksCount".to_owned(), vec![ledger.groups.to_string()]),
    ]);
    let groups: Vec<String> =
        snapshot.groups.by_index("node", &node.id).map(|group| group.task().group.clone()).collect();
    if !groups.is_empty() {
        all.insert("task:group".to_owned(), groups);
    }
    all
}

/// Where the tasks of the request's group are that are to run. Counted only if something asks.
#[derive(Default)]
struct Held<'a> {
    by_node: BTreeMap<&'a str, i64>,
    by_zone: BTreeMap<&'a str, i64>,
}

impl<'a> Held<'a> {
    fn count(snapshot: &'a Snapshot, request: &Request) -> Held<'a> {
        let mut all = Held::default();
        let asked = request.strategy.iter().any(|(kind, _)| kind == "spread")
            || request.constraints.iter().any(|(kind, _)| kind == "distinctInstance");
        if !asked {
            return all;
        }
        let prefix = format!("{}|", request.group);
        for (held, count) in snapshot.groups.index_values("held", &prefix) {
            // A group's name may hold the separator: then what follows it here is no node.
            let Some(node) = snapshot.nodes.get(&held[prefix.len()..]) else { continue };
            all.by_node.insert(&node.id, count as i64);
            *all.by_zone.entry(&node.availability_zone).or_default() += count as i64;
        }
        all
    }

    fn on_node(&self, id: &str) -> i64 {
        self.by_node.get(id).copied().unwrap_or(0)
    }

    fn in_zone(&self, zone: &str) -> i64 {
        self.by_zone.get(zone).copied().unwrap_or(0)
    }

    /// How many tasks the nodes with room hold: each number once.
    fn counts(&self, room: &Room) -> BTreeSet<i64> {
        let holders = self.by_node.iter().filter(|(id, _)| room.rank(Order::Groups, id).is_some());
        let mut counts: BTreeSet<i64> = holders.clone().map(|(_, count)| *count).collect();
        if holders.count() < room.len() {
            counts.insert(0);
        }
        counts
    }
}
