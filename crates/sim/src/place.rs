//! Where tasks may go: placement constraints and strategies, and Fargate's capacity providers, as a line says them.

use std::fmt;

use serde_json::{Value as Json, json};
use state::{ContainerGroup, Snapshot, node::Node};

/// Whether a node, with the groups that it has but for one, is what an expression asks for.
type Holds = fn(&Snapshot, &Node, &str) -> bool;

/// Expressions of `memberOf`: a name for each, and what it asks for, found out without the planner.
const ONLY: [(&str, &str, Holds); 6] = [
    ("zone-a", "attribute:ecs.availability-zone == us-east-1a", |_, node, _| {
        node.availability_zone == "us-east-1a"
    }),
    ("not-zone-a", "not(attribute:ecs.availability-zone in [us-east-1a, us-east-1d])", |_, node, _| {
        node.availability_zone != "us-east-1a"
    }),
    ("few", "runningTasksCount < 3", |snapshot, node, but| others(snapshot, node, but).count() < 3),
    ("apart", "not(task:group == service:web)", |snapshot, node, but| !has_web(snapshot, node, but)),
    ("beside", "task:group == service:web", has_web),
    (
        "either",
        "attribute:ecs.os-type == linux && (runningTasksCount < 1 || attribute:ecs.availability-zone != us-east-1a)",
        |snapshot, node, but| {
            node.availability_zone != "us-east-1a" || others(snapshot, node, but).count() == 0
        },
    ),
];

/// Strategies, each with its type and field.
const STRATEGIES: [(&str, &str, Option<&str>); 5] = [
    ("node", "spread", Some("instanceId")),
    ("zone", "spread", Some("attribute:ecs.availability-zone")),
    ("cpu", "binpack", Some("cpu")),
    ("memory", "binpack", Some("memory")),
    ("random", "random", None),
];

/// The capacity providers there are.
pub(crate) const PROVIDERS: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

/// Type, and expression or field.
pub(crate) type Rules = Vec<(String, Option<String>)>;

/// Where tasks may go: ` distinct only zone-a strategy zone,memory providers 1:1,0:3`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// At most one task on a node.
    pub distinct: bool,
    /// `memberOf` an expression, by its name.
    pub only: Option<String>,
    /// Strategies by their names, the first first.
    pub strategy: Vec<String>,
    /// Base and weight of FARGATE and of FARGATE_SPOT, instead of a launch type.
    pub providers: Option<[(u32, u32); 2]>,
}

fn others<'a>(
    snapshot: &'a Snapshot,
    node: &Node,
    but: &'a str,
) -> impl Iterator<Item = &'a std::sync::Arc<ContainerGroup>> {
    snapshot.groups.by_index("node", &node.id).filter(move |group| group.id != but)
}

fn has_web(snapshot: &Snapshot, node: &Node, but: &str) -> bool {
    others(snapshot, node, but).any(|group| group.task().group == "service:web")
}

/// Whether a node is what an expression asks for, but for a task of this id; `None`: it is not one of those known here.
pub(crate) fn holds(expression: &str, snapshot: &Snapshot, node: &Node, but: &str) -> Option<bool> {
    ONLY.iter().find(|(_, known, _)| *known == expression).map(|(_, _, holds)| holds(snapshot, node, but))
}

/// The names of all expressions.
pub(crate) fn expressions() -> [&'static str; 6] {
    ONLY.map(|(name, ..)| name)
}

impl Place {
    /// Reads what follows a word, if it is one of a place's.
    pub(crate) fn read<'a>(
        &mut self,
        word: &str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<bool, String> {
        let mut next = || rest.next().ok_or(format!("{word} needs another word"));
        match word {
            "distinct" => self.distinct = true,
            "only" => {
                let name = next()?;
                let known = ONLY.iter().any(|(known, ..)| *known == name);
                self.only = Some(known.then(|| name.to_owned()).ok_or(format!("only knows no {name}"))?);
            }
            "strategy" => {
                let known = |name: &str| STRATEGIES.iter().any(|(known, ..)| *known == name);
                self.strategy = next()?.split(',').map(str::to_owned).collect();
                if let Some(other) = self.strategy.iter().find(|name| !known(name)) {
                    return Err(format!("there is no strategy {other}"));
                }
            }
            "providers" => {
                let text = next()?;
                let pair = |part: &str| {
                    let (base, weight) = part.split_once(':')?;
                    Some((base.parse().ok()?, weight.parse().ok()?))
                };
                let pairs = text.split_once(',').and_then(|(one, two)| Some([pair(one)?, pair(two)?]));
                self.providers = Some(pairs.ok_or(format!("{text} is not base:weight,base:weight"))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What `placementConstraints` are.
    pub(crate) fn constraints(&self) -> Rules {
        let distinct = self.distinct.then(|| ("distinctInstance".to_owned(), None));
        let only = ONLY.iter().find(|(name, ..)| self.only.as_deref() == Some(*name));
        let only = only.map(|(_, expression, _)| ("memberOf".to_owned(), Some((*expression).to_owned())));
        distinct.into_iter().chain(only).collect()
    }

    /// What `placementStrategy` is.
    pub(crate) fn strategies(&self) -> Rules {
        let of = |name: &String| STRATEGIES.iter().find(|(known, ..)| known == name);
        let one =
            |(_, kind, field): &(&str, &str, Option<&str>)| ((*kind).to_owned(), field.map(str::to_owned));
        self.strategy.iter().filter_map(of).map(one).collect()
    }

    /// Puts into a call what it says of placement on container instances.
    pub(crate) fn put_ec2(&self, input: &mut Json) {
        let list = |rules: Rules, second: &str| -> Json {
            let one = |(kind, value): (String, Option<String>)| match value {
                Some(value) => json!({"type": kind, second: value}),
                None => json!({"type": kind}),
            };
            rules.into_iter().map(one).collect()
        };
        input["placementConstraints"] = list(self.constraints(), "expression");
        input["placementStrategy"] = list(self.strategies(), "field");
    }

    /// Puts into a call what it says of capacity providers; false if it says nothing of them.
    pub(crate) fn put_providers(&self, input: &mut Json) -> bool {
        let Some(providers) = self.providers else { return false };
        let one = |(name, (base, weight)): (&str, (u32, u32))| json!({"capacityProvider": name, "base": base, "weight": weight});
        input["capacityProviderStrategy"] = PROVIDERS.into_iter().zip(providers).map(one).collect();
        true
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.distinct {
            f.write_str(" distinct")?;
        }
        if let Some(only) = &self.only {
            write!(f, " only {only}")?;
        }
        if !self.strategy.is_empty() {
            write!(f, " strategy {}", self.strategy.join(","))?;
        }
        match self.providers {
            Some([(a, b), (c, d)]) => write!(f, " providers {a}:{b},{c}:{d}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (mut place, mut words) = (Place::default(), text.split_whitespace());
        while let Some(word) = words.next() {
            if !place.read(word, &mut words)? {
                return Err(format!("a place knows no {word}"));
            }
        }
        Ok(place)
    }
}
