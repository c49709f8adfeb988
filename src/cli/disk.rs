//! Which file system is full, when the kernel only says that one is.

use super::units;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static PLACES: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Tells where this command writes.
pub fn remember(places: Vec<PathBuf>) {
    let _ = PLACES.set(places);
}

/// A sentence about the file systems that are full, if an error says that one is.
pub fn explain(error: &str) -> Option<String> {
    let error = error.to_lowercase();
    let quota = error.contains("quota exceeded");
    if error.contains("the option --unpack-limit allows more") {
        return PLACES
            .get()?
            .first()
            .and_then(|place| room(place))
            .map(|room| format!("without the option, as much as fits: {room}"));
    }
    if !quota && !error.contains("no space left on device") {
        return None;
    }
    let mut places = PLACES.get().cloned().unwrap_or_default();
    places.extend(std::env::current_dir());
    places.push(std::env::temp_dir());
    let mut seen = Vec::new();
    let mut sentences = Vec::new();
    for place in &places {
        let Some(place) = place.ancestors().find(|p| p.exists()) else { continue };
        let device = place.metadata().map_or(0, |m| m.dev());
        if seen.contains(&device) {
            continue;
        }
        seen.push(device);
        sentences.extend(fullness(place, device, quota));
    }
    if sentences.is_empty() {
        sentences.extend(places.first().and_then(|place| room_now(place)));
    }
    Some(sentences.join("\n"))
}

/// What was half made is gone again when we look.
fn room_now(place: &Path) -> Option<String> {
    room(place).map(|room| format!("{room}, now that half-made files are gone"))
}

fn room(place: &Path) -> Option<String> {
    let place = place.ancestors().find(|p| p.exists())?;
    let s = rustix::fs::statvfs(place).ok()?;
    let (free, size) = (units::size(s.f_bavail * s.f_frsize), units::size(s.f_blocks * s.f_frsize));
    let mount = mount_of(place.metadata().ok()?.dev()).unwrap_or_default();
    let place = place.display();
    Some(format!("the file system of {place} ({mount}) has {free} of {size} left"))
}

fn fullness(place: &Path, device: u64, quota: bool) -> Option<String> {
    const NEARLY_NOTHING: u64 = 1 << 20;
    let s = rustix::fs::statvfs(place).ok()?;
    let (free, size) = (s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize);
    let whose = || format!("the file system of {} ({})", place.display(), mount_of(device).unwrap_or_default());
    if s.f_files > 0 && s.f_favail == 0 {
        return Some(format!("{} has no room for another file: all its {} inodes are in use", whose(), s.f_files));
    }
    if free < NEARLY_NOTHING {
        let (free, size) = (units::size(free), units::size(size));
        return Some(format!(
            "{} is full: {free} of {size} are left; minirun system prune frees what is not used",
            whose()
        ));
    }
    quota.then(|| format!("{} may be the one whose quota is used up", whose()))
}

/// The kind of the file system that a path is on.
pub fn kind_of(path: &Path) -> Option<String> {
    let mount = mount_of(path.metadata().ok()?.dev())?;
    mount.split(',').next().map(str::to_owned)
}

/// Kind, device and place of a mounted file system.
fn mount_of(device: u64) -> Option<String> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = text.lines().find(|l| l.split(' ').nth(2) == Some(number.as_str()))?;
    let (before, after) = line.split_once(" - ")?;
    let mut kind = after.split(' ');
    Some(format!("{}, {} on {}", kind.next()?, kind.next()?, before.split(' ').nth(4)?))
}
