//! Unpacking a layer's tar into a folder, in the form that overlayfs joins ("Image Layer Filesystem Changeset", OCI
//! image specification).
//!
//! Every path is opened below the folder by the kernel's own rules (`openat2`, RESOLVE_IN_ROOT): a link in the tar can
//! lead nowhere but within the layer, as it will in the container.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use tar::{Entry, EntryType};

use super::super::remove::remove_tree_at;
use super::super::runtime::open_in_root;
use super::xattr;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How deep folders may lie: far beyond what images have, and little enough that opening a path takes no time.
const DEPTH_MAX: usize = 512;

/// Most bytes of an entry before its content: its long names and its attributes.
const HEAD_BYTES_MAX: u64 = 4 << 20;

/// Unpacks a tar. The reader is read up to the tar's end mark.
///
/// # Errors
/// What the tar or the filesystem refuses; the folder is then to be thrown away.
pub fn unpack(reader: impl Read, root: &Path) -> io::Result<()> {
    let root_depth = std::fs::canonicalize(root)?.iter().count();
    let mut unpacker = Unpacker { root, root_depth, parent: None, folder_times: Vec::new() };
    let left = Cell::new(HEAD_BYTES_MAX);
    let mut archive = tar::Archive::new(Bounded { reader, left: &left });
    for entry in archive.entries()? {
        left.set(u64::MAX);
        let mut entry = entry?;
        let path = clean(&entry.path_bytes())?;
        unpacker
            .entry(&mut entry, &path)
            .map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", path.display())))?;
        // What of it nobody wanted is not part of the next one's head.
        io::copy(&mut entry, &mut io::sink())?;
        left.set(HEAD_BYTES_MAX);
    }
    unpacker.set_folder_times()
}

/// Reads no more than there is left: heads are held in memory, and a few packed bytes can be a name of gigabytes.
struct Bounded<'a, R> {
    reader: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(invalid("the head of an entry has more than 4 MiB"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

struct Unpacker<'a> {
    root: &'a Path,
    /// Folders from `/` to the root.
    root_depth: usize,
    /// The folder of the last entry, open: entries of one folder mostly follow each other.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Set at the end: whatever is unpacked into a folder changes its time.
    folder_times: Vec<(PathBuf, i64)>,
}

/// The path below the root, without leading slash or dots.
///
/// # Errors
/// A path that climbs out.
fn clean(bytes: &[u8]) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(bytes)).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                let text = format!("{} leads out of the layer", String::from_utf8_lossy(bytes));
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    match path.iter().count() > DEPTH_MAX + 1 {
        true => Err(too_deep(&path)),
        false => Ok(path),
    }
}

fn too_deep(path: &Path) -> io::Error {
    let begin: PathBuf = path.iter().take(4).collect();
    invalid(&format!("{}/… lies deeper than {DEPTH_MAX} folders", begin.display()))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<R>, path: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        if has_sparse_map(entry)? {
            return Err(invalid("a sparse file in the form of pax, which is not understood"));
        }
        let Some(name) = path.file_name() else {
            // The root itself.
            let root = File::open(self.root)?;
            return self.attributes(entry, path, root.as_fd(), true);
        };
        let name = CString::new(name.as_bytes())?;
        let parent = self.open_parent(path.parent().unwrap_or(Path::new("")))?;
        if name.as_bytes() == OPAQUE {
            return xattr::set(parent.as_fd(), b"trusted.overlay.opaque", b"y");
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return whiteout(&parent, &CString::new(hidden)?);
        }
        match kind {
            EntryType::Directory => self.folder(entry, path, &parent, &name),
            EntryType::Symlink => self.symlink(entry, &parent, &name),
            EntryType::Link => self.hard_link(entry, &parent, &name),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.node(entry, path, &parent, &name, kind)
            }
            _ => self.file(entry, path, &parent, &name),
        }
    }

    /// Opens a folder of the layer, making what is missing of it.
    fn open_parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((open, fd)) = &self.parent
            && open == path
        {
            return fd.try_clone();
        }
        let flags = libc::O_DIRECTORY | libc::O_RDONLY;
        let fd = match open_in_root(self.root, path, flags) {
            Ok(fd) => fd,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let name = path.file_name().ok_or(err)?;
                let above = self.open_parent(path.parent().unwrap_or(Path::new("")))?;
                let name = CString::new(name.as_bytes())?;
                // SAFETY: the name lives through the call.
                check(unsafe { libc::mkdirat(above.as_raw_fd(), name.as_ptr(), 0o755) })?;
                open_folder(&above, &name)?
            }
            Err(err) => return Err(err),
        };
        self.check_depth(&fd, path)?;
        self.parent = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    /// Through links a folder may lie deeper than its path says.
    fn check_depth(&self, folder: &OwnedFd, path: &Path) -> io::Result<()> {
        match std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())) {
            Ok(real) if real.iter().count() <= self.root_depth + DEPTH_MAX => Ok(()),
            Err(err) if err.raw_os_error() != Some(libc::ENAMETOOLONG) => Err(err),
            _ => Err(too_deep(path)),
        }
    }

    /// Removes what has the name, unless it is a folder that is to stay one.
    fn make_room(&mut self, parent: &OwnedFd, name: &CStr, for_folder: bool) -> io::Result<bool> {
        // SAFETY: the name and the structure live through the calls.
        unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            if libc::fstatat(parent.as_raw_fd(), name.as_ptr(), &mut found, libc::AT_SYMLINK_NOFOLLOW) != 0 {
                return Ok(false);
            }
            let is_folder = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
            if is_folder && for_folder {
                return Ok(true);
            }
            // A folder that is open as the last parent may be the one that goes.
            self.parent = None;
            if is_folder {
                remove_tree_at(parent, name)?;
            } else {
                check(libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), 0))?;
            }
            Ok(false)
        }
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        path: &Path,
        parent: &OwnedFd,
        name: &CStr,
    ) -> io::Result<()> {
        self.make_room(parent, name, false)?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the name lives through the call; the descriptor returned is ours alone.
        let mut file = unsafe {
            let fd = libc::openat(parent.as_raw_fd(), name.as_ptr(), flags, 0o600);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        match entry.header().entry_type() {
            EntryType::GNUSparse => copy_sparse(entry, &file)?,
            _ => drop(io::copy(entry, &mut file)?),
        }
        self.attributes(entry, path, file.as_fd(), false)
    }

    fn folder<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        path: &Path,
        parent: &OwnedFd,
        name: &CStr,
    ) -> io::Result<()> {
        if !self.make_room(parent, name, true)? {
            // SAFETY: the name lives through the call.
            check(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o700) })?;
        }
        let folder = open_folder(parent, name)?;
        self.attributes(entry, path, folder.as_fd(), true)
    }

    fn symlink<R: Read>(&mut self, entry: &mut Entry<R>, parent: &OwnedFd, name: &CStr) -> io::Result<()> {
        self.make_room(parent, name, false)?;
        let target = entry.link_name_bytes().ok_or_else(|| invalid("a link without a target"))?;
        let target = CString::new(target.as_ref())?;
        let (uid, gid) = owner(entry)?;
        // SAFETY: the names live through the calls.
        unsafe {
            check(libc::symlinkat(target.as_ptr(), parent.as_raw_fd(), name.as_ptr()))?;
            check(libc::fchownat(parent.as_raw_fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW))?;
            let times = times(numeric(&entry.header().as_old().mtime, || entry.header().mtime())? as i64);
            check(libc::utimensat(
                parent.as_raw_fd(),
                name.as_ptr(),
                times.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
            ))
        }
    }

    fn hard_link<R: Read>(&mut self, entry: &mut Entry<R>, parent: &OwnedFd, name: &CStr) -> io::Result<()> {
        let target = entry.link_name_bytes().ok_or_else(|| invalid("a link without a target"))?;
        let target = clean(&target)?;
        let target_name = target.file_name().ok_or_else(|| invalid("a hard link to the root"))?;
        let folder = open_in_root(self.root, target.parent().unwrap_or(Path::new("")), libc::O_DIRECTORY)
            .map_err(|err| io::Error::new(err.kind(), format!("hard link to {}: {err}", target.display())))?;
        let target_name = CString::new(target_name.as_bytes())?;
        self.make_room(parent, name, false)?;
        // SAFETY: the names live through the call. Without AT_SYMLINK_FOLLOW a link is linked, not its target.
        check(unsafe {
            libc::linkat(folder.as_raw_fd(), target_name.as_ptr(), parent.as_raw_fd(), name.as_ptr(), 0)
        })
        .map_err(|err| io::Error::new(err.kind(), format!("hard link to {}: {err}", target.display())))
    }

    fn node<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        path: &Path,
        parent: &OwnedFd,
        name: &CStr,
        kind: EntryType,
    ) -> io::Result<()> {
        self.make_room(parent, name, false)?;
        let header = entry.header();
        // Archivers leave the numbers of a pipe empty.
        let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
        let (major, minor) = (number(header.device_major()), number(header.device_minor()));
        let format = match kind {
            EntryType::Char => libc::S_IFCHR,
            EntryType::Block => libc::S_IFBLK,
            _ => libc::S_IFIFO,
        };
        // 0:0 is overlayfs's own mark of a file that is not there.
        if kind == EntryType::Char && (major, minor) == (0, 0) {
            return Err(invalid("a device 0:0"));
        }
        let mode = numeric(&header.as_old().mode, || header.mode().map(u64::from))? as u32 & 0o7777;
        let (uid, gid) = owner(entry)?;
        // SAFETY: the name lives through the calls.
        unsafe {
            check(libc::mknodat(
                parent.as_raw_fd(),
                name.as_ptr(),
                format | 0o600,
                libc::makedev(major, minor),
            ))?;
            check(libc::fchownat(parent.as_raw_fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW))?;
            check(libc::fchmodat(parent.as_raw_fd(), name.as_ptr(), mode, 0))?;
        }
        tracing::trace!(path = %path.display(), "made a device node");
        Ok(())
    }

    /// Owner, mode, extended attributes and time, in the order in which none undoes another.
    fn attributes<R: Read>(
        &mut self,
        entry: &mut Entry<R>,
        path: &Path,
        fd: std::os::fd::BorrowedFd,
        folder: bool,
    ) -> io::Result<()> {
        let (uid, gid) = owner(entry)?;
        let mode =
            numeric(&entry.header().as_old().mode, || entry.header().mode().map(u64::from))? as u32 & 0o7777;
        let mtime = numeric(&entry.header().as_old().mtime, || entry.header().mtime())? as i64;
        // SAFETY: plain system calls on an open descriptor.
        unsafe {
            check(libc::fchown(fd.as_raw_fd(), uid, gid))?;
            check(libc::fchmod(fd.as_raw_fd(), mode))?;
        }
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
                // The image must not speak to overlayfs.
                if name.starts_with(b"trusted.overlay.") {
                    continue;
                }
                match xattr::set(fd, name, extension.value_bytes()) {
                    // A filesystem that has no such attributes: as in containerd, they are left out.
                    Err(err) if err.raw_os_error() == Some(libc::ENOTSUP) => {}
                    set => set?,
                }
            }
        }
        if folder {
            self.folder_times.push((path.to_owned(), mtime));
            return Ok(());
        }
        let times = times(mtime);
        // SAFETY: plain system call on an open descriptor.
        check(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) })
    }

    fn set_folder_times(&mut self) -> io::Result<()> {
        for (path, mtime) in self.folder_times.drain(..).rev() {
            // A folder may have been replaced by something else further on.
            let Ok(fd) = open_in_root(self.root, &path, libc::O_DIRECTORY | libc::O_RDONLY) else { continue };
            let times = times(mtime);
            // SAFETY: plain system call on an open descriptor.
            check(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) })?;
        }
        Ok(())
    }
}

/// Whether a file's content is a map of its holes and what lies between them (GNU tar, `--format=pax --sparse`).
fn has_sparse_map<R: Read>(entry: &mut Entry<R>) -> io::Result<bool> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(false) };
    for extension in extensions {
        if extension?.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes a sparse file with its holes. A tar of a few bytes can name any size: what there is no room for is refused.
fn copy_sparse<R: Read>(entry: &mut Entry<R>, file: &File) -> io::Result<()> {
    let room = nix::sys::statvfs::fstatvfs(file)?;
    if entry.size() > room.blocks_available() as u64 * room.fragment_size() as u64 {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    let (mut buffer, mut at) = (vec![0; 1 << 16], 0);
    loop {
        let count = entry.read(&mut buffer)?;
        if count == 0 {
            return file.set_len(at);
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..count], at)?;
        }
        at += count as u64;
    }
}

/// Opens a folder that is no link.
fn open_folder(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name lives through the call; the descriptor returned is ours alone.
    unsafe {
        match libc::openat(parent.as_raw_fd(), name.as_ptr(), flags) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Marks a file of a lower layer as not there.
fn whiteout(parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    if name.to_bytes().is_empty()
        || name.to_bytes().contains(&b'/')
        || [&b"."[..], b".."].contains(&name.to_bytes())
    {
        return Err(invalid("a whiteout of nothing"));
    }
    // SAFETY: the name lives through the call.
    match check(unsafe { libc::mknodat(parent.as_raw_fd(), name.as_ptr(), libc::S_IFCHR, 0) }) {
        // This layer has a file of that name: it is what is seen.
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn owner<R: Read>(entry: &Entry<R>) -> io::Result<(u32, u32)> {
    let header = entry.header();
    let uid = numeric(&header.as_old().uid, || header.uid())?;
    Ok((uid as u32, numeric(&header.as_old().gid, || header.gid())? as u32))
}

fn times(seconds: i64) -> [libc::timespec; 2] {
    [libc::timespec { tv_sec: seconds, tv_nsec: 0 }; 2]
}

/// A numeric field; one that was left empty is 0, as Go's archive/tar reads it and so every Docker does.
fn numeric(field: &[u8], read: impl FnOnce() -> io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { read() }
}

#[cfg(test)]
mod tests;
