//! Cut points: places between an intent and its effect at which a test can end the process, as kill -9 would.
//!
//! They are in every debug build and in no release build: the program that the tests drive is a debug build, so nothing
//! has to be built twice, and what users run has none. A point is a line of [`POINTS`] and a [`cut!`] of that name; a
//! name that is not in the list does not compile, and `cargo xtask tidy` finds one that is in the list and nowhere else.
//!
//! `ROADSTEAD_CUT` names a folder. Each point that is reached adds its name to `reached` in it. `armed` holds a name and
//! a number: the process that reaches that point for the n-th time since then, whichever of ours it is, renames `armed`
//! to `cut` and kills itself. So one cut is made and no second, and a server may be armed while it runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod points;

pub use points::POINTS;

/// Names the folder.
const VARIABLE: &str = "ROADSTEAD_CUT";

/// Marks a point. Without `ROADSTEAD_CUT` it costs the reading of a flag; in a release build, nothing.
#[macro_export]
macro_rules! cut {
    ($name:literal) => {{
        const { assert!($crate::is_point($name), "not in the list of cut points") };
        $crate::reach($name);
    }};
}

/// Whether a name is in the list.
pub const fn is_point(name: &str) -> bool {
    let mut at = 0;
    while at < POINTS.len() {
        if equal(POINTS[at].0.as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The points of this build, each with what lies before it and what after.
pub fn points() -> &'static [(&'static str, &'static str)] {
    if cfg!(debug_assertions) { POINTS } else { &[] }
}

/// What a process needs in its environment to be cut too.
pub fn environment() -> Option<(&'static str, PathBuf)> {
    folder().map(|folder| (VARIABLE, folder.to_owned()))
}

fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return None;
    }
    FOLDER.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_deref()
}

/// Use [`cut!`]. Ends the process if the point is armed.
pub fn reach(name: &str) {
    let Some(folder) = folder() else { return };
    // A folder that cannot be written to cuts nothing: the test misses the point in `reached`.
    if reached(folder, name).unwrap_or(false) {
        // SAFETY: plain system calls. Nothing of this process runs after the first.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
            libc::_exit(137)
        }
    }
}

/// Notes that a point was reached. True if the process is to end there.
fn reached(folder: &Path, name: &str) -> io::Result<bool> {
    let mut log = OpenOptions::new().append(true).create(true).open(folder.join("reached"))?;
    lock(&log, libc::LOCK_EX)?;
    writeln!(log, "{name}")?;
    let armed = folder.join("armed");
    let is_last = match fs::read_to_string(&armed).unwrap_or_default().split_once(' ') {
        Some((point, left)) if point == name => match left.trim().parse::<u32>() {
            Ok(left) if left > 1 => fs::write(&armed, format!("{name} {}", left - 1)).map(|()| false)?,
            _ => fs::rename(&armed, folder.join("cut")).map(|()| true)?,
        },
        _ => false,
    };
    // Not left to the closing of the file: a child that is being started just now shares it until its exec.
    lock(&log, libc::LOCK_UN)?;
    Ok(is_last)
}

fn lock(file: &File, how: i32) -> io::Result<()> {
    // SAFETY: plain system call on an open descriptor.
    match unsafe { libc::flock(file.as_raw_fd(), how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_none_is_there_twice() {
        for (at, (name, _)) in POINTS.iter().enumerate() {
            assert!(is_point(name));
            assert!(!POINTS[..at].iter().any(|(other, _)| other == name), "{name}");
        }
        assert!(!is_point("") && !is_point("store") && !is_point("store.append.written.too"));
    }

    #[test]
    fn the_nth_time_of_the_armed_point_is_the_end_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let reach = |name: &str| reached(dir.path(), name).unwrap();
        assert!(!reach("a"));
        fs::write(dir.path().join("armed"), "a 2\n").unwrap();
        assert!(!reach("b") && !reach("a"));
        assert!(!dir.path().join("cut").exists());
        assert!(reach("a"));
        assert!(dir.path().join("cut").exists());
        assert!(!reach("a"));
        assert_eq!(fs::read_to_string(dir.path().join("reached")).unwrap(), "a\nb\na\na\na\n");
    }
}
