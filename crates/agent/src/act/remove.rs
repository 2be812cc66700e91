//! Removing folders that containers and images have made, however deep: with a handful of descriptors and no recursion,
//! where `std::fs::remove_dir_all` takes a descriptor and a stack frame for each level.
//!
//! A folder within a folder that is not empty is moved into one heap in the topmost folder, and emptied from there in its
//! turn. So every path stays short, and what is left by a crash is removed by the next attempt like all the rest.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Removes a folder and all that is in it; a file or a link as it is.
///
/// # Errors
/// When it does not exist, or of what cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_at(AT_FDCWD, path)
}

/// Removes what has this name in an open folder.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_tree_at<P: ?Sized + NixPath>(parent: impl AsFd, name: &P) -> io::Result<()> {
    let parent = parent.as_fd();
    let top = match openat(parent, name, folder_flags(), Mode::empty()) {
        Ok(top) => top,
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?),
        Err(err) => return Err(err.into()),
    };
    let mut heap = Heap { top: top.try_clone()?, folder: None, count: 0 };
    while clear(&top, &mut heap, true)? {}
    heap.remove()?;
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Folders that are to be emptied, by their numbers.
struct Heap {
    top: OwnedFd,
    /// Made when it is needed first.
    folder: Option<(CString, OwnedFd)>,
    count: u64,
}

fn numbered(number: u64) -> CString {
    CString::new(number.to_string()).unwrap_or_default()
}

impl Heap {
    fn has_name(&self, name: &CStr) -> bool {
        self.folder.as_ref().is_some_and(|(own, _)| own.as_c_str() == name)
    }

    /// Moves a folder here.
    fn take(&mut self, parent: impl AsFd, name: &CStr) -> io::Result<()> {
        let folder = match &self.folder {
            Some((_, folder)) => folder,
            None => &self.folder.insert(make_heap(&self.top)?).1,
        };
        renameat(parent, name, folder, numbered(self.count).as_c_str())?;
        self.count += 1;
        Ok(())
    }

    /// Removes all that was moved here, and what is found in it.
    fn remove(mut self) -> io::Result<()> {
        let Some((name, folder)) = &self.folder else { return Ok(()) };
        let (name, folder) = (name.clone(), folder.try_clone()?);
        let mut next = 0;
        while next < self.count {
            let number = numbered(next);
            let mut found = true;
            // Again while entries are missed, as they may be where some are removed during the reading.
            while let Err(err) = unlinkat(&folder, number.as_c_str(), UnlinkatFlags::RemoveDir) {
                if err != Errno::ENOTEMPTY || !found {
                    return Err(err.into());
                }
                let full = openat(&folder, number.as_c_str(), folder_flags(), Mode::empty())?;
                found = clear(&full, &mut self, false)?;
            }
            next += 1;
        }
        Ok(unlinkat(&self.top, name.as_c_str(), UnlinkatFlags::RemoveDir)?)
    }
}

/// Makes the heap's folder, by a name that is free.
fn make_heap(top: &OwnedFd) -> io::Result<(CString, OwnedFd)> {
    for number in 0_u64.. {
        let name = CString::new(format!(".removing-{number}"))?;
        match mkdirat(top, name.as_c_str(), Mode::S_IRWXU) {
            Ok(()) => {
                let folder = openat(top, name.as_c_str(), folder_flags(), Mode::empty())?;
                return Ok((name, folder));
            }
            Err(Errno::EEXIST) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes what is in a folder and moves folders that are not empty to the heap, which the topmost has. False if there was
/// nothing.
fn clear(folder: &OwnedFd, heap: &mut Heap, topmost: bool) -> io::Result<bool> {
    // Opened anew: a copy of a descriptor would go on where the last reading of it ended.
    let mut entries = Dir::from_fd(openat(folder, c".", folder_flags(), Mode::empty())?)?;
    let mut found = false;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || (topmost && heap.has_name(name)) {
            continue;
        }
        found = true;
        if entry.file_type() != Some(Type::Directory) {
            match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
                // A filesystem that does not tell the types of entries.
                Err(Errno::EISDIR) => {}
                removed => {
                    removed?;
                    continue;
                }
            }
        }
        match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => heap.take(folder, name)?,
            removed => removed?,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::open;

    /// Chains one folder in the other, far deeper than any path can say.
    fn chain(dir: &Path, depth: usize) {
        let mut at = open(dir, folder_flags(), Mode::empty()).unwrap();
        for level in 0..depth {
            mkdirat(&at, c"d", Mode::S_IRWXU).unwrap();
            if level % 1000 == 0 {
                drop(openat(&at, c"file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR).unwrap());
            }
            at = openat(&at, c"d", folder_flags(), Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_folder_of_any_depth_goes() {
        // In memory: a disk takes minutes for so many folders.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir(&top).unwrap();
        chain(&top, 50_000);
        remove_tree(&top).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn all_kinds_go_and_nothing_beyond_links() {
        let dir = tempfile::tempdir().unwrap();
        let (top, kept) = (dir.path().join("top"), dir.path().join("kept"));
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        // What an interrupted removal leaves, and names like the heap's.
        for folder in ["a/b/c", "a/empty", ".removing-0/0/x", "a/.removing-1/x", "0/0/0", "wide"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        for n in 0..200 {
            std::fs::create_dir_all(top.join(format!("wide/{n}/below"))).unwrap();
            std::fs::write(top.join(format!("wide/{n}.txt")), "x").unwrap();
        }
        std::os::unix::fs::symlink(&kept, top.join("a/b/link")).unwrap();
        std::os::unix::fs::symlink("nowhere", top.join("broken")).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && kept.join("file").exists());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(link.symlink_metadata().is_err() && kept.join("file").exists());
        assert_eq!(remove_tree(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
