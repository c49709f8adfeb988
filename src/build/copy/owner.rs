//! `--chown` and `--chmod`.

use crate::container::users::Database;
use anyhow::{Context, Result, bail};

/// Who a copied file belongs to.
pub fn owner(text: &str, users: &Database) -> Result<(u32, u32)> {
    let identity = users.resolve(text, &[]).with_context(|| format!("--chown={text}"))?;
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    // A number without a group means the group with the same number, whatever the files say.
    let is_number = !user.is_empty() && user.bytes().all(|b| b.is_ascii_digit());
    Ok((identity.uid, if is_number && group.is_empty() { identity.uid } else { identity.gid }))
}

/// How modes change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// To this, whatever they were.
    Exact(u32),
    /// Clause by clause.
    Symbolic(Vec<Clause>),
}

/// Who, what is done, and with which permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    who: u32,
    operator: char,
    permissions: String,
}

impl Chmod {
    /// Reads `0644` or `u=rwX,go=rX`.
    pub fn parse(text: &str) -> Result<Chmod> {
        let invalid = || format!("invalid chmod parameter: {text:?}, octal digits or a form like u=rwX,go=rX expected");
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Chmod::Exact).with_context(invalid);
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            let mut rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            let who = clause[..clause.len() - rest.len()].chars().fold(0, |who, c| who | class(c));
            if rest.is_empty() {
                bail!(invalid());
            }
            while let Some(operator) = rest.chars().next() {
                let (Some(after), true) = (rest.strip_prefix(['+', '-', '=']), rest.is_ascii()) else {
                    bail!(invalid())
                };
                let end = after.find(['+', '-', '=']).unwrap_or(after.len());
                let permissions = &after[..end];
                if !permissions.chars().all(|c| "rwxXst".contains(c)) {
                    bail!(invalid());
                }
                clauses.push(Clause { who, operator, permissions: permissions.to_owned() });
                rest = &after[end..];
            }
        }
        Ok(Chmod::Symbolic(clauses))
    }

    /// The mode that a file with `mode` gets.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Chmod::Exact(mode) => *mode,
            Chmod::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_folder))
            }
        }
    }
}

/// The bits that `u`, `g`, `o` are about.
fn class(who: char) -> u32 {
    match who {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o1007,
        _ => 0o7777,
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let who = if self.who == 0 { 0o7777 } else { self.who };
        let bits = self.permissions.chars().fold(0, |bits, permission| {
            bits | match permission {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_folder || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => 0,
            }
        });
        // The sticky bit belongs to nobody in particular.
        let sticky = bits & 0o1000 & if self.who == 0 || self.who & 0o1000 != 0 { 0o1000 } else { 0 };
        let bits = (bits & who & !0o1000) | sticky;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // Folders keep what says whose their new files are.
            _ => mode & !(who & 0o777) & !(if is_folder { 0 } else { who & 0o6000 }) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let cases = [
            ("0644", 0o777, false, 0o644),
            ("4755", 0, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o755, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("+x-w", 0o644, false, 0o555),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("g=", 0o777, false, 0o707),
        ];
        for (text, mode, is_folder, expected) in cases {
            let found = Chmod::parse(text).unwrap().apply(mode, is_folder);
            assert_eq!(found, expected, "{text}: {found:o}");
        }
        for bad in ["", "99999", "888", "u", "u+y", "rw", "u~x", "é", "u+é", ",", "u+x,"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
