//! A profile → classic BPF. Pure: the same profile gives the same program.
//!
//! The program looks at the architecture, then finds the system call's rule by a binary search over ranges of numbers
//! that share an outcome (about nine comparisons for four hundred calls), then compares arguments where a rule has any.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use wharf_sys::seccomp::Instruction;

use super::syscalls::{I386, X86_64, number};

const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Set in the number of an x32 call.
const X32_BIT: u32 = 0x4000_0000;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const ERRNO_MAX: u32 = 4095;
const INSTRUCTIONS_MAX: usize = 4096;

/// A filter, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The kernel's bytecode.
    pub instructions: Vec<Instruction>,
    /// Whether some outcome asks a listener.
    pub notifies: bool,
}

/// What happens to a system call: rules whose conditions all hold, in order; else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    conditional: Vec<(Vec<Condition>, u32)>,
    otherwise: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    argument: u32,
    operator: Operator,
    value: u64,
    /// For masked equality: `argument & mask == value`.
    mask: u64,
}

/// Compiles a profile; the error names what is wrong with it.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Program, String> {
    let default = verdict(seccomp.default_action(), seccomp.default_errno_ret())?;
    let rules = seccomp.syscalls().as_deref().unwrap_or_default();
    let architectures = architectures(seccomp);
    let mut notifies = default == RET_NOTIFY;
    // A C library tries new calls first and takes only "no such call" for a reason to try older ones. A profile can't
    // have meant calls younger than itself, so they are answered as by a kernel of its age.
    let stub_unknown = !matches!(
        seccomp.default_action(),
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
    );
    let mut code = vec![statement(LOAD_WORD, OFFSET_ARCH)];
    for (audit, table) in &architectures {
        let outcomes = outcomes(rules, table, default, *audit == AUDIT_ARCH_I386)?;
        notifies |= outcomes.values().any(Outcome::notifies);
        let mut section = vec![statement(LOAD_WORD, OFFSET_NUMBER)];
        if *audit == AUDIT_ARCH_X86_64 {
            // x32 shares the architecture but not the numbers' meaning: such calls get the default.
            section.push(jump(JUMP_GREATER_EQUAL, X32_BIT, 0, 1));
            section.push(statement(RETURN, default));
        }
        let beyond = if stub_unknown {
            newest(rules, table).map(|newest| (newest + 1, RET_ERRNO | ENOSYS))
        } else {
            None
        };
        section.extend(search(&ranges(&outcomes, default, beyond)));
        code.extend(unless_equal_skip(*audit, &section)?);
    }
    // An architecture that is not listed: its calls are not known, so the process may not go on.
    code.push(statement(RETURN, RET_KILL_PROCESS));
    if code.len() > INSTRUCTIONS_MAX {
        return Err(format!(
            "the filter needs {} instructions, the kernel takes {INSTRUCTIONS_MAX}",
            code.len()
        ));
    }
    Ok(Program {
        instructions: code,
        notifies,
    })
}

/// Number of the newest call that the profile names.
fn newest(rules: &[LinuxSyscall], table: Table) -> Option<u32> {
    let names = rules.iter().flat_map(|rule| rule.names());
    names.filter_map(|name| number(table, name)).max()
}

type Table = &'static [(&'static str, u32)];

/// The native architecture always; the 32-bit one where the profile lists it.
fn architectures(seccomp: &LinuxSeccomp) -> Vec<(u32, Table)> {
    let mut list: Vec<(u32, Table)> = vec![(AUDIT_ARCH_X86_64, X86_64)];
    if seccomp
        .architectures()
        .iter()
        .flatten()
        .any(|arch| *arch == Arch::ScmpArchX86)
    {
        list.push((AUDIT_ARCH_I386, I386));
    }
    list
}

fn verdict(action: Action, errno: Option<u32>) -> Result<u32, String> {
    let data = errno.unwrap_or(EPERM);
    if data > ERRNO_MAX {
        return Err(format!("errnoRet {data} is larger than {ERRNO_MAX}"));
    }
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => RET_KILL_THREAD,
        Action::ScmpActKillProcess => RET_KILL_PROCESS,
        Action::ScmpActTrap => RET_TRAP,
        Action::ScmpActErrno => RET_ERRNO | data,
        Action::ScmpActTrace => RET_TRACE | data,
        Action::ScmpActLog => RET_LOG,
        Action::ScmpActAllow => RET_ALLOW,
        Action::ScmpActNotify => RET_NOTIFY,
    })
}

/// Outcome of each call that has a rule. Names that this architecture does not have are left out, as everywhere.
fn outcomes(
    rules: &[LinuxSyscall],
    table: Table,
    default: u32,
    narrow: bool,
) -> Result<BTreeMap<u32, Outcome>, String> {
    let mut outcomes: BTreeMap<u32, Outcome> = BTreeMap::new();
    for rule in rules {
        let result = verdict(rule.action(), rule.errno_ret())?;
        if result == default {
            continue;
        }
        let alternatives = conditions(rule.args().as_deref().unwrap_or_default(), narrow)?;
        for number in rule.names().iter().filter_map(|name| number(table, name)) {
            let outcome = outcomes.entry(number).or_insert_with(|| Outcome {
                conditional: Vec::new(),
                otherwise: default,
            });
            if alternatives.is_empty() {
                // Without conditions it holds whatever the arguments are; the first such rule stands.
                if outcome.otherwise == default {
                    outcome.otherwise = result;
                }
            } else {
                outcome
                    .conditional
                    .extend(alternatives.iter().map(|all| (all.clone(), result)));
            }
        }
    }
    Ok(outcomes)
}

/// Conditions on different arguments must all hold; several on the same argument are alternatives, as in runc.
fn conditions(args: &[LinuxSeccompArg], narrow: bool) -> Result<Vec<Vec<Condition>>, String> {
    let mut all = Vec::with_capacity(args.len());
    for arg in args {
        let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
        let argument = argument
            .ok_or_else(|| format!("argument {} does not exist: there are 6", arg.index()))?;
        let (mask, value) = match arg.op() {
            Operator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
            _ => (u64::MAX, arg.value()),
        };
        let cut = if narrow {
            u64::from(u32::MAX)
        } else {
            u64::MAX
        };
        all.push(Condition {
            argument,
            operator: arg.op(),
            value: value & cut,
            mask: mask & cut,
        });
    }
    let repeated = all.iter().enumerate().any(|(i, c)| {
        all[..i]
            .iter()
            .any(|earlier| earlier.argument == c.argument)
    });
    Ok(match (all.is_empty(), repeated) {
        (true, _) => Vec::new(),
        (false, true) => all.into_iter().map(|condition| vec![condition]).collect(),
        (false, false) => vec![all],
    })
}

impl Outcome {
    fn notifies(&self) -> bool {
        self.otherwise == RET_NOTIFY
            || self
                .conditional
                .iter()
                .any(|(_, result)| *result == RET_NOTIFY)
    }

    fn code(&self) -> Vec<Instruction> {
        let mut code = Vec::new();
        for (conditions, result) in &self.conditional {
            let mut rest = vec![statement(RETURN, *result)];
            for condition in conditions.iter().rev() {
                rest = condition.guard(rest);
            }
            code.extend(rest);
        }
        code.push(statement(RETURN, self.otherwise));
        code
    }
}

impl Condition {
    /// `then` runs where the condition holds; else control goes on behind it. A value has two words of 32 bits.
    fn guard(&self, then: Vec<Instruction>) -> Vec<Instruction> {
        let (high, low) = ((self.value >> 32) as u32, self.value as u32);
        let place = OFFSET_ARGS + 8 * self.argument;
        let (load_low, load_high) = (statement(LOAD_WORD, place), statement(LOAD_WORD, place + 4));
        // Jumps are counted over `then`: at most a few conditions of at most seven instructions each, far below 255.
        let skip = then.len() as u8;
        let mut code = Vec::with_capacity(then.len() + 8);
        match self.operator {
            Operator::ScmpCmpEq => {
                code.extend([
                    load_high,
                    jump(JUMP_EQUAL, high, 0, skip + 2),
                    load_low,
                    jump(JUMP_EQUAL, low, 0, skip),
                ]);
            }
            Operator::ScmpCmpNe => {
                code.extend([
                    load_high,
                    jump(JUMP_EQUAL, high, 0, 2),
                    load_low,
                    jump(JUMP_EQUAL, low, skip, 0),
                ]);
            }
            Operator::ScmpCmpMaskedEq => {
                let (mask_high, mask_low) = ((self.mask >> 32) as u32, self.mask as u32);
                code.extend([
                    load_high,
                    statement(AND, mask_high),
                    jump(JUMP_EQUAL, high, 0, skip + 3),
                    load_low,
                    statement(AND, mask_low),
                    jump(JUMP_EQUAL, low, 0, skip),
                ]);
            }
            Operator::ScmpCmpGt | Operator::ScmpCmpGe => {
                let last = if self.operator == Operator::ScmpCmpGt {
                    JUMP_GREATER
                } else {
                    JUMP_GREATER_EQUAL
                };
                code.extend([
                    load_high,
                    jump(JUMP_GREATER, high, 3, 0),
                    jump(JUMP_EQUAL, high, 0, skip + 2),
                    load_low,
                    jump(last, low, 0, skip),
                ]);
            }
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => {
                let last = if self.operator == Operator::ScmpCmpLt {
                    JUMP_GREATER_EQUAL
                } else {
                    JUMP_GREATER
                };
                code.extend([
                    load_high,
                    jump(JUMP_GREATER, high, skip + 3, 0),
                    jump(JUMP_EQUAL, high, 0, 2),
                    load_low,
                    jump(last, low, skip, 0),
                ]);
            }
        }
        code.extend(then);
        code
    }
}

/// First number of each range of calls with the same outcome; the first range begins at 0, the last has no end. `beyond`:
/// from this number on another verdict than the default.
fn ranges(
    outcomes: &BTreeMap<u32, Outcome>,
    default: u32,
    beyond: Option<(u32, u32)>,
) -> Vec<(u32, Outcome)> {
    let nothing = Outcome {
        conditional: Vec::new(),
        otherwise: default,
    };
    let mut ranges: Vec<(u32, Outcome)> = vec![(0, nothing.clone())];
    let mut push = |from: u32, outcome: &Outcome| match ranges.last_mut() {
        Some((_, last)) if last == outcome => {}
        Some((start, last)) if *start == from => *last = outcome.clone(),
        _ => ranges.push((from, outcome.clone())),
    };
    let mut next = 0;
    for (&number, outcome) in outcomes {
        if number > next {
            push(next, &nothing);
        }
        push(number, outcome);
        next = number + 1;
    }
    push(next, &nothing);
    if let Some((from, verdict)) = beyond {
        let unknown = Outcome {
            conditional: Vec::new(),
            otherwise: verdict,
        };
        push(from.max(next), &unknown);
    }
    ranges
}

/// Binary search for the range that the accumulator lies in.
fn search(ranges: &[(u32, Outcome)]) -> Vec<Instruction> {
    if let [(_, outcome)] = ranges {
        return outcome.code();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(low), search(high));
    let mut code = Vec::with_capacity(below.len() + above.len() + 2);
    match u8::try_from(below.len()) {
        Ok(distance) => code.push(jump(JUMP_GREATER_EQUAL, high[0].0, distance, 0)),
        Err(_) => {
            // Too far for a conditional jump's 8 bits.
            code.push(jump(JUMP_GREATER_EQUAL, high[0].0, 0, 1));
            code.push(statement(JUMP, below.len() as u32));
        }
    }
    code.extend(below);
    code.extend(above);
    code
}

/// `section` runs where the accumulator equals `value`; else control goes on behind it.
fn unless_equal_skip(value: u32, section: &[Instruction]) -> Result<Vec<Instruction>, String> {
    let length = u32::try_from(section.len()).map_err(|_| "the filter is too long".to_owned())?;
    let mut code = vec![jump(JUMP_EQUAL, value, 1, 0), statement(JUMP, length)];
    code.extend_from_slice(section);
    Ok(code)
}

fn statement(code: u16, operand: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        operand,
    }
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        operand,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel would do: runs the program on a call.
    fn run(program: &Program, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            OFFSET_NUMBER => number,
            OFFSET_ARCH => arch,
            _ => {
                let at = (offset - OFFSET_ARGS) as usize;
                (args[at / 8] >> (8 * (at % 8))) as u32
            }
        };
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let i = program.instructions[at];
            at += 1;
            let holds = match i.code {
                LOAD_WORD => {
                    accumulator = word(i.operand);
                    continue;
                }
                AND => {
                    accumulator &= i.operand;
                    continue;
                }
                JUMP => {
                    at += i.operand as usize;
                    continue;
                }
                RETURN => return i.operand,
                JUMP_EQUAL => accumulator == i.operand,
                JUMP_GREATER => accumulator > i.operand,
                JUMP_GREATER_EQUAL => accumulator >= i.operand,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if holds { i.jump_true } else { i.jump_false });
        }
    }

    fn profile(json: serde_json::Value) -> LinuxSeccomp {
        serde_json::from_value(json).unwrap()
    }

    fn call(name: &str) -> u32 {
        number(X86_64, name).unwrap()
    }

    #[test]
    fn every_call_of_the_default_profile_gets_its_verdict() {
        let profile = super::super::default_profile(&[]);
        let program = compile(&profile).unwrap();
        let allowed =
            |name: &str| run(&program, AUDIT_ARCH_X86_64, call(name), [0; 6]) == RET_ALLOW;
        for name in [
            "read",
            "openat",
            "execve",
            "futex",
            "clock_gettime",
            "exit_group",
            "io_uring_setup",
        ] {
            let expected = profile
                .syscalls()
                .iter()
                .flatten()
                .any(|rule| rule.names().iter().any(|n| n == name));
            assert_eq!(allowed(name), expected, "{name}");
        }
        for name in ["mount", "kexec_load", "bpf", "add_key", "ptrace_nothing"]
            .iter()
            .filter(|n| number(X86_64, n).is_some())
        {
            assert!(!allowed(name), "{name}");
        }
        assert_eq!(
            run(&program, 0xdead, 0, [0; 6]),
            RET_KILL_PROCESS,
            "an unknown architecture"
        );
        assert_ne!(
            run(&program, AUDIT_ARCH_X86_64, X32_BIT, [0; 6]),
            RET_ALLOW,
            "an x32 call"
        );
    }

    #[test]
    fn a_clone_into_namespaces_needs_a_capability() {
        const NEWUSER: u64 = 0x1000_0000;
        let program = compile(&super::super::default_profile(&[])).unwrap();
        assert_eq!(
            run(
                &program,
                AUDIT_ARCH_X86_64,
                call("clone"),
                [0x0120_0011, 0, 0, 0, 0, 0]
            ),
            RET_ALLOW
        );
        assert_ne!(
            run(
                &program,
                AUDIT_ARCH_X86_64,
                call("clone"),
                [NEWUSER, 0, 0, 0, 0, 0]
            ),
            RET_ALLOW
        );
        let program = compile(&super::super::default_profile(&["CAP_SYS_ADMIN".into()])).unwrap();
        assert_eq!(
            run(
                &program,
                AUDIT_ARCH_X86_64,
                call("clone"),
                [NEWUSER, 0, 0, 0, 0, 0]
            ),
            RET_ALLOW
        );
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let program = compile(&profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}],
        })))
        .unwrap();
        for (value, expected) in [(0, RET_ALLOW), (8, RET_ALLOW), (1, RET_ERRNO | 38)] {
            assert_eq!(
                run(
                    &program,
                    AUDIT_ARCH_X86_64,
                    call("personality"),
                    [value, 0, 0, 0, 0, 0]
                ),
                expected
            );
        }
    }

    #[test]
    fn calls_younger_than_the_profile_do_not_exist() {
        let program = |action: &str| {
            compile(&profile(serde_json::json!({
                "defaultAction": action,
                "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_LOG"}],
            })))
            .unwrap()
        };
        let verdict =
            |action: &str, number: u32| run(&program(action), AUDIT_ARCH_X86_64, number, [0; 6]);
        for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
            assert_eq!(verdict(action, 1000), RET_ERRNO | ENOSYS);
            assert_eq!(verdict(action, call("openat2") + 1), RET_ERRNO | ENOSYS);
            assert_ne!(verdict(action, call("openat2") - 1), RET_ERRNO | ENOSYS);
            assert_eq!(verdict(action, call("openat2")), RET_LOG);
        }
        assert_eq!(verdict("SCMP_ACT_ALLOW", 1000), RET_ALLOW);
    }

    #[test]
    fn nonsense_is_refused() {
        let wrong = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]});
        assert!(compile(&profile(wrong)).unwrap_err().contains("argument 6"));
        let wrong = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000});
        assert!(compile(&profile(wrong)).unwrap_err().contains("5000"));
    }

    fn holds(operator: Operator, argument: u64, value: u64, two: u64) -> bool {
        match operator {
            Operator::ScmpCmpNe => argument != value,
            Operator::ScmpCmpLt => argument < value,
            Operator::ScmpCmpLe => argument <= value,
            Operator::ScmpCmpEq => argument == value,
            Operator::ScmpCmpGe => argument >= value,
            Operator::ScmpCmpGt => argument > value,
            Operator::ScmpCmpMaskedEq => argument & value == two,
        }
    }

    const OPERATORS: [&str; 7] = [
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ];

    /// Values near each other and near the borders of the two words, where comparisons go wrong.
    fn values() -> impl Strategy<Value = u64> {
        let borders = prop::sample::select(vec![
            0,
            1,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0001,
            u64::MAX - 1,
            u64::MAX,
        ]);
        prop_oneof![borders, any::<u64>(), 0u64..8]
    }

    proptest! {
        #[test]
        fn comparisons_are_those_of_64_bits(
            op in 0usize..7, a in values(), value in values(), two in values(), op2 in 0usize..7, b in values(), value2 in values(),
        ) {
            let seccomp = profile(serde_json::json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 1, "value": value, "valueTwo": two, "op": OPERATORS[op]},
                    {"index": 2, "value": value2, "valueTwo": two, "op": OPERATORS[op2]}]}],
            }));
            let program = compile(&seccomp).unwrap();
            let rule = &seccomp.syscalls().as_ref().unwrap()[0];
            let args = rule.args().as_ref().unwrap();
            let expected = holds(args[0].op(), a, value, two) && holds(args[1].op(), b, value2, two);
            let verdict = run(&program, AUDIT_ARCH_X86_64, call("ioctl"), [0, a, b, 0, 0, 0]);
            prop_assert_eq!(verdict == RET_ALLOW, expected);
        }

        #[test]
        fn the_search_finds_every_number(numbers in prop::collection::btree_set(0u32..470, 0..200), probe in 0u32..600) {
            let default = Outcome { conditional: Vec::new(), otherwise: RET_ERRNO };
            let allow = Outcome { conditional: Vec::new(), otherwise: RET_ALLOW };
            let outcomes = numbers.iter().map(|n| (*n, allow.clone())).collect();
            let mut instructions = vec![statement(LOAD_WORD, OFFSET_NUMBER)];
            instructions.extend(search(&ranges(&outcomes, default.otherwise, None)));
            let verdict = run(&Program { instructions, notifies: false }, 0, probe, [0; 6]);
            prop_assert_eq!(verdict == RET_ALLOW, numbers.contains(&probe));
        }
    }
}
