//! Names: which ones are valid, and generated ones for containers that were given none.

use crate::{Error, Kind, Result};

const QUALITIES: &[&str] = &[
    "able", "agile", "amber", "apt", "azure", "bold", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "clever", "cosy", "crisp", "daring", "deft", "eager", "earnest", "fair", "fleet",
    "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest",
    "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild", "neat",
    "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready",
    "robust", "rosy", "serene", "sharp", "sleek", "smart", "snug", "solid", "spry", "steady",
    "stout", "sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty",
    "zesty",
];
const HARBOURS: &[&str] = &[
    "aalborg",
    "aarhus",
    "alicante",
    "ancona",
    "antwerp",
    "bari",
    "bergen",
    "bilbao",
    "bremen",
    "brest",
    "brindisi",
    "busan",
    "cadiz",
    "calais",
    "cardiff",
    "cork",
    "dover",
    "dublin",
    "durban",
    "emden",
    "esbjerg",
    "galway",
    "gdansk",
    "gdynia",
    "genoa",
    "ghent",
    "gijon",
    "haifa",
    "hamburg",
    "harwich",
    "hobart",
    "hull",
    "izmir",
    "kiel",
    "kobe",
    "koper",
    "lagos",
    "leith",
    "limassol",
    "lisbon",
    "lubeck",
    "malaga",
    "malmo",
    "mombasa",
    "nantes",
    "naples",
    "narvik",
    "odessa",
    "osaka",
    "oslo",
    "oulu",
    "piraeus",
    "porto",
    "pula",
    "riga",
    "rijeka",
    "rostock",
    "salerno",
    "santos",
    "split",
    "stavanger",
    "tallinn",
    "tampa",
    "toulon",
    "trieste",
    "tunis",
    "turku",
    "valletta",
    "varna",
    "vigo",
    "visby",
    "zadar",
];

/// A name such as `brisk_bergen`; after some tries in vain with a number.
pub(crate) fn generate(attempt: u32) -> Result<String> {
    let random = random_bytes::<4>()?;
    let pick = |list: &[&'static str], at: usize| -> &'static str {
        list[usize::from(u16::from_le_bytes([random[at], random[at + 1]])) % list.len()]
    };
    let name = format!("{}_{}", pick(QUALITIES, 0), pick(HARBOURS, 2));
    Ok(if attempt < 6 {
        name
    } else {
        format!("{name}{attempt}")
    })
}

/// 64 random hexadecimal digits. The first twelve are never all decimal: such an ID would be taken for a number.
pub(crate) fn new_id() -> Result<String> {
    loop {
        let id = hex::encode(random_bytes::<32>()?);
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(crate::error_from::io("read random bytes"))?;
    Ok(bytes)
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn check(kind: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let others = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && others && name.len() >= 2 {
        return Ok(());
    }
    Err(Error::new(
        Kind::InvalidParameter,
        format!("Invalid {kind} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ))
}

/// Names of networks may have spaces inside, and one letter will do.
pub(crate) fn check_network(name: &str) -> Result<()> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b' ');
    let blank = name.is_empty() || name.starts_with([' ', '.', '-']) || name.ends_with(' ');
    if !blank && name.bytes().all(known) {
        return Ok(());
    }
    Err(Error::new(
        Kind::InvalidParameter,
        format!(
            "invalid network name ({name:?}): letters, digits, spaces, `_`, `.` and `-`, and a letter, a digit or `_` first"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for name in ["a1", "web.1", "A_b-c", "0x"] {
            check("container", name).unwrap();
        }
        for name in ["", "a", "-ab", ".ab", "a/b", "a b", "ä1"] {
            assert!(check("container", name).is_err(), "{name:?}");
        }
        for attempt in 0..20 {
            check("container", &generate(attempt).unwrap()).unwrap();
        }
        assert_eq!(new_id().unwrap().len(), 64);
    }
}
