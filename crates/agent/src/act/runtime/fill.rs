//! Filling an empty volume with what the image has at its path, as Docker does for the volumes that it keeps.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use super::open_in_root;

/// Copies the folder `path` of a root, its owner and mode included, into a volume that is empty.
///
/// # Errors
/// Those of copying.
pub fn fill(rootfs: &Path, path: &str, volume: &Path) -> io::Result<()> {
    let folder = File::open(volume)?;
    // Containers that start at the same time take turns; the second finds it filled.
    // SAFETY: plain system call on an open descriptor.
    if unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if fs::read_dir(volume)?.next().is_some() {
        return Ok(());
    }
    let Ok(source) = open_in_root(rootfs, Path::new(path), libc::O_DIRECTORY | libc::O_RDONLY) else {
        return Ok(());
    };
    // Through the descriptor, so that links in the image cannot lead out of it; links below it are copied, not followed.
    let source = format!("/proc/self/fd/{}/.", source.as_raw_fd());
    copy_folder(Path::new(&source), volume)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
            let found = entry.metadata()?;
            lchown(&target, Some(found.uid()), Some(found.gid()))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
            copy_owner(&entry.path(), &target)?;
        }
    }
    copy_owner(from, to)
}

fn copy_owner(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::metadata(from)?;
    lchown(to, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))
}
