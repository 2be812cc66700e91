//! Network namespaces that live as long as a file: each is kept by a bind mount, so it needs no process.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::statfs;

/// `NSFS_MAGIC`: what the file is on when a namespace is mounted on it.
const NAMESPACE_FILESYSTEM: i64 = 0x6e73_6673;

/// `SO_NETNS_COOKIE` of socket(7).
const NETNS_COOKIE: libc::c_int = 71;

/// A name for the network namespace of the calling thread that no other has until the machine starts again. The one in
/// `/proc`, an inode, goes to the next namespace once its own is gone; a kernel before 5.14 has nothing better.
///
/// # Errors
/// Those of making a socket and of `/proc`.
pub fn current_namespace() -> io::Result<String> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `cookie`.
    let got = unsafe {
        let into = std::ptr::from_mut(&mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, NETNS_COOKIE, into, &mut size)
    };
    if got == 0 {
        return Ok(format!("cookie {cookie}"));
    }
    Ok(std::fs::read_link("/proc/thread-self/ns/net")?.to_string_lossy().into_owned())
}

/// Whether a namespace is kept at the path.
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type().0 == NAMESPACE_FILESYSTEM)
}

/// Makes a namespace kept at the path, unless one is. `prepare` runs in it before it is kept.
pub fn create(path: &Path, prepare: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    if exists(path) {
        return Ok(());
    }
    File::create(path)?;
    cut::cut!("agent.network.namespace-begun");
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        prepare()?;
        let kept = CString::new(path.as_os_str().as_bytes())?;
        let none = None::<&str>;
        mount(Some("/proc/thread-self/ns/net"), kept.as_c_str(), none, MsFlags::MS_BIND, none)?;
        Ok(())
    })
}

/// Runs a function in the namespace kept at the path.
pub fn within<T: Send>(path: &Path, run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    on_own_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        run()
    })
}

/// Lets go of the namespace kept at the path, if there is one; it ends with its last process.
pub fn remove(path: &Path) -> io::Result<()> {
    while exists(path) {
        umount2(path, MntFlags::MNT_DETACH)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// A thread that has changed its namespace must not go back to other work: it ends with the function.
fn on_own_thread<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, run)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread in a network namespace panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_namespaces_have_a_name_though_one_is_gone_before_the_other_comes() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: making network namespaces takes root");
        }
        assert_eq!(current_namespace().unwrap(), current_namespace().unwrap());
        let named = || {
            on_own_thread(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                current_namespace()
            })
        };
        // The kernel takes some milliseconds to be rid of one.
        let mut names = std::collections::BTreeSet::from([current_namespace().unwrap()]);
        for _ in 0..50 {
            assert!(names.insert(named().unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
