//! The agent with real containers: life cycles, limits, logs, volumes, and agents that are killed.

mod common;
#[path = "agent/turns.rs"]
mod turns;
#[path = "common/world.rs"]
mod world;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use state::assignment::NetworkAssignment;
use state::group::{
    Attachment, Condition, ContainerState, Dependency, GroupSpec, Health, HealthCheck, LogDestination,
    MountPoint, NetworkMode, Phase, RestartPolicy, Volume, VolumeSource, VolumesFrom,
};
use world::{World, group, script};

fn exit_code(seen: &state::group::Observed, index: usize) -> Option<i32> {
    match &seen.containers[index].state {
        ContainerState::Exited { code, .. } => *code,
        other => panic!("container {index} has not exited: {other:?}"),
    }
}

fn reason(seen: &state::group::Observed, index: usize) -> String {
    match &seen.containers[index].state {
        ContainerState::Exited { reason, .. } => reason.clone().unwrap_or_default(),
        other => panic!("container {index} has not exited: {other:?}"),
    }
}

fn stop_reason(seen: &state::group::Observed) -> String {
    seen.stop.as_ref().map(|stop| format!("{:?}: {}", stop.code, stop.reason)).unwrap_or_default()
}

fn awslogs(group: &str) -> Option<LogDestination> {
    Some(LogDestination::Awslogs {
        group: group.into(),
        region: "us-east-1".into(),
        stream_prefix: "p".into(),
        create_group: true,
        multiline_pattern: None,
        non_blocking: false,
        max_buffer_bytes: None,
    })
}

#[tokio::test]
async fn a_task_runs_says_something_and_ends() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "life").await;
    let text = "echo from $FROM in $PWD on $(hostname); echo $AWS_EXECUTION_ENV; head -n1 /etc/resolv.conf; printf end; exit 3";
    let mut main = script("main", text);
    main.log = awslogs("/ecs/app");
    let key = world.run(group("t1", vec![main]));
    let seen = world.phase(&key, Phase::Gone).await;
    assert_eq!(exit_code(&seen, 0), Some(3));
    assert_eq!(stop_reason(&seen), "EssentialContainerExited: Essential container in task exited");
    assert_eq!(seen.containers[0].id, "api-main");
    assert!(seen.containers[0].image_digest.as_ref().is_some_and(|d| d.starts_with("sha256:")));
    assert!(seen.started_at_ms.is_some() && seen.stopped_at_ms >= seen.execution_stopped_at_ms);
    let said: Vec<String> =
        world.sink.events.lock().unwrap().iter().map(|(s, t)| format!("{s} {t}")).collect();
    assert_eq!(
        said,
        [
            "p/main/t1 from image in /srv/app on task",
            "p/main/t1 AWS_ECS_FARGATE",
            "p/main/t1 nameserver 192.0.2.1",
            "p/main/t1 end"
        ]
    );
    world.take_away(&key);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "fail").await;
    let mut none = script("main", "true");
    none.image = "localhost:4566/nonesuch:9".into();
    let key = world.run(group("t1", vec![none]));
    let seen = world.phase(&key, Phase::Gone).await;
    let want = "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
                localhost:4566/nonesuch:9: localhost:4566/nonesuch:9: not found";
    assert_eq!(stop_reason(&seen), format!("TaskFailedToStart: {want}"));
    assert_eq!(reason(&seen, 0), want);

    let mut bad = script("main", "true");
    bad.command = Some(vec!["nonesuch".into()]);
    let key = world.run(group("t2", vec![bad, script("other", "sleep 60")]));
    let seen = world.phase(&key, Phase::Gone).await;
    assert_eq!(stop_reason(&seen), "TaskFailedToStart: Task failed to start");
    assert!(reason(&seen, 0).starts_with("CannotStartContainerError: "), "{}", reason(&seen, 0));
    assert!(reason(&seen, 0).contains("exec: \"nonesuch\": executable file not found in $PATH"));

    let mut bad = script("main", "true");
    bad.system_controls = vec![("kernel.panic".into(), "1".into())];
    let key = world.run(group("t3", vec![bad]));
    let seen = world.phase(&key, Phase::Gone).await;
    assert!(reason(&seen, 0).contains("sysctl 'kernel.panic' is not whitelisted"), "{}", reason(&seen, 0));
    world.finish().await;
}

#[tokio::test]
async fn limits_of_containers_and_tasks_bite() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "limit").await;
    let mut hungry = script("main", "exec head -c 200000000 /dev/zero > /dev/shm/big");
    hungry.linux.shared_memory_mib = Some(512);
    let mut own = hungry.clone();
    own.memory_mib = Some(32);
    let key = world.run(group("t1", vec![own]));
    let seen = world.phase(&key, Phase::Gone).await;
    assert_eq!((exit_code(&seen, 0), reason(&seen, 0).as_str()), (Some(137), OOM));

    let mut whole = group("t2", vec![hungry]);
    let spec =
        GroupSpec { memory_limit_mib: Some(48), cpu_limit_units: Some(256), ..GroupSpec::clone(&whole.spec) };
    whole.spec = spec.into();
    let key = world.run(whole);
    let seen = world.phase(&key, Phase::Gone).await;
    assert_eq!((exit_code(&seen, 0), reason(&seen, 0).as_str()), (Some(137), OOM));

    let mut busy =
        group("t3", vec![script("a", "while true; do :; done"), script("b", "while true; do :; done")]);
    let spec = GroupSpec { cpu_limit_units: Some(256), ..GroupSpec::clone(&busy.spec) };
    busy.spec = spec.into();
    let key = world.run(busy);
    world.phase(&key, Phase::Running).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used: u64 = world.agent.stats(&key).unwrap().iter().map(|c| c.usage.unwrap().cpu_ns).sum();
    assert!((200_000_000..900_000_000).contains(&used), "a quarter of a core for 2 s: {used} ns");
    world.finish().await;
}

const OOM: &str = "OutOfMemoryError: Container killed due to memory usage";

#[tokio::test]
async fn stop_asks_first_and_kills_later() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "stop").await;
    let polite = script("polite", "trap 'exit 5' TERM; while true; do sleep 0.05; done");
    let mut deaf = script("deaf", "trap '' TERM; while true; do sleep 0.05; done");
    deaf.stop_timeout_s = 2;
    let key = world.run(group("t1", vec![polite, deaf]));
    world.phase(&key, Phase::Running).await;
    // The traps are set a moment after the start.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = std::time::Instant::now();
    world.stop(&key);
    let seen = world.phase(&key, Phase::Gone).await;
    let took = begun.elapsed();
    assert_eq!((exit_code(&seen, 0), exit_code(&seen, 1)), (Some(5), Some(137)));
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(seen.stop, None, "the cause is the server's");
    world.finish().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_can_be_killed() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "killall").await;
    let mut deaf = script("deaf", "trap '' TERM; sleep 1000 & while true; do sleep 0.05; done");
    deaf.stop_timeout_s = 300;
    let keys: Vec<String> = ["t1", "t2"].map(|id| world.run(group(id, vec![deaf.clone()]))).into();
    for key in &keys {
        world.phase(key, Phase::Running).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = std::time::Instant::now();
    keys.iter().for_each(|key| world.stop(key));
    world.agent.kill_all().await;
    for key in &keys {
        let seen = world.phase(key, Phase::Gone).await;
        assert_eq!(exit_code(&seen, 0), Some(137));
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    world.finish().await;
}

#[tokio::test]
async fn dependencies_health_and_restarts() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "order").await;
    let depends = |spec: &mut state::group::ContainerSpec, on: &str, condition| {
        spec.depends_on.push(Dependency { container: on.into(), condition });
    };
    let share = |spec: &mut state::group::ContainerSpec| {
        spec.mount_points =
            vec![MountPoint { volume: "shared".into(), container_path: "/shared".into(), read_only: false }];
    };
    let mut init = script("init", "sleep 0.2; echo ready > /shared/init; exit 0");
    init.essential = false;
    let mut db = script("db", "sleep 0.5; touch /tmp/up; exec sleep 1000");
    let command = vec!["/bin/sh".into(), "-c".into(), "test -e /tmp/up".into()];
    db.health_check =
        Some(HealthCheck { command, interval_s: 1, timeout_s: 2, retries: 3, start_period_s: 0 });
    let mut app = script(
        "app",
        "cat /shared/init /shared/count; n=$(wc -l < /shared/count); echo x >> /shared/count; \
                                 test $n -gt 1 && exec sleep 1000; sleep 1.1; exit 1",
    );
    app.restart_policy = Some(RestartPolicy { ignored_exit_codes: vec![], attempt_period_s: 1 });
    app.log = awslogs("g");
    depends(&mut app, "init", Condition::Success);
    depends(&mut app, "db", Condition::Healthy);
    share(&mut init);
    app.volumes_from = vec![VolumesFrom { container: "init".into(), read_only: false }];
    let mut assignment = group("t1", vec![app, db, init]);
    let mut spec = GroupSpec::clone(&assignment.spec);
    spec.volumes = vec![Volume { name: "shared".into(), source: VolumeSource::Scratch }];
    spec.containers[0].command = Some(vec![
        "/bin/sh".into(),
        "-c".into(),
        "cat /shared/init; echo x >> /shared/count; n=$(cat /shared/count | wc -l); test $n -gt 2 && exec sleep 1000; \
         sleep 1.1; exit 1"
            .into(),
    ]);
    assignment.spec = spec.into();
    let key = world.run(assignment);
    let seen = world.phase(&key, Phase::Running).await;
    assert_eq!(exit_code(&seen, 2), Some(0));
    assert_eq!(seen.containers[1].health, Health::Healthy);
    let seen = world.until(&key, "restarted twice", |seen| {
        seen.containers[0].restart_count == 2
            && matches!(seen.containers[0].state, ContainerState::Running { .. })
    });
    let seen = seen.await;
    assert_eq!(seen.phase, Phase::Running);
    let outcome =
        world.agent.exec(&key, "app", vec!["cat".into(), "/shared/count".into()], Duration::from_secs(5));
    assert_eq!(outcome.await.unwrap().output, "x\nx\nx\n");
    world.stop(&key);
    world.phase(&key, Phase::Gone).await;
    let said = world.sink.events.lock().unwrap().clone();
    assert_eq!(said.iter().filter(|(_, text)| text == "ready").count(), 3, "{said:?}");
    world.finish().await;
}

#[tokio::test]
async fn another_agent_takes_over_and_removes_what_is_not_assigned() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "takeover").await;
    let mut spec = script("main", "n=0; while true; do n=$((n+1)); echo $n; sleep 0.05; done");
    spec.log = awslogs("g");
    let key = world.run(group("t1", vec![spec]));
    let gone = world.run(group("t2", vec![script("main", "sleep 1000")]));
    let seen = world.phase(&key, Phase::Running).await;
    world.phase(&gone, Phase::Running).await;
    let runtime_id = seen.containers[0].runtime_id.clone();
    let before = world.sink.clone();
    world = world.restart().await;
    let seen = world.phase(&key, Phase::Running).await;
    assert_eq!(seen.containers[0].runtime_id, runtime_id, "the same container goes on");
    world.take_away(&gone);
    world.phase(&gone, Phase::Gone).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.stop(&key);
    world.phase(&key, Phase::Gone).await;
    let all = before
        .events
        .lock()
        .unwrap()
        .iter()
        .chain(&*world.sink.events.lock().unwrap())
        .cloned()
        .collect::<Vec<_>>();
    let numbers: Vec<u32> = all.iter().map(|(_, text)| text.parse().unwrap()).collect();
    let mut once = numbers.clone();
    once.dedup();
    assert!(once.len() > 10 && once.iter().zip(1..).all(|(have, want)| *have == want), "{numbers:?}");
    world.finish().await;
}

/// In a network namespace and a run folder of its own, which the next test makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_network_of_its_own() {
    use agent::act::network::{Network, NetworkConfig};
    let Ok(dir) = std::env::var("ROADSTEAD_TEST_NETWORK") else { return };
    let dir = Path::new(&dir);
    let config = NetworkConfig { run_dir: dir.join("run"), ..NetworkConfig::default() };
    let network = Network::new(config.clone(), tokio::runtime::Handle::current()).unwrap();
    let mut world = World::with(dir, "network", std::sync::Arc::new(network)).await;
    let text =
        "hostname; sleep 0.5; wget -qO- $ECS_CONTAINER_METADATA_URI_V4/task; echo; cat /etc/resolv.conf";
    let mut main = script("main", text);
    main.log = awslogs("g");
    let mut assignment = group("0123456789abcdef0123456789abcdef", vec![main]);
    let spec = GroupSpec { network_mode: NetworkMode::Awsvpc, ..GroupSpec::clone(&assignment.spec) };
    assignment.spec = spec.into();
    assignment.network = Some(interface("vpc-1"));
    let key = world.run(assignment);
    let seen = world.phase(&key, Phase::Gone).await;
    assert_eq!(exit_code(&seen, 0), Some(0), "{seen:#?}");
    let said: Vec<String> = world.sink.events.lock().unwrap().iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(said[0], "ip-10-9-0-5.ec2.internal");
    let task: serde_json::Value = serde_json::from_str(&said[1]).unwrap();
    assert_eq!(task["Containers"][0]["Networks"][0]["IPv4Addresses"][0], "10.9.0.5");
    assert_eq!(task["KnownStatus"], "RUNNING");
    assert!(said.iter().any(|line| line == "nameserver 169.254.169.253"), "{said:?}");
    world.take_away(&key);
    world.finish().await;
    tokio::task::spawn_blocking(|| Network::teardown_all(config).unwrap()).await.unwrap();
    assert_eq!(common::left_over(&dir.display().to_string()), Vec::<String>::new());
}

fn interface(vpc_id: &str) -> NetworkAssignment {
    let cidr = |text| state::ec2::Cidr::parse(text).unwrap();
    NetworkAssignment {
        attachment: Attachment {
            id: "a".into(),
            eni_id: "eni-1".into(),
            subnet_id: "subnet-1".into(),
            availability_zone: "us-east-1a".into(),
            private_ip: "10.9.0.5".parse().unwrap(),
            mac: "02:00:00:00:00:05".into(),
        },
        subnet_cidr: cidr("10.9.0.0/24"),
        vpc_id: vpc_id.into(),
        vpc_cidr: cidr("10.9.0.0/16"),
        gateway: "10.9.0.1".parse().unwrap(),
        firewall: vec![],
    }
}

#[test]
fn a_task_with_an_interface_learns_about_itself() {
    use std::os::unix::process::CommandExt;
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "in_a_network_of_its_own"]).env("ROADSTEAD_TEST_NETWORK", dir.path());
    // SAFETY: only system calls between fork and exec.
    unsafe {
        test.pre_exec(|| {
            use nix::mount::{MsFlags, mount};
            use nix::sched::CloneFlags;
            nix::sched::unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            Ok(())
        });
    }
    let output = test.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What the next test starts as a process of its own and kills: an agent with one task.
#[tokio::test]
async fn agent_process() {
    let Ok(dir) = std::env::var("ROADSTEAD_TEST_AGENT") else { return };
    let sink = std::sync::Arc::new(world::Sink::default());
    let (agent, mut reports) =
        world::start_agent(Path::new(&dir), "killed", sink, std::sync::Arc::new(world::HostNetworks)).await;
    agent.assign(vec![killed_task()]);
    while let Some(report) = reports.recv().await {
        if report.observed.phase == Phase::Running {
            std::fs::write(Path::new(&dir).join("running"), "").unwrap();
        }
    }
}

fn killed_task() -> state::assignment::Assignment {
    let mut brief = script("brief", "while ! test -e /gate/open; do sleep 0.05; done; exit 7");
    brief.essential = false;
    brief.mount_points =
        vec![MountPoint { volume: "gate".into(), container_path: "/gate".into(), read_only: false }];
    let mut assignment = group("t1", vec![brief, script("long", "exec sleep 1000")]);
    let mut spec = GroupSpec::clone(&assignment.spec);
    let path = std::env::temp_dir().join("roadstead-test-gate").display().to_string();
    spec.volumes = vec![Volume { name: "gate".into(), source: VolumeSource::Host { path } }];
    assignment.spec = spec.into();
    assignment
}

#[tokio::test]
async fn exits_while_no_agent_lives_are_not_lost() {
    if !common::can_run() {
        return;
    }
    let gate = std::env::temp_dir().join("roadstead-test-gate");
    let _ = std::fs::remove_dir_all(&gate);
    let dir = tempfile::tempdir().unwrap();
    let mut agent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent_process", "--nocapture"])
        .env("ROADSTEAD_TEST_AGENT", dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if dir.path().join("running").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(dir.path().join("running").exists());
    agent.kill().unwrap();
    agent.wait().unwrap();
    std::fs::write(gate.join("open"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut world = World::new(dir.path(), "killed").await;
    let key = world.run(killed_task());
    let seen = world.until(&key, "exited with 7", |seen| {
        matches!(seen.containers[0].state, ContainerState::Exited { code: Some(7), .. })
    });
    let seen = seen.await;
    assert!(matches!(seen.containers[1].state, ContainerState::Running { .. }));
    assert_eq!(seen.phase, Phase::Running);

    // Now the supervisor is killed as well: what ran is over, and nobody knows its exit code.
    let supervisor = common::holders(dir.path());
    assert_eq!(supervisor.len(), 1);
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", supervisor[0])).unwrap();
    assert!(
        cgroup.contains("/roadstead-test-killed/_supervisors"),
        "not in the agent's own cgroup: {cgroup}"
    );
    // SAFETY: plain system call on a process that belongs to this test.
    unsafe { libc::kill(supervisor[0], libc::SIGKILL) };
    let seen = world.phase(&key, Phase::Gone).await;
    assert_eq!(exit_code(&seen, 1), None);
    assert_eq!(stop_reason(&seen), "EssentialContainerExited: Essential container in task exited");
    world.finish().await;
    std::fs::remove_dir_all(&gate).unwrap();
}

/// A supervisor that ends holds its lock a moment longer than its connections. Here a thread takes and leaves the lock as
/// fast as it can: any two looks at it may differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_ended_is_not_replaced() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "ended").await;
    for n in 0..50 {
        let id = format!("t{n}");
        let key = world.run(group(&id, vec![script("main", "exec sleep 1000")]));
        world.phase(&key, Phase::Running).await;
        let folder = dir.path().join("data/groups").join(&id);
        // What a supervisor is started with is written just before.
        let settings = folder.join("supervise.json");
        std::fs::remove_file(&settings).unwrap();
        let lock = std::fs::File::options().write(true).open(folder.join("lock")).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let flicker = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                let mut was_replaced = false;
                while !is_over.load(Ordering::Relaxed) {
                    for how in [libc::LOCK_EX | libc::LOCK_NB, libc::LOCK_UN] {
                        // SAFETY: plain system call on an open descriptor.
                        unsafe { libc::flock(lock.as_raw_fd(), how) };
                        was_replaced |= settings.exists();
                    }
                }
                was_replaced
            }
        });
        let [supervisor] = common::holders(&folder)[..] else { panic!("not one supervisor") };
        // SAFETY: plain system call on a process that belongs to this test.
        unsafe { libc::kill(supervisor, libc::SIGKILL) };
        let has_exited =
            |seen: &state::group::Observed| matches!(seen.containers[0].state, ContainerState::Exited { .. });
        world.until(&key, "exited", has_exited).await;
        is_over.store(true, Ordering::Relaxed);
        assert!(!flicker.join().unwrap(), "a supervisor was started for what had ended");
        world.phase(&key, Phase::Gone).await;
        world.take_away(&key);
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_tasks_at_once_all_end_as_they_should() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "many").await;
    let count: usize = std::env::var("ROADSTEAD_TEST_TASKS").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let begun = std::time::Instant::now();
    let keys: Vec<String> = (0..count)
        .map(|n| {
            let mut main = script("main", &format!("echo {n}; exit {}", n % 100));
            main.log = awslogs("g");
            world.run(group(&format!("t{n}"), vec![main]))
        })
        .collect();
    for (n, key) in keys.iter().enumerate() {
        let seen = world.phase(key, Phase::Gone).await;
        assert_eq!(exit_code(&seen, 0), Some(n as i32 % 100), "{}", reason(&seen, 0));
    }
    println!("{count} tasks from assignment to nothing left: {:?}", begun.elapsed());
    let mut said: Vec<usize> =
        world.sink.events.lock().unwrap().iter().map(|(_, text)| text.parse().unwrap()).collect();
    said.sort_unstable();
    assert_eq!(said, (0..count).collect::<Vec<_>>());
    world.finish().await;
}

/// Not a test of what is right but a figure: what a supervisor costs. Run with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_supervisor_costs() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), "density").await;
    let keys: Vec<String> = (0..50)
        .map(|n| world.run(group(&format!("t{n}"), vec![script("main", "exec sleep 1000")])))
        .collect();
    for key in &keys {
        world.phase(key, Phase::Running).await;
    }
    let pids = common::holders(dir.path());
    let field = |pid: i32, name: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    };
    for name in ["Pss:", "Private_Dirty:", "Rss:"] {
        let total: u64 = pids.iter().map(|pid| field(*pid, name)).sum();
        println!("{} supervisors, {name} {} kB each", pids.len(), total / pids.len() as u64);
    }
    world.finish().await;
}
