//! The built-in driver: youki's `libcontainer`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use super::super::remove::remove_tree;
use super::seccomp::{self, Filter};
use super::{Driver, ExecOutcome, ExecSpec, Paths, StartSpec, init};

/// `libcontainer`.
pub struct Builtin;

impl Driver for Builtin {
    fn start(&self, spec: &StartSpec, paths: &Paths) -> Result<i32, String> {
        let (mut told, teller) = pipe()?;
        let payload = Payload {
            filter: filter_of(&spec.oci),
            init: spec.init,
            terminal: spec.terminal,
            teller: teller.as_raw_fd(),
        };
        let mut container = builder(&spec.runtime_id, paths)?
            .with_executor(payload)
            .as_init(&paths.bundle)
            .with_systemd(false)
            .with_detach(true)
            .build()
            .map_err(|err| in_runc_words(&err))?;
        cut::cut!("runtime.created");
        container.start().map_err(|err| in_runc_words(&err))?;
        let pid = container.pid().ok_or("the container has no process")?.as_raw();
        drop(teller);
        // The other end closes when the program is executed, or tells why it was not.
        let mut failure = String::new();
        told.read_to_string(&mut failure).map_err(|err| format!("the start could not be followed: {err}"))?;
        if failure.is_empty() { Ok(pid) } else { Err(failure) }
    }

    fn exec(&self, spec: &ExecSpec, paths: &Paths) -> Result<ExecOutcome, String> {
        let config = std::fs::read(paths.bundle.join("config.json")).map_err(|err| err.to_string())?;
        let oci: serde_json::Value = serde_json::from_slice(&config).map_err(|err| err.to_string())?;
        let (mut told, teller) = pipe()?;
        let payload =
            Payload { filter: filter_of(&oci), init: false, terminal: false, teller: teller.as_raw_fd() };
        let user = |field: &str| oci["process"]["user"][field].as_u64().map(|n| n as u32);
        let gids = oci["process"]["user"]["additionalGids"].as_array();
        let gids = gids.map(|all| all.iter().filter_map(|g| g.as_u64().map(|g| g as u32)).collect());
        let pid = builder(&spec.runtime_id, paths)?
            .with_executor(payload)
            .as_tenant()
            .with_container_args(spec.command.clone())
            .with_no_new_privs(oci["process"]["noNewPrivileges"].as_bool().unwrap_or(false))
            .with_cwd(oci["process"]["cwd"].as_str())
            .with_user(user("uid"))
            .with_group(user("gid"))
            .with_additional_gids(gids.unwrap_or_default())
            .with_detach(true)
            .build()
            .map_err(|err| in_runc_words(&err))?;
        drop(teller);
        let mut failure = String::new();
        told.read_to_string(&mut failure)
            .map_err(|err| format!("the command could not be followed: {err}"))?;
        let code = super::super::supervisor::wait_for(pid.as_raw(), spec.timeout_ms);
        if failure.is_empty() { Ok(ExecOutcome { code, output: String::new() }) } else { Err(failure) }
    }

    fn delete(&self, runtime_id: &str, paths: &Paths) {
        // An absent folder is as good as a removed one.
        let _ = remove_tree(&paths.state.join(runtime_id));
    }
}

fn builder(runtime_id: &str, paths: &Paths) -> Result<ContainerBuilder, String> {
    ContainerBuilder::new(runtime_id.to_owned(), SyscallType::default())
        .with_root_path(&paths.state)
        .and_then(ContainerBuilder::validate_id)
        .map_err(|err| err.to_string())
}

fn pipe() -> Result<(File, OwnedFd), String> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for the two descriptors, which are ours alone.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        Ok((File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

fn filter_of(oci: &serde_json::Value) -> Option<Filter> {
    oci["linux"].get("seccomp")?;
    let bounding = oci["process"]["capabilities"]["bounding"].as_array()?;
    let names: Vec<String> = bounding.iter().filter_map(|c| c.as_str().map(str::to_owned)).collect();
    Some(seccomp::compile(&names))
}

/// The innermost cause, in the words that `runc` has for it.
fn in_runc_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    match text.find("exec: \"") {
        Some(at) => text[at..].to_owned(),
        None => text,
    }
}

/// Becomes the container's program: in the container, all of its limits already on.
#[derive(Clone)]
struct Payload {
    filter: Option<Filter>,
    init: bool,
    /// Its standard input is a terminal that is to control it.
    terminal: bool,
    /// Closed by the execution of the program, or written to when it fails.
    teller: RawFd,
}

impl Executor for Payload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find_program(spec).map(|_| ()).map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let failure = self.become_program(spec);
        // SAFETY: the descriptor was inherited for this purpose and nobody else uses it in this process.
        let mut teller = unsafe { File::from_raw_fd(self.teller) };
        // If it cannot be told, the exit code still says that something failed.
        let _ = teller.write_all(failure.as_bytes());
        // SAFETY: ends this process without running what its parent registered for its own end.
        unsafe { libc::_exit(127) }
    }
}

impl Payload {
    /// Returns only why it failed.
    fn become_program(&self, spec: &Spec) -> String {
        let (program, arguments) = match find_program(spec) {
            Ok(found) => found,
            Err(why) => return why,
        };
        let text = |bytes: &str| std::ffi::CString::new(bytes).unwrap_or_default();
        let argv: Vec<_> = arguments.iter().map(|a| text(a)).collect();
        let path = text(&program.to_string_lossy());
        let installed = self.filter.as_ref().map_or(Ok(()), Filter::install);
        if let Err(err) = installed {
            return format!("the system-call filter could not be installed: {err}");
        }
        if self.init
            && let Err(err) = init::fork_below_init(&[self.teller])
        {
            return format!("the init process could not be made: {err}");
        }
        if self.terminal {
            // SAFETY: plain system calls. Below an init process the program leads a session of its own.
            unsafe {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
            }
        }
        let Err(err) = nix::unistd::execv(&path, &argv);
        format!("exec {}: {}", program.display(), err.desc().to_lowercase())
    }
}

/// The program's path in the container and its arguments.
fn find_program(spec: &Spec) -> Result<(PathBuf, Vec<String>), String> {
    let process = spec.process().as_ref().ok_or("no process")?;
    let arguments = process.args().clone().filter(|a| !a.is_empty()).ok_or("no command specified")?;
    let name = arguments[0].clone();
    let env = process.env().clone().unwrap_or_default();
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    if name.contains('/') {
        let given = Path::new(&name).to_owned();
        return match executable(&given) {
            Ok(()) => Ok((given, arguments)),
            Err(why) => Err(format!("exec: {name:?}: {why}")),
        };
    }
    let found = path.split(':').map(|dir| Path::new(dir).join(&name)).find(|p| executable(p).is_ok());
    let found = found.ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))?;
    Ok((found, arguments))
}

fn executable(path: &Path) -> Result<(), String> {
    let stat = |what: &str| format!("stat {}: {what}", path.display());
    let metadata = std::fs::metadata(path).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => stat("no such file or directory"),
        std::io::ErrorKind::PermissionDenied => stat("permission denied"),
        _ => stat(&err.to_string()),
    })?;
    if metadata.is_dir() {
        return Err("is a directory".into());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err("permission denied".into());
    }
    Ok(())
}
