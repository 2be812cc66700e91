//! The shipper with real files and a sink that can be made to fail.

use std::collections::BTreeMap;
use std::sync::Mutex;

use state::assignment::AgentDesired;
use state::group::{ContainerObserved, ContainerSpec, GroupSpec, Observed};

use super::super::supervisor::{container_dir, frames::Writer};
use super::*;

#[derive(Default)]
struct Taken {
    /// By stream: what was appended.
    lines: BTreeMap<String, Vec<String>>,
    streams: Vec<LogStreamName>,
    calls: usize,
    failures: usize,
    fails: Option<LogSinkError>,
}

#[derive(Default)]
struct Sink(Mutex<Taken>);

impl LogSink for Sink {
    fn append(&self, destination: &LogStreamName, events: &[(TimeMs, String)]) -> Result<(), LogSinkError> {
        let mut taken = self.0.lock().unwrap();
        taken.calls += 1;
        if let Some(err) = taken.fails.clone() {
            taken.failures += 1;
            return Err(err);
        }
        if !taken.streams.contains(destination) {
            taken.streams.push(destination.clone());
        }
        let lines = events.iter().map(|(_, text)| text.clone());
        taken.lines.entry(destination.stream.clone()).or_default().extend(lines);
        Ok(())
    }
}

impl Sink {
    fn fail(&self, fails: Option<Retry>) {
        let text = "ServiceUnavailableException: down".to_owned();
        self.0.lock().unwrap().fails = fails.map(|retry| LogSinkError { retry, text });
    }

    fn lines(&self, stream: &str) -> Vec<String> {
        self.0.lock().unwrap().lines.get(stream).cloned().unwrap_or_default()
    }

    /// Waits until a stream has so many lines; tells how long that took.
    fn wait_for(&self, stream: &str, lines: usize) -> Duration {
        let begun = Instant::now();
        while self.lines(stream).len() < lines {
            assert!(begun.elapsed() < Duration::from_secs(20), "{stream}: {:?}", self.lines(stream));
            std::thread::sleep(Duration::from_millis(1));
        }
        begun.elapsed()
    }
}

fn assignment(id: &str, prefix: &str, multiline: Option<&str>) -> Assignment {
    let container = |name: &str| ContainerSpec {
        name: name.into(),
        log: Some(LogDestination::Awslogs {
            group: "/ecs/app".into(),
            region: "eu-west-1".into(),
            stream_prefix: prefix.into(),
            create_group: true,
            multiline_pattern: multiline.map(str::to_owned),
            non_blocking: false,
            max_buffer_bytes: None,
        }),
        ..ContainerSpec::default()
    };
    let silent = ContainerSpec { name: "silent".into(), ..ContainerSpec::default() };
    let containers = vec![container("web"), silent, container("side")];
    let seen = |spec: &ContainerSpec| ContainerObserved {
        name: spec.name.clone(),
        id: format!("id-{}", spec.name),
        ..ContainerObserved::default()
    };
    let observed = Observed { containers: containers.iter().map(seen).collect(), ..Observed::default() };
    Assignment {
        key: format!("k/{id}"),
        id: id.into(),
        task_arn: "arn".into(),
        account: "111122223333".into(),
        region: "us-east-1".into(),
        cluster: "main".into(),
        service: None,
        tags: Vec::new(),
        launch_type: "FARGATE".into(),
        availability_zone: "a".into(),
        spec: Arc::new(GroupSpec { containers, ..GroupSpec::default() }),
        desired: AgentDesired::Run,
        network: None,
        observed,
        created_at_ms: 0,
    }
}

struct World {
    dir: tempfile::TempDir,
    sink: Arc<Sink>,
    shipper: LogShipper,
}

fn world() -> World {
    let sink = Arc::new(Sink::default());
    let shipper = LogShipper::start(sink.clone()).unwrap();
    World { dir: tempfile::tempdir().unwrap(), sink, shipper }
}

impl World {
    fn writer(&self, container: usize) -> Writer {
        let dir = container_dir(self.dir.path(), container);
        std::fs::create_dir_all(&dir).unwrap();
        Writer::open(&dir, 8 << 20)
    }
}

#[tokio::test]
async fn lines_arrive_soon_each_in_its_stream_and_silence_costs_nothing() {
    let world = world();
    let assignment = assignment("t1", "ecs", None);
    world.shipper.follow(&assignment, world.dir.path());
    let (mut web, mut side) = (world.writer(0), world.writer(2));
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        web.write(1, n, format!("line {n}\n").as_bytes());
        slowest = slowest.max(world.sink.wait_for("ecs/web/t1", n as usize + 1));
    }
    // Much less when the machine is idle.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    side.write(2, 1, b"other\n");
    world.sink.wait_for("ecs/side/t1", 1);
    let stream = LogStreamName {
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        group: "/ecs/app".into(),
        stream: "ecs/side/t1".into(),
        create_group: true,
    };
    assert_eq!(world.sink.0.lock().unwrap().streams[1], stream);
    let calls = world.sink.0.lock().unwrap().calls;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.sink.0.lock().unwrap().calls, calls);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_a_failing_sink_and_a_restart() {
    let world = world();
    let assignment = assignment("t1", "ecs", None);
    let mut writer = world.writer(0);
    let wanted: Vec<String> = (0..30_000).map(|n| format!("line {n}")).collect();
    world.shipper.follow(&assignment, world.dir.path());
    for (n, line) in wanted.iter().enumerate() {
        match n {
            1_000 => drop(world.sink.wait_for("ecs/web/t1", 1_000)),
            2_000 => world.sink.fail(Some(Retry::Always)),
            20_000 => {
                while world.sink.0.lock().unwrap().failures < 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                world.sink.fail(None);
            }
            _ => {}
        }
        writer.write(1, n as i64, format!("{line}\n").as_bytes());
    }
    world.sink.wait_for("ecs/web/t1", 30_000);
    assert!(world.shipper.drain(&assignment.key, Duration::from_secs(20)).await);
    // Another agent goes on where this one stopped.
    let again = LogShipper::start(world.sink.clone()).unwrap();
    again.follow(&assignment, world.dir.path());
    writer.write(1, 1, b"after\nlast, without end");
    assert!(again.drain(&assignment.key, Duration::from_secs(20)).await);
    let mut lines = world.sink.lines("ecs/web/t1");
    assert_eq!(lines.split_off(30_000), ["after", "last, without end"]);
    assert!(lines == wanted);
}

#[tokio::test]
async fn draining_ends_in_time_though_the_sink_fails() {
    let world = world();
    let assignment = assignment("t1", "ecs", None);
    world.sink.fail(Some(Retry::Always));
    world.shipper.follow(&assignment, world.dir.path());
    world.writer(0).write(1, 1, b"never taken\n");
    let begun = Instant::now();
    assert!(!world.shipper.drain(&assignment.key, Duration::from_millis(400)).await);
    assert!(begun.elapsed() >= Duration::from_millis(400) && begun.elapsed() < Duration::from_secs(5));
    assert!(world.shipper.drain("unknown", Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_will_never_be_taken_is_discarded() {
    let world = world();
    let assignment = assignment("t1", "ecs", None);
    world.sink.fail(Some(Retry::Never));
    world.shipper.follow(&assignment, world.dir.path());
    let mut writer = world.writer(0);
    writer.write(1, 1, b"refused\n");
    while world.sink.0.lock().unwrap().calls == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.sink.fail(None);
    writer.write(1, 2, b"taken\n");
    assert!(world.shipper.drain(&assignment.key, Duration::from_secs(20)).await);
    assert_eq!(world.sink.lines("ecs/web/t1"), ["taken"]);
}

#[tokio::test]
async fn a_destination_that_is_gone_is_waited_for_while_the_task_runs_and_not_at_its_end() {
    let world = world();
    let assignment = assignment("t1", "ecs", None);
    world.sink.fail(Some(Retry::WhileRunning));
    world.shipper.follow(&assignment, world.dir.path());
    let mut writer = world.writer(0);
    writer.write(1, 1, b"one\n");
    while world.sink.0.lock().unwrap().failures < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.sink.fail(None);
    world.sink.wait_for("ecs/web/t1", 1);
    world.sink.fail(Some(Retry::WhileRunning));
    // More than one batch.
    for _ in 0..40 {
        writer.write(1, 2, &[b"x".repeat(59_999), b"\n".to_vec()].concat());
    }
    let begun = Instant::now();
    assert!(world.shipper.drain(&assignment.key, Duration::from_secs(20)).await);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(world.sink.lines("ecs/web/t1"), ["one"]);
}

#[tokio::test]
async fn an_exit_ends_a_line_and_silence_a_block() {
    let world = world();
    let plain = assignment("t1", "ecs", None);
    world.shipper.follow(&plain, world.dir.path());
    let mut writer = world.writer(0);
    writer.write(1, 1, b"panic");
    world.shipper.exited(&plain.key, 0);
    world.sink.wait_for("ecs/web/t1", 1);
    // Started again, it says more.
    writer.write(1, 2, b"up\n");
    world.sink.wait_for("ecs/web/t1", 2);
    assert_eq!(world.sink.lines("ecs/web/t1"), ["panic", "up"]);
    world.shipper.forget(&plain.key);

    let other = tempfile::tempdir().unwrap();
    let blocks = assignment("t2", "ecs", Some("^ERROR"));
    world.shipper.follow(&blocks, other.path());
    std::fs::create_dir_all(container_dir(other.path(), 0)).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    Writer::open(&container_dir(other.path(), 0), 8 << 20).write(1, now, b"ERROR a\n  at b\n");
    world.sink.wait_for("ecs/web/t2", 1);
    assert_eq!(world.sink.lines("ecs/web/t2"), ["ERROR a\n  at b\n"]);
}

#[tokio::test]
async fn preparing_makes_the_streams_or_says_why_not() {
    let world = world();
    let mut fargate = assignment("t1", "ecs", None);
    assert_eq!(world.shipper.prepare(&fargate), Ok(()));
    assert_eq!(world.sink.0.lock().unwrap().streams.len(), 2);
    world.sink.fail(Some(Retry::Never));
    let why = "failed to create Cloudwatch log stream: ServiceUnavailableException: down";
    let said = format!("ResourceInitializationError: failed to validate logger args: {why}");
    assert_eq!(world.shipper.prepare(&fargate), Err((0, said)));
    fargate.launch_type = "EC2".into();
    let start =
        "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: ";
    assert_eq!(world.shipper.prepare(&fargate), Err((0, format!("{start}{why}"))));
    world.sink.fail(None);
    let (container, said) = world.shipper.prepare(&assignment("t1", "ecs", Some("("))).unwrap_err();
    assert!(container == 0 && said.contains("awslogs could not parse multiline pattern key \"(\""), "{said}");
    let named_by_id = destination(&assignment("t1", "", None), 2).unwrap();
    assert_eq!(named_by_id.stream, "id-side");
}
