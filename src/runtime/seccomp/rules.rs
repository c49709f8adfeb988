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
    multiplexed: Option<(Multiplexer, u64)>,
    case: Case,
}

/// A call that does the work of many.
#[derive(Clone, Copy)]
enum Multiplexer {
    Socketcall,
    Ipc,
}

impl Multiplexer {
    fn name(self) -> &'static str {
        match self {
            Multiplexer::Socketcall => "socketcall",
            Multiplexer::Ipc => "ipc",
        }
    }

    /// The bits of the first argument that tell the operation; the rest of that of `ipc` is a version.
    fn mask(self) -> u64 {
        match self {
            Multiplexer::Socketcall => u64::MAX,
            Multiplexer::Ipc => 0xffff,
        }
    }
}

/// Works out what a specification means on a kernel of the `host`'s kind.
///
/// # Errors
/// Actions and comparisons that cannot be.
pub fn policies(spec: &LinuxSeccomp, host: Abi) -> Result<Vec<Policy>> {
    let default = action(spec.default_action(), spec.default_errno_ret()).context("the default action")?;
    let mut rules = Vec::new();
    let mut calls = Vec::new();
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
        let multiplexed = MULTIPLEXED.iter().find(|(n, ..)| n == name).map(|(_, by, operation)| (*by, *operation));
        let mut add = |conditions: Vec<Condition>| {
            rules.push(Rule { call, multiplexed, case: Case { conditions, action } });
        };
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
    let mut found: Vec<(u32, Case)> = Vec::with_capacity(rules.len());
    for rule in rules {
        if let Some(number) = rule.call.number(abi) {
            found.push((number, rule.case.clone()));
        }
        if let (Abi::I386, Some((by, operation))) = (abi, rule.multiplexed)
            && rule.case.holds_for_multiplexer()
        {
            let test = Test::Masked(by.mask(), operation);
            let conditions = vec![Condition { argument: 0, test, negated: false }];
            let number = abi::find(by.name()).and_then(|call| call.number(abi));
            found.extend(number.map(|n| (n, Case { conditions, action: rule.case.action })));
        }
    }
    found.sort_by_key(|(number, _)| *number);
    let groups = found.chunk_by(|a, b| a.0 == b.0);
    groups.map(|group| (group[0].0, verdict(group.iter().map(|(_, case)| case)))).collect()
}

/// A rule without conditions makes all others of its call void.
fn verdict<'a>(cases: impl Iterator<Item = &'a Case> + Clone) -> Verdict {
    match cases.clone().find(|case| case.conditions.is_empty()) {
        Some(case) => Verdict::Always(case.action),
        None => Verdict::Cases(cases.cloned().collect()),
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

/// Calls that 32-bit x86 can also make through another one, and what that one's first argument is then.
const MULTIPLEXED: [(&str, Multiplexer, u64); 32] = [
    ("socket", Multiplexer::Socketcall, 1),
    ("bind", Multiplexer::Socketcall, 2),
    ("connect", Multiplexer::Socketcall, 3),
    ("listen", Multiplexer::Socketcall, 4),
    ("accept", Multiplexer::Socketcall, 5),
    ("getsockname", Multiplexer::Socketcall, 6),
    ("getpeername", Multiplexer::Socketcall, 7),
    ("socketpair", Multiplexer::Socketcall, 8),
    ("send", Multiplexer::Socketcall, 9),
    ("recv", Multiplexer::Socketcall, 10),
    ("sendto", Multiplexer::Socketcall, 11),
    ("recvfrom", Multiplexer::Socketcall, 12),
    ("shutdown", Multiplexer::Socketcall, 13),
    ("setsockopt", Multiplexer::Socketcall, 14),
    ("getsockopt", Multiplexer::Socketcall, 15),
    ("sendmsg", Multiplexer::Socketcall, 16),
    ("recvmsg", Multiplexer::Socketcall, 17),
    ("accept4", Multiplexer::Socketcall, 18),
    ("recvmmsg", Multiplexer::Socketcall, 19),
    ("sendmmsg", Multiplexer::Socketcall, 20),
    ("semop", Multiplexer::Ipc, 1),
    ("semget", Multiplexer::Ipc, 2),
    ("semctl", Multiplexer::Ipc, 3),
    ("semtimedop", Multiplexer::Ipc, 4),
    ("msgsnd", Multiplexer::Ipc, 11),
    ("msgrcv", Multiplexer::Ipc, 12),
    ("msgget", Multiplexer::Ipc, 13),
    ("msgctl", Multiplexer::Ipc, 14),
    ("shmat", Multiplexer::Ipc, 21),
    ("shmdt", Multiplexer::Ipc, 22),
    ("shmget", Multiplexer::Ipc, 23),
    ("shmctl", Multiplexer::Ipc, 24),
];
