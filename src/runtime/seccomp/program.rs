//! From policies to instructions: one balanced tree over ranges of numbers per audit architecture.
//!
//! A filter's jumps lead forwards only, and conditional ones at most 255 instructions far. So the program is written
//! from its end to its beginning: where a jump leads to is there before the jump, its distance is known, and what is
//! too far away gets a stepping stone.

use super::abi::{Abi, X32_BIT};
use super::rules::{Case, Condition, KILL_THREAD, NO_SUCH_CALL, Policy, Test, Verdict};
use crate::sys::seccomp::Instruction;
use anyhow::{Result, bail};

/// The longest program that the kernel takes.
const LONGEST: usize = 4096;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Numbers from `start` up to the next range have the same outcome.
struct Range<'a> {
    start: u32,
    outcome: Outcome<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome<'a> {
    Return(u32),
    Cases {
        cases: &'a [Case],
        otherwise: u32,
        short: bool,
    },
    /// What is there already.
    GoOn(Place),
}

/// Compiles policies to a program.
///
/// # Errors
/// More rules than a filter can hold.
pub fn assemble(policies: &[Policy]) -> Result<Vec<Instruction>> {
    let mut writer = Writer::default();
    let mut next = writer.leaf(KILL_THREAD);
    for policy in policies.iter().rev().filter(|p| p.abi != Abi::X32) {
        let x32 = policies.iter().find(|p| p.abi == Abi::X32 && policy.abi == Abi::X86_64);
        let tree = writer.tree(&ranges(policy, x32));
        writer.go_on_at(tree);
        let section = writer.push(LOAD, NUMBER);
        next = writer.branch(IF_EQUAL, policy.abi.audit(), section, next);
    }
    writer.go_on_at(next);
    writer.push(LOAD, ARCHITECTURE);
    if writer.backwards.len() > LONGEST {
        bail!("the filter needs {} instructions, and the kernel takes {LONGEST}", writer.backwards.len());
    }
    writer.backwards.reverse();
    Ok(writer.backwards)
}

/// Instructions one after the other, as the kernel has them in memory.
pub fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    program.iter().flat_map(|instruction| instruction.to_bytes()).collect()
}

/// From [`to_bytes`]; nothing if the last one is not whole.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (whole, rest) = bytes.as_chunks();
    rest.is_empty().then(|| whole.iter().copied().map(Instruction::from_bytes).collect())
}

fn ranges<'a>(policy: &'a Policy, x32: Option<&'a Policy>) -> Vec<Range<'a>> {
    let mut ranges = Vec::new();
    match (policy.abi, x32) {
        (Abi::X86_64, Some(x32)) => {
            add_ranges(&mut ranges, policy, 0, Some(X32_BIT));
            add_ranges(&mut ranges, x32, X32_BIT, None);
        }
        (Abi::X86_64, None) => {
            add_ranges(&mut ranges, policy, 0, Some(X32_BIT));
            add(&mut ranges, X32_BIT, Outcome::Return(KILL_THREAD));
            // A tracer skips a call by this number, and then the filter sees it.
            add(&mut ranges, u32::MAX, Outcome::Return(policy.default));
        }
        _ => add_ranges(&mut ranges, policy, 0, None),
    }
    ranges
}

fn add_ranges<'a>(ranges: &mut Vec<Range<'a>>, policy: &'a Policy, start: u32, end: Option<u32>) {
    let newest = policy.newest.unwrap_or(u32::MAX);
    let unnamed = |number: u32| Outcome::Return(if number > newest { NO_SUCH_CALL } else { policy.default });
    let mut next = Some(start);
    let fill = |ranges: &mut Vec<Range<'a>>, from: u32, to: Option<u32>| {
        add(ranges, from, unnamed(from));
        let beyond = newest.checked_add(1).filter(|b| *b > from && to.is_none_or(|to| *b < to));
        beyond.into_iter().for_each(|b| add(ranges, b, unnamed(b)));
    };
    for (number, verdict) in &policy.verdicts {
        if let Some(from) = next.filter(|from| from < number) {
            fill(ranges, from, Some(*number));
        }
        let outcome = match verdict {
            Verdict::Always(action) => Outcome::Return(*action),
            Verdict::Cases(cases) => {
                Outcome::Cases { cases, otherwise: policy.default, short: policy.abi.short_arguments() }
            }
        };
        add(ranges, *number, outcome);
        next = number.checked_add(1);
    }
    if let Some(from) = next.filter(|from| end.is_none_or(|end| *from < end)) {
        fill(ranges, from, end);
    }
}

fn add<'a>(ranges: &mut Vec<Range<'a>>, start: u32, outcome: Outcome<'a>) {
    if ranges.last().is_none_or(|last| last.outcome != outcome) {
        ranges.push(Range { start, outcome });
    }
}

/// A place in the program, counted from its end.
type Place = usize;

#[derive(Default)]
struct Writer {
    backwards: Vec<Instruction>,
    /// The last place where each action is returned.
    leaves: Vec<(u32, Place)>,
}

impl Writer {
    fn push(&mut self, code: u16, operand: u32) -> Place {
        self.put(Instruction { code, jump_true: 0, jump_false: 0, operand })
    }

    fn put(&mut self, instruction: Instruction) -> Place {
        self.backwards.push(instruction);
        self.backwards.len() - 1
    }

    /// What is written next is followed by what is at `target`.
    fn go_on_at(&mut self, target: Place) {
        let distance = self.backwards.len() - 1 - target;
        if distance > 0 {
            self.push(JUMP, distance as u32);
        }
    }

    /// A place that returns an action: an old one if jumps still reach it.
    fn leaf(&mut self, action: u32) -> Place {
        let known = self.leaves.iter_mut().find(|(known, _)| *known == action);
        let place = self.backwards.len();
        match known {
            Some((_, old)) if place - *old < 200 => return *old,
            Some((_, old)) => *old = place,
            None => self.leaves.push((action, place)),
        }
        self.push(RETURN, action)
    }

    /// A place that does the same as `target`, so near that the instruction after `room` more can jump there.
    fn near(&mut self, target: Place, room: usize) -> Place {
        let distance = self.backwards.len() - 1 - target;
        if distance + room <= 255 {
            return target;
        }
        let there = self.backwards[target];
        match there.code {
            RETURN => self.leaf(there.operand),
            _ => self.push(JUMP, distance as u32),
        }
    }

    fn branch(&mut self, code: u16, operand: u32, yes: Place, no: Place) -> Place {
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let last = self.backwards.len() - 1;
        let (jump_true, jump_false) = ((last - yes) as u8, (last - no) as u8);
        self.put(Instruction { code, jump_true, jump_false, operand })
    }

    /// Finds the range of the number that is loaded.
    fn tree(&mut self, ranges: &[Range<'_>]) -> Place {
        match ranges {
            [] => self.leaf(KILL_THREAD),
            [one] => self.outcome(&one.outcome),
            // One number that is different from its neighbours.
            [before, one, after] if before.outcome == after.outcome && one.start + 1 == after.start => {
                let others = self.outcome(&before.outcome);
                let place = self.outcome(&one.outcome);
                self.branch(IF_EQUAL, one.start, place, others)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let above = self.tree(high);
                let below = self.tree(low);
                self.branch(IF_AT_LEAST, high[0].start, above, below)
            }
        }
    }

    fn outcome(&mut self, outcome: &Outcome<'_>) -> Place {
        match *outcome {
            Outcome::Return(action) => self.leaf(action),
            Outcome::Cases { cases, otherwise, short } => {
                let mut next = self.leaf(otherwise);
                let mut left = cases;
                while let Some((case, before)) = left.split_last() {
                    if let Some((argument, _)) = case.exact() {
                        let of_it = |c: &Case| c.exact().filter(|(a, _)| *a == argument && c.action == case.action);
                        let values: Vec<u64> = left.iter().rev().map_while(of_it).map(|(_, value)| value).collect();
                        left = &left[..left.len() - values.len()];
                        next = self.one_of(argument, values, case.action, short, next);
                        continue;
                    }
                    let mut place = self.leaf(case.action);
                    for condition in case.conditions.iter().rev() {
                        place = self.condition(condition, short, place, next);
                    }
                    (next, left) = (place, before);
                }
                next
            }
            Outcome::GoOn(place) => place,
        }
    }

    /// An argument that leads to an action by any of these values: it is looked for in a tree.
    fn one_of(&mut self, argument: u8, mut values: Vec<u64>, action: u32, short: bool, no: Place) -> Place {
        let low = ARGUMENTS + 8 * u32::from(argument);
        let yes = self.leaf(action);
        if short {
            values.iter_mut().for_each(|value| *value &= u64::from(u32::MAX));
        }
        values.sort_unstable();
        let mut next = no;
        for group in values.chunk_by(|a, b| a >> 32 == b >> 32).rev() {
            let mut ranges = Vec::new();
            let mut beyond = Some(0);
            for value in group.iter().map(|value| *value as u32) {
                if let Some(from) = beyond.filter(|from| *from < value) {
                    add(&mut ranges, from, Outcome::GoOn(no));
                }
                add(&mut ranges, value, Outcome::GoOn(yes));
                beyond = value.checked_add(1);
            }
            beyond.into_iter().for_each(|from| add(&mut ranges, from, Outcome::GoOn(no)));
            let tree = self.tree(&ranges);
            self.go_on_at(tree);
            let place = self.push(LOAD, low);
            if short {
                return place;
            }
            self.branch(IF_EQUAL, (group[0] >> 32) as u32, place, next);
            next = self.push(LOAD, low + 4);
        }
        next
    }

    fn condition(&mut self, condition: &Condition, short: bool, yes: Place, no: Place) -> Place {
        let (yes, no) = if condition.negated { (no, yes) } else { (yes, no) };
        let low = ARGUMENTS + 8 * u32::from(condition.argument);
        let halves = |value: u64| (value as u32, if short { 0 } else { (value >> 32) as u32 });
        match condition.test {
            Test::Masked(mask, value) => {
                let ((mask_low, mask_high), (value_low, value_high)) = (halves(mask), halves(value));
                let place = self.masked(low, mask_low, value_low, yes, no);
                self.masked(low + 4, mask_high, value_high, place, no)
            }
            Test::Greater(value) => self.ordered(IF_GREATER, low, halves(value), short, yes, no),
            Test::AtLeast(value) => self.ordered(IF_AT_LEAST, low, halves(value), short, yes, no),
        }
    }

    fn masked(&mut self, offset: u32, mask: u32, value: u32, yes: Place, no: Place) -> Place {
        if mask == 0 {
            return yes;
        }
        self.branch(IF_EQUAL, value, yes, no);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.push(LOAD, offset)
    }

    fn ordered(&mut self, code: u16, low: u32, value: (u32, u32), short: bool, yes: Place, no: Place) -> Place {
        self.branch(code, value.0, yes, no);
        let place = self.push(LOAD, low);
        if short {
            return place;
        }
        // The high half decides unless it is the same.
        let place = self.branch(IF_EQUAL, value.1, place, no);
        self.branch(IF_GREATER, value.1, yes, place);
        self.push(LOAD, low + 4)
    }
}
