//! A supervisor and real containers, without an agent: starts, exits, limits, output, commands, and no leftovers.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::act::image::ImageConfig;
use agent::act::runtime::bundle::{self, Inputs};
use agent::act::runtime::cgroup::{Cgroups, Limits};
use agent::act::runtime::{DriverKind, ExecOutcome, ExecSpec, StartSpec, capabilities};
use agent::act::supervisor::client::{Supervisor, Telling, Told};
use agent::act::supervisor::frames::{Position, Reader};
use agent::act::supervisor::journal::What;
use agent::act::supervisor::nursery::Nursery;
use agent::act::supervisor::{Answer, Ask, RUNNING_ALREADY, Settings, container_dir};
use state::group::{ContainerSpec, NetworkMode};

/// Set where these tests run on a version 2 tree that has no controllers.
const VERSION_2: &str = "ROADSTEAD_TEST_VERSION_2";

struct Fixture {
    dir: tempfile::TempDir,
    group: PathBuf,
    cgroup: String,
    driver: DriverKind,
    supervisor: Supervisor,
    telling: Telling,
    runs: u32,
    log_blocks: bool,
}

fn container(command: &str) -> ContainerSpec {
    let command = Some(vec!["/bin/sh".into(), "-c".into(), command.into()]);
    ContainerSpec { name: "main".into(), command, essential: true, ..ContainerSpec::default() }
}

impl Fixture {
    async fn new(mark: &str, driver: DriverKind, share_pid: bool) -> Fixture {
        Fixture::at(mark, driver, share_pid, None).await
    }

    /// With the group's folder on another disk.
    async fn at(mark: &str, driver: DriverKind, share_pid: bool, disk: Option<&Path>) -> Fixture {
        let dir = tempfile::Builder::new().prefix(mark).tempdir().unwrap();
        for folder in ["layers", "empty"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        common::busybox_layer(&dir.path().join("layers"));
        let cgroup = format!("/roadstead-test/{mark}-{}", driver_name(&driver));
        Cgroups::detect().remove_tree(&cgroup);
        Cgroups::detect().make_group(&cgroup, Limits::default()).unwrap();
        let settings = Settings { share_pid, cgroup: cgroup.clone() };
        let group = disk.unwrap_or(dir.path()).join("group");
        let nursery = Arc::new(Nursery::new(Path::new(common::PROGRAM), None));
        let (supervisor, telling) = Supervisor::ensure(&nursery, &group, &settings).await.unwrap();
        supervisor.ask(Ask::Watch).await.unwrap();
        Fixture { dir, group, cgroup, driver, supervisor, telling, runs: 0, log_blocks: false }
    }

    fn group(&self) -> PathBuf {
        self.group.clone()
    }

    async fn start(&mut self, index: usize, spec: &ContainerSpec) -> Result<Answer, String> {
        self.runs += 1;
        let ask = self.ask_of(index, spec)?;
        self.supervisor.ask(ask).await
    }

    /// Writes down what a start needs, and what is asked.
    fn ask_of(&self, index: usize, spec: &ContainerSpec) -> Result<Ask, String> {
        let dir = container_dir(&self.group(), index);
        std::fs::create_dir_all(&dir).unwrap();
        let mut oci = bundle::make(&Inputs {
            spec,
            image: &ImageConfig::default(),
            cgroup: format!("{}/c{index}", self.cgroup),
            network_mode: NetworkMode::Host,
            netns: None,
            hostname: Some("box".into()),
            environment: vec![],
            binds: vec![],
            share_pid: false,
            capabilities: capabilities::available(),
            nofile_max: Some(1024),
            empty_dir: (self.driver == DriverKind::Builtin).then(|| self.dir.path().join("empty")),
        })?;
        if std::env::var_os(VERSION_2).is_some() {
            oci["linux"]["resources"].as_object_mut().unwrap().remove("cpu");
        }
        let runtime_id = format!("t-{index}-{}", self.runs);
        let start = StartSpec {
            runtime_id: runtime_id.clone(),
            driver: self.driver.clone(),
            dir: dir.clone(),
            layers_dir: self.dir.path().join("layers"),
            layers: vec!["busybox".into()],
            oci,
            user: spec.user.clone().unwrap_or_default(),
            init: spec.linux.init,
            fill: vec![],
            terminal: spec.pseudo_terminal,
        };
        std::fs::write(dir.join("start.json"), serde_json::to_vec(&start).unwrap()).unwrap();
        Ok(Ask::Start {
            container: index,
            run: self.runs,
            runtime_id,
            driver: self.driver.clone(),
            capture: true,
            log_bytes_max: 4 << 20,
            log_blocks: self.log_blocks,
            stdin_open: false,
            terminal: spec.pseudo_terminal,
        })
    }

    /// Waits for the exit of a container.
    async fn exit(&mut self, index: usize) -> (i32, bool) {
        loop {
            let told = tokio::time::timeout(std::time::Duration::from_secs(60), self.telling.recv()).await;
            match told.expect("an exit in time").expect("a living supervisor") {
                Told::Record(record) if record.container == index => {
                    if let What::Exited { code, out_of_memory } = record.what {
                        return (code, out_of_memory);
                    }
                }
                Told::Lost => panic!("the supervisor is gone"),
                _ => {}
            }
        }
    }

    async fn run(&mut self, spec: &ContainerSpec) -> (i32, String) {
        self.start(0, spec).await.expect("a start");
        let (code, _) = self.exit(0).await;
        (code, self.said(0))
    }

    fn said(&self, index: usize) -> String {
        let mut reader = Reader::open(&container_dir(&self.group(), index), Position::default());
        let frames = std::iter::from_fn(|| reader.next_frame());
        let text: Vec<u8> = frames.flat_map(|frame| frame.text).collect();
        String::from_utf8(text).unwrap()
    }

    async fn exec(&self, index: usize, command: &str, timeout_ms: u64) -> Result<ExecOutcome, String> {
        let spec = ExecSpec {
            runtime_id: format!("t-{index}-{}", self.runs),
            driver: self.driver.clone(),
            dir: container_dir(&self.group(), index),
            command: vec!["/bin/sh".into(), "-c".into(), command.into()],
            timeout_ms,
        };
        match self.supervisor.ask(Ask::Exec { container: index, spec: Box::new(spec) }).await? {
            Answer::Ended(outcome) => Ok(outcome),
            other => panic!("{other:?}"),
        }
    }

    async fn finish(self, mark: &str) {
        self.supervisor.ask(Ask::Finish).await.unwrap();
        Cgroups::detect().remove_tree(&self.cgroup);
        assert_eq!(common::left_over(mark), Vec::<String>::new());
    }
}

impl Drop for Fixture {
    /// After a failed test nothing stays either.
    fn drop(&mut self) {
        let cgroups = Cgroups::detect();
        cgroups.remove_tree(&self.cgroup);
        if cgroups.children("/roadstead-test").is_empty() {
            cgroups.remove("/roadstead-test");
        }
    }
}

fn driver_name(driver: &DriverKind) -> &'static str {
    match driver {
        DriverKind::Builtin => "builtin",
        DriverKind::OciCli(_) => "cli",
    }
}

fn drivers() -> Vec<DriverKind> {
    let crun = PathBuf::from("/usr/bin/crun");
    let mut drivers = vec![DriverKind::Builtin];
    if std::env::var_os(VERSION_2).is_some() {
        // crun's own device program needs CAP_SYS_RESOURCE.
        return drivers;
    }
    if crun.exists() {
        drivers.push(DriverKind::OciCli(crun));
    } else {
        eprintln!("no crun here: the second driver is not tried");
    }
    drivers
}

#[tokio::test]
async fn containers_start_say_something_and_end() {
    if !common::can_run() {
        return;
    }
    for driver in drivers() {
        let mut fixture = Fixture::new("rs-begin", driver, false).await;
        let (code, said) = fixture.run(&container("echo out; sleep 0.1; echo err >&2; exit 3")).await;
        assert_eq!((code, said.as_str()), (3, "out\nerr\n"));
        let (code, said) = fixture.run(&container("hostname; id -u")).await;
        assert_eq!((code, said.as_str()), (0, "out\nerr\nbox\n0\n"));
        let mut spec = container("id; echo $HOME; touch /etc/x || echo refused");
        spec.user = Some("web".into());
        let (_, said) = fixture.run(&spec).await;
        assert!(said.contains("uid=101(web) gid=102(web)"), "{said}");
        assert!(said.contains("/tmp\n") && said.contains("refused"), "{said}");
        fixture.finish("rs-begin").await;
    }
}

#[tokio::test]
async fn starts_that_cannot_be_fail_in_runcs_words() {
    if !common::can_run() {
        return;
    }
    let mut fixture = Fixture::new("rs-fail", DriverKind::Builtin, false).await;
    let mut spec = container("");
    spec.command = Some(vec!["nonesuch".into()]);
    let err = fixture.start(0, &spec).await.unwrap_err();
    assert_eq!(err, "exec: \"nonesuch\": executable file not found in $PATH");
    spec.command = Some(vec!["/nonesuch".into()]);
    let err = fixture.start(0, &spec).await.unwrap_err();
    assert_eq!(err, "exec: \"/nonesuch\": stat /nonesuch: no such file or directory");
    spec.command = Some(vec!["/etc/passwd".into()]);
    let err = fixture.start(0, &spec).await.unwrap_err();
    assert_eq!(err, "exec: \"/etc/passwd\": permission denied");
    let mut spec = container("true");
    spec.user = Some("ghost".into());
    let err = fixture.start(0, &spec).await.unwrap_err();
    assert_eq!(err, "unable to find user ghost: no matching entries in passwd file");
    assert_eq!(fixture.run(&container("exit 0")).await.0, 0);
    fixture.finish("rs-fail").await;
}

#[tokio::test]
async fn who_asks_again_while_a_container_is_being_started_is_told_how_that_ends() {
    if !common::can_run() {
        return;
    }
    let mut fixture = Fixture::new("rs-again", DriverKind::Builtin, false).await;
    let mut spec = container("");
    spec.command = Some(vec!["nonesuch".into()]);
    fixture.runs = 1;
    let (first, again) = (fixture.ask_of(0, &spec).unwrap(), fixture.ask_of(0, &spec).unwrap());
    // As an agent does that was killed after it asked, and started again.
    let (first, again) = tokio::join!(fixture.supervisor.ask(first), fixture.supervisor.ask(again));
    assert_eq!(first.unwrap_err(), RUNNING_ALREADY);
    assert_eq!(again.unwrap_err(), "exec: \"nonesuch\": executable file not found in $PATH");
    assert_eq!(fixture.run(&container("exit 0")).await.0, 0);
    fixture.finish("rs-again").await;
}

#[tokio::test]
async fn what_a_container_is_not_to_see_is_hidden_without_a_filesystem_for_each() {
    if !common::can_run() {
        return;
    }
    for driver in drivers() {
        let mut fixture = Fixture::new("rs-hide", driver.clone(), false).await;
        let look = "ls /sys/firmware /proc/acpi | grep -v :; head -c 1 /proc/timer_list; \
                    touch /sys/firmware/x 2>/dev/null || echo refused; \
                    grep -c -e '/proc/acpi .* tmpfs' -e '/sys/firmware .* tmpfs' /proc/self/mountinfo";
        let (_, said) = fixture.run(&container(look)).await;
        let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(said[0], "refused", "{said:?}");
        if driver == DriverKind::Builtin {
            assert_eq!(said[1..], ["0"]);
        }
        let mut spec = container("ls /sys/firmware | wc -l");
        spec.privileged = true;
        let seen: u32 = fixture.run(&spec).await.1.lines().last().unwrap().parse().unwrap();
        assert_eq!(seen as usize, std::fs::read_dir("/sys/firmware").unwrap().count());
        fixture.finish("rs-hide").await;
    }
}

#[tokio::test]
async fn limits_bite() {
    if !common::can_run() {
        return;
    }
    for driver in drivers() {
        let mut fixture = Fixture::new("rs-limit", driver, false).await;
        let mut spec = container("head -c 200000000 /dev/zero | tr '\\0' x | sort > /dev/null; exit 0");
        spec.command = Some(
            ["/bin/sh", "-c", "exec head -c 200000000 /dev/zero > /dev/shm/big"].map(String::from).into(),
        );
        spec.memory_mib = Some(32);
        spec.linux.shared_memory_mib = Some(1024);
        fixture.start(0, &spec).await.unwrap();
        assert_eq!(fixture.exit(0).await, (137, true));
        let mut spec = container("ulimit -n; cat /proc/self/limits | grep 'open files'");
        spec.ulimits = vec![state::group::Ulimit { name: "nofile".into(), soft: 100, hard: 200 }];
        let (_, said) = fixture.run(&spec).await;
        assert!(said.contains("100  ") && said.contains("200  "), "{said}");
        let cgroups = Cgroups::detect();
        cgroups.make_group(&fixture.cgroup, Limits { cpu_units: Some(256), memory_mib: None }).unwrap();
        fixture.start(0, &container("while true; do :; done")).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let used = cgroups.usage(&format!("{}/c0", fixture.cgroup)).unwrap();
        assert!(used.cpu_ns < 900_000_000, "a quarter of a core for 2 s, used {} ns", used.cpu_ns);
        assert!(used.pids >= 1 && used.memory_bytes > 0, "{used:?}");
        fixture.supervisor.ask(Ask::Signal { container: 0, signal: libc::SIGKILL }).await.unwrap();
        assert_eq!(fixture.exit(0).await, (137, false));
        fixture.finish("rs-limit").await;
    }
}

#[tokio::test]
async fn the_default_sandbox_holds() {
    if !common::can_run() {
        return;
    }
    for driver in drivers() {
        let mut fixture = Fixture::new("rs-sandbox", driver, false).await;
        let probe = "unshare -U true && echo BROKEN; mount -t tmpfs t /tmp && echo BROKEN; \
                     cat /proc/kcore | head -c 1 | grep -q . && echo BROKEN; touch /proc/sys/x && echo BROKEN; \
                     mknod /tmp/disk b 8 0; cat /tmp/disk && echo BROKEN; \
                     grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; ls /proc | grep -c '^[0-9]'";
        let (code, said) = fixture.run(&container(probe)).await;
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("BROKEN"), "{said}");
        assert!(said.contains("Seccomp:\t2") && said.contains("NoNewPrivs:\t1"), "{said}");
        fixture.finish("rs-sandbox").await;
    }
}

#[tokio::test]
async fn commands_run_in_a_container_and_are_killed_in_time() {
    if !common::can_run() {
        return;
    }
    for driver in drivers() {
        let mut fixture = Fixture::new("rs-exec", driver, false).await;
        fixture
            .start(0, &container("touch /tmp/here; trap 'exit 9' TERM; while true; do sleep 0.1; done"))
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let outcome =
            fixture.exec(0, "ls /tmp; grep Seccomp: /proc/self/status; exit 4", 5000).await.unwrap();
        assert_eq!(outcome.code, Some(4));
        assert!(outcome.output.contains("here") && outcome.output.contains("2"), "{outcome:?}");
        let begun = std::time::Instant::now();
        let outcome = fixture.exec(0, "sleep 30", 300).await.unwrap();
        assert_eq!(outcome.code, None);
        assert!(begun.elapsed().as_secs() < 10);
        fixture.supervisor.ask(Ask::Signal { container: 0, signal: libc::SIGTERM }).await.unwrap();
        assert_eq!(fixture.exit(0).await, (9, false));
        assert!(fixture.exec(0, "true", 300).await.is_err());
        fixture.finish("rs-exec").await;
    }
}

#[tokio::test]
async fn init_reaps_and_forwards_and_a_shared_pid_namespace_is_shared() {
    if !common::can_run() {
        return;
    }
    let mut fixture = Fixture::new("rs-init", DriverKind::Builtin, false).await;
    let mut spec =
        container("trap 'exit 7' TERM; (sleep 0.1 &) ; echo pid $$; while true; do sleep 0.1; done");
    spec.linux.init = true;
    fixture.start(0, &spec).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    fixture.supervisor.ask(Ask::Signal { container: 0, signal: libc::SIGTERM }).await.unwrap();
    assert_eq!(fixture.exit(0).await, (7, false));
    assert_eq!(fixture.said(0), "pid 2\n");
    fixture.finish("rs-init").await;

    let mut fixture = Fixture::new("rs-share", DriverKind::Builtin, true).await;
    fixture.start(0, &container("exec sleep 1000")).await.unwrap();
    fixture.start(1, &container("ps | grep -c 'sleep 1000'; sleep 1001 & exit 0")).await.unwrap();
    assert_eq!(fixture.exit(1).await.0, 0);
    assert_ne!(fixture.said(1), "0\n");
    assert_eq!(common::processes("sleep\u{0}1001"), Vec::<i32>::new(), "its children go with it");
    fixture.supervisor.ask(Ask::Signal { container: 0, signal: libc::SIGKILL }).await.unwrap();
    assert_eq!(fixture.exit(0).await.0, 137);
    fixture.finish("rs-share").await;
}

#[tokio::test]
async fn a_pseudo_terminal_is_one() {
    if !common::can_run() {
        return;
    }
    for driver in drivers() {
        let controls = driver == DriverKind::Builtin;
        let mut fixture = Fixture::new("rs-tty", driver, false).await;
        let mut spec = container(
            "test -t 0 && test -t 1 && test -t 2 && echo yes; echo >/dev/tty && echo controls; exit 3",
        );
        spec.pseudo_terminal = true;
        let (code, said) = fixture.run(&spec).await;
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("yes\r\n"), "{said:?}");
        assert!(said.contains("controls\r\n") || !controls, "{said:?}");
        fixture.finish("rs-tty").await;
    }
}

#[tokio::test]
async fn output_is_never_waited_for_and_what_was_said_at_the_end_is_there() {
    if !common::can_run() {
        return;
    }
    let mut fixture = Fixture::new("rs-output", DriverKind::Builtin, false).await;
    let (code, said) =
        fixture.run(&container("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end")).await;
    assert_eq!(code, 0);
    assert!(
        said.ends_with("x\nthe end\n"),
        "the last bytes are {:?}",
        &said[said.len().saturating_sub(20)..]
    );
    assert!(said.len() < 6_000_000, "bounded to about 4 MiB, have {}", said.len());
    fixture.finish("rs-output").await;
}

#[tokio::test]
async fn blocking_output_waits_until_it_is_read_and_none_is_lost() {
    if !common::can_run() {
        return;
    }
    let mut fixture = Fixture::new("rs-block", DriverKind::Builtin, false).await;
    fixture.log_blocks = true;
    let dir = container_dir(&fixture.group(), 0);
    let text = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end >&2";
    fixture.start(0, &container(text)).await.unwrap();
    let kept = || -> u64 {
        let files = std::fs::read_dir(&dir).unwrap().flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("log."));
        logs.map(|file| file.metadata().unwrap().len()).sum()
    };
    while kept() < 4 << 20 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(kept() < 5 << 20, "{}", kept());
    let mut reader = Reader::open(&dir, Position::default());
    let (mut read, mut number, mut last) = (0, 0, Vec::new());
    while last != b"the end\n" {
        let Some(frame) = reader.next_frame() else {
            Reader::forget_before(&dir, reader.position());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        assert_eq!(frame.number, number);
        (read, number, last) = (read + frame.text.len(), number + 1, frame.text);
    }
    assert_eq!(fixture.exit(0).await, (0, false));
    let rest: usize = std::iter::from_fn(|| reader.next_frame()).map(|frame| frame.text.len()).sum();
    assert_eq!(read + rest, 20_000_000 + 1 + "the end\n".len());
    fixture.finish("rs-block").await;
}

#[tokio::test]
async fn supervisors_have_the_limit_of_open_files_that_they_are_given() {
    if !common::can_run() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("rs-files").tempdir().unwrap();
    let group = dir.path().join("group");
    let nursery = Arc::new(Nursery::new(Path::new(common::PROGRAM), None).with_files_soft(Some(77)));
    let settings = Settings { share_pid: false, cgroup: "/roadstead-test/rs-files".into() };
    let (supervisor, _telling) = Supervisor::ensure(&nursery, &group, &settings).await.unwrap();
    let lock = group.join("lock");
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    let has_the_lock = |process: &PathBuf| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == lock)
    };
    let process = processes.into_iter().find(has_the_lock).expect("a supervisor");
    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("77"), "{files}");
    supervisor.ask(Ask::Finish).await.unwrap();
}

/// Unmounts a folder when the test is over, however it ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_loses_output_but_no_exit() {
    if !common::can_run() {
        return;
    }
    let disk = tempfile::Builder::new().prefix("rs-full").tempdir().unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), disk.path(), Some("tmpfs"), flags, Some("size=3m")).unwrap();
    let mounted = Mounted(disk.path().to_owned());
    let mut fixture = Fixture::at("rs-full", DriverKind::Builtin, false, Some(disk.path())).await;
    let text = "trap 'head -c 8000000 /dev/zero; exit 4' USR1; echo ready; while true; do sleep 0.05; done";
    fixture.start(0, &container(text)).await.unwrap();
    while fixture.said(0) != "ready\n" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The journal's last page is filled as well: empty lines say nothing.
    let journal = fixture.group().join("journal");
    let mut journal = std::fs::File::options().append(true).open(journal).unwrap();
    let rest = 4096 - journal.metadata().unwrap().len() as usize % 4096;
    std::io::Write::write_all(&mut journal, &vec![b'\n'; rest]).unwrap();
    let ballast = fixture.group().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    fixture.supervisor.ask(Ask::Signal { container: 0, signal: libc::SIGUSR1 }).await.unwrap();
    assert_eq!(fixture.exit(0).await, (4, false));
    // The container's own files are removed with it, which may be room enough for the note.
    std::fs::remove_file(&ballast).unwrap();
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if exit_is_noted(&fixture.group()) {
            break;
        }
    }
    assert!(exit_is_noted(&fixture.group()), "noted once there is room");
    drop(file);
    let cgroup = fixture.cgroup.clone();
    fixture.supervisor.ask(Ask::Finish).await.unwrap();
    drop((fixture, mounted));
    assert_eq!(common::left_over(&cgroup), Vec::<String>::new());
}

fn exit_is_noted(group: &Path) -> bool {
    use agent::act::supervisor::journal;
    journal::read(group).iter().any(|record| record.what == What::Exited { code: 4, out_of_memory: false })
}

/// On a host with version 1 controllers and an empty version 2 tree: the same tests once more, where that tree is all
/// there is. Limits are what it does not have.
#[test]
fn version_2_cgroups_hold_containers_too() {
    use std::os::unix::process::CommandExt;
    let empty_tree = Path::new("/sys/fs/cgroup/unified/cgroup.controllers");
    if !common::can_run() || std::env::var_os(VERSION_2).is_some() {
        return;
    }
    if !empty_tree.exists() {
        return eprintln!("skipped: this host has no empty version 2 tree beside version 1");
    }
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    tests.args(["--skip", "limits_bite"]).env(VERSION_2, "1");
    // SAFETY: only system calls between fork and exec.
    unsafe {
        tests.pre_exec(|| {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            mount(
                Some("/sys/fs/cgroup/unified"),
                "/sys/fs/cgroup",
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            Ok(())
        });
    }
    let output = tests.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
