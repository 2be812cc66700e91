//! What is noted of a group in its folder, so that an agent that starts again goes on.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use state::assignment::Assignment;

use crate::act::image::PulledImage;
use crate::act::supervisor::container_dir;
use crate::decide::Known;

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    let text = std::fs::read(dir.join(name)).ok()?;
    match serde_json::from_slice(&text) {
        Ok(found) => Some(found),
        Err(err) => {
            tracing::warn!(dir = %dir.display(), name, %err, "a note cannot be read");
            None
        }
    }
}

/// Replaces a note at once: a crash leaves the old or the new.
fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    std::fs::create_dir_all(dir)?;
    std::fs::write(&temporary, serde_json::to_vec(value)?)?;
    std::fs::rename(&temporary, dir.join(name))
}

fn try_write<T: Serialize>(dir: &Path, name: &str, value: &T) {
    if let Err(err) = write(dir, name, value) {
        // The group goes on; only a restart of the agent would know less.
        tracing::warn!(dir = %dir.display(), name, %err, "a note cannot be written");
    }
}

pub fn read_known(dir: &Path) -> Option<Known> {
    read(dir, "known.json")
}

pub fn write_known(dir: &Path, known: &Known) {
    try_write(dir, "known.json", known);
}

pub fn read_assignment(dir: &Path) -> Option<Assignment> {
    read(dir, "assignment.json")
}

pub fn write_assignment(dir: &Path, assignment: &Assignment) {
    try_write(dir, "assignment.json", assignment);
}

pub fn read_image(dir: &Path, container: usize) -> Option<PulledImage> {
    let dir = container_dir(dir, container);
    if dir.join("image.json").exists() { read(&dir, "image.json") } else { None }
}

pub fn write_image(dir: &Path, container: usize, image: &PulledImage) {
    try_write(&container_dir(dir, container), "image.json", image);
}
