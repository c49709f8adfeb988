//! Users and groups by the container's own `/etc/passwd` and `/etc/group`.

use anyhow::{Result, bail};
use std::fs::File;

/// Who a process is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All groups, the one above included.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// The two files of a root file system, as far as they exist.
#[derive(Clone, Debug, Default)]
pub struct Database {
    passwd: String,
    group: String,
}

/// Nobody's honest file is larger.
const LIMIT: u64 = 16 << 20;

impl Database {
    /// Reads both files through `open`, which resolves paths inside the root file system and opens only regular
    /// files. A missing file is as good as an empty one.
    pub fn read(open: impl Fn(&str) -> std::io::Result<File>) -> Result<Database> {
        let text = |path: &str| -> Result<String> {
            let Ok(mut file) = open(path) else { return Ok(String::new()) };
            match crate::sys::file::read_all_limited(&mut file, LIMIT) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(e) => bail!("read the container's /{path}: {e}"),
            }
        };
        Ok(Database { passwd: text("etc/passwd")?, group: text("etc/group")? })
    }

    /// Resolves `name|uid[:group|gid]` with further groups by name or number. Empty means root.
    ///
    /// # Errors
    /// A name that is not in the files, and a number that is no user's: nobody becomes root by mistake.
    pub fn resolve(&self, user: &str, extra_groups: &[String]) -> Result<Identity> {
        let (user, group) = match user.split_once(':') {
            Some((u, g)) => (u, Some(g).filter(|g| !g.is_empty())),
            None => (user, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let entry = self.passwd_entries().find(|e| e.name == user).or_else(|| {
            let uid = number(user)?;
            self.passwd_entries().find(|e| e.uid == uid)
        });
        let (uid, primary, home, name) = match (&entry, number(user)) {
            (Some(e), _) => (e.uid, e.gid, e.home.to_owned(), Some(e.name)),
            (None, Some(uid)) => (uid, 0, "/".to_owned(), None),
            (None, None) => bail!("unable to find user {user}: no matching entries in passwd file"),
        };
        let gid = match group {
            Some(group) => self.group_number(group)?,
            None => primary,
        };
        let mut groups = vec![gid];
        if let (None, Some(name)) = (group, name) {
            groups.extend(self.group_entries().filter(|g| g.members.split(',').any(|m| m == name)).map(|g| g.gid));
        }
        for extra in extra_groups {
            groups.push(self.group_number(extra)?);
        }
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|g| seen.insert(*g));
        let home = if home.is_empty() { "/".to_owned() } else { home };
        Ok(Identity { uid, gid, groups, home })
    }

    fn group_number(&self, group: &str) -> Result<u32> {
        match (self.group_entries().find(|g| g.name == group), number(group)) {
            (Some(entry), _) => Ok(entry.gid),
            (None, Some(gid)) => Ok(gid),
            (None, None) => bail!("unable to find group {group}: no matching entries in group file"),
        }
    }

    fn passwd_entries(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
            let (gid, _, home) = (number(fields.next()?)?, fields.next()?, fields.next()?);
            Some(PasswdEntry { name, uid, gid, home })
        })
    }

    fn group_entries(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
            Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
        })
    }
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Digits only, within what the kernel and other programs agree on as user numbers.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n: &u32| digits && *n <= i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            passwd: "root:x:0:0:root:/root:/bin/sh\ntim:x:1000:100::/home/tim:\nbroken\n7:x:70:70::/seven:\n".into(),
            group: "root:x:0:\nusers:x:100:\nextra:x:2000:root,tim\nother:x:3000:tim\n".into(),
        }
    }

    #[test]
    fn names_numbers_and_groups_are_found() {
        let db = database();
        let root = db.resolve("", &[]).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(root.groups, [0, 2000]);
        let tim = db.resolve("tim", &["77".into(), "extra".into()]).unwrap();
        assert_eq!((tim.uid, tim.gid, tim.groups), (1000, 100, vec![100, 2000, 3000, 77]));
        assert_eq!(db.resolve("1000", &[]).unwrap().home, "/home/tim");
        let explicit = db.resolve("tim:other", &[]).unwrap();
        assert_eq!((explicit.gid, explicit.groups), (3000, vec![3000]));
        let unknown = db.resolve("4242", &[]).unwrap();
        assert_eq!((unknown.uid, unknown.gid, unknown.home.as_str()), (4242, 0, "/"));
        assert_eq!(db.resolve("7", &[]).unwrap().uid, 70);
    }

    #[test]
    fn nobody_becomes_root_by_mistake() {
        let db = database();
        for bad in ["nosuch", "-1", "4294967296", "2147483648", "+5", "1e3", " 0", "tim:nosuch", "0x0"] {
            assert!(db.resolve(bad, &[]).is_err(), "{bad}");
        }
        assert!(db.resolve("tim", &["nosuch".into()]).is_err());
    }
}
