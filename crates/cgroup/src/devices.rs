//! Rules for devices: lists on version 1, a program on version 2.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use wharf_sys::bpf::{Instruction, attach_device_program, load_device_program};

use crate::{Error, Result, file};

/// Writes rules in order: a later one wins.
pub fn apply_v1(folder: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    for rule in rules {
        let name = if rule.allow() {
            "devices.allow"
        } else {
            "devices.deny"
        };
        file::write(folder, name, v1_line(rule))?;
    }
    Ok(())
}

/// `c 1:3 rwm`, or `a` for everything.
fn v1_line(rule: &LinuxDeviceCgroup) -> String {
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => number.to_string(),
        _ => "*".into(),
    };
    match kind(rule) {
        // `a` means all devices with all accesses, whatever follows.
        None => "a".into(),
        Some(kind) => {
            // Letters that mean nothing are no accesses; the kernel refuses the whole line for one.
            let given = rule.access().as_deref().filter(|a| !a.is_empty());
            let access: String = given
                .unwrap_or("rwm")
                .chars()
                .filter(|letter| "rwm".contains(*letter))
                .collect();
            let letter = if kind == BLOCK { 'b' } else { 'c' };
            format!(
                "{letter} {}:{} {access}",
                number(rule.major()),
                number(rule.minor())
            )
        }
    }
}

/// Puts rules on a group of version 2 as a program.
pub fn apply_v2(group: BorrowedFd<'_>, path: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    let fail = |operation: &str| {
        let operation = operation.to_owned();
        move |source| Error::File {
            operation,
            path: path.into(),
            source,
        }
    };
    let program = load_device_program(&compile(rules)).map_err(fail("load the device rules of"))?;
    attach_device_program(group, program.as_fd()).map_err(fail("attach the device rules to"))
}

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = 7;

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

/// Registers: 1 context, 2 type, 3 access, 4 major, 5 minor, 6 scratch.
fn compile(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut code = vec![
        load(2, 0),
        register(MOVE_REGISTER, 3, 2),
        immediate(AND, 2, 0xffff, 0),
        immediate(SHIFT_RIGHT, 3, 16, 0),
        load(4, 4),
        load(5, 8),
    ];
    // The last rule that matches decides, so it is asked first.
    for rule in rules.iter().rev() {
        code.extend(match_rule(rule));
        if kind(rule).is_none() {
            // It matches everything, and the kernel refuses a program with instructions that nothing leads to.
            return code;
        }
    }
    code.extend(answer(false));
    code
}

fn match_rule(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    let mut checks = Vec::new();
    if let Some(kind) = kind(rule) {
        checks.push(immediate(JUMP_NOT_EQUAL, 2, kind, 0));
        let access = access(rule);
        if access != ACCESS_ALL {
            // All that is asked for must be in the rule.
            checks.push(register(MOVE_REGISTER, 6, 3));
            checks.push(immediate(AND, 6, access, 0));
            checks.push(register(JUMP_NOT_EQUAL_REGISTER, 6, 3));
        }
        for (number, place) in [(rule.major(), 4), (rule.minor(), 5)] {
            if let Some(number) = number
                .filter(|number| *number >= 0)
                .and_then(|number| i32::try_from(number).ok())
            {
                checks.push(immediate(JUMP_NOT_EQUAL, place, number, 0));
            }
        }
    }
    checks.extend(answer(rule.allow()));
    let length = checks.len();
    for (at, check) in checks.iter_mut().enumerate() {
        if matches!(check.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER) {
            check.offset = (length - at - 1) as i16;
        }
    }
    checks
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        immediate(MOVE, 0, i32::from(allow), 0),
        Instruction {
            code: EXIT,
            registers: 0,
            offset: 0,
            immediate: 0,
        },
    ]
}

fn kind(rule: &LinuxDeviceCgroup) -> Option<i32> {
    match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::B => Some(BLOCK),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(CHARACTER),
        _ => None,
    }
}

fn access(rule: &LinuxDeviceCgroup) -> i32 {
    let letters = rule
        .access()
        .as_deref()
        .filter(|access| !access.is_empty())
        .unwrap_or("rwm");
    letters.chars().fold(0, |bits, letter| {
        bits | match letter {
            'm' => ACCESS_MKNOD,
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            _ => 0,
        }
    })
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction {
        code: LOAD_WORD,
        registers: register | 1 << 4,
        offset,
        immediate: 0,
    }
}

fn register(code: u8, destination: u8, source: u8) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset: 0,
        immediate: 0,
    }
}

fn immediate(code: u8, destination: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction {
        code,
        registers: destination,
        offset,
        immediate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: serde_json::Value) -> LinuxDeviceCgroup {
        serde_json::from_value(json).unwrap()
    }

    /// What the kernel would do with the program.
    fn run(code: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0i32; 8];
        let mut at = 0usize;
        loop {
            let i = code[at];
            let (to, from) = (
                usize::from(i.registers & 0xf),
                usize::from(i.registers >> 4),
            );
            at += 1;
            let jump = match i.code {
                LOAD_WORD => {
                    registers[to] = context[i.offset as usize / 4];
                    false
                }
                MOVE_REGISTER => {
                    registers[to] = registers[from];
                    false
                }
                MOVE => {
                    registers[to] = i.immediate;
                    false
                }
                AND => {
                    registers[to] &= i.immediate;
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] = ((registers[to] as u32) >> i.immediate) as i32;
                    false
                }
                JUMP_NOT_EQUAL => registers[to] != i.immediate,
                JUMP_NOT_EQUAL_REGISTER => registers[to] != registers[from],
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            };
            if jump {
                at += i.offset as usize;
            }
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let code = compile(&[
            rule(serde_json::json!({"allow": false, "access": "rwm"})),
            rule(
                serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}),
            ),
            rule(serde_json::json!({"allow": true, "type": "b", "access": "m"})),
        ]);
        assert!(run(&code, CHARACTER, ACCESS_READ | ACCESS_WRITE, 1, 3));
        assert!(
            !run(&code, CHARACTER, ACCESS_MKNOD, 1, 3),
            "an access that was not given"
        );
        assert!(!run(&code, CHARACTER, ACCESS_READ, 1, 5), "another device");
        assert!(
            run(&code, BLOCK, ACCESS_MKNOD, 8, 0),
            "any block device may be made"
        );
        assert!(!run(&code, BLOCK, ACCESS_READ, 8, 0), "but not read");
    }

    #[test]
    fn the_kernel_takes_every_program() {
        let all = |allow| rule(serde_json::json!({"allow": allow, "access": "rwm"}));
        let one = rule(serde_json::json!({"allow": true, "type": "c", "major": 1, "access": "r"}));
        for rules in [
            vec![],
            vec![all(false)],
            vec![all(true), one.clone()],
            vec![one.clone(), all(false), one, all(true)],
        ] {
            load_device_program(&compile(&rules)).unwrap();
        }
    }

    #[test]
    fn lines_of_version_1() {
        for (json, line) in [
            (serde_json::json!({"allow": false, "access": "rwm"}), "a"),
            (
                serde_json::json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}),
                "c 136:* rwm",
            ),
            (
                serde_json::json!({"allow": true, "type": "b", "major": -1, "minor": -1, "access": "m"}),
                "b *:* m",
            ),
        ] {
            assert_eq!(v1_line(&rule(json)), line);
        }
    }
}
