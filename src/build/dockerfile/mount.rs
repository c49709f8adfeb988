//! `RUN --mount=…`: comma-separated fields, and what they make together.

use super::ast::{Mount, MountKind, MountText, Sharing};
use super::suggest::suggestion;

const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
];

/// Splits the value of a `--mount`. What has no variables in it is checked at once.
pub fn fields(text: &str) -> Result<MountText, String> {
    let mut fields = Vec::new();
    for field in commas(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (field.as_str(), None),
        };
        let key = key.trim().to_ascii_lowercase();
        if key != "env" && !KEYS.contains(&key.as_str()) {
            return Err(match value {
                None => format!("invalid field '{field}' must be a key=value pair"),
                Some(_) => format!("unexpected key '{key}' in '{field}'{}", suggestion(&key, &KEYS)),
            });
        }
        if key == "from" && value.as_ref().is_some_and(|v| v.contains('$')) {
            return Err("'from' doesn't support variable expansion, define alias stage instead".into());
        }
        fields.push((key, value));
    }
    let mount = MountText { text: text.to_owned(), fields };
    if !text.contains('$') {
        resolve(&mount, |value| Ok(value.to_owned()))?;
    }
    Ok(mount)
}

/// The fields of one line of comma-separated values; a field may be in double quotes.
fn commas(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always one");
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() => is_quoted = true,
            ',' if !is_quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    match is_quoted {
        true => Err(format!("a quote in the mount {text:?} is not closed")),
        false => Ok(fields),
    }
}

/// Expands the values and checks what they say together.
pub fn resolve(text: &MountText, expand: impl Fn(&str) -> Result<String, String>) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: MountKind::Bind,
        target: String::new(),
        read_only: true,
        from: None,
        source: None,
        id: None,
        sharing: Sharing::Shared,
        required: false,
        size: None,
        mode: None,
        uid: None,
        gid: None,
        env: None,
    };
    let mut read_only = None;
    let mut sharing = None;
    for (key, value) in &text.fields {
        let value = value.as_deref().map(&expand).transpose()?;
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => read_only = Some(truth(key, value)?),
            ("readwrite" | "rw", value) => read_only = Some(!truth(key, value)?),
            ("required", value) => mount.required = truth(key, value)?,
            (_, None) => return Err(format!("invalid field '{key}' must be a key=value pair")),
            ("type", Some(value)) => mount.kind = kind(&value)?,
            ("from", Some(value)) => mount.from = Some(value),
            ("source" | "src", Some(value)) => mount.source = Some(value),
            ("target" | "dst" | "destination", Some(value)) => mount.target = value,
            ("size", Some(value)) => mount.size = Some(bytes(&value)?),
            ("id", Some(value)) => mount.id = Some(value),
            ("sharing", Some(value)) => sharing = Some(shared(&value)?),
            ("mode", Some(value)) => mount.mode = Some(number(key, &value, 8)?),
            ("uid", Some(value)) => mount.uid = Some(number(key, &value, 10)?),
            ("gid", Some(value)) => mount.gid = Some(number(key, &value, 10)?),
            ("env", Some(value)) => mount.env = Some(value),
            (other, Some(_)) => return Err(format!("unexpected key '{other}'")),
        }
    }
    mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
    mount.sharing = sharing.unwrap_or_default();
    check(&mount, sharing.is_some())?;
    if mount.kind == MountKind::Secret && mount.id.is_none() {
        mount.id = Some(mount.source.take().unwrap_or_else(|| base_name(&mount.target).to_owned()));
    }
    Ok(mount)
}

fn check(mount: &Mount, has_sharing: bool) -> Result<(), String> {
    use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
    let kind = name(mount.kind);
    let only = |is_set: bool, key: &str, kinds: &[MountKind]| match is_set && !kinds.contains(&mount.kind) {
        true => Err(format!("{key} not allowed for {kind:?} type mounts")),
        false => Ok(()),
    };
    only(mount.mode.is_some(), "mode", &[Secret, Ssh, Cache])?;
    only(mount.uid.is_some(), "uid", &[Secret, Ssh, Cache])?;
    only(mount.gid.is_some(), "gid", &[Secret, Ssh, Cache])?;
    only(mount.required, "required", &[Secret, Ssh])?;
    only(mount.size.is_some(), "size", &[Tmpfs])?;
    only(mount.env.is_some(), "env", &[Secret])?;
    only(has_sharing, "sharing", &[Cache])?;
    only(mount.from.is_some(), "from", &[Bind, Cache])?;
    if mount.target.is_empty() && matches!(mount.kind, Bind | Cache | Tmpfs) {
        return Err(format!("a {kind} mount needs a target"));
    }
    if mount.kind != Secret {
        return Ok(());
    }
    if mount.source.is_none() && mount.target.is_empty() && mount.id.is_none() {
        return Err("invalid secret mount: one of source, id, target is required".into());
    }
    match mount.source.is_some() && mount.id.is_some() {
        true => Err("invalid secret mount: both source and id can't be set".into()),
        false => Ok(()),
    }
}

/// The last component of a path; a secret without an id is known by that of its target.
fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

fn name(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
        MountKind::Ssh => "ssh",
    }
}

fn kind(text: &str) -> Result<MountKind, String> {
    let all = [MountKind::Bind, MountKind::Cache, MountKind::Tmpfs, MountKind::Secret, MountKind::Ssh];
    let names = all.map(name);
    let found = all.into_iter().find(|kind| name(*kind) == text);
    found.ok_or_else(|| format!("unsupported mount type {text:?}{}", suggestion(text, &names)))
}

fn shared(text: &str) -> Result<Sharing, String> {
    match text.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(format!("unsupported sharing value {text:?}: shared, private or locked was expected")),
    }
}

fn truth(key: &str, value: Option<String>) -> Result<bool, String> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    }
}

fn number(key: &str, text: &str, radix: u32) -> Result<u32, String> {
    let has_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = u32::from_str_radix(text, radix).ok().filter(|_| has_digits);
    number.ok_or_else(|| format!("invalid value {text} for {key}"))
}

/// `64m`, `1.5g`, `1000`.
fn bytes(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid value for size: {text:?}, a number with a unit was expected, as in 64m");
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().map_err(|_| invalid())?;
    let unit = match lower[end..].trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(invalid()),
    };
    let bytes = number * 1024f64.powi(unit);
    if bytes >= 0.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(invalid()) }
}
