//! The container's root: its image's layers joined by overlayfs in a mount namespace of the starting process.
//!
//! The namespace is copied by the container and goes with its last process, so that no mount is ever left on the host,
//! whoever is killed at whatever moment.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount as mount_fs, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{Paths, StartSpec};

/// Leaves the host's mount namespace: what is mounted from here on is seen by the container only.
///
/// On hosts with hybrid cgroups (version 1 controllers and an empty version 2 tree at `unified`) the empty tree is
/// taken out of sight, because runtimes otherwise try to use both.
pub fn enter_private_mounts() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|err| format!("a mount namespace cannot be made: {err}"))?;
    mount_fs(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|err| format!("mounts cannot be made private: {err}"))?;
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // An error means that there is none, which is as good.
        let _ = umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH);
    }
    Ok(())
}

/// Mounts the layers as `rootfs`, with the container's own writable layer on top.
pub fn mount(spec: &StartSpec, paths: &Paths) -> Result<(), String> {
    for dir in [&paths.bundle, &paths.rootfs, &paths.upper, &paths.work, &paths.state] {
        std::fs::create_dir_all(dir).map_err(|err| format!("{}: {err}", dir.display()))?;
    }
    let fail = |err: String| format!("failed to mount the image's layers: {err}");
    if spec.layers.is_empty() {
        return mount_fs(Some(&paths.upper), &paths.rootfs, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|err| fail(err.to_string()));
    }
    // Names relative to the layers' folder keep the option under the page size that mount(2) allows.
    std::env::set_current_dir(&spec.layers_dir).map_err(|err| fail(err.to_string()))?;
    let lower: Vec<&str> = spec.layers.iter().rev().map(String::as_str).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        escape(&paths.upper),
        escape(&paths.work)
    );
    if options.len() >= 4096 {
        return Err(fail(format!("{} layers are more than the kernel accepts", spec.layers.len())));
    }
    let mounted =
        mount_fs(Some("overlay"), &paths.rootfs, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    std::env::set_current_dir("/").map_err(|err| fail(err.to_string()))?;
    mounted.map_err(|err| fail(err.to_string()))
}

fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:")
}

/// Makes the working directory if the image lacks it, as Docker does.
pub fn make_working_directory(rootfs: &Path, oci: &serde_json::Value) -> Result<(), String> {
    let cwd = oci["process"]["cwd"].as_str().unwrap_or("/");
    let mut inside = PathBuf::from("/");
    for part in Path::new(cwd).components().skip(1) {
        let parent = open_in_root(rootfs, &inside, libc::O_DIRECTORY | libc::O_RDONLY)
            .map_err(|err| format!("the working directory {cwd}: {err}"))?;
        inside.push(part);
        if open_in_root(rootfs, &inside, libc::O_PATH).is_err() {
            // Through the open parent, so that no link in the image can lead the way out.
            let target =
                format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), part.as_os_str().to_string_lossy());
            std::fs::DirBuilder::new()
                .mode(0o755)
                .create(target)
                .map_err(|err| format!("the working directory {cwd}: {err}"))?;
        }
    }
    Ok(())
}

/// Opens a path as the container would see it: links are resolved inside of `root`, never out of it.
///
/// # Errors
/// Those of `openat2(2)`.
pub fn open_in_root(root: &Path, path: &Path, flags: i32) -> std::io::Result<OwnedFd> {
    let dir = std::fs::File::open(root)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let name = CString::new(relative.as_os_str().as_encoded_bytes())?;
    // SAFETY: open_how is plain data for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the name and the structure live through the call, the size is the structure's.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), name.as_ptr(), &how, std::mem::size_of_val(&how))
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
