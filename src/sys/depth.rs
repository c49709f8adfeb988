//! How deep a tree may be that is gone through folder by folder.
//!
//! Whoever makes folders one inside the other, without ever naming all of them, can nest them without end; each level
//! costs whoever goes through them some stack and a descriptor. No path of the kernel's leads deeper than this.

use super::process::raise_descriptor_limit;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;

/// Bytes that a path may have; the kernel's own limit.
pub const PATH_LIMIT: usize = 4096;

/// Folders inside one another: each has a name and a slash.
const LEVELS: usize = PATH_LIMIT / 2;

/// Bytes of stack of a thread that goes through trees.
pub const STACK: usize = 32 << 20;

/// Gives this process what the deepest tree takes: descriptors, and stack for its first thread.
pub fn make_room() {
    raise_descriptor_limit();
    let limit = getrlimit(Resource::Stack);
    let wanted = STACK as u64;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // With the limit as it is, most trees still fit.
        let _ = setrlimit(Resource::Stack, rustix::process::Rlimit { current: Some(raised), ..limit });
    }
}

/// Refuses a folder that lies too deep in its tree, where it has this path.
///
/// # Errors
/// The beginning of the path.
pub fn check(path: &[u8]) -> io::Result<()> {
    if path.len() < PATH_LIMIT {
        return Ok(());
    }
    let beginning = String::from_utf8_lossy(&path[..path.len().min(40)]);
    Err(too_deep(&format!("a path in it has more than {PATH_LIMIT} bytes: \"{beginning}…\"")))
}

/// How deep a walk is that does not know paths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth(usize);

impl Depth {
    /// One folder deeper.
    ///
    /// # Errors
    /// That is too deep.
    pub fn below(self) -> io::Result<Depth> {
        match self.0 < LEVELS {
            true => Ok(Depth(self.0 + 1)),
            false => Err(too_deep(&format!("more than {LEVELS} folders are inside one another"))),
        }
    }
}

fn too_deep(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!("the tree is too deep: {why}; move or remove what is in there"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_can_lead_to_is_not_too_deep() {
        let path = ["d"; LEVELS].join("/");
        assert!(path.len() < PATH_LIMIT && check(path.as_bytes()).is_ok());
        let error = check(format!("{path}/d").as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("the tree is too deep: ") && error.contains("\"d/d/") && error.len() < 200,
            "{error}"
        );
        let deepest = (0..LEVELS).try_fold(Depth::default(), |depth, _| depth.below()).unwrap();
        assert!(deepest.below().is_err());
    }
}
