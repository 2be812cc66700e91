//! Scripts from a seed: the chaos of a quarter of an hour, or the usual life of a cluster for a week.

use state::Ids;

use crate::ops::{Op, Options};
use crate::place::{Place, expressions};
use crate::run::Script;

/// A number below `n`.
fn below(dice: &mut Ids, n: u64) -> u32 {
    (dice.next_u64() % n) as u32
}

fn pick<'a, T>(dice: &mut Ids, all: &'a [T]) -> &'a T {
    &all[below(dice, all.len() as u64) as usize]
}

const SERVICES: [&str; 3] = ["web", "api", "job"];
const WELL: [&str; 4] = ["good-a", "good-b", "stubborn-a", "good-c"];
const ANY: [&str; 13] = [
    "good-a",
    "good-b",
    "good-c",
    "good-d",
    "stubborn-a",
    "crash-a",
    "absent-a",
    "broken-a",
    "netless-a",
    "sick-a",
    "job-a",
    "good-e",
    "tired-a",
];

/// Everything that may happen, at once: services, callers and faults, and at the end quiet.
pub fn chaos(seed: u64, steps: u32) -> Script {
    let mut dice = Ids::new(seed ^ 0x5eed);
    let dice = &mut dice;
    let nodes = 1 + below(dice, 4);
    let memory = 512 * (3 + below(dice, 10));
    let mut ops = vec![Op::Nodes { count: nodes, cpu: 4096, memory }];
    for (at, name) in SERVICES.into_iter().enumerate() {
        let (min, max) = *pick(dice, &[(100, 200), (100, 200), (50, 100), (0, 100), (100, 150), (50, 200)]);
        let breaker = *pick(dice, &[(false, false), (true, false), (true, true)]);
        let balanced = name != "job";
        let options = Options {
            desired: below(dice, 4),
            min,
            max,
            breaker,
            balanced,
            ec2: below(dice, 3) == 0,
            checked: below(dice, 3) == 0,
            sidecar: below(dice, 4) == 0,
            grace_s: if balanced && below(dice, 4) == 0 { 20 } else { 0 },
            memory: *pick(dice, &[512, 512, 1024]),
            named: below(dice, 4) == 0,
            ..Options::default()
        };
        let only_here = below(dice, 3) == 0;
        let options = Options {
            host_port: if options.ec2 && only_here { 9_000 + at as u32 } else { 0 },
            place: place(dice, options.ec2),
            restart_s: if below(dice, 4) == 0 { *pick(dice, &[60, 90]) } else { 0 },
            ignore: *pick(dice, &[0, 0, 137]),
            ..options
        };
        ops.push(Op::Service { name: name.into(), image: (*pick(dice, &WELL)).into(), options });
    }
    for _ in 0..steps {
        ops.push(step(dice, nodes));
    }
    let placed = below(dice, 2) == 0;
    for service in SERVICES {
        if !placed {
            ops.push(Op::Place { service: service.into(), place: Place::default() });
        }
        if service != "job" {
            ops.push(Op::Balance { service: service.into(), on: true });
        }
        ops.push(Op::Deploy { service: service.into(), image: "good-z".into() });
        ops.push(Op::Listen { service: service.into(), on: true });
    }
    ops.push(Op::Settle);
    Script { seed, ops }
}

/// Where tasks may go: on container instances by constraints and strategies, on Fargate by capacity providers.
fn place(dice: &mut Ids, ec2: bool) -> Place {
    let mut place = Place::default();
    if !ec2 {
        let shares = [[(0, 1), (0, 1)], [(1, 1), (0, 3)], [(0, 0), (2, 1)], [(2, 0), (0, 1)]];
        place.providers = (below(dice, 4) == 0).then(|| *pick(dice, &shares));
        return place;
    }
    place.distinct = below(dice, 4) == 0;
    place.only = (below(dice, 4) == 0).then(|| (*pick(dice, &expressions())).to_owned());
    let strategies: [&[&str]; 9] = [
        &[],
        &[],
        &["node"],
        &["zone", "node"],
        &["zone", "memory"],
        &["cpu"],
        &["memory", "random"],
        &["random"],
        &["zone", "cpu", "random"],
    ];
    place.strategy = pick(dice, &strategies).iter().map(|name| (*name).to_owned()).collect();
    place
}

fn step(dice: &mut Ids, nodes: u32) -> Op {
    match below(dice, 20) {
        0..10 => Op::Wait { ms: *pick(dice, &[1, 10, 50, 200, 500, 1_000, 3_000, 10_000, 60_000]) },
        10..14 => call(dice),
        14..17 => task_fault(dice),
        _ => fault(dice, nodes),
    }
}

fn call(dice: &mut Ids) -> Op {
    let service: String = (*pick(dice, &SERVICES)).into();
    match below(dice, 30) {
        0..5 => Op::Scale { service, desired: below(dice, 5) },
        5 | 6 => Op::Redeploy { service },
        7 => Op::Percent { service, min: *pick(dice, &[0, 50, 100]), max: *pick(dice, &[150, 200]) },
        8 => Op::Delete { service },
        9 | 10 => {
            let options =
                Options { desired: below(dice, 3), balanced: below(dice, 2) == 0, ..Options::default() };
            Op::Service { name: service, image: (*pick(dice, &ANY)).into(), options }
        }
        11 | 12 => {
            let (image, ec2) = ((*pick(dice, &ANY)).into(), below(dice, 2) == 0);
            Op::Run { image, count: 1 + below(dice, 3), ec2, place: place(dice, ec2) }
        }
        13 => Op::Start { node: format!("n{}", 1 + below(dice, 4)), image: (*pick(dice, &ANY)).into() },
        14 => Op::Balance { service, on: below(dice, 2) == 0 },
        15 => Op::Listen { service, on: below(dice, 2) == 0 },
        16 => Op::Delay { service, seconds: *pick(dice, &[0, 5, 60]) },
        17 => Op::DropTargetGroup { service },
        18 => Op::Retire { service },
        19 | 20 => {
            let ec2 = below(dice, 2) == 0;
            Op::Place { service, place: place(dice, ec2) }
        }
        21 => Op::Remove { service },
        _ => Op::Deploy { service, image: (*pick(dice, &ANY)).into() },
    }
}

fn task_fault(dice: &mut Ids) -> Op {
    let service: String = (*pick(dice, &["web", "api", "job", "-"])).into();
    let task = below(dice, 4);
    match below(dice, 10) {
        0..3 => Op::Kill { service, task },
        3 => Op::KillSupervisor { service, task },
        4 => Op::Stop { service, task },
        5 => Op::Deregister { service, task },
        6 => Op::Register { service, task },
        7 => Op::Sicken { service, task },
        8 => Op::RegisterGone { service },
        _ => Op::Cure { service, task },
    }
}

fn fault(dice: &mut Ids, nodes: u32) -> Op {
    let node = format!("n{}", 1 + below(dice, u64::from(nodes)));
    let down_ms = *pick(dice, &[1, 100, 1_000, 15_000]);
    let count = 1 + below(dice, 3);
    match below(dice, 18) {
        0..3 => Op::KillAgent { node, down_ms },
        3 | 4 => Op::KillServer { down_ms },
        5 => Op::KillBalancer,
        6 => Op::LoseCommit,
        7 => Op::Cut { node },
        8 | 9 => Op::Mend { node },
        10 => Op::PowerOff { node },
        11 | 12 => Op::PowerOn { node },
        13 => Op::Wipe { node },
        14 => Op::Drop { node, count },
        15 => Op::Repeat { node, count },
        16 => Op::Late { node, count },
        _ => Op::Clock { ms: *pick(dice, &[-60_000, -1_000, 1_000, 60_000, 3_600_000]) },
    }
}
