//! Decisions: stories told step by step, and random worlds in which what must always hold is checked.

use std::sync::Arc;

use proptest::prelude::*;
use state::assignment::{AgentDesired, Assignment};
use state::group::{
    Condition, ContainerSpec, Dependency, GroupSpec, Health, HealthCheck, Observed, Phase, RestartPolicy,
    StopCause, StopCode,
};

use super::*;

fn container(name: &str) -> ContainerSpec {
    ContainerSpec { name: name.into(), essential: true, stop_timeout_s: 30, ..ContainerSpec::default() }
}

fn needs(mut spec: ContainerSpec, other: &str, condition: Condition) -> ContainerSpec {
    spec.depends_on.push(Dependency { container: other.into(), condition });
    spec
}

fn optional(mut spec: ContainerSpec) -> ContainerSpec {
    spec.essential = false;
    spec
}

fn assignment(containers: Vec<ContainerSpec>) -> Assignment {
    Assignment {
        key: "1/r/c/t".into(),
        id: "t".into(),
        task_arn: "arn".into(),
        account: "1".into(),
        region: "r".into(),
        cluster: "c".into(),
        service: None,
        tags: Vec::new(),
        launch_type: "FARGATE".into(),
        availability_zone: "a".into(),
        spec: Arc::new(GroupSpec { containers, ..GroupSpec::default() }),
        desired: AgentDesired::Run,
        network: None,
        observed: Observed::default(),
        created_at_ms: 0,
    }
}

/// A group and a clock; its world does at once what is asked, except what a test does itself.
struct Story {
    assignment: Assignment,
    known: Known,
    now_ms: TimeMs,
    again_at_ms: Option<TimeMs>,
}

impl Story {
    fn new(containers: Vec<ContainerSpec>) -> Story {
        let assignment = assignment(containers);
        Story { known: Known::new(&assignment), assignment, now_ms: 0, again_at_ms: None }
    }

    fn decide(&mut self) -> Vec<Step> {
        let plan = decide(&self.assignment, &mut self.known, self.now_ms);
        self.again_at_ms = plan.again_at_ms;
        plan.steps
    }

    fn learn(&mut self, event: Event) -> Vec<Step> {
        let essential: Vec<bool> = self.assignment.spec.containers.iter().map(|c| c.essential).collect();
        self.known.learn(self.assignment.launch_type == "FARGATE", &essential, event, self.now_ms);
        self.decide()
    }

    /// Network and images are there; the steps that follow.
    fn prepared(&mut self) -> Vec<Step> {
        assert_eq!(self.decide(), [Step::MakeGround]);
        let pulls = self.learn(Event::GroundMade(vec![]));
        let mut steps = Vec::new();
        for pull in pulls {
            let Step::Pull(container) = pull else { panic!("{pull:?}") };
            steps.extend(self.learn(Event::Pulled {
                container,
                digest: "sha256:1".into(),
                stop_signal: None,
            }));
        }
        steps
    }

    fn started(&mut self, container: usize) -> Vec<Step> {
        let run = self.known.containers[container].runs;
        self.learn(Event::Started { container, run, runtime_id: format!("r{container}"), at_ms: self.now_ms })
    }

    fn exited(&mut self, container: usize, code: i32) -> Vec<Step> {
        let (run, at_ms) = (self.known.containers[container].runs, self.now_ms);
        self.learn(Event::Exited { container, run, code: Some(code), out_of_memory: false, at_ms })
    }

    fn checked(&mut self, container: usize, passed: bool) -> Vec<Step> {
        self.learn(Event::Checked { container, run: self.known.containers[container].runs, passed })
    }

    fn at(&mut self, now_ms: TimeMs) -> Vec<Step> {
        self.now_ms = now_ms;
        self.decide()
    }

    fn stop(&mut self) -> Vec<Step> {
        let cause = StopCause { code: StopCode::UserInitiated, reason: "by hand".into(), at_ms: 0 };
        self.assignment.desired = AgentDesired::Stop(cause);
        self.decide()
    }

    fn phase(&self) -> Phase {
        observe(&self.assignment, &self.known).phase
    }

    fn own_stop(&self) -> String {
        observe(&self.assignment, &self.known)
            .stop
            .map(|s| format!("{:?}: {}", s.code, s.reason))
            .unwrap_or_default()
    }
}

fn start(container: usize, run: u32) -> Step {
    Step::Start { container, run }
}

fn signal(container: usize, signal: i32) -> Step {
    Step::Signal { container, signal }
}

#[test]
fn a_task_runs_and_ends_by_its_essential_container() {
    let mut story = Story::new(vec![container("main"), optional(container("side"))]);
    assert_eq!(story.phase(), Phase::Provisioning);
    assert_eq!(story.prepared(), [start(0, 1), start(1, 1)]);
    assert_eq!(story.phase(), Phase::Pending);
    assert_eq!(story.started(0), []);
    assert_eq!(story.phase(), Phase::Pending);
    assert_eq!(story.started(1), []);
    assert_eq!(story.phase(), Phase::Running);
    story.now_ms = 5000;
    assert_eq!(story.exited(0, 3), [signal(1, 15)]);
    assert_eq!((story.phase(), story.again_at_ms), (Phase::Stopping, Some(35_000)));
    assert_eq!(story.own_stop(), "EssentialContainerExited: Essential container in task exited");
    assert_eq!(story.at(34_999), []);
    assert_eq!(story.at(35_000), [signal(1, 9)]);
    // Killed until it is gone: no one kill is relied on.
    assert_eq!((story.at(35_999), story.again_at_ms), (vec![], Some(36_000)));
    assert_eq!(story.at(36_000), [signal(1, 9)]);
    assert_eq!(story.exited(1, 137), [Step::Remove]);
    assert_eq!(story.phase(), Phase::Deprovisioning);
    assert_eq!(story.learn(Event::GroundRemoved), []);
    assert_eq!(story.phase(), Phase::Gone);
    let seen = observe(&story.assignment, &story.known);
    assert_eq!((seen.stopping_at_ms, seen.execution_stopped_at_ms), (Some(5000), Some(36_000)));
}

#[test]
fn a_side_container_may_end_alone() {
    let mut story = Story::new(vec![container("main"), optional(container("side"))]);
    story.prepared();
    story.started(0);
    story.started(1);
    assert_eq!(story.exited(1, 0), []);
    assert_eq!(story.phase(), Phase::Running);
}

#[test]
fn stop_is_in_reverse_order_of_dependencies() {
    let db = container("db");
    let app = needs(container("app"), "db", Condition::Start);
    let proxy = needs(container("proxy"), "app", Condition::Start);
    let mut story = Story::new(vec![proxy, app, db]);
    assert_eq!(story.prepared(), [start(2, 1)]);
    assert_eq!(story.started(2), [start(1, 1)]);
    assert_eq!(story.started(1), [start(0, 1)]);
    assert_eq!(story.started(0), []);
    assert_eq!(story.stop(), [signal(0, 15)]);
    assert_eq!(story.own_stop(), "");
    assert_eq!(story.exited(0, 0), [signal(1, 15)]);
    assert_eq!(story.exited(1, 0), [signal(2, 15)]);
    assert_eq!(story.exited(2, 0), [Step::Remove]);
}

#[test]
fn a_container_that_is_being_started_is_stopped_once_it_runs() {
    let mut story = Story::new(vec![container("main")]);
    story.prepared();
    assert_eq!(story.stop(), []);
    assert_eq!(story.started(0), [signal(0, 15)]);
    assert_eq!(story.exited(0, 143), [Step::Remove]);
}

#[test]
fn a_task_stopped_before_it_began_is_gone_at_once() {
    let mut story = Story::new(vec![container("main")]);
    assert_eq!(story.stop(), [Step::Remove]);
    assert_eq!(story.learn(Event::GroundRemoved), []);
    assert_eq!(story.phase(), Phase::Gone);
}

#[test]
fn failures_to_start_are_told_in_ecs_words() {
    let pull = "CannotPullContainerError: pull image manifest has been retried 1 time(s): x: not found";
    let mut story = Story::new(vec![container("main")]);
    story.decide();
    story.learn(Event::GroundMade(vec![]));
    assert_eq!(story.learn(Event::PullFailed { container: 0, reason: pull.into() }), [Step::Remove]);
    assert_eq!(story.own_stop(), format!("TaskFailedToStart: {pull}"));

    let mut story = Story::new(vec![container("main")]);
    story.prepared();
    let reason = "CannotStartContainerError: exec".to_owned();
    assert_eq!(
        story.learn(Event::StartFailed { container: 0, run: 1, reason: reason.clone() }),
        [Step::Remove]
    );
    assert_eq!(story.own_stop(), "TaskFailedToStart: Task failed to start");
    let seen = observe(&story.assignment, &story.known).containers.remove(0);
    let state = state::group::ContainerState::Exited { code: None, reason: Some(reason), at_ms: 0 };
    assert_eq!(seen.state, state);

    let mut story = Story::new(vec![container("main")]);
    story.decide();
    let reason = "ResourceInitializationError: no".to_owned();
    assert_eq!(story.learn(Event::GroundFailed { container: None, reason }), [Step::Remove]);
    assert_eq!(story.own_stop(), "TaskFailedToStart: ResourceInitializationError: no");
}

#[test]
fn init_containers_complete_or_fail_the_task() {
    let init = optional(container("init"));
    let main = needs(container("main"), "init", Condition::Success);
    let mut story = Story::new(vec![init.clone(), main.clone()]);
    assert_eq!(story.prepared(), [start(0, 1)]);
    story.started(0);
    assert_eq!(story.exited(0, 0), [start(1, 1)]);
    story.started(1);
    assert_eq!(story.phase(), Phase::Running);

    let mut story = Story::new(vec![init, main]);
    story.prepared();
    story.started(0);
    assert_eq!(story.exited(0, 1), [Step::Remove]);
    assert_eq!(story.own_stop(), "TaskFailedToStart: Task failed to start");
}

#[test]
fn a_slow_dependency_times_out() {
    let mut db = container("db");
    db.start_timeout_s = Some(20);
    let app = needs(container("app"), "db", Condition::Healthy);
    let mut story = Story::new(vec![db, app]);
    story.prepared();
    story.started(0);
    assert_eq!(story.again_at_ms, Some(20_000));
    assert_eq!(story.at(20_000), [signal(0, 15)]);
    assert_eq!(story.own_stop(), "TaskFailedToStart: Task failed to start");
}

fn with_check(mut spec: ContainerSpec, start_period_s: u32) -> ContainerSpec {
    let command = vec!["true".into()];
    spec.health_check =
        Some(HealthCheck { command, interval_s: 10, timeout_s: 2, retries: 2, start_period_s });
    spec
}

#[test]
fn health_follows_checks() {
    let mut story = Story::new(vec![with_check(container("main"), 25)]);
    story.prepared();
    assert_eq!(story.started(0), []);
    let check = [Step::Check { container: 0, run: 1 }];
    let health = |story: &Story| observe(&story.assignment, &story.known).containers[0].health;
    assert_eq!(story.at(9999), []);
    assert_eq!(story.at(10_000), check);
    assert_eq!(story.at(19_000), []);
    // Two failures in the start period do not count.
    story.checked(0, false);
    assert_eq!(story.again_at_ms, Some(29_000));
    story.now_ms = 20_000;
    story.checked(0, false);
    assert_eq!(health(&story), Health::Unknown);
    story.now_ms = 30_000;
    story.checked(0, true);
    assert_eq!(health(&story), Health::Healthy);
    story.checked(0, false);
    assert_eq!(health(&story), Health::Healthy);
    story.checked(0, false);
    assert_eq!(health(&story), Health::Unhealthy);
    story.checked(0, true);
    assert_eq!(health(&story), Health::Healthy);
    assert_eq!(story.phase(), Phase::Running, "an unhealthy container is its service's business");
}

#[test]
fn restart_policies() {
    let policy = RestartPolicy { ignored_exit_codes: vec![0], attempt_period_s: 60 };
    let mut main = container("main");
    main.restart_policy = Some(policy);
    let run = |exit_at: TimeMs, code: i32| {
        let mut story = Story::new(vec![main.clone()]);
        story.prepared();
        story.started(0);
        story.now_ms = exit_at;
        let steps = story.exited(0, code);
        (steps, story)
    };
    let (steps, mut story) = run(60_000, 1);
    assert_eq!(steps, [start(0, 2)]);
    assert_eq!(story.phase(), Phase::Running);
    story.started(0);
    assert_eq!(observe(&story.assignment, &story.known).containers[0].restart_count, 1);
    // An event of the first run comes late.
    let late = Event::Exited { container: 0, run: 1, code: Some(9), out_of_memory: false, at_ms: 60_000 };
    assert_eq!(story.learn(late), []);
    let (steps, story) = run(59_999, 1);
    assert_eq!(steps, [Step::Remove]);
    assert_eq!(story.own_stop(), "EssentialContainerExited: Essential container in task exited");
    let (steps, _) = run(90_000, 0);
    assert_eq!(steps, [Step::Remove]);
}

#[test]
fn an_agent_that_starts_again_goes_on() {
    let mut story = Story::new(vec![container("main"), container("side")]);
    story.prepared();
    story.started(0);
    // The agent dies while the second is being started; its supervisor had not begun.
    story.known = serde_json::from_str(&serde_json::to_string(&story.known).unwrap()).unwrap();
    story.known.resume();
    assert_eq!(story.decide(), [start(1, 1)]);
    // It dies again; this time the supervisor tells that it runs and that the first has ended.
    let started = Event::Started { container: 1, run: 1, runtime_id: "r".into(), at_ms: 0 };
    story.known.learn(true, &[true, true], started, 0);
    let exited = Event::Exited { container: 0, run: 1, code: Some(137), out_of_memory: true, at_ms: 0 };
    story.known.learn(true, &[true, true], exited, 0);
    story.known.resume();
    assert_eq!(story.decide(), [signal(1, 15)]);
    let seen = observe(&story.assignment, &story.known).containers.remove(0);
    let reason = Some("OutOfMemoryError: Container killed due to memory usage".into());
    assert_eq!(seen.state, state::group::ContainerState::Exited { code: Some(137), reason, at_ms: 0 });
}

#[test]
fn what_was_asked_of_a_container_and_may_not_have_been_heard_is_asked_again() {
    let mut story = Story::new(vec![container("main"), optional(container("side"))]);
    story.prepared();
    story.started(0);
    story.started(1);
    story.exited(1, 0);
    assert_eq!(story.stop(), [signal(0, 15)]);
    // The agent noted it, and dies before it is sent. The time to end still counts from when it was asked first.
    story.known.resume();
    assert_eq!(story.at(10_000), [signal(0, 15)]);
    assert_eq!((story.at(10_000), story.again_at_ms), (vec![], Some(30_000)));
    assert_eq!(story.at(30_000), [signal(0, 9)]);
    story.known.resume();
    assert_eq!(story.at(30_001), [signal(0, 9)]);
    assert_eq!(story.again_at_ms, Some(31_001));
    assert_eq!(story.exited(0, 137), [Step::Remove]);
}

#[test]
fn a_task_whose_state_was_lost_does_not_begin_again() {
    let mut lost = assignment(vec![container("main")]);
    lost.observed.phase = Phase::Running;
    let mut known = Known::new(&lost);
    assert_eq!(decide(&lost, &mut known, 5).steps, [Step::Remove]);
    assert_eq!(observe(&lost, &known).stop.unwrap().code, StopCode::EssentialContainerExited);
}

// === Random worlds ===

fn any_spec() -> impl Strategy<Value = Vec<ContainerSpec>> {
    let one = (any::<bool>(), any::<bool>(), any::<bool>(), 1..4u32, proptest::option::of(1..20u32));
    let edges = proptest::collection::vec((0..4usize, 0..4usize, 0..4usize), 0..5);
    (proptest::collection::vec(one, 1..5), edges).prop_map(|(containers, edges)| {
        let mut specs: Vec<ContainerSpec> = containers
            .iter()
            .enumerate()
            .map(|(index, (essential, checked, restarts, stop_s, start_timeout_s))| {
                let mut spec = container(&format!("c{index}"));
                spec.essential = *essential || index == 0;
                spec.stop_timeout_s = *stop_s;
                spec.start_timeout_s = *start_timeout_s;
                if *checked {
                    spec = with_check(spec, 3);
                }
                if *restarts {
                    spec.restart_policy =
                        Some(RestartPolicy { ignored_exit_codes: vec![0], attempt_period_s: 2 });
                }
                spec
            })
            .collect();
        let conditions = [Condition::Start, Condition::Complete, Condition::Success, Condition::Healthy];
        for (from, to, condition) in edges {
            // Only backwards, so that there is no cycle: the API refuses those.
            if to < from
                && from < specs.len()
                && !specs[from].depends_on.iter().any(|d| d.container == format!("c{to}"))
            {
                specs[from] = needs(specs[from].clone(), &format!("c{to}"), conditions[condition]);
            }
        }
        specs
    })
}

#[test]
fn what_waits_for_healthy_starts_with_the_check_that_passed() {
    // The dependency comes first, so that it is looked at before its check is.
    let (db, app) = (with_check(container("db"), 0), needs(container("app"), "db", Condition::Healthy));
    let mut story = Story::new(vec![db, app]);
    story.prepared();
    story.started(0);
    assert_eq!(story.at(10_000), [Step::Check { container: 0, run: 1 }]);
    assert_eq!(story.checked(0, true), [Step::Start { container: 1, run: 1 }]);
}

#[test]
fn a_group_that_is_given_up_starts_nothing_more() {
    let after = optional(needs(container("after"), "job", Condition::Complete));
    let must = needs(container("must"), "job", Condition::Success);
    let mut story = Story::new(vec![optional(container("job")), after, must]);
    story.prepared();
    story.started(0);
    assert_eq!(story.exited(0, 1), [Step::Remove]);
    assert_eq!(story.own_stop(), "TaskFailedToStart: Task failed to start");
}

/// A world that answers steps in a random order and crashes agents.
struct World {
    story: Story,
    open: Vec<Step>,
    running: Vec<bool>,
    asked: Vec<bool>,
    unheard: Vec<bool>,
    starts: std::collections::BTreeSet<(usize, u32)>,
    phase: Phase,
}

impl World {
    fn take(&mut self, steps: Vec<Step>) {
        for step in &steps {
            match step {
                Step::Start { container, run } => {
                    assert!(self.starts.insert((*container, *run)), "run {run} of {container} begun twice");
                    assert!(!self.running[*container], "container {container} started while it runs");
                    assert!(self.story.known.stop.is_none(), "started while stopping");
                    self.dependencies_hold(*container, *run);
                    self.asked[*container] = false;
                }
                Step::Signal { container, signal: 15 } => {
                    assert!(!self.asked[*container] || self.unheard[*container]);
                    self.asked[*container] = true;
                    self.unheard[*container] = false;
                    self.nobody_needs(*container);
                }
                Step::Signal { container, signal } => {
                    assert_eq!(*signal, 9);
                    assert!(self.asked[*container], "killed without being asked");
                }
                Step::Remove => assert!(!self.running.contains(&true), "removed while something runs"),
                Step::MakeGround | Step::Pull(_) | Step::Check { .. } => {}
            }
        }
        self.open.extend(steps);
        let phase = self.story.phase();
        assert!(phase >= self.phase, "{:?} after {:?}", phase, self.phase);
        self.phase = phase;
    }

    fn dependencies_hold(&self, container: usize, run: u32) {
        let specs = &self.story.assignment.spec.containers;
        for edge in specs[container].depends_on.iter().filter(|_| run == 1) {
            let at = specs.iter().position(|s| s.name == edge.container).unwrap();
            let other = &self.story.known.containers[at];
            let exit = match &other.run {
                Run::Exited { code, .. } => Some(*code),
                _ => None,
            };
            match edge.condition {
                Condition::Start => assert!(other.since_ms.is_some()),
                Condition::Complete => assert!(exit.is_some() && other.since_ms.is_some()),
                Condition::Success => assert_eq!(exit, Some(Some(0))),
                Condition::Healthy => assert_eq!(other.health.health, Health::Healthy),
            }
        }
    }

    fn nobody_needs(&self, container: usize) {
        let specs = &self.story.assignment.spec.containers;
        for (at, spec) in specs.iter().enumerate().filter(|(at, _)| self.running[*at]) {
            let needs = spec.depends_on.iter().any(|d| d.container == specs[container].name);
            assert!(!needs, "{container} was stopped before {at}, which depends on it");
        }
    }

    /// Does one open step, in one of two ways.
    fn act(&mut self, pick: usize, good: bool) {
        if self.open.is_empty() {
            return;
        }
        let step = self.open.remove(pick % self.open.len());
        let at_ms = self.story.now_ms;
        let steps = match step {
            Step::MakeGround if good => self.story.learn(Event::GroundMade(vec![])),
            Step::MakeGround => {
                self.story.learn(Event::GroundFailed { container: None, reason: "no".into() })
            }
            Step::Pull(container) if good || !pick.is_multiple_of(3) => {
                self.story.learn(Event::Pulled { container, digest: "d".into(), stop_signal: None })
            }
            Step::Pull(container) => self.story.learn(Event::PullFailed { container, reason: "no".into() }),
            Step::Start { container, run } if good || !pick.is_multiple_of(3) => {
                self.running[container] = true;
                self.story.learn(Event::Started { container, run, runtime_id: "r".into(), at_ms })
            }
            Step::Start { container, run } => {
                self.story.learn(Event::StartFailed { container, run, reason: "no".into() })
            }
            // A program may ignore SIGTERM.
            Step::Signal { signal: 15, .. } if !good => vec![],
            Step::Signal { container, .. } => self.exit(container, 143),
            Step::Check { container, run } => {
                self.story.learn(Event::Checked { container, run, passed: good })
            }
            Step::Remove => self.story.learn(Event::GroundRemoved),
        };
        self.take(steps);
    }

    /// The agent dies with all that it has noted but not done, and another begins.
    fn crash(&mut self) {
        for step in std::mem::take(&mut self.open) {
            if let Step::Start { container, run } = step {
                self.starts.remove(&(container, run));
            }
        }
        self.unheard.fill(true);
        self.story.known.resume();
        let steps = self.story.decide();
        self.take(steps);
    }

    fn exit(&mut self, container: usize, code: i32) -> Vec<Step> {
        if !std::mem::replace(&mut self.running[container], false) {
            return vec![];
        }
        self.story.exited(container, code)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_must_always_hold(
        specs in any_spec(),
        moves in proptest::collection::vec((0..7u8, 0..12usize, any::<bool>()), 0..80),
    ) {
        let count = specs.len();
        let mut world = World {
            story: Story::new(specs),
            open: vec![],
            running: vec![false; count],
            asked: vec![false; count],
            unheard: vec![false; count],
            starts: Default::default(),
            phase: Phase::Unseen,
        };
        let first = world.story.decide();
        world.take(first);
        for (kind, pick, good) in moves {
            match kind {
                0..=2 => world.act(pick, good || kind > 0),
                3 => {
                    let steps = world.exit(pick % count, if good { 0 } else { 1 });
                    world.take(steps);
                }
                4 => {
                    let steps = world.story.at(world.story.now_ms + 700 * pick as i64);
                    world.take(steps);
                }
                5 if pick < 3 => world.crash(),
                _ if pick == 0 => {
                    let steps = world.story.stop();
                    world.take(steps);
                }
                _ => {
                    // Deciding again without news changes nothing but what time does.
                    let before = world.story.known.clone();
                    let steps = world.story.decide();
                    prop_assert_eq!(steps, vec![]);
                    prop_assert_eq!(&world.story.known, &before);
                }
            }
        }
        // However it went: asked to stop, with a world that obeys, it is gone.
        let steps = world.story.stop();
        world.take(steps);
        for _ in 0..40 {
            while !world.open.is_empty() {
                world.act(0, true);
            }
            let steps = world.story.at(world.story.now_ms + 5000);
            world.take(steps);
        }
        prop_assert_eq!(world.phase, Phase::Gone);
        prop_assert!(!world.running.contains(&true));
    }
}
