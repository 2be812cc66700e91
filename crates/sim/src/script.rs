//! What a script shows as it runs, for people and for tests: each line, and beneath it what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use state::group::TaskStatus;

use crate::check::Checker;
use crate::run::Script;
use crate::world::{START_MS, World};

impl Script {
    /// Runs the script and tells, after each operation, the events that services told, the tasks that ended and why, and
    /// what runs where. Ids are named in the order of their appearance. Promises that are broken are told last.
    pub fn transcript(&self) -> String {
        self.transcript_of(World::new(self.seed, Checker::new(1)))
    }

    /// As [`Script::transcript`], with every health check and probe made ([`World::make_all_checks`]).
    pub fn transcript_with_all_checks(&self) -> String {
        let mut world = World::new(self.seed, Checker::new(1));
        world.make_all_checks();
        self.transcript_of(world)
    }

    fn transcript_of(&self, mut world: World) -> String {
        let mut teller = Teller { running: NOTHING.into(), ..Teller::default() };
        let mut text = format!("seed {}\n", self.seed);
        world.build();
        for op in &self.ops {
            let _ = writeln!(text, "{op}");
            world.apply(op);
            teller.tell(&world, &mut text);
            if !world.wrong.is_empty() {
                let _ = writeln!(text, "  WRONG: {}", world.wrong.join("; "));
                break;
            }
        }
        text
    }
}

/// What is told where no task is RUNNING.
const NOTHING: &str = "nothing runs";

/// What was told already, and the names given.
#[derive(Default)]
struct Teller {
    events: BTreeSet<String>,
    stopped: BTreeSet<String>,
    running: String,
    names: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, u32>,
}

impl Teller {
    fn tell(&mut self, world: &World, text: &mut String) {
        let mut events: Vec<_> =
            world.snapshot.services.iter().flat_map(|(_, s)| s.events.iter().rev()).collect();
        events.retain(|event| !self.events.contains(&event.id));
        // In the order of their telling; a service's own order is kept.
        events.sort_by_key(|event| event.at_ms);
        let mut lines = Vec::new();
        for event in events {
            self.events.insert(event.id.clone());
            lines.push((event.at_ms, self.plain(&event.message)));
        }
        let ended = world.snapshot.groups.iter().filter(|(_, g)| g.is_stopped()).map(|(_, g)| g);
        let mut ended: Vec<_> = ended.filter(|g| !self.stopped.contains(&g.id)).cloned().collect();
        ended.sort_by_key(|g| (g.observed.stopped_at_ms, g.created_at_ms));
        for group in ended {
            self.stopped.insert(group.id.clone());
            let cause = group.stop_cause();
            let why = cause.map(|c| format!("{}: {}", c.code.as_str(), c.reason)).unwrap_or_default();
            let told = self.plain(&format!("{} stopped: {why}", group.id));
            lines.push((group.observed.stopped_at_ms.unwrap_or(0), told));
        }
        lines.sort_by_key(|(at_ms, _)| *at_ms);
        for (at_ms, line) in lines {
            let _ = writeln!(text, "  {:>10} {line}", at(at_ms));
        }
        let running = self.running_of(world);
        if running != self.running {
            let _ = writeln!(text, "  {running}");
            self.running = running;
        }
    }

    /// `web: good-a n1 n2; job: good-b n1`, of tasks that are RUNNING.
    fn running_of(&self, world: &World) -> String {
        let mut by_service: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (_, group) in world.snapshot.groups.iter().filter(|(_, g)| g.status() == TaskStatus::Running) {
            let service = group.task().service.as_ref().map_or("-", |s| s.name.as_str());
            let spec = world.snapshot.specs.get(&group.spec);
            let image = spec.map(|s| s.spec.containers[0].image.clone()).unwrap_or_default();
            let node = world.name_of(group.node().unwrap_or_default());
            by_service.entry((service.to_owned(), image)).or_default().push(node);
        }
        let told: Vec<String> = (by_service.into_iter())
            .map(|((service, image), mut nodes)| {
                nodes.sort();
                format!("{service}: {image} on {}", nodes.join(" "))
            })
            .collect();
        if told.is_empty() { NOTHING.into() } else { format!("running {}", told.join("; ")) }
    }

    /// A text with its ids replaced by names.
    fn plain(&mut self, text: &str) -> String {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        for word in &mut words {
            let id = word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
            let kind = if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
                if id.ends_with("000000000000000000000000") { "node" } else { "task" }
            } else if id.starts_with("ecs-svc/") {
                "deployment"
            } else if let Some((_, rest)) = id.split_once(":targetgroup/") {
                let name = rest.split('/').next().unwrap_or_default();
                *word = word.replace(&id, name);
                continue;
            } else {
                continue;
            };
            let count = self.counts.entry(kind).or_default();
            let name = self.names.entry(id.clone()).or_insert_with(|| {
                *count += 1;
                format!("{kind}-{count}")
            });
            *word = word.replace(&id, name);
        }
        words.join(" ")
    }
}

/// Seconds since the beginning.
fn at(ms: i64) -> String {
    format!("{:.1}s", (ms - START_MS) as f64 / 1000.0)
}
