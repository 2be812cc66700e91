//! The usual life of a cluster, for a week of its time: what a soak runs over and over.

use state::Ids;

use crate::ops::{Op, Options};
use crate::run::Script;

/// How much goes on in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Machines, each with room for 16 tasks.
    pub nodes: u32,
    /// Services of three tasks each, two in three of them behind the load balancer.
    pub services: u32,
    /// Deployments of each service, one in eight of them of a program that does not work.
    pub deployments_per_service_week: u32,
    /// Changes of each service's desired count.
    pub scalings_per_service_week: u32,
    /// Tasks run by themselves, that end by themselves.
    pub runs_per_day: u32,
    /// Containers that die.
    pub crashes_per_day: u32,
    /// Agents, supervisors, servers and balancers that die, and reports that are lost.
    pub faults_per_week: u32,
    /// Machines that lose their power or their connection, for ten minutes.
    pub node_losses_per_month: u32,
}

impl Default for Activity {
    fn default() -> Self {
        Activity {
            nodes: 20,
            services: 40,
            deployments_per_service_week: 2,
            scalings_per_service_week: 1,
            runs_per_day: 10,
            crashes_per_day: 10,
            faults_per_week: 20,
            node_losses_per_month: 4,
        }
    }
}

const WEEK_MS: u64 = 7 * 86_400_000;

/// A week of a cluster.
pub fn week(seed: u64, activity: Activity) -> Script {
    let mut dice = Ids::new(seed ^ 0x00ca_1e9d);
    let mut times: Vec<(u64, Op)> = Vec::new();
    let names: Vec<String> = (0..activity.services).map(|n| format!("s{n}")).collect();
    let at = |dice: &mut Ids| dice.next_u64() % WEEK_MS;
    let some = |dice: &mut Ids, n: u32| (dice.next_u64() % u64::from(n.max(1))) as u32;
    for name in &names {
        for _ in 0..activity.deployments_per_service_week {
            let bad = some(&mut dice, 8) == 0;
            let time = at(&mut dice);
            let version = time % 1000;
            let image = if bad { format!("crash-{version}") } else { format!("good-{version}") };
            times.push((time, Op::Deploy { service: name.clone(), image }));
            if bad {
                // Somebody notices.
                let repaired = Op::Deploy { service: name.clone(), image: format!("good-{version}") };
                times.push((time + 3_600_000, repaired));
            }
        }
        for _ in 0..activity.scalings_per_service_week {
            let desired = 2 + some(&mut dice, 4);
            times.push((at(&mut dice), Op::Scale { service: name.clone(), desired }));
        }
    }
    let run = Op::Run { image: "job-a".into(), count: 1, ec2: false, place: Default::default() };
    for _ in 0..activity.runs_per_day * 7 {
        times.push((at(&mut dice), run.clone()));
    }
    for _ in 0..activity.crashes_per_day * 7 {
        let service = names[some(&mut dice, activity.services) as usize].clone();
        let task = some(&mut dice, 3);
        times.push((at(&mut dice), Op::Kill { service, task }));
    }
    for _ in 0..activity.faults_per_week {
        let node = format!("n{}", 1 + some(&mut dice, activity.nodes));
        let service = names[some(&mut dice, activity.services) as usize].clone();
        let op = match some(&mut dice, 7) {
            0 => Op::KillServer { down_ms: 2_000 },
            1 => Op::KillBalancer,
            2 => Op::KillSupervisor { service, task: 0 },
            3 => Op::Drop { node, count: 2 },
            4 => Op::Repeat { node, count: 2 },
            5 => Op::Clock { ms: 1_000 },
            _ => Op::KillAgent { node, down_ms: 1_000 },
        };
        times.push((at(&mut dice), op));
    }
    for n in 0..activity.node_losses_per_month.div_ceil(4) {
        let node = format!("n{}", 1 + some(&mut dice, activity.nodes));
        let time = at(&mut dice);
        let (lost, back) = if n % 2 == 0 {
            (Op::PowerOff { node: node.clone() }, Op::PowerOn { node })
        } else {
            (Op::Cut { node: node.clone() }, Op::Mend { node })
        };
        times.push((time, lost));
        times.push((time + 600_000, back));
    }
    times.sort_by_key(|(time, _)| *time);
    script(seed, activity, &names, times)
}

fn script(seed: u64, activity: Activity, names: &[String], times: Vec<(u64, Op)>) -> Script {
    let mut ops = vec![Op::Nodes { count: activity.nodes, cpu: 4096, memory: 8192 }];
    for (n, name) in names.iter().enumerate() {
        let options = Options {
            desired: 3,
            breaker: (n % 2 == 0, n % 4 == 0),
            balanced: n % 3 != 0,
            ec2: n % 5 == 0,
            checked: n % 4 == 1,
            ..Options::default()
        };
        ops.push(Op::Service { name: name.clone(), image: "good-a".into(), options });
    }
    let mut now = 0;
    for (time, op) in times {
        if time > now {
            ops.push(Op::Wait { ms: (time - now) as i64 });
            now = time;
        }
        ops.push(op);
    }
    ops.push(Op::Wait { ms: WEEK_MS.saturating_sub(now) as i64 });
    ops.push(Op::Settle);
    Script { seed, ops }
}
