//! Git repositories as contexts and as sources of `ADD`. They are got by the program `git`: for a context, which the
//! user has named himself, with whatever settings and credentials he has for it; for a Dockerfile, which may be somebody
//! else's, with what was given to the build.

use super::mounts::Secrets;
use crate::layout::Scratch;
use crate::registry::address::{credentials, is_address};
use crate::sys::depth::Depth;
use crate::sys::dir::{Dir, file_type};
use crate::sys::file::{in_memory, read_all_limited};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::FileType;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often it is asked whether to go on.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of what git says that are kept.
const SAID: u64 = 64 << 10;
/// Settings that would make it work on another repository than its own.
const FOREIGN: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"];

/// Where else than in his home the user may have settings and helpers of his own.
const OWN: [&str; 5] = ["XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_PARAMETERS", "GIT_ASKPASS", "SSH_ASKPASS"];

/// Changes of an environment.
type Variables = Vec<(String, Option<OsString>)>;

/// Whose credentials a repository may be got with, beside those in its address.
#[derive(Clone, Copy, Debug)]
pub enum Rights<'a> {
    /// All that git finds of the user's.
    Users,
    /// The secret `GIT_AUTH_TOKEN`, or that with a dot and the host behind it, and the agent `default`.
    Given(&'a Secrets),
}

/// A part of a repository at one of its commits: `ADDRESS[#[REFERENCE][:FOLDER]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    address: String,
    /// A branch, a tag or a commit; the repository's own choice otherwise.
    reference: Option<String>,
    folder: String,
}

impl Repository {
    /// Understands the address of a repository; `None` if it is that of something else. One of the web is a repository's
    /// if its path ends with `.git`.
    pub fn parse(text: &str) -> Option<Repository> {
        let (address, part) = text.split_once('#').unwrap_or((text, ""));
        let is_its_own = ["git://", "ssh://"].iter().any(|start| address.starts_with(start));
        if !(is_its_own || is_address(address) && address.ends_with(".git") || is_like_scp(address)) {
            return None;
        }
        let (reference, folder) = part.split_once(':').unwrap_or((part, ""));
        let reference = Some(reference).filter(|reference| !reference.is_empty()).map(str::to_owned);
        Some(Repository { address: address.to_owned(), reference, folder: folder.to_owned() })
    }

    /// Gets the files into a scratch folder and gives where they are. `go_on` is asked now and then.
    ///
    /// No password of the address gets into the files, nor to where other users see it.
    ///
    /// # Errors
    /// There is no such repository, reference or folder, or no `git`.
    pub fn get(
        &self,
        scratch: &Scratch,
        keeps_git: bool,
        rights: Rights<'_>,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<PathBuf> {
        if self.reference.as_ref().is_some_and(|reference| reference.starts_with('-')) {
            bail!("a reference cannot begin with a dash");
        }
        let tree = scratch.path().join("repository");
        std::fs::create_dir(&tree).context("make a folder for the repository")?;
        let (address, variables) = self.access(scratch, rights)?;
        let git = |words: &[&str]| git(&tree, words, &variables, go_on);
        git(&["-c", "init.defaultBranch=none", "init", "-q"])?;
        git(&["remote", "add", "origin", &address])?;
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        match git(&["fetch", "-q", "--depth=1", "--no-tags", "origin", reference]) {
            Ok(()) => git(&["checkout", "-q", "--detach", "FETCH_HEAD"])?,
            // Not every server gives a commit that is no branch's last one.
            Err(_) if is_commit(reference) => {
                git(&["fetch", "-q", "--tags", "origin"])?;
                git(&["checkout", "-q", "--detach", reference])?;
            }
            Err(error) => return Err(error),
        }
        let has_others = tree.join(".gitmodules").exists();
        if has_others {
            git(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        if !keeps_git {
            let tree = Dir::open(&tree).context("open the repository's files")?;
            forget(&tree, has_others, Depth::default()).context("remove the repository's history")?;
        }
        self.inside(&tree)
    }

    /// The address without credentials, and what of git's environment is changed; `None` takes a variable away.
    fn access(&self, scratch: &Scratch, rights: Rights<'_>) -> Result<(String, Variables)> {
        let (address, own) = match credentials(&self.address) {
            Some((bare, user, password)) => (bare, Some(format!("{user}:{password}"))),
            None => (self.address.clone(), None),
        };
        let mut variables = Variables::new();
        let mut settings: Vec<(String, String)> = Vec::new();
        let mut given = None;
        if let Rights::Given(secrets) = rights {
            let home = scratch.path().join("home");
            std::fs::create_dir(&home).context("make an empty home for git")?;
            variables.push(("HOME".into(), Some(home.into())));
            variables.extend(OWN.map(|name| (name.to_owned(), None)));
            variables.push(("GIT_SSH_COMMAND".into(), Some("ssh -F none -o IdentityFile=none".into())));
            let agent = secrets.agents.get("default").map(|agent| agent.clone().into_os_string());
            variables.push(("SSH_AUTH_SOCK".into(), agent));
            settings.push(("credential.helper".into(), String::new()));
            let host = address.split('/').nth(2).unwrap_or_default();
            let tokens = [format!("GIT_AUTH_TOKEN.{host}"), "GIT_AUTH_TOKEN".into()];
            let token = tokens.iter().find_map(|id| secrets.contents.get(id));
            given = token.map(|token| format!("x-access-token:{}", String::from_utf8_lossy(token).trim_end()));
        }
        if let Some(words) = own.or(given).filter(|_| is_address(&address)) {
            let site: Vec<&str> = address.splitn(4, '/').take(3).collect();
            let header = format!("Authorization: Basic {}", BASE64.encode(words));
            settings.push((format!("http.{}/.extraHeader", site.join("/")), header));
        }
        if !settings.is_empty() {
            // After those of the user's, if they count.
            let before = std::env::var("GIT_CONFIG_COUNT").ok().filter(|_| matches!(rights, Rights::Users));
            let first: usize = before.and_then(|count| count.parse().ok()).unwrap_or(0);
            variables.push(("GIT_CONFIG_COUNT".into(), Some((first + settings.len()).to_string().into())));
            for (number, (key, value)) in (first..).zip(settings) {
                variables.push((format!("GIT_CONFIG_KEY_{number}"), Some(key.into())));
                variables.push((format!("GIT_CONFIG_VALUE_{number}"), Some(value.into())));
            }
        }
        Ok((address, variables))
    }

    /// The folder that is meant, which no link leads out of the tree.
    fn inside(&self, tree: &Path) -> Result<PathBuf> {
        let tree = tree.canonicalize().context("find the repository's files")?;
        let wanted = tree.join(self.folder.trim_start_matches('/'));
        match wanted.canonicalize() {
            Ok(found) if found.is_dir() && found.starts_with(&tree) => Ok(found),
            _ => bail!("there is no folder {:?} in the repository", self.folder),
        }
    }
}

/// Removes what is git's own: nothing that is committed can have its name.
fn forget(dir: &Dir, is_deep: bool, depth: Depth) -> std::io::Result<()> {
    for name in dir.names()? {
        if name == ".git" {
            dir.remove_tree(&name)?;
        } else if is_deep && file_type(&dir.stat(&name)?) == FileType::Directory {
            forget(&dir.child(&name)?, is_deep, depth.below()?)?;
        }
    }
    Ok(())
}

/// `user@host:path`
fn is_like_scp(address: &str) -> bool {
    let Some((user, rest)) = address.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_name = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    is_name(user, "-_.") && is_name(host, "-.")
}

fn is_commit(reference: &str) -> bool {
    (7..=64).contains(&reference.len()) && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn git(folder: &Path, words: &[&str], variables: &Variables, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    let mut said = in_memory(b"").context("make a file for what git says")?;
    let mut command = Command::new("git");
    command.args(words).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(said.try_clone()?).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    for name in FOREIGN {
        command.env_remove(name);
    }
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = match command.spawn() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!("there is no program git, which gets repositories: install it")
        }
        other => other.context("run git")?,
    };
    loop {
        if let Some(status) = child.try_wait().context("wait for git")? {
            return match status.success() {
                true => Ok(()),
                false => bail!(
                    "git {}: {}",
                    words.iter().find(|w| !w.contains('=') && **w != "-c").unwrap_or(&""),
                    words_of(&mut said)?
                ),
            };
        }
        if let Err(error) = go_on() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
}

/// What git has said, in one line.
fn words_of(said: &mut File) -> Result<String> {
    said.rewind()?;
    let text = read_all_limited(said, SAID).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_repositories() {
        let parsed =
            |text: &str| Repository::parse(text).map(|r| (r.address, r.reference.unwrap_or_default(), r.folder));
        let parts = |a: &str, r: &str, f: &str| Some((a.to_owned(), r.to_owned(), f.to_owned()));
        assert_eq!(parsed("https://host/a.git"), parts("https://host/a.git", "", ""));
        assert_eq!(parsed("https://host/a.git#v1:sub/d"), parts("https://host/a.git", "v1", "sub/d"));
        assert_eq!(parsed("git://host/a#:sub"), parts("git://host/a", "", "sub"));
        assert_eq!(parsed("git@host.org:me/a.git#main"), parts("git@host.org:me/a.git", "main", ""));
        for other in
            ["https://host/a.tar.gz", "https://host/a", "a/b@c:d", "folder", "x@:y", "@host:y", "http://h/a#b.git"]
        {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
