//! What comes from outside, changed at random, is taken or refused: never a panic, an endless loop or endless memory.
//! The changes are the same in every run; `WHARF_MUTATIONS` says how many.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use wharf_runtime::untrusted;

const MUTATIONS: u32 = 3000;

/// Numbers that look random (xorshift), always the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }
}

/// Pieces that formats give a meaning to.
const PIECES: &[&[u8]] = &[
    b"-1",
    b"0",
    b"18446744073709551615",
    b"1e999",
    b"null",
    b"[]",
    b"{}",
    b"\"\"",
    b",",
    b":",
    b"=",
    b"\\",
    b"\0",
    b"../",
    b"\xff\xfe",
    b"\xf0\x9f\x9a\xa2",
    b" - ",
    b"ridmap",
    b"idmap=",
    b"tmpcopyup",
    b"\n",
    b"uint64 ",
];

fn mutate(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let end = (at + numbers.below(32)).min(bytes.len());
        match numbers.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 => {
                let piece = PIECES[numbers.below(PIECES.len())];
                bytes.splice(at..end, piece.iter().copied());
            }
            _ => {
                let piece = PIECES[numbers.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

fn try_all(seeds: &[Vec<u8>], door: fn(&[u8])) {
    let count = std::env::var("WHARF_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        door(seed);
    }
    for round in 0..count {
        let seed = &seeds[round as usize % seeds.len()];
        door(&mutate(seed, &mut numbers));
    }
}

#[test]
fn configurations() {
    let plain = serde_json::to_value(wharf_runtime::default_spec()).unwrap();
    let mut full = plain.clone();
    full["linux"]["seccomp"] = json!(wharf_runtime::default_seccomp(&[]));
    full["linux"]["resources"] = json!({
        "devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
        "memory": {"limit": 1, "swap": -1}, "cpu": {"shares": 2, "cpus": "0-3"}, "pids": {"limit": 1},
        "unified": {"memory.high": "1"},
    });
    full["hooks"] = json!({"poststop": [{"path": "/bin/true", "timeout": 1}]});
    let seeds = [plain, full].map(|spec| spec.to_string().into_bytes());
    try_all(&seeds, untrusted::config);
}

#[test]
fn mount_options() {
    let seeds = [
        "ro\nnosuid\nmode=755\nrbind\nrprivate",
        "idmap=uids=0-1-2;gids=3-4-5\nrro\ntmpcopyup",
        "",
    ];
    try_all(
        &seeds.map(|seed| seed.as_bytes().to_vec()),
        untrusted::mount_options,
    );
}

#[test]
fn lists_of_mounts() {
    let text = std::fs::read("/proc/self/mountinfo").unwrap();
    try_all(&[text], wharf_cgroup::untrusted::mounts);
}

#[test]
fn messages_of_a_bus() {
    let mut message =
        b"l\x02\x01\x01\x09\0\0\0\x07\0\0\0\x10\0\0\0\x05\x01u\0\x01\0\0\0\x08\x01g\0\x01s\0\0"
            .to_vec();
    message.extend(b"\x04\0\0\0text\0");
    try_all(&[message], wharf_cgroup::untrusted::bus_message);
}

#[test]
fn units_and_their_properties() {
    let seeds = ["a.slice:box:name\nuint64 5", "::x\n['a', 'b']", "\n'text'"];
    try_all(
        &seeds.map(|seed| seed.as_bytes().to_vec()),
        wharf_cgroup::untrusted::unit,
    );
}
