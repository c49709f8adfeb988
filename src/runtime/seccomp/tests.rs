//! The compiled program against a direct reading of the specification.

use super::abi::{self, Abi, X32_BIT};
use super::*;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::{Arch, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall};
use proptest::prelude::*;

/// A call as the kernel shows it to a filter.
#[derive(Clone, Copy, Debug)]
struct Made {
    audit: u32,
    number: u32,
    arguments: [u64; 6],
}

fn made(abi: Abi, number: u32, arguments: [u64; 6]) -> Made {
    Made { audit: abi.audit(), number, arguments }
}

fn named(abi: Abi, name: &str, arguments: [u64; 6]) -> Made {
    let number = abi::find(name).and_then(|call| call.number(abi));
    made(abi, number.unwrap_or_else(|| panic!("no {name} in {abi:?}")), arguments)
}

/// Runs a program as the kernel does: the action and how many instructions it took.
fn run(program: &[Instruction], made: &Made) -> (u32, usize) {
    let mut data = vec![made.number, made.audit, 0, 0];
    data.extend(made.arguments.iter().flat_map(|a| [*a as u32, (*a >> 32) as u32]));
    let (mut accumulator, mut at, mut steps) = (0u32, 0usize, 0);
    loop {
        let i = program[at];
        (at, steps) = (at + 1, steps + 1);
        let holds = match i.code {
            0x20 => {
                accumulator = data[i.operand as usize / 4];
                continue;
            }
            0x54 => {
                accumulator &= i.operand;
                continue;
            }
            0x05 => {
                at += i.operand as usize;
                continue;
            }
            0x06 => return (i.operand, steps),
            0x15 => accumulator == i.operand,
            0x25 => accumulator > i.operand,
            0x35 => accumulator >= i.operand,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { i.jump_true } else { i.jump_false });
    }
}

fn abi_of(spec: &LinuxSeccomp, host: Abi, made: &Made) -> Option<Abi> {
    let mut known: Vec<Abi> = spec.architectures().iter().flatten().filter_map(|a| Abi::of(*a, host)).collect();
    known.push(host);
    let abi = Abi::ALL.into_iter().find(|abi| abi.audit() == made.audit)?;
    let abi = if abi == Abi::X86_64 && made.number >= X32_BIT { Abi::X32 } else { abi };
    known.contains(&abi).then_some(abi)
}

/// The calls that each entry names, looked up one by one.
fn calls_of(spec: &LinuxSeccomp) -> Vec<Vec<&'static abi::Call>> {
    let named = |entry: &LinuxSyscall| {
        abi::CALLS.iter().filter(|call| entry.names().iter().any(|n| n == call.name())).collect()
    };
    spec.syscalls().iter().flatten().map(named).collect()
}

/// What the specification says about a call, read entry by entry.
fn expected(spec: &LinuxSeccomp, calls: &[Vec<&abi::Call>], host: Abi, made: &Made) -> u32 {
    let default = spec.default_action().as_u32(spec.default_errno_ret());
    let Some(abi) = abi_of(spec, host, made) else {
        return if made.audit == Abi::X86_64.audit() && made.number == u32::MAX && host == Abi::X86_64 {
            default
        } else {
            0
        };
    };
    let (mut conditional, mut newest, mut ruled) = (None, None, false);
    for (entry, calls) in spec.syscalls().iter().flatten().zip(calls) {
        let action = entry.action().as_u32(entry.errno_ret());
        for call in calls {
            newest = newest.max(call.number(abi).filter(|n| *n < 0xf0000 || abi != Abi::Arm));
            let direct = call.number(abi) == Some(made.number);
            let operation = multiplexed(abi, call.name(), made);
            if action == default || !(direct || operation.is_some()) {
                continue;
            }
            ruled = true;
            let args = entry.args().as_deref().unwrap_or_default();
            if direct && args.is_empty() {
                return action;
            }
            if operation == Some(true) && seen(action, args) || direct && holds(args, made, abi) {
                conditional.get_or_insert(action);
            }
        }
    }
    let permissive = matches!(
        spec.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    let listed = spec.architectures().iter().flatten().any(|a| Abi::of(*a, host) == Some(abi));
    let future = !permissive && listed && !ruled && newest.is_some_and(|newest| made.number > newest);
    conditional.unwrap_or(if future { 0x5_0000 | 38 } else { default })
}

/// Whether this is a call by which 32-bit x86 also makes the named one, and if so, whether it does that here.
fn multiplexed(abi: Abi, name: &str, made: &Made) -> Option<bool> {
    let (number, operation) = match name {
        "socket" => (102, 1),
        "sendmsg" => (102, 16),
        "accept" => (102, 5),
        "semget" => (117, 2),
        _ => return None,
    };
    let mask = if number == 117 { 0xffff } else { u32::MAX };
    (abi == Abi::I386 && made.number == number).then_some(made.arguments[0] as u32 & mask == operation)
}

/// Whether a rule is for calls through a multiplexer, whose later arguments are hidden.
fn seen(action: u32, args: &[LinuxSeccompArg]) -> bool {
    let first = |a: &LinuxSeccompArg| a.index() == 0;
    let grants = matches!(action, 0x7fff_0000 | 0x7ffc_0000);
    !grants || if alternatives(args) { args.iter().any(first) } else { args.iter().all(first) }
}

fn alternatives(args: &[LinuxSeccompArg]) -> bool {
    args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| a.index() == b.index()))
}

fn holds(args: &[LinuxSeccompArg], made: &Made, abi: Abi) -> bool {
    let one = |arg: &LinuxSeccompArg| {
        let short = |n: u64| if matches!(abi, Abi::X86_64 | Abi::Aarch64) { n } else { n & 0xffff_ffff };
        let (have, value) = (short(made.arguments[arg.index()]), short(arg.value()));
        match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => have != value,
            LinuxSeccompOperator::ScmpCmpLt => have < value,
            LinuxSeccompOperator::ScmpCmpLe => have <= value,
            LinuxSeccompOperator::ScmpCmpEq => have == value,
            LinuxSeccompOperator::ScmpCmpGe => have >= value,
            LinuxSeccompOperator::ScmpCmpGt => have > value,
            LinuxSeccompOperator::ScmpCmpMaskedEq => have & value == short(arg.value_two().unwrap_or(0)) & value,
        }
    };
    if alternatives(args) { args.iter().any(one) } else { args.iter().all(one) }
}

const NAMES: [&str; 24] = [
    "read",
    "write",
    "open",
    "execve",
    "ptrace",
    "mmap2",
    "socket",
    "sendmsg",
    "accept",
    "socketcall",
    "semget",
    "ipc",
    "clone3",
    "rt_sigaction",
    "set_tls",
    "fchown32",
    "mseal",
    "personality",
    "statx",
    "restart_syscall",
    "umount",
    "preadv",
    "io_setup",
    "not_a_call",
];

const VALUES: [u64; 10] = [0, 1, 2, 5, 16, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0x8000_0000_0000_0000, u64::MAX];

fn any_action() -> impl Strategy<Value = (LinuxSeccompAction, Option<u32>)> {
    use LinuxSeccompAction::*;
    let actions = [
        ScmpActKill,
        ScmpActKillThread,
        ScmpActKillProcess,
        ScmpActTrap,
        ScmpActErrno,
        ScmpActTrace,
        ScmpActAllow,
        ScmpActLog,
        ScmpActNotify,
    ];
    (prop::sample::select(actions.to_vec()), prop::option::of(prop::sample::select(vec![1u32, 13, 38, 4095])))
}

fn any_argument() -> impl Strategy<Value = LinuxSeccompArg> {
    use LinuxSeccompOperator::*;
    let ops = vec![ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpMaskedEq];
    let value = || prop::sample::select(VALUES.to_vec());
    (0usize..6, value(), prop::option::of(value()), prop::sample::select(ops)).prop_map(|(index, value, two, op)| {
        let arg = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
        let arg = match two {
            Some(two) => arg.value_two(two),
            None => arg,
        };
        arg.build().unwrap()
    })
}

fn any_entry() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..6);
    (names, any_action(), prop::option::of(prop::collection::vec(any_argument(), 0..4))).prop_map(
        |(names, (action, errno), args)| {
            let mut entry = LinuxSyscall::default();
            entry.set_names(names.into_iter().map(str::to_owned).collect());
            entry.set_action(action).set_errno_ret(errno).set_args(args);
            entry
        },
    )
}

fn any_spec() -> impl Strategy<Value = LinuxSeccomp> {
    let all = vec![
        Arch::ScmpArchNative,
        Arch::ScmpArchX86_64,
        Arch::ScmpArchX86,
        Arch::ScmpArchX32,
        Arch::ScmpArchAarch64,
        Arch::ScmpArchArm,
        Arch::ScmpArchMips64,
        Arch::ScmpArchS390x,
    ];
    let arches = prop::option::of(prop::sample::subsequence(all, 0..8));
    (any_action(), arches, prop::collection::vec(any_entry(), 0..12)).prop_map(|((action, errno), arches, entries)| {
        let mut spec = LinuxSeccomp::default();
        spec.set_default_action(action).set_default_errno_ret(errno);
        spec.set_architectures(arches).set_syscalls(Some(entries));
        spec
    })
}

/// Every number that a rule may name, their neighbours, and the ends.
fn numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..600).chain(X32_BIT - 2..X32_BIT + 600).chain(983_039..983_048).collect();
    numbers.extend([0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX]);
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_does_what_its_specification_says(
        spec in any_spec(),
        arguments in prop::collection::vec(prop::array::uniform6(prop::sample::select(VALUES.to_vec())), 2),
    ) {
        let calls = calls_of(&spec);
        for host in [Abi::X86_64, Abi::Aarch64] {
            let program = compile_for(&spec, host).unwrap();
            for abi in Abi::ALL {
                for number in numbers() {
                    for arguments in &arguments {
                        let made = made(abi, number, *arguments);
                        prop_assert_eq!(run(&program, &made).0, expected(&spec, &calls, host, &made), "{:?} on {:?}", made, host);
                    }
                }
            }
        }
    }
}

/// Values near each other and far apart, in both halves of an argument.
fn any_value() -> impl Strategy<Value = u64> {
    let high = prop::sample::select(vec![0u64, 0, 0, 1, 0xffff_ffff]);
    (high, prop_oneof![0u64..12, 0xffff_fffa..=0xffff_ffffu64]).prop_map(|(high, low)| high << 32 | low)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_of_an_argument_are_found_among_many(
        rules in prop::collection::vec((0usize..2, any_value(), 0usize..8), 0..40),
        asked in prop::collection::vec((any_value(), any_value()), 40),
    ) {
        use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrap};
        let mut spec = LinuxSeccomp::default();
        spec.set_default_action(LinuxSeccompAction::ScmpActErrno);
        let entry = |(index, value, which): &(usize, u64, usize)| {
            let op = if *which == 7 { LinuxSeccompOperator::ScmpCmpGe } else { LinuxSeccompOperator::ScmpCmpEq };
            let arg = LinuxSeccompArgBuilder::default().index(*index).value(*value).op(op).build().unwrap();
            let mut entry = LinuxSyscall::default();
            entry.set_names(vec!["socket".to_owned(), "read".to_owned()]).set_args(Some(vec![arg]));
            entry.set_action(*[ScmpActAllow, ScmpActLog, ScmpActTrap].get(which % 5).unwrap_or(&ScmpActAllow));
            entry
        };
        spec.set_syscalls(Some(rules.iter().map(entry).collect()));
        let calls = calls_of(&spec);
        let program = compile_for(&spec, Abi::X86_64).unwrap();
        let named = rules.iter().flat_map(|(_, v, _)| [*v, v.wrapping_add(1), v.wrapping_sub(1), v ^ 1 << 32]);
        let pairs = named.map(|value| (value, value)).chain(asked);
        for (first, second) in pairs {
            for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
                for name in ["socket", "read", "socketcall"] {
                    let Some(number) = abi::find(name).and_then(|call| call.number(abi)) else { continue };
                    let made = made(abi, number, [first, second, 0, 0, 0, 0]);
                    prop_assert_eq!(run(&program, &made).0, expected(&spec, &calls, Abi::X86_64, &made), "{:?}", made);
                }
            }
        }
    }
}

#[test]
fn many_values_of_an_argument_take_few_steps() {
    let rule = |value: u64| {
        serde_json::json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let rules: Vec<_> = (0..200).map(|i| rule(i * 3)).collect();
    let spec = spec(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
    let program = compile_for(&spec, Abi::X86_64).unwrap();
    for value in [0, 1, 300, 301, 597, 598, 1 << 32] {
        let (action, steps) = run(&program, &named(Abi::X86_64, "socket", [value, 0, 0, 0, 0, 0]));
        assert_eq!(action == ALLOW, value % 3 == 0 && value < 600, "{value}");
        assert!(steps < 30, "{value}: {steps}");
    }
}

fn spec(text: serde_json::Value) -> LinuxSeccomp {
    serde_json::from_value(text).unwrap()
}

fn verdict(spec: &LinuxSeccomp, made: Made) -> u32 {
    run(&compile_for(spec, Abi::X86_64).unwrap(), &made).0
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x5_0000;

#[test]
fn the_table_is_sorted_and_every_name_is_found() {
    assert!(abi::CALLS.windows(2).all(|pair| pair[0].name() < pair[1].name()));
    for call in &abi::CALLS {
        assert!(std::ptr::eq(abi::find(call.name()).unwrap(), call));
    }
    assert!(abi::find("").is_none() && abi::find("no_such_call").is_none());
    let numbers = |name| Abi::ALL.map(|abi| abi::find(name).unwrap().number(abi));
    assert_eq!(numbers("execve"), [Some(59), Some(11), Some(X32_BIT | 520), Some(221), Some(11)]);
    assert_eq!(numbers("mmap2"), [None, Some(192), None, None, Some(192)]);
    assert_eq!(numbers("mseal"), [Some(462), Some(462), Some(X32_BIT | 462), Some(462), Some(462)]);
    for abi in Abi::ALL {
        let mut numbers: Vec<u32> = abi::CALLS.iter().filter_map(|call| call.number(abi)).collect();
        assert!(numbers.len() > 300, "{abi:?}");
        let before = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        // 32-bit ARM has two names for one call.
        assert!(before - numbers.len() <= usize::from(abi == Abi::Arm), "{abi:?}");
    }
}

#[test]
fn every_known_call_of_this_machine_has_its_number() {
    let calls = [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("seccomp", libc::SYS_seccomp),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("keyctl", libc::SYS_keyctl),
        ("unshare", libc::SYS_unshare),
        ("mount_setattr", libc::SYS_mount_setattr),
    ];
    let native = Abi::native().unwrap();
    for (name, number) in calls {
        assert_eq!(abi::find(name).unwrap().number(native), Some(number as u32), "{name}");
    }
}

#[test]
fn calls_that_came_later_are_missing_and_not_refused() {
    let mut profile = spec(serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "statx"], "action": "SCMP_ACT_ALLOW"}],
    }));
    let late = named(Abi::X86_64, "mseal", [0; 6]);
    assert_eq!(verdict(&profile, late), ERRNO | 38);
    assert_eq!(verdict(&profile, named(Abi::X86_64, "ptrace", [0; 6])), ERRNO | 1);
    assert_eq!(verdict(&profile, named(Abi::X86_64, "statx", [0; 6])), ALLOW);
    // Other ABIs of the machine are not for the program to use.
    assert_eq!(verdict(&profile, named(Abi::I386, "read", [0; 6])), 0);
    assert_eq!(verdict(&profile, named(Abi::X32, "read", [0; 6])), 0);
    profile.set_default_action(LinuxSeccompAction::ScmpActLog);
    assert_eq!(verdict(&profile, late), 0x7ffc_0000);
}

#[test]
fn a_filter_that_is_too_long_is_refused() {
    let entries: Vec<_> = (0..2000u64)
        .map(|value| {
            serde_json::json!({"names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": value << 31, "op": "SCMP_CMP_LE"}]})
        })
        .collect();
    let long = spec(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries}));
    let error = Filter::compile(&long).unwrap_err().to_string();
    assert!(error.contains("the kernel takes 4096"), "{error}");
    let mut shorter = long.clone();
    shorter.set_syscalls(Some(long.syscalls().as_ref().unwrap()[..750].to_vec()));
    let program = compile_for(&shorter, Abi::X86_64).unwrap();
    assert!(program.len() > 3000);
    let calls = calls_of(&shorter);
    for value in [0, 1 << 31, 749 << 31, 750 << 31, 5] {
        let made = named(Abi::X86_64, "read", [value, 0, 0, 0, 0, 0]);
        assert_eq!(run(&program, &made).0, expected(&shorter, &calls, Abi::X86_64, &made), "{value}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let refused = [
        (serde_json::json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "cannot be used as default action"),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s",
                "syscalls": [{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}]}),
            "cannot be used for the write syscall",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
            "needs a listenerPath",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
            "there is no argument 6",
        ),
        (serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}), "errnoRet 65536"),
    ];
    for (text, wrong) in refused {
        let error = format!("{:#}", Filter::compile(&spec(text)).unwrap_err());
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn a_listener_is_asked_for_with_its_flags() {
    let mut text = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
        "listenerMetadata": "m", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    let filter = Filter::compile(&spec(text.clone())).unwrap();
    let agent = format!("{:?}", filter.agent().unwrap());
    assert!(agent.contains("/run/agent") && agent.contains("\"m\""), "{agent}");
    assert_eq!(filter.flags, seccomp::NEW_LISTENER | seccomp::WAIT_KILLABLE_RECV | seccomp::LOG);
    text["syscalls"][0]["action"] = "SCMP_ACT_ERRNO".into();
    let filter = Filter::compile(&spec(text)).unwrap();
    assert!(filter.agent().is_none());
    assert_eq!(filter.flags, seccomp::LOG);
}

#[test]
fn the_kernel_offers_what_is_compiled_to() {
    for action in [0, 0x8000_0000, 0x3_0000, 0x5_0000, 0x7fc0_0000, 0x7ff0_0000, 0x7ffc_0000, 0x7fff_0000] {
        assert!(seccomp::offers_action(action), "{action:#x}");
    }
    assert!(!seccomp::offers_action(0x1234_0000));
}

#[test]
fn multiplexed_calls_of_32_bit_x86_follow_the_plain_ones() {
    let rule = |action: &str, args: serde_json::Value| {
        let default = if action == "SCMP_ACT_ALLOW" { "SCMP_ACT_ERRNO" } else { "SCMP_ACT_ALLOW" };
        spec(serde_json::json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["socket", "semop"], "action": action, "args": args}]}))
    };
    let family = serde_json::json!([{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]);
    let protocol = serde_json::json!([{"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]);
    let socket = named(Abi::I386, "socketcall", [1, 0, 0, 0, 0, 0]);
    for (action, args, result) in [
        ("SCMP_ACT_ALLOW", serde_json::json!([]), ALLOW),
        ("SCMP_ACT_ALLOW", family.clone(), ALLOW),
        ("SCMP_ACT_ALLOW", protocol.clone(), ERRNO | 1),
        ("SCMP_ACT_ERRNO", family, ERRNO | 1),
        ("SCMP_ACT_ERRNO", protocol, ERRNO | 1),
    ] {
        assert_eq!(verdict(&rule(action, args.clone()), socket), result, "{action} {args}");
    }
    let refused = rule("SCMP_ACT_ERRNO", serde_json::json!([]));
    assert_eq!(verdict(&refused, named(Abi::I386, "socketcall", [2, 0, 0, 0, 0, 0])), ALLOW);
    // The upper half of what `ipc` is asked for is a version that the kernel does not look at here.
    assert_eq!(verdict(&refused, named(Abi::I386, "ipc", [0x1_0001, 0, 0, 0, 0, 0])), ERRNO | 1);
}
