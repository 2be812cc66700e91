//! The data directory: whose it is, who may read it, what is deleted with it.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file that says whose a directory is: the store's.
const MARK: &str = "store/format";

/// All that Roadstead makes in a data directory.
const ENTRIES: [&str; 11] = [
    "store",
    "logs",
    "blobs",
    "node",
    "node-id",
    "secret.key",
    "secret.new",
    "root-key-shown",
    "up.json",
    "up.new",
    "roadstead.log",
];

/// What a file system of its own begins with.
const LOST_AND_FOUND: &str = "lost+found";

/// Root alone: definitions hold passwords in their environments, and logs whatever was printed.
const MODE: u32 = 0o700;

/// Opens a data directory, making it if need be, for root alone; its absolute path.
///
/// # Errors
/// Those of the file system, and a directory that holds others' files.
pub fn open(path: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), std::fs::create_dir_all)?;
    match DirBuilder::new().mode(MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if let Some(foreign) = foreign(path)?.first().filter(|_| !is_ours(path)) {
        return Err(io::Error::other(format!(
            "{} holds {foreign:?} and is not a data directory of Roadstead: choose an empty or a new one with --data-dir",
            path.display()
        )));
    }
    if path.metadata()?.permissions().mode() & 0o777 != MODE {
        std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    path.canonicalize()
}

/// Whether a Roadstead has used this directory.
pub fn is_ours(path: &Path) -> bool {
    path.join(MARK).exists()
}

/// Deletes what Roadstead made in a data directory, and the directory unless it holds more; whether it is gone.
///
/// # Errors
/// Those of the file system.
pub fn delete(path: &Path) -> io::Result<bool> {
    // A link to it is not what is to be deleted.
    let path = &path.canonicalize()?;
    // The records go last: by them the directory is known, so that an interrupted deletion can be repeated.
    for entry in ENTRIES.iter().rev().map(|name| path.join(name)) {
        if entry.ends_with("store") {
            cut::cut!("down.data-deleting");
        }
        let deleted = match entry.symlink_metadata() {
            Ok(found) if found.is_dir() => agent::act::remove::remove_tree(&entry),
            Ok(_) => std::fs::remove_file(&entry),
            Err(error) => Err(error),
        };
        match deleted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(true),
        // Others' files, or the root of a file system.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The data directory's own part of names that all Roadsteads of a machine share: none for the usual one, so that they are easy to recognise.
pub fn suffix(data_dir: &Path) -> String {
    if data_dir == Path::new("/var/lib/roadstead") {
        return String::new();
    }
    let hash = data_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("-{hash:08x}")
}

/// The folder in `/run` of what lives no longer than the machine runs.
pub fn run_dir(data_dir: &Path) -> PathBuf {
    format!("/run/roadstead{}", suffix(data_dir)).into()
}

/// The names in a directory that Roadstead does not make.
fn foreign(path: &Path) -> io::Result<Vec<String>> {
    let names = path.read_dir()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<io::Result<_>>()?;
    let is_known = |name: &str| ENTRIES.contains(&name) || name == LOST_AND_FOUND;
    Ok(names.into_iter().filter(|name| !is_known(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_others_files_is_refused_unless_it_was_taken_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(open(&path).unwrap(), path.canonicalize().unwrap());
        // What an interrupted start, `up --detach` and a file system of its own leave is no reason.
        for name in ["secret.key", "roadstead.log", LOST_AND_FOUND] {
            std::fs::write(path.join(name), "").unwrap();
            open(&path).unwrap();
        }
        std::fs::write(path.join("thesis.tex"), "").unwrap();
        let refused = open(&path).unwrap_err().to_string();
        assert!(
            refused.contains("holds \"thesis.tex\" and is not a data directory of Roadstead"),
            "{refused}"
        );
        std::fs::create_dir(path.join("store")).unwrap();
        open(&path).unwrap_err();
        std::fs::write(path.join(MARK), "").unwrap();
        open(&path).unwrap();
    }

    #[test]
    fn it_is_for_its_owner_alone_from_the_start_and_once_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        open(&path).unwrap();
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        open(&path).unwrap();
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn deleted_is_what_roadstead_makes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        open(&path).unwrap();
        std::fs::create_dir_all(path.join("store/deep")).unwrap();
        std::fs::write(path.join("store/deep/file"), "").unwrap();
        std::fs::write(path.join("up.json"), "").unwrap();
        std::fs::write(path.join("thesis.tex"), "years of work").unwrap();
        // A link to data elsewhere is a link.
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), path.join("blobs")).unwrap();
        assert!(!delete(&path).unwrap());
        let left: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["thesis.tex"]);
        assert!(dir.path().join("elsewhere").exists());
        std::fs::remove_file(path.join("thesis.tex")).unwrap();
        assert!(delete(&path).unwrap() && !path.exists());
    }
}
