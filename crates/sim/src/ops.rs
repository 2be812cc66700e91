//! What can be done to a world: calls of the API, faults, and the passing of time. Each operation is a line of text.

use std::fmt;
use std::str::FromStr;

use crate::place::Place;

/// What a simulated task asks for unless another memory is given.
pub const TASK_MEMORY_MIB: u32 = 512;

/// One operation. A number that names a task counts the live tasks of its service, oldest first, and starts again at
/// the first where there are not so many.
#[allow(missing_docs, reason = "each line names its fields")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `nodes 3 cpu 4096 memory 4096`: so many more machines.
    Nodes { count: u32, cpu: u32, memory: u32 },
    /// `service web good-a desired 2 …`: CreateService, with its target group if it is `balanced`.
    Service { name: String, image: String, options: Options },
    /// `deploy web good-b`: RegisterTaskDefinition and UpdateService.
    Deploy { service: String, image: String },
    /// `redeploy web`: UpdateService with `forceNewDeployment`.
    Redeploy { service: String },
    /// `scale web 3`: UpdateService with `desiredCount`.
    Scale { service: String, desired: u32 },
    /// `percent web 50 100`: UpdateService with other percentages.
    Percent { service: String, min: u32, max: u32 },
    /// `place web only zone-a`: UpdateService with other constraints and strategies, or other capacity providers.
    Place { service: String, place: Place },
    /// `delete web`: DeleteService with `force`.
    Delete { service: String },
    /// `remove web`: DeleteService without it, refused while tasks are wanted.
    Remove { service: String },
    /// `run job-a 2`: RunTask on Fargate; `run job-a 2 ec2 strategy zone`: on container instances.
    Run { image: String, count: u32, ec2: bool, place: Place },
    /// `stop web 0`: StopTask. The tasks of no service are those of `-`.
    Stop { service: String, task: u32 },
    /// `deregister web 0`: DeregisterTargets of a task's target.
    Deregister { service: String, task: u32 },
    /// `register web 0`: RegisterTargets of a task's address, by hand.
    Register { service: String, task: u32 },
    /// `register-gone web`: RegisterTargets of the address that the service's task had that ended last.
    RegisterGone { service: String },
    /// `balance web off`: UpdateService with another list of target groups: none, or its own again.
    Balance { service: String, on: bool },
    /// `listen web off`: DeleteListener of a service's target group, or CreateListener.
    Listen { service: String, on: bool },
    /// `delay web 20`: ModifyTargetGroupAttributes with another deregistration delay, in seconds.
    Delay { service: String, seconds: u32 },
    /// `drop-target-group web`: DeleteTargetGroup, refused while it is listened for.
    DropTargetGroup { service: String },
    /// `retire web`: DeregisterTaskDefinition of what a service runs, and DeleteTaskDefinitions.
    Retire { service: String },
    /// `start n1 job-a`: StartTask on a node, whatever else has room.
    Start { node: String, image: String },
    /// `sicken web 0`: from now on a task's checks fail.
    Sicken { service: String, task: u32 },
    /// `cure web 0`: they pass again.
    Cure { service: String, task: u32 },
    /// `kill web 0`: a container of the task dies.
    Kill { service: String, task: u32 },
    /// `kill-supervisor web 0`: its supervisor dies.
    KillSupervisor { service: String, task: u32 },
    /// `kill-agent n1 500ms`: a node's agent dies and starts again after a while.
    KillAgent { node: String, down_ms: i64 },
    /// `kill-server 2s`: the server dies and starts again after a while.
    KillServer { down_ms: i64 },
    /// `kill-balancer`: the balancer forgets what it knows.
    KillBalancer,
    /// `lose-commit`: the next commit does not become durable, and the server dies of it.
    LoseCommit,
    /// `cut n1`: a node is not reached any more.
    Cut { node: String },
    /// `mend n1`: … again.
    Mend { node: String },
    /// `power-off n1`.
    PowerOff { node: String },
    /// `power-on n1`.
    PowerOn { node: String },
    /// `wipe n1`: a node's machine loses power and its disk.
    Wipe { node: String },
    /// `drop n1 2`: the node's next two reports are lost.
    Drop { node: String, count: u32 },
    /// `repeat n1 2`: they come twice.
    Repeat { node: String, count: u32 },
    /// `late n1 2`: they come once more, half a minute late.
    Late { node: String, count: u32 },
    /// `clock 1h`, `clock -30s`: the clock that deciders are told jumps.
    Clock { ms: i64 },
    /// `wait 10s`.
    Wait { ms: i64 },
    /// `settle`: faults end, time passes until nothing moves, and everything must be as it was wished.
    Settle,
}

/// How a service is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Tasks wanted.
    pub desired: u32,
    /// `minimumHealthyPercent`.
    pub min: u32,
    /// `maximumPercent`.
    pub max: u32,
    /// Circuit breaker, rollback.
    pub breaker: (bool, bool),
    /// With a target group.
    pub balanced: bool,
    /// On container instances, in `bridge` mode, rather than on Fargate.
    pub ec2: bool,
    /// Its container has a health check.
    pub checked: bool,
    /// A second container, without which the first does not start.
    pub sidecar: bool,
    /// `healthCheckGracePeriodSeconds`.
    pub grace_s: u32,
    /// What each task asks for.
    pub memory: u32,
    /// Of `ec2`: the host port, always the same one; 0: any.
    pub host_port: u32,
    /// Named in Cloud Map.
    pub named: bool,
    /// Its container is started again once it has run for so many seconds; 0: never.
    pub restart_s: u32,
    /// … unless it ends with this code.
    pub ignore: u32,
    /// Where its tasks may go.
    pub place: Place,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            desired: 1,
            min: 100,
            max: 200,
            breaker: (false, false),
            balanced: false,
            ec2: false,
            checked: false,
            sidecar: false,
            grace_s: 0,
            memory: TASK_MEMORY_MIB,
            host_port: 0,
            named: false,
            restart_s: 0,
            ignore: 0,
            place: Place::default(),
        }
    }
}

/// A duration as its line has it.
struct Ms(i64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(unit, _)| self.0 != 0 && self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl FromStr for Ms {
    type Err = String;
    fn from_str(text: &str) -> Result<Ms, String> {
        let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("{text} is not a duration: ms, s, m, h or d")),
        };
        number.parse::<i64>().map(|n| Ms(n * unit)).map_err(|error| format!("{text}: {error}"))
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Options::default();
        write!(f, "desired {}", self.desired)?;
        if (self.min, self.max) != (usual.min, usual.max) {
            write!(f, " min {} max {}", self.min, self.max)?;
        }
        let numbers = [
            (self.grace_s, usual.grace_s, "grace"),
            (self.memory, usual.memory, "memory"),
            (self.host_port, usual.host_port, "port"),
            (self.restart_s, usual.restart_s, "restart"),
            (self.ignore, usual.ignore, "ignore"),
        ];
        for (number, _, name) in numbers.iter().filter(|(number, usual, _)| number != usual) {
            write!(f, " {name} {number}")?;
        }
        let words = [
            (self.breaker == (true, false), " breaker"),
            (self.breaker == (true, true), " rollback"),
            (self.balanced, " balanced"),
            (self.ec2, " ec2"),
            (self.checked, " checked"),
            (self.sidecar, " sidecar"),
            (self.named, " named"),
        ];
        words.iter().filter(|(on, _)| *on).try_for_each(|(_, word)| f.write_str(word))?;
        self.place.fmt(f)
    }
}

fn options<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Options, String> {
    let mut all = Options::default();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).ok_or(format!("{word} takes a number"));
        match word {
            "desired" => all.desired = number()?,
            "min" => all.min = number()?,
            "max" => all.max = number()?,
            "grace" => all.grace_s = number()?,
            "breaker" => all.breaker = (true, false),
            "rollback" => all.breaker = (true, true),
            "balanced" => all.balanced = true,
            "ec2" => all.ec2 = true,
            "checked" => all.checked = true,
            "sidecar" => all.sidecar = true,
            "memory" => all.memory = number()?,
            "port" => all.host_port = number()?,
            "named" => all.named = true,
            "restart" => all.restart_s = number()?,
            "ignore" => all.ignore = number()?,
            other if all.place.read(other, &mut words)? => {}
            other => return Err(format!("a service knows no {other}")),
        }
    }
    Ok(all)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Nodes { count, cpu, memory } => write!(f, "nodes {count} cpu {cpu} memory {memory}"),
            Op::Service { name, image, options } => write!(f, "service {name} {image} {options}"),
            Op::Deploy { service, image } => write!(f, "deploy {service} {image}"),
            Op::Redeploy { service } => write!(f, "redeploy {service}"),
            Op::Scale { service, desired } => write!(f, "scale {service} {desired}"),
            Op::Percent { service, min, max } => write!(f, "percent {service} {min} {max}"),
            Op::Place { service, place } => write!(f, "place {service}{place}"),
            Op::Delete { service } => write!(f, "delete {service}"),
            Op::Remove { service } => write!(f, "remove {service}"),
            Op::Run { image, count, ec2, place } => {
                write!(f, "run {image} {count}{}{place}", if *ec2 { " ec2" } else { "" })
            }
            Op::Stop { service, task } => write!(f, "stop {service} {task}"),
            Op::Deregister { service, task } => write!(f, "deregister {service} {task}"),
            Op::Register { service, task } => write!(f, "register {service} {task}"),
            Op::RegisterGone { service } => write!(f, "register-gone {service}"),
            Op::Balance { service, on } => write!(f, "balance {service} {}", on_off(*on)),
            Op::Listen { service, on } => write!(f, "listen {service} {}", on_off(*on)),
            Op::Delay { service, seconds } => write!(f, "delay {service} {seconds}"),
            Op::DropTargetGroup { service } => write!(f, "drop-target-group {service}"),
            Op::Retire { service } => write!(f, "retire {service}"),
            Op::Start { node, image } => write!(f, "start {node} {image}"),
            Op::Sicken { service, task } => write!(f, "sicken {service} {task}"),
            Op::Cure { service, task } => write!(f, "cure {service} {task}"),
            Op::Kill { service, task } => write!(f, "kill {service} {task}"),
            Op::KillSupervisor { service, task } => write!(f, "kill-supervisor {service} {task}"),
            Op::KillAgent { node, down_ms } => write!(f, "kill-agent {node} {}", Ms(*down_ms)),
            Op::KillServer { down_ms } => write!(f, "kill-server {}", Ms(*down_ms)),
            Op::KillBalancer => f.write_str("kill-balancer"),
            Op::LoseCommit => f.write_str("lose-commit"),
            Op::Cut { node } => write!(f, "cut {node}"),
            Op::Mend { node } => write!(f, "mend {node}"),
            Op::PowerOff { node } => write!(f, "power-off {node}"),
            Op::PowerOn { node } => write!(f, "power-on {node}"),
            Op::Wipe { node } => write!(f, "wipe {node}"),
            Op::Drop { node, count } => write!(f, "drop {node} {count}"),
            Op::Repeat { node, count } => write!(f, "repeat {node} {count}"),
            Op::Late { node, count } => write!(f, "late {node} {count}"),
            Op::Clock { ms } => write!(f, "clock {}", Ms(*ms)),
            Op::Wait { ms } => write!(f, "wait {}", Ms(*ms)),
            Op::Settle => f.write_str("settle"),
        }
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Reads the words of a line one after another.
struct Words<'a> {
    line: &'a str,
    rest: std::str::SplitWhitespace<'a>,
}

impl Words<'_> {
    fn text(&mut self) -> Result<String, String> {
        self.rest.next().map(str::to_owned).ok_or_else(|| format!("`{}` needs another word", self.line))
    }

    fn number(&mut self) -> Result<u32, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("`{}`: {text} is not a number", self.line))
    }

    fn named(&mut self, name: &str) -> Result<u32, String> {
        let found = self.text()?;
        if found == name { self.number() } else { Err(format!("`{}`: {name} was expected", self.line)) }
    }

    fn on_off(&mut self) -> Result<bool, String> {
        match self.text()?.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(format!("`{}`: {other} is neither on nor off", self.line)),
        }
    }

    fn place(&mut self) -> Result<Place, String> {
        self.rest.by_ref().collect::<Vec<_>>().join(" ").parse()
    }

    fn ms(&mut self) -> Result<i64, String> {
        self.text()?.parse::<Ms>().map(|ms| ms.0)
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Op, String> {
        let mut words = Words { line, rest: line.split_whitespace() };
        let w = &mut words;
        let op = match w.text()?.as_str() {
            "nodes" => Op::Nodes { count: w.number()?, cpu: w.named("cpu")?, memory: w.named("memory")? },
            "service" => {
                Op::Service { name: w.text()?, image: w.text()?, options: options(w.rest.by_ref())? }
            }
            "deploy" => Op::Deploy { service: w.text()?, image: w.text()? },
            "redeploy" => Op::Redeploy { service: w.text()? },
            "scale" => Op::Scale { service: w.text()?, desired: w.number()? },
            "percent" => Op::Percent { service: w.text()?, min: w.number()?, max: w.number()? },
            "place" => Op::Place { service: w.text()?, place: w.place()? },
            "delete" => Op::Delete { service: w.text()? },
            "remove" => Op::Remove { service: w.text()? },
            "run" => {
                let (image, count, mut rest) = (w.text()?, w.number()?, w.rest.clone());
                let ec2 = rest.next() == Some("ec2");
                if ec2 {
                    w.rest = rest;
                }
                Op::Run { image, count, ec2, place: w.place()? }
            }
            "stop" => Op::Stop { service: w.text()?, task: w.number()? },
            "deregister" => Op::Deregister { service: w.text()?, task: w.number()? },
            "register" => Op::Register { service: w.text()?, task: w.number()? },
            "register-gone" => Op::RegisterGone { service: w.text()? },
            "balance" => Op::Balance { service: w.text()?, on: w.on_off()? },
            "listen" => Op::Listen { service: w.text()?, on: w.on_off()? },
            "delay" => Op::Delay { service: w.text()?, seconds: w.number()? },
            "drop-target-group" => Op::DropTargetGroup { service: w.text()? },
            "retire" => Op::Retire { service: w.text()? },
            "start" => Op::Start { node: w.text()?, image: w.text()? },
            "sicken" => Op::Sicken { service: w.text()?, task: w.number()? },
            "cure" => Op::Cure { service: w.text()?, task: w.number()? },
            "kill" => Op::Kill { service: w.text()?, task: w.number()? },
            "kill-supervisor" => Op::KillSupervisor { service: w.text()?, task: w.number()? },
            "kill-agent" => Op::KillAgent { node: w.text()?, down_ms: w.ms()? },
            "kill-server" => Op::KillServer { down_ms: w.ms()? },
            "kill-balancer" => Op::KillBalancer,
            "lose-commit" => Op::LoseCommit,
            "cut" => Op::Cut { node: w.text()? },
            "mend" => Op::Mend { node: w.text()? },
            "power-off" => Op::PowerOff { node: w.text()? },
            "power-on" => Op::PowerOn { node: w.text()? },
            "wipe" => Op::Wipe { node: w.text()? },
            "drop" => Op::Drop { node: w.text()?, count: w.number()? },
            "repeat" => Op::Repeat { node: w.text()?, count: w.number()? },
            "late" => Op::Late { node: w.text()?, count: w.number()? },
            "clock" => Op::Clock { ms: w.ms()? },
            "wait" => Op::Wait { ms: w.ms()? },
            "settle" => Op::Settle,
            other => return Err(format!("there is no operation {other}")),
        };
        match words.rest.next() {
            Some(more) => Err(format!("`{line}`: {more} is too much")),
            None => Ok(op),
        }
    }
}
