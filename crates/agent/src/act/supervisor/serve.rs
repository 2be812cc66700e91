//! The supervisor's loop: one poll(2) over its socket, its clients, its containers' output and its forks' results.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use cut::cut;

use super::super::runtime::cgroup::Cgroups;
use super::super::runtime::{self, DriverKind};
use super::forks::{self, Fork};
use super::frames::Writer;
use super::journal::{Journal, Record, What};
use super::output::{self, Output};
use super::unix::{exit_code, now_ms, signals};
use super::{Answer, Ask, Request, Said, Settings, container_dir, socket_path};

/// A client that reads slower than this much is dropped; it comes back and reads the journal.
const CLIENT_BUFFER_BYTES_MAX: usize = 1 << 20;
/// While something could not be written, it is tried again this often.
const RETRY_MS: i32 = 1000;
/// While a container waits for its output to be delivered, it is looked this often whether some was.
const FULL_MS: i32 = 20;

struct Container {
    index: usize,
    run: u32,
    runtime_id: String,
    driver: DriverKind,
    pid: Option<i32>,
    output: Output,
}

enum Purpose {
    Start { container: usize },
    Exec,
}

struct Work {
    fork: Fork,
    purpose: Purpose,
    client: u64,
    request: u64,
}

struct Client {
    number: u64,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    watches: bool,
}

struct Supervisor {
    dir: PathBuf,
    settings: Settings,
    cgroups: Cgroups,
    journal: Journal,
    listener: UnixListener,
    signals: File,
    clients: Vec<Client>,
    clients_seen: u64,
    containers: Vec<Container>,
    works: Vec<Work>,
    /// Ended children that belong to no known container (yet): a start that is still under way tells whose they are.
    unclaimed: Vec<(i32, i32)>,
    pid_namespace: Option<i32>,
    finished: bool,
}

/// Runs a supervisor for a group's folder. Returns, in the calling process, when the supervisor accepts connections;
/// the supervisor itself goes on in a process of its own, which no terminal's or agent's end touches.
pub fn main(dir: &Path) -> i32 {
    let fail = |what: &str, err: io::Error| {
        eprintln!("supervisor: {what}: {err}");
        1
    };
    if let Err(err) = streams_of_its_own(dir) {
        return fail("log", err);
    }
    let lock = match forks::try_lock(dir) {
        Ok(Some(lock)) => lock,
        // Another one lives: what was wanted is there.
        Ok(None) => return 0,
        Err(err) => return fail("lock", err),
    };
    let folder = match File::open(dir) {
        Ok(folder) => folder,
        Err(err) => return fail("folder", err),
    };
    cut!("supervisor.locked");
    // A socket left by a predecessor that was killed.
    let _ = std::fs::remove_file(dir.join("socket"));
    let listener = match UnixListener::bind(socket_path(&folder)) {
        Ok(listener) => listener,
        Err(err) => return fail("socket", err),
    };
    cut!("supervisor.listening");
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => return fail("fork", io::Error::last_os_error()),
        0 => {}
        _ => return 0,
    }
    // SAFETY: plain system calls.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"rs-supervisor".as_ptr());
    }
    cut!("supervisor.running");
    let ran = Supervisor::new(dir, listener).and_then(|mut supervisor| supervisor.run());
    drop(lock);
    match ran {
        Ok(()) => 0,
        Err(err) => fail("loop", err),
    }
}

/// Nothing is read, and what is said goes to a file: nobody is there to hear it.
fn streams_of_its_own(dir: &Path) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    let log = File::options().append(true).create(true).open(dir.join("supervisor.log"))?;
    for (from, to) in [(&null, 0), (&log, 1), (&log, 2)] {
        // SAFETY: the standard streams of this process are its own to replace.
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

impl Supervisor {
    fn new(dir: &Path, listener: UnixListener) -> io::Result<Supervisor> {
        listener.set_nonblocking(true)?;
        let settings = serde_json::from_slice(&std::fs::read(dir.join("supervise.json"))?)?;
        Ok(Supervisor {
            dir: dir.to_owned(),
            settings,
            cgroups: Cgroups::detect(),
            journal: Journal::open(dir)?,
            listener,
            signals: signals()?,
            clients: Vec::new(),
            clients_seen: 0,
            containers: Vec::new(),
            works: Vec::new(),
            unclaimed: Vec::new(),
            pid_namespace: None,
            finished: false,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        while !self.finished {
            let mut polled = self.polled();
            let pending = !self.journal.retry();
            let full = self.containers.iter().any(|container| container.output.is_full());
            let timeout = match (full, pending) {
                (true, _) => FULL_MS,
                (false, true) => RETRY_MS,
                (false, false) => -1,
            };
            // SAFETY: the entries live through the call.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
            if ready < 0 {
                let err = io::Error::last_os_error();
                if err.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(err);
            }
            let ready: Vec<RawFd> = polled.iter().filter(|p| p.revents != 0).map(|p| p.fd).collect();
            self.turn(&ready);
        }
        Ok(())
    }

    fn polled(&self) -> Vec<libc::pollfd> {
        let entry = |fd: RawFd, events: i16| libc::pollfd { fd, events, revents: 0 };
        let mut polled = vec![
            entry(self.listener.as_raw_fd(), libc::POLLIN),
            entry(self.signals.as_raw_fd(), libc::POLLIN),
        ];
        polled.extend(self.works.iter().map(|w| entry(w.fork.result.as_raw_fd(), libc::POLLIN)));
        for container in self.containers.iter().filter(|container| !container.output.is_full()) {
            polled.extend(container.output.pipes().map(|pipe| entry(pipe, libc::POLLIN)));
        }
        for client in &self.clients {
            let write = if client.output.is_empty() { 0 } else { libc::POLLOUT };
            polled.push(entry(client.stream.as_raw_fd(), libc::POLLIN | write));
        }
        polled
    }

    /// Output first, then results, then exits: so that all that a container said is stored before its exit is told.
    fn turn(&mut self, ready: &[RawFd]) {
        let now = now_ms();
        for container in &mut self.containers {
            container.output.read(|fd| ready.contains(&fd), now);
        }
        self.read_results(ready);
        if ready.contains(&self.signals.as_raw_fd()) {
            self.take_signals();
        }
        self.serve_clients(ready);
        if ready.contains(&self.listener.as_raw_fd()) {
            while let Ok((stream, _)) = self.listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    self.clients_seen += 1;
                    let number = self.clients_seen;
                    let (input, output) = (Vec::new(), Vec::new());
                    self.clients.push(Client { number, stream, input, output, watches: false });
                }
            }
        }
        for client in &mut self.clients {
            client.flush();
        }
        self.clients.retain(|client| client.output.len() <= CLIENT_BUFFER_BYTES_MAX);
    }

    fn tell_all(&mut self, said: &Said) {
        for client in self.clients.iter_mut().filter(|c| c.watches) {
            client.say(said);
        }
    }

    fn answer(&mut self, client: u64, request: u64, answer: Result<Answer, String>) {
        if let Some(client) = self.clients.iter_mut().find(|c| c.number == client) {
            client.say(&Said::Answer(request, answer));
        }
    }

    fn record(&mut self, record: Record) {
        self.journal.write(&record);
        self.tell_all(&Said::Record(record));
    }

    // === Forks ===

    fn read_results(&mut self, ready: &[RawFd]) {
        let mut at = 0;
        while at < self.works.len() {
            let work = &mut self.works[at];
            let fd = work.fork.result.as_raw_fd();
            match if ready.contains(&fd) { work.fork.read() } else { None } {
                Some(result) => {
                    let work = self.works.swap_remove(at);
                    self.finish_work(work, result);
                }
                None => at += 1,
            }
        }
    }

    fn finish_work(&mut self, work: Work, result: Result<Answer, String>) {
        if let Purpose::Start { container } = work.purpose
            && let Some(at) = self.containers.iter().position(|c| c.index == container)
        {
            match &result {
                Ok(Answer::Started { pid }) => {
                    cut!("supervisor.start.answered");
                    let pid = *pid;
                    self.containers[at].pid = Some(pid);
                    let (run, runtime_id) = (self.containers[at].run, self.containers[at].runtime_id.clone());
                    let what = What::Started { runtime_id, pid };
                    self.record(Record { container, run, at_ms: now_ms(), what });
                    cut!("supervisor.start.recorded");
                    if let Some(ended) = self.unclaimed.iter().position(|(ended, _)| *ended == pid) {
                        let (_, status) = self.unclaimed.swap_remove(ended);
                        self.ended(at, status);
                    }
                }
                _ => {
                    let container = self.containers.swap_remove(at);
                    self.remove(&container);
                }
            }
        }
        if !self.starts() {
            self.unclaimed.clear();
        }
        self.answer(work.client, work.request, result);
    }

    /// Whether a container is being started.
    fn starts(&self) -> bool {
        self.works.iter().any(|w| matches!(w.purpose, Purpose::Start { .. }))
    }

    // === Signals and exits ===

    fn take_signals(&mut self) {
        let mut buffer = [0; std::mem::size_of::<libc::signalfd_siginfo>()];
        while self.signals.read(&mut buffer).is_ok() {
            let signal = u32::from_ne_bytes(buffer[..4].try_into().unwrap_or_default()) as i32;
            if signal == libc::SIGTERM {
                // The machine is going down: the containers are told, and what they answer is recorded.
                for pid in self.containers.iter().filter_map(|c| c.pid) {
                    // SAFETY: a child that is not reaped yet.
                    unsafe { libc::kill(pid, libc::SIGTERM) };
                }
            }
        }
        loop {
            let mut status = 0;
            // SAFETY: the status lives through the call.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            if let Some(at) = self.containers.iter().position(|c| c.pid == Some(pid)) {
                self.ended(at, status);
            } else if let Some(at) = self.works.iter().position(|w| w.fork.pid == pid) {
                let mut work = self.works.swap_remove(at);
                let result = work.fork.last();
                self.finish_work(work, result);
            } else if self.starts() {
                self.unclaimed.push((pid, status));
            }
        }
    }

    fn ended(&mut self, at: usize, status: i32) {
        let mut container = self.containers.swap_remove(at);
        let cgroup = self.cgroup(container.index);
        let out_of_memory = self.cgroups.oom_kills(&cgroup) > 0;
        cut!("supervisor.exit.reaped");
        // In a shared PID namespace its children have not gone with it.
        self.cgroups.kill_all(&cgroup);
        let now = now_ms();
        container.output.finish(now);
        let what = What::Exited { code: exit_code(status), out_of_memory };
        self.record(Record { container: container.index, run: container.run, at_ms: now, what });
        cut!("supervisor.exit.recorded");
        self.remove(&container);
        cut!("supervisor.exit.cleared");
    }

    fn remove(&self, container: &Container) {
        let cgroup = self.cgroup(container.index);
        self.cgroups.kill_all(&cgroup);
        self.cgroups.remove(&cgroup);
        runtime::delete(&container.driver, &container.runtime_id, &container_dir(&self.dir, container.index));
    }

    fn cgroup(&self, container: usize) -> String {
        format!("{}/c{container}", self.settings.cgroup)
    }

    // === Clients ===

    fn serve_clients(&mut self, ready: &[RawFd]) {
        let mut requests = Vec::new();
        self.clients.retain_mut(|client| {
            if !ready.contains(&client.stream.as_raw_fd()) {
                return true;
            }
            let alive = client.read();
            while let Some(end) = client.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = client.input.drain(..=end).collect();
                match serde_json::from_slice::<Request>(&line) {
                    Ok(request) => requests.push((client.number, request)),
                    Err(err) => client.refuse(&line, &err),
                }
            }
            alive
        });
        for (client, request) in requests {
            let answered = match request.ask {
                Ask::Watch => {
                    self.watch(client);
                    Some(Ok(Answer::Done))
                }
                Ask::Signal { container, signal } => Some(self.signal(container, signal)),
                Ask::Finish => Some(self.finish()),
                ask => match self.begin(ask, client, request.id) {
                    Ok(()) => None,
                    Err(why) => Some(Err(why)),
                },
            };
            if let Some(answer) = answered {
                self.answer(client, request.id, answer);
            }
        }
    }

    fn watch(&mut self, client: u64) {
        let records = super::journal::read(&self.dir);
        if let Some(client) = self.clients.iter_mut().find(|c| c.number == client && !c.watches) {
            client.watches = true;
            records.into_iter().for_each(|record| client.say(&Said::Record(record)));
        }
    }

    fn signal(&mut self, container: usize, signal: i32) -> Result<Answer, String> {
        let pid = self.containers.iter().find(|c| c.index == container).and_then(|c| c.pid);
        let pid = pid.ok_or("the container is not running")?;
        // SAFETY: a child that is not reaped yet.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(Answer::Done),
            _ => Err(io::Error::last_os_error().to_string()),
        }
    }

    fn finish(&mut self) -> Result<Answer, String> {
        if !self.containers.is_empty() || !self.works.is_empty() {
            return Err("a container is running".into());
        }
        if let Some(pid) = self.pid_namespace.take() {
            // SAFETY: a child that is not reaped yet.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        cut!("supervisor.finishing");
        self.finished = true;
        Ok(Answer::Done)
    }

    /// Begins what a fork does; its result is the answer.
    fn begin(&mut self, ask: Ask, client: u64, request: u64) -> Result<(), String> {
        let (fork, purpose) = match ask {
            Ask::Start {
                container,
                run,
                runtime_id,
                driver,
                capture,
                log_bytes_max,
                log_blocks,
                stdin_open,
                terminal,
            } => {
                let starts =
                    |w: &&mut Work| matches!(w.purpose, Purpose::Start { container: c } if c == container);
                if let Some(work) = self.works.iter_mut().find(starts) {
                    // An agent that started anew: it is told how the start ends, for who asked first is most likely gone.
                    let (first, asked) = (work.client, work.request);
                    (work.client, work.request) = (client, request);
                    self.answer(first, asked, Err(super::RUNNING_ALREADY.into()));
                    return Ok(());
                }
                if self.containers.iter().any(|c| c.index == container) {
                    return Err(super::RUNNING_ALREADY.into());
                }
                let dir = container_dir(&self.dir, container);
                if self.settings.share_pid && self.pid_namespace.is_none() {
                    self.pid_namespace = Some(forks::pid_namespace_holder().map_err(|err| err.to_string())?);
                }
                let open = if log_blocks { Writer::blocking } else { Writer::open };
                let frames = capture.then(|| open(&dir, log_bytes_max));
                let (streams, output) =
                    output::open(frames, stdin_open, terminal).map_err(|err| err.to_string())?;
                let fork = forks::start(dir, streams, self.pid_namespace).map_err(|err| err.to_string())?;
                cut!("supervisor.start.forked");
                let (index, pid) = (container, None);
                self.containers.push(Container { index, run, runtime_id, driver, pid, output });
                (fork, Purpose::Start { container })
            }
            Ask::Exec { container, spec } => {
                if !self.containers.iter().any(|c| c.index == container && c.pid.is_some()) {
                    return Err("the container is not running".into());
                }
                let fork = forks::exec(*spec).map_err(|err| err.to_string())?;
                cut!("supervisor.exec.forked");
                (fork, Purpose::Exec)
            }
            Ask::Signal { .. } | Ask::Watch | Ask::Finish => return Ok(()),
        };
        self.works.push(Work { fork, purpose, client, request });
        Ok(())
    }
}

impl Client {
    fn say(&mut self, said: &Said) {
        self.output.extend(serde_json::to_vec(said).unwrap_or_default());
        self.output.push(b'\n');
    }

    /// An agent of another version may ask what this one cannot do.
    fn refuse(&mut self, line: &[u8], why: &serde_json::Error) {
        let id = serde_json::from_slice::<serde_json::Value>(line).ok().and_then(|ask| ask["id"].as_u64());
        if let Some(id) = id {
            self.say(&Said::Answer(id, Err(format!("the supervisor does not understand: {why}"))));
        }
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) if count > 0 => drop(self.output.drain(..count)),
                // A broken connection is seen when it is read.
                _ => return,
            }
        }
    }

    /// Reads what there is. False when the client is gone.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.input.extend(&buffer[..count]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return err.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}
