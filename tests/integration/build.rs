//! `minirun build`: from a Dockerfile to an image.

mod buildx;
mod cache;
mod contexts;
mod crash;
mod git;
mod mounts;
mod network;
mod real;
mod steps;
mod web;

use crate::support::{Done, Store};
use std::path::PathBuf;
use std::process::{Child, Stdio};

impl Store {
    /// A context of this name with this Dockerfile.
    pub fn context(&self, name: &str, dockerfile: &str) -> PathBuf {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
        dir
    }

    /// Builds a Dockerfile with nothing beside it.
    pub fn build(&self, dockerfile: &str, args: &[&str]) -> Done {
        let context = self.context("context", dockerfile);
        let mut all = vec!["build"];
        all.extend(args);
        all.push(context.to_str().unwrap());
        self.run(&all)
    }

    /// A build that must succeed; gives what it said.
    pub fn builds(&self, dockerfile: &str, args: &[&str]) -> String {
        let done = self.build(dockerfile, args);
        assert_eq!(done.code, 0, "{dockerfile}\n{args:?}: {done:?}\n{}", done.err);
        done.err
    }

    /// A build that must fail; gives what it said.
    pub fn build_fails(&self, dockerfile: &str, args: &[&str]) -> String {
        let done = self.build(dockerfile, args);
        assert_eq!(done.code, 1, "{dockerfile}\n{args:?}: {done:?}\n{}", done.err);
        done.err
    }
}

/// A build in the background, which does not outlive its test.
pub struct Started(Child);

impl Started {
    pub fn build(store: &Store, args: &[&str]) -> Started {
        let mut command = store.command(&[&["build"], args].concat());
        Started(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn status(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many parts of a build were done and not found in the cache.
pub fn parts_done(said: &str) -> usize {
    parts(said).iter().filter(|(_, end)| end.starts_with("DONE")).count()
}

/// How many were found.
pub fn parts_cached(said: &str) -> usize {
    parts(said).iter().filter(|(_, end)| end == "CACHED").count()
}

/// The parts of stages, by name, and how each ended.
pub fn parts(said: &str) -> Vec<(String, String)> {
    let mut names = std::collections::BTreeMap::new();
    let mut out = Vec::new();
    for line in said.lines() {
        let Some((number, text)) = line.strip_prefix('#').and_then(|l| l.split_once(' ')) else { continue };
        if text.starts_with('[') && !text.starts_with("[internal]") {
            names.insert(number.to_owned(), text.to_owned());
        } else if ["CACHED", "DONE", "ERROR", "CANCELED"].iter().any(|end| text.starts_with(end))
            && let Some(name) = names.get(number)
        {
            out.push((name.clone(), text.to_owned()));
        }
    }
    out
}
