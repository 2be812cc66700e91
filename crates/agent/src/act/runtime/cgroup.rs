//! Control groups, version 1 (one tree per controller) and version 2 (one tree): the limits of a whole group, what its
//! containers use, and their end. A container's own limits are set by the runtime from its configuration.
//!
//! A cgroup is named by its path below the root of the tree, such as `/roadstead/<task>/c0`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Limits of a group as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// CPU units: 1024 = one core.
    pub cpu_units: Option<u32>,
    /// Memory.
    pub memory_mib: Option<u32>,
}

/// What a cgroup has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, all cores together.
    pub cpu_ns: u64,
    /// Memory now, page cache included.
    pub memory_bytes: u64,
    /// Of that, page cache that can be given up at once.
    pub inactive_file_bytes: u64,
    /// The most there was; 0 where the kernel does not tell.
    pub memory_bytes_max: u64,
    /// The limit, if there is one.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// The folder of each controller's tree.
    V1(Vec<PathBuf>),
    /// The tree.
    V2(PathBuf),
}

/// The host's cgroup trees.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
}

/// CPU time is handed out in periods of this length.
const PERIOD_US: u64 = 100_000;
/// Kernels write "no limit" as a number near the largest.
const NO_LIMIT_BYTES_MIN: u64 = 1 << 60;

impl Cgroups {
    /// Looks at what the host has.
    pub fn detect() -> Cgroups {
        Cgroups::at(Path::new("/sys/fs/cgroup"))
    }

    /// Looks at what is mounted below a folder.
    pub fn at(root: &Path) -> Cgroups {
        if root.join("cgroup.controllers").exists() {
            return Cgroups { layout: Layout::V2(root.to_owned()) };
        }
        let mut trees: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            // `cpu` may be a link to `cpu,cpuacct`: the same tree is wanted once, `unified` and the unnamed never.
            let Ok(path) = fs::canonicalize(entry.path()) else { continue };
            if path.join("tasks").exists() && !trees.contains(&path) {
                trees.push(path);
            }
        }
        trees.sort();
        Cgroups { layout: Layout::V1(trees) }
    }

    /// Whether the host has one version 2 tree.
    pub fn is_v2(&self) -> bool {
        matches!(self.layout, Layout::V2(_))
    }

    /// All folders of a cgroup: one per tree.
    fn folders(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        match &self.layout {
            Layout::V1(trees) => trees.iter().map(|tree| tree.join(relative)).collect(),
            Layout::V2(root) => vec![root.join(relative)],
        }
    }

    /// The folder of a cgroup that has a file of this name.
    fn file(&self, path: &str, name: &str) -> Option<PathBuf> {
        self.folders(path).into_iter().map(|folder| folder.join(name)).find(|file| file.exists())
    }

    fn read(&self, path: &str, name: &str) -> Option<String> {
        fs::read_to_string(self.file(path, name)?).ok()
    }

    fn number(&self, path: &str, name: &str) -> Option<u64> {
        self.read(path, name)?.trim().parse().ok()
    }

    /// A number in a file of `name value` lines.
    fn entry(&self, path: &str, name: &str, key: &str) -> Option<u64> {
        let text = self.read(path, name)?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    }

    /// Makes a group's cgroup with its limits, or sets the limits anew.
    ///
    /// # Errors
    /// When a limit cannot be set: a task must never run without the limits it asked for.
    pub fn make_group(&self, path: &str, limits: Limits) -> io::Result<()> {
        for folder in self.folders(path) {
            fs::create_dir_all(&folder)?;
        }
        if let Layout::V2(root) = &self.layout {
            delegate(root, path)?;
        }
        let quota_us = limits.cpu_units.map(|units| (u64::from(units) * PERIOD_US / 1024).max(1000));
        let memory_bytes = limits.memory_mib.map(|mib| u64::from(mib) << 20);
        match &self.layout {
            Layout::V1(_) => {
                if let Some(quota) = quota_us {
                    self.set(path, "cpu.cfs_period_us", PERIOD_US)?;
                    self.set(path, "cpu.cfs_quota_us", quota)?;
                }
                if let Some(bytes) = memory_bytes {
                    self.set(path, "memory.limit_in_bytes", bytes)?;
                }
            }
            Layout::V2(_) => {
                if let Some(quota) = quota_us {
                    self.set(path, "cpu.max", format!("{quota} {PERIOD_US}"))?;
                }
                if let Some(bytes) = memory_bytes {
                    self.set(path, "memory.max", bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Moves a process into a cgroup.
    ///
    /// # Errors
    /// When a tree does not take it.
    pub fn add(&self, path: &str, pid: u32) -> io::Result<()> {
        if let Layout::V1(trees) = &self.layout {
            trees.iter().try_for_each(|tree| inherit_cpuset(tree, path))?;
        }
        self.folders(path)
            .iter()
            .try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    fn set(&self, path: &str, name: &str, value: impl ToString) -> io::Result<()> {
        let file = self.file(path, name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("this host has no cgroup file {name}"))
        })?;
        fs::write(&file, value.to_string())
            .map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", file.display())))
    }

    /// How often the kernel killed a process of this cgroup for want of memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        let name = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        self.entry(path, name, "oom_kill").unwrap_or(0)
    }

    /// Kills all processes of a cgroup and waits, for a moment, until they are gone.
    pub fn kill_all(&self, path: &str) {
        // A process that forks while it is killed is caught in the next round.
        for round in 0..50 {
            let processes = self.processes(path);
            if processes.is_empty() {
                return;
            }
            for pid in processes {
                // SAFETY: plain system call. A number given anew in between would have to be in this very cgroup.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::sleep(std::time::Duration::from_millis(1 + round / 5));
        }
    }

    /// Kills all processes of a cgroup and of all below it.
    pub fn kill_tree(&self, path: &str) {
        for child in self.children(path) {
            self.kill_tree(&format!("{path}/{child}"));
        }
        self.kill_all(path);
    }

    /// The processes of a cgroup. On version 1, of its memory controller's (any one would do).
    pub fn processes(&self, path: &str) -> Vec<i32> {
        let relevant = self.folders(path).into_iter().filter(|f| f.join("cgroup.procs").exists());
        let folder = relevant.max_by_key(|folder| folder.join("memory.limit_in_bytes").exists());
        let text = folder.and_then(|f| fs::read_to_string(f.join("cgroup.procs")).ok()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
    }

    /// Removes a cgroup without processes. What is still busy is left for [`Cgroups::remove_tree`].
    pub fn remove(&self, path: &str) {
        for folder in self.folders(path) {
            for _ in 0..20 {
                match fs::remove_dir(&folder) {
                    // A process that has just ended still counts for a moment.
                    Err(err) if err.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    _ => break,
                }
            }
        }
    }

    /// Kills and removes a cgroup with all below it.
    pub fn remove_tree(&self, path: &str) {
        for child in self.children(path) {
            self.remove_tree(&format!("{path}/{child}"));
        }
        self.kill_all(path);
        self.remove(path);
    }

    /// Names of the cgroups directly below one, over all trees.
    pub fn children(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for folder in self.folders(path) {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            names.extend(folders.filter_map(|e| e.file_name().into_string().ok()));
        }
        names.sort();
        names.dedup();
        names
    }

    /// What a cgroup has used; `None` if it is not there.
    pub fn usage(&self, path: &str) -> Option<Usage> {
        if self.is_v2() {
            return Some(Usage {
                cpu_ns: self.entry(path, "cpu.stat", "usage_usec")? * 1000,
                memory_bytes: self.number(path, "memory.current")?,
                inactive_file_bytes: self.entry(path, "memory.stat", "inactive_file").unwrap_or(0),
                memory_bytes_max: self.number(path, "memory.peak").unwrap_or(0),
                memory_limit_bytes: self.number(path, "memory.max"),
                pids: self.number(path, "pids.current").unwrap_or(0),
            });
        }
        let limit = self.number(path, "memory.limit_in_bytes").filter(|bytes| *bytes < NO_LIMIT_BYTES_MIN);
        Some(Usage {
            cpu_ns: self.number(path, "cpuacct.usage")?,
            memory_bytes: self.number(path, "memory.usage_in_bytes")?,
            inactive_file_bytes: self.entry(path, "memory.stat", "total_inactive_file").unwrap_or(0),
            memory_bytes_max: self.number(path, "memory.max_usage_in_bytes").unwrap_or(0),
            memory_limit_bytes: limit,
            pids: self.number(path, "pids.current").unwrap_or(0),
        })
    }
}

/// A version 1 cpuset begins without processors and memory, and takes no process then: it is given its parent's.
fn inherit_cpuset(tree: &Path, path: &str) -> io::Result<()> {
    let mut folder = tree.to_owned();
    for step in path.trim_matches('/').split('/') {
        let parent = folder.clone();
        folder.push(step);
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(folder.join(name)).is_ok_and(|own| own.trim().is_empty()) {
                fs::write(folder.join(name), fs::read_to_string(parent.join(name))?.trim())?;
            }
        }
    }
    Ok(())
}

/// Gives the controllers that limits need to each cgroup on the way down to `path`, `path` included (version 2).
fn delegate(root: &Path, path: &str) -> io::Result<()> {
    let wanted = ["cpu", "memory", "pids", "cpuset", "io"];
    let mut folder = root.to_owned();
    let mut steps = path.trim_matches('/').split('/');
    loop {
        let available = fs::read_to_string(folder.join("cgroup.controllers"))?;
        for controller in available.split_whitespace().filter(|c| wanted.contains(c)) {
            let file = folder.join("cgroup.subtree_control");
            let given = fs::write(&file, format!("+{controller}"));
            // What matters is missed where its limit is set, by name.
            if given.is_err() && matches!(controller, "cpu" | "memory") {
                given.map_err(|err| {
                    io::Error::new(err.kind(), format!("{}: +{controller}: {err}", file.display()))
                })?;
            }
        }
        match steps.next() {
            Some(step) if !step.is_empty() => folder.push(step),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn version_2_limits_and_use() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["", "rs/", "rs/t1/"] {
            file(root, &format!("{folder}cgroup.controllers"), "cpuset cpu io memory pids\n");
        }
        for name in ["cpu.max", "memory.max"] {
            file(root, &format!("rs/t1/{name}"), "max");
        }
        let cgroups = Cgroups::at(root);
        assert!(cgroups.is_v2());
        cgroups.make_group("/rs/t1", Limits { cpu_units: Some(256), memory_mib: Some(512) }).unwrap();
        assert_eq!(fs::read_to_string(root.join("rs/t1/cpu.max")).unwrap(), "25000 100000");
        assert_eq!(fs::read_to_string(root.join("rs/t1/memory.max")).unwrap(), "536870912");
        assert!(
            root.join("cgroup.subtree_control").exists()
                && root.join("rs/t1/cgroup.subtree_control").exists()
        );
        file(root, "rs/t1/c0/cpu.stat", "usage_usec 7\nuser_usec 3\n");
        file(root, "rs/t1/c0/memory.current", "4096\n");
        file(root, "rs/t1/c0/memory.max", "max\n");
        file(root, "rs/t1/c0/memory.events", "low 0\noom 2\noom_kill 1\noom_group_kill 0\n");
        let usage = cgroups.usage("/rs/t1/c0").unwrap();
        assert_eq!((usage.cpu_ns, usage.memory_bytes, usage.memory_limit_bytes), (7000, 4096, None));
        assert_eq!(cgroups.oom_kills("/rs/t1/c0"), 1);
        assert_eq!(cgroups.children("/rs/t1"), ["c0"]);
        assert_eq!(cgroups.usage("/rs/gone"), None);
    }

    #[test]
    fn a_version_1_cpuset_has_its_parents_processors_before_it_takes_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, "cpuset/tasks", "");
        for (folder, cpus, mems) in [("", "0-1\n", "0\n"), ("rs/", "1\n", "\n"), ("rs/s/", "\n", "\n")] {
            file(root, &format!("cpuset/{folder}cpuset.cpus"), cpus);
            file(root, &format!("cpuset/{folder}cpuset.mems"), mems);
        }
        Cgroups::at(root).add("/rs/s", 7).unwrap();
        let read = |name: &str| fs::read_to_string(root.join("cpuset/rs").join(name)).unwrap();
        assert_eq!((read("cpuset.cpus").as_str(), read("cpuset.mems").as_str()), ("1\n", "0"));
        assert_eq!((read("s/cpuset.cpus").as_str(), read("s/cpuset.mems").as_str()), ("1", "0"));
        assert_eq!(read("s/cgroup.procs"), "7");
    }

    #[test]
    fn version_1_trees_are_found_once_and_a_missing_limit_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, "cpu,cpuacct/tasks", "");
        file(root, "memory/tasks", "");
        file(root, "unified/cgroup.procs", "");
        std::os::unix::fs::symlink("cpu,cpuacct", root.join("cpu")).unwrap();
        let cgroups = Cgroups::at(root);
        assert_eq!(cgroups.folders("/rs").len(), 2);
        let err = cgroups.make_group("/rs", Limits { cpu_units: Some(1), memory_mib: None }).unwrap_err();
        assert!(err.to_string().contains("cpu.cfs_period_us"), "{err}");
        file(root, "memory/rs/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        assert_eq!(cgroups.oom_kills("/rs"), 3);
    }
}
