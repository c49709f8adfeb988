//! Device rules: what a list of them comes to.
//!
//! The kernel's version 1 controller keeps a default and a list of exceptions to it, and that is what the rules of a
//! specification mean. Both versions get this normal form, so that a container may do the same on each.

use crate::sys::bpf::DeviceRule;
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// A default and the exceptions to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What holds for a device without an exception.
    pub allowed: bool,
    /// At most one for each kind and pair of numbers.
    exceptions: Vec<Exception>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: String,
}

impl Exception {
    fn is_about(&self, rule: &DeviceRule) -> bool {
        (self.kind, self.major, self.minor) == (rule.kind, rule.major, rule.minor)
    }

    /// Whether it is about more devices than the rule, among them those of the rule.
    fn is_wider(&self, rule: &DeviceRule) -> bool {
        let covers = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        !self.is_about(rule)
            && self.kind == rule.kind
            && covers(self.major, rule.major)
            && covers(self.minor, rule.minor)
            && self.access.chars().any(|a| rule.access.contains(a))
    }
}

impl Access {
    /// Nothing is allowed.
    pub fn none() -> Access {
        Access { allowed: false, exceptions: Vec::new() }
    }

    /// What the rules, one after the other, come to.
    ///
    /// # Errors
    /// A rule that takes back a part of an earlier one for more devices: the kernel would ignore it.
    pub fn of(rules: &[DeviceRule]) -> Result<Access> {
        let mut access = Access::none();
        for rule in rules {
            access.apply(rule)?;
        }
        Ok(access)
    }

    /// What `devices.list` shows.
    pub fn from_list(text: &str) -> Result<Access> {
        let rules: Option<Vec<DeviceRule>> = text.lines().map(parse_line).collect();
        Access::of(&rules.with_context(|| format!("unexpected devices.list {text:?}"))?)
    }

    fn apply(&mut self, rule: &DeviceRule) -> Result<()> {
        if rule.kind == 'a' {
            *self = Access { allowed: rule.allow, exceptions: Vec::new() };
            return Ok(());
        }
        let known = self.exceptions.iter().position(|e| e.is_about(rule));
        if rule.allow != self.allowed {
            match known {
                Some(at) => {
                    let access = &mut self.exceptions[at].access;
                    let more: String = rule.access.chars().filter(|a| !access.contains(*a)).collect();
                    access.push_str(&more);
                }
                None => self.exceptions.push(Exception {
                    kind: rule.kind,
                    major: rule.major,
                    minor: rule.minor,
                    access: rule.access.clone(),
                }),
            }
            return Ok(());
        }
        if let Some(wider) = self.exceptions.iter().find(|e| e.is_wider(rule)) {
            bail!(
                "the device rule {:?} takes back a part of {:?}, which the kernel cannot do",
                text(rule),
                text(&self.rule(wider))
            );
        }
        if let Some(at) = known {
            self.exceptions[at].access.retain(|a| !rule.access.contains(a));
            if self.exceptions[at].access.is_empty() {
                self.exceptions.remove(at);
            }
        }
        Ok(())
    }

    fn rule(&self, e: &Exception) -> DeviceRule {
        DeviceRule { allow: !self.allowed, kind: e.kind, major: e.major, minor: e.minor, access: e.access.clone() }
    }

    /// The shortest list of rules that comes to this.
    pub fn rules(&self) -> Vec<DeviceRule> {
        let all = DeviceRule { allow: self.allowed, kind: 'a', major: None, minor: None, access: "rwm".into() };
        std::iter::once(all).chain(self.exceptions.iter().map(|e| self.rule(e))).collect()
    }

    /// The rules that lead from this to `target`. Where both deny by default, nothing that both allow is denied
    /// meanwhile.
    pub fn transition(&self, target: &Access) -> Vec<DeviceRule> {
        // The kernel does not tell the exceptions to a default that allows.
        if self.allowed || target.allowed {
            return target.rules();
        }
        let lacking = |all: &Access, part: &Access, flip: bool| -> Vec<DeviceRule> {
            let differing = all.exceptions.iter().filter_map(|e| {
                let rule = all.rule(e);
                let other = part.exceptions.iter().find(|o| o.is_about(&rule)).map_or("", |o| o.access.as_str());
                let access: String = rule.access.chars().filter(|a| !other.contains(*a)).collect();
                (!access.is_empty()).then_some(DeviceRule { allow: rule.allow != flip, access, ..rule })
            });
            differing.collect()
        };
        let mut rules = lacking(target, self, false);
        rules.extend(lacking(self, target, true));
        rules
    }
}

/// The rule in the form of the version 1 files.
pub fn text(rule: &DeviceRule) -> String {
    let number = |n: Option<u32>| n.map_or("*".into(), |n| n.to_string());
    match rule.kind {
        'a' => "a".into(),
        kind => format!("{kind} {}:{} {}", number(rule.major), number(rule.minor), rule.access),
    }
}

fn parse_line(line: &str) -> Option<DeviceRule> {
    let mut words = line.split_ascii_whitespace();
    let kind = words.next()?.chars().next()?;
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let (major, minor) = (number(major)?, number(minor)?);
    Some(DeviceRule { allow: true, kind, major, minor, access: words.next()?.into() })
}

/// The rules that one of a specification stands for.
pub fn from_spec(rule: &LinuxDeviceCgroup) -> Result<Vec<DeviceRule>> {
    let number = |n: Option<i64>| -> Result<Option<u32>> {
        match n {
            None | Some(-1) => Ok(None),
            Some(n) => Ok(Some(u32::try_from(n).context("a device number is out of range")?)),
        }
    };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => 'a',
        Some(LinuxDeviceType::B) => 'b',
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
        Some(LinuxDeviceType::P) => bail!("a fifo needs no device rule"),
    };
    let asked = rule.access().clone().filter(|a| !a.is_empty()).unwrap_or_else(|| "rwm".into());
    // There are only these three ways of access; other runtimes pass over other letters, too.
    let access: String = asked.chars().filter(|c| "rwm".contains(*c)).collect();
    if access.is_empty() {
        bail!("unknown device access {asked:?}");
    }
    let rule =
        DeviceRule { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access };
    let is_full = "rwm".chars().all(|c| rule.access.contains(c));
    // Of all kinds of devices the kernel takes only everything or nothing.
    if kind == 'a' && (rule.major.is_some() || rule.minor.is_some() || !is_full) {
        return Ok(['b', 'c'].map(|kind| DeviceRule { kind, ..rule.clone() }).into());
    }
    Ok(vec![rule])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = DeviceRule> {
        let number = || prop_oneof![Just(None), (0u32..3).prop_map(Some)];
        let kind = prop_oneof![1 => Just('a'), 5 => Just('b'), 5 => Just('c')];
        (any::<bool>(), kind, number(), number(), "r?w?m?").prop_map(|(allow, kind, major, minor, access)| DeviceRule {
            allow,
            kind,
            major: major.filter(|_| kind != 'a'),
            minor: minor.filter(|_| kind != 'a'),
            access: if access.is_empty() || kind == 'a' { "rwm".into() } else { access },
        })
    }

    /// The version 1 controller as its documentation tells it: every exception is kept as it was written.
    #[derive(Default)]
    struct Controller {
        allows: bool,
        exceptions: Vec<DeviceRule>,
    }

    impl Controller {
        fn write(&mut self, rule: &DeviceRule) {
            let same = |e: &DeviceRule| (e.kind, e.major, e.minor) == (rule.kind, rule.major, rule.minor);
            if rule.kind == 'a' {
                *self = Controller { allows: rule.allow, exceptions: Vec::new() };
            } else if rule.allow != self.allows {
                match self.exceptions.iter_mut().find(|e| same(e)) {
                    Some(e) => e.access.push_str(&rule.access),
                    None => self.exceptions.push(rule.clone()),
                }
            } else if let Some(at) = self.exceptions.iter().position(same) {
                self.exceptions[at].access.retain(|a| !rule.access.contains(a));
                self.exceptions.retain(|e| !e.access.is_empty());
            }
        }

        fn permits(&self, kind: char, major: u32, minor: u32, asked: &str) -> bool {
            let mut matching = self
                .exceptions
                .iter()
                .filter(|e| e.kind == kind && e.major.is_none_or(|m| m == major) && e.minor.is_none_or(|m| m == minor));
            match self.allows {
                true => !matching.any(|e| asked.chars().any(|a| e.access.contains(a))),
                false => matching.any(|e| asked.chars().all(|a| e.access.contains(a))),
            }
        }
    }

    fn agree(controller: &Controller, program: &bpf::Program) -> Result<(), TestCaseError> {
        for (kind, number) in [('b', 1), ('c', 2)] {
            for (asked, bits) in [("m", 1), ("r", 2), ("w", 4), ("rw", 6)] {
                for (major, minor) in (0..4).flat_map(|major| (0..4).map(move |minor| (major, minor))) {
                    let allowed = bpf::simulate(program, number, bits, major, minor);
                    let expected = controller.permits(kind, major, minor, asked);
                    prop_assert_eq!(allowed, expected, "{} {}:{} {}", kind, major, minor, asked);
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_program_allows_what_the_rules_allow_in_version_1(rules in prop::collection::vec(rule(), 0..8)) {
            if let Ok(access) = Access::of(&rules) {
                let mut controller = Controller::default();
                rules.iter().for_each(|rule| controller.write(rule));
                agree(&controller, &bpf::compile(&access.rules()))?;
            }
        }

        #[test]
        fn a_transition_leads_to_its_target(
            old in prop::collection::vec(rule(), 0..6),
            new in prop::collection::vec(rule(), 0..6),
        ) {
            if let (Ok(old), Ok(new)) = (Access::of(&old), Access::of(&new)) {
                let mut controller = Controller::default();
                old.rules().iter().chain(&old.transition(&new)).for_each(|rule| controller.write(rule));
                agree(&controller, &bpf::compile(&new.rules()))?;
            }
        }
    }

    fn plain(allow: bool, text: &str) -> DeviceRule {
        DeviceRule { allow, ..parse_line(text).unwrap() }
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused() {
        let rules = [plain(true, "c 1:* rw"), plain(false, "c 1:3 w")];
        let error = Access::of(&rules).unwrap_err().to_string();
        assert!(error.contains("\"c 1:3 w\" takes back a part of \"c 1:* rw\""), "{error}");
        assert!(Access::of(&[plain(true, "c 1:* r"), plain(false, "c 1:3 w")]).is_ok());
    }

    #[test]
    fn what_the_kernel_lists_is_understood() {
        let listed = Access::from_list("c 1:3 rwm\nb *:* m\n").unwrap();
        assert_eq!(listed, Access::of(&[plain(true, "c 1:3 rwm"), plain(true, "b *:* m")]).unwrap());
        assert!(Access::from_list("a *:* rwm\n").unwrap().allowed);
        assert!(Access::from_list("nonsense\n").is_err());
        let target = Access::of(&[plain(true, "c 1:3 r"), plain(true, "c 5:0 rw")]).unwrap();
        let texts: Vec<String> =
            listed.transition(&target).iter().map(|r| format!("{} {}", r.allow, text(r))).collect();
        assert_eq!(texts, ["true c 5:0 rw", "false c 1:3 wm", "false b *:* m"]);
    }

    #[test]
    fn a_rule_about_all_kinds_with_numbers_is_two() {
        let spec: LinuxDeviceCgroup =
            serde_json::from_str(r#"{"allow":true,"major":1,"minor":3,"access":"rw"}"#).unwrap();
        let texts: Vec<String> = from_spec(&spec).unwrap().iter().map(text).collect();
        assert_eq!(texts, ["b 1:3 rw", "c 1:3 rw"]);
        let all: LinuxDeviceCgroup = serde_json::from_str(r#"{"allow":false,"access":"rwm"}"#).unwrap();
        assert_eq!(from_spec(&all).unwrap(), [plain(false, "a *:* rwm")]);
    }
}
