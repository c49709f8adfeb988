//! From a specification to what is to happen, per ABI and number: the meaning of a filter, before any instruction.

use super::abi::{self, Abi};
use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

/// `SECCOMP_RET_*`.
pub const KILL_THREAD: u32 = 0;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
pub const NO_SUCH_CALL: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// What happens to the calls of one ABI.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The ABI.
    pub abi: Abi,
    /// For calls without rules.
    pub default: u32,
    /// Calls above this one do not exist; without it the default is for them, too.
    pub newest: Option<u32>,
    /// Calls with rules, by number.
    pub verdicts: Vec<(u32, Verdict)>,
}

/// What happens to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whatever its arguments.
    Always(u32),
    /// By its arguments: the first case counts whose conditions all hold, and without one, the default.
    Cases(Vec<Case>),
}

/// What happens if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// The result.
    pub action: u32,
}

impl Case {
    /// The argument and the value that it must have, if that is the only condition.
    pub fn exact(&self) -> Option<(u8, u64)> {
        match self.conditions[..] {
            [Condition { argument, test: Test::Masked(u64::MAX, value), negated: false }] => Some((argument, value)),
            _ => None,
        }
    }

    /// Through a multiplexer, the arguments proper are in memory, where a filter cannot look. What is refused for some
    /// arguments is refused for all, then; what is allowed for some of the later ones is not allowed.
    fn holds_for_multiplexer(&self) -> bool {
        let allows = self.action == ALLOW || self.action == LOG;
        !allows || self.conditions.iter().all(|c| c.argument == 0)
    }
}

/// One comparison of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument.
    pub argument: u8,
    /// How it is compared.
    pub test: Test,
    /// Whether the comparison must fail instead.
    pub negated: bool,
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The bits of the mask are those of the value.
    Masked(u64, u64),
    /// Greater than the value.
    Greater(u64),
    /// Not less than the value.
    AtLeast(u64),
}

/// What a specification says about one name, in the order of the specification.
struct Rule {
    call: &'static abi::Call,
    case: Case,
}

impl Rule {
    /// The case of the call itself, or of the one through which it is made.
    fn case(&self, through: bool) -> Case {
        let Some((by, operation)) = self.call.multiplexed.filter(|_| through) else { return self.case.clone() };
        let test = Test::Masked(by.mask(), operation);
        Case { conditions: vec![Condition { argument: 0, test, negated: false }], action: self.case.action }
    }
}

/// Works out what a specification means on a kernel of the `host`'s kind.
///
/// # Errors
/// Actions and comparisons that cannot be.
pub fn policies(spec: &LinuxSeccomp, host: Abi) -> Result<Vec<Policy>> {
    let default = action(spec.default_action(), spec.default_errno_ret()).context("the default action")?;
    let names = spec.syscalls().iter().flatten().map(|entry| entry.names().len()).sum();
    let mut rules = Vec::with_capacity(names);
    let mut calls = Vec::with_capacity(names);
    for entry in spec.syscalls().iter().flatten() {
        add_rules(entry, default, &mut rules, &mut calls)
            .with_context(|| format!("the rule for {:?}", entry.names()))?;
    }
    let permissive = matches!(
        spec.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    let listed: Vec<Abi> = spec.architectures().iter().flatten().filter_map(|a| Abi::of(*a, host)).collect();
    // The machine's own ABI has rules whether it is listed or not.
    let mut abis = vec![host];
    for abi in &listed {
        if !abis.contains(abi) {
            abis.push(*abi);
        }
    }
    let policy = |abi: Abi| Policy {
        abi,
        default,
        newest: newest(abi, &calls).filter(|_| !permissive && listed.contains(&abi)),
        verdicts: verdicts(abi, &rules),
    };
    Ok(abis.into_iter().map(policy).collect())
}

/// A program that finds a call missing falls back to an older one; if it is refused, it gives up. So the calls that came
/// after the profile was written do not exist, and the newest one named tells when that was.
fn newest(abi: Abi, calls: &[&abi::Call]) -> Option<u32> {
    calls.iter().filter_map(|call| call.number(abi)).filter(|number| abi.counts_as_newest(*number)).max()
}

fn add_rules(
    entry: &LinuxSyscall,
    default: u32,
    rules: &mut Vec<Rule>,
    calls: &mut Vec<&'static abi::Call>,
) -> Result<()> {
    let action = action(entry.action(), entry.errno_ret())?;
    let conditions = entry.args().iter().flatten().map(condition).collect::<Result<Vec<_>>>()?;
    // Names that no ABI has are of kernels to come, or of other machines.
    for name in entry.names() {
        let Some(call) = abi::find(name) else { continue };
        calls.push(call);
        if action == default {
            continue;
        }
        let mut add = |conditions| rules.push(Rule { call, case: Case { conditions, action } });
        if compares_one_twice(&conditions) {
            conditions.iter().for_each(|one| add(vec![*one]));
        } else {
            add(conditions.clone());
        }
    }
    Ok(())
}

/// Several comparisons of one argument are alternatives, as they were before an entry could have several.
fn compares_one_twice(conditions: &[Condition]) -> bool {
    (1..conditions.len()).any(|i| conditions[..i].iter().any(|c| c.argument == conditions[i].argument))
}

fn verdicts(abi: Abi, rules: &[Rule]) -> Vec<(u32, Verdict)> {
    let mut found: Vec<Found> = Vec::with_capacity(rules.len());
    for (place, rule) in (0..).zip(rules) {
        found.extend(rule.call.number(abi).map(|number| Found::new(number, place, false)));
        if let (Abi::I386, Some((by, _))) = (abi, rule.call.multiplexed)
            && rule.case.holds_for_multiplexer()
        {
            let number = abi::find(by.name()).and_then(|call| call.number(abi));
            found.extend(number.map(|number| Found::new(number, place, true)));
        }
    }
    found.sort_unstable();
    // Every container's start pays for a list that is copied as it grows.
    let mut verdicts = Vec::with_capacity(found.len());
    let groups = found.chunk_by(|a, b| a.number() == b.number());
    verdicts.extend(groups.map(|group| (group[0].number(), verdict(rules, group))));
    verdicts
}

/// A number for which there is a rule: that of the rule's call or of its multiplexer, which rule, and whether it is the
/// multiplexer's. One word, because hundreds of them are sorted whenever a container starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found(u64);

impl Found {
    fn new(number: u32, rule: u32, through: bool) -> Found {
        Found(u64::from(number) << 32 | u64::from(rule) << 1 | u64::from(through))
    }

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn rule(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    fn is_through(self) -> bool {
        self.0 & 1 != 0
    }
}

/// A rule without conditions makes all others of its call void.
fn verdict(rules: &[Rule], group: &[Found]) -> Verdict {
    let mut plain = group.iter().filter(|f| !f.is_through()).map(|f| &rules[f.rule()].case);
    match plain.find(|case| case.conditions.is_empty()) {
        Some(case) => Verdict::Always(case.action),
        None => Verdict::Cases(group.iter().map(|f| rules[f.rule()].case(f.is_through())).collect()),
    }
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition> {
    let argument = u8::try_from(arg.index()).ok().filter(|i| *i < 6);
    let argument = argument.with_context(|| format!("there is no argument {}", arg.index()))?;
    let value = arg.value();
    let (test, negated) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => (Test::Masked(u64::MAX, value), false),
        LinuxSeccompOperator::ScmpCmpNe => (Test::Masked(u64::MAX, value), true),
        LinuxSeccompOperator::ScmpCmpGt => (Test::Greater(value), false),
        LinuxSeccompOperator::ScmpCmpLe => (Test::Greater(value), true),
        LinuxSeccompOperator::ScmpCmpGe => (Test::AtLeast(value), false),
        LinuxSeccompOperator::ScmpCmpLt => (Test::AtLeast(value), true),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (Test::Masked(value, arg.value_two().unwrap_or(0) & value), false),
    };
    Ok(Condition { argument, test, negated })
}

/// The kernel's number for an action (`SECCOMP_RET_*`); the lower half is for a number of ours.
fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<u32> {
    let data = || {
        let number = number.unwrap_or(libc::EPERM as u32);
        if number > 0xffff {
            bail!("errnoRet {number} is not an error number");
        }
        Ok(number)
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | data()?,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data()?,
        LinuxSeccompAction::ScmpActLog => LOG,
        LinuxSeccompAction::ScmpActAllow => ALLOW,
    })
}
