//! What the tests that need root share: a busybox root, and a look at what is left over on the host.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};

/// The program that is re-executed as a supervisor.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_agent-reexec");

/// Whether the test can run; says why when it cannot.
pub fn can_run() -> bool {
    // SAFETY: plain system call.
    let root = unsafe { libc::geteuid() } == 0;
    let busybox = Path::new("/bin/busybox").exists();
    if !root || !busybox {
        eprintln!("skipped: needs root and a static /bin/busybox (root: {root}, busybox: {busybox})");
    }
    root && busybox
}

/// Makes a layer with busybox as every program a shell script needs, named `busybox` in `layers`.
pub fn busybox_layer(layers: &Path) -> Vec<String> {
    let root = layers.join("busybox");
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "wget", "sleep", "cat", "echo", "id", "ps", "true", "false", "dd", "kill", "ls", "mkdir",
        "mount", "env", "hostname", "grep", "head", "touch", "test", "trap", "wc", "tr", "stat", "mknod",
        "unshare", "ulimit", "date",
    ] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/tmp:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:102:\n").unwrap();
    vec!["busybox".into()]
}

/// Everything on the host that a container could leave behind and whose name contains `mark`.
pub fn left_over(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(mark)).map(str::to_owned));
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().contains(mark) {
                    found.push(entry.path().display().to_string());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Processes whose command line contains `mark`.
pub fn processes(mark: &str) -> Vec<i32> {
    let own = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()).filter(|pid| *pid != own);
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    })
    .collect()
}

/// Processes other than this one that hold a file of a folder open: supervisors.
pub fn holders(dir: &Path) -> Vec<i32> {
    let own = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()).filter(|pid| *pid != own);
    pids.filter(|pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|f| std::fs::read_link(f.path()).ok()).any(|path| path.starts_with(dir))
    })
    .collect()
}
