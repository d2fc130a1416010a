//! The resources of a configuration as properties of a unit (systemd.resource-control(5)): systemd writes its own idea of
//! them whenever it is reloaded, so it must know ours.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::wire::Value;
use crate::v2::{io_weight, swap_alone, weight_of_shares};
use crate::{Error, Result, Version};

pub type Properties = Vec<(String, Value)>;

/// The period that systemd takes where none is set.
const PERIOD_US: u64 = 100_000;
const US_PER_SECOND: u64 = 1_000_000;
/// systemd's word for no limit.
const INFINITY: u64 = u64::MAX;

/// Limits as systemd knows them; what it has no word for is written into the group's files alone.
pub fn of_resources(resources: &LinuxResources, version: Version) -> Result<Properties> {
    let mut list = Properties::new();
    let unified = version == Version::V2;
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|limit| *limit != 0);
        let name = if unified { "MemoryMax" } else { "MemoryLimit" };
        put(&mut list, name, limit.map(limited));
        if unified {
            let reservation = memory.reservation().filter(|amount| *amount != 0);
            put(&mut list, "MemoryLow", reservation.map(limited));
            if let Some(sum) = memory.swap().filter(|sum| *sum != 0) {
                let alone = swap_alone(limit, sum)?.parse().unwrap_or(INFINITY);
                put(&mut list, "MemorySwapMax", Some(alone));
            }
        }
    }
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().filter(|shares| *shares > 0);
        match unified {
            true => put(&mut list, "CPUWeight", shares.map(weight_of_shares)),
            false => put(&mut list, "CPUShares", shares),
        }
        let period = cpu.period().filter(|period| *period > 0);
        if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
            put(&mut list, "CPUQuotaPeriodUSec", period);
            put(
                &mut list,
                "CPUQuotaPerSecUSec",
                Some(quota_per_second(quota, period)),
            );
        }
        for (name, text) in [
            ("AllowedCPUs", cpu.cpus()),
            ("AllowedMemoryNodes", cpu.mems()),
        ] {
            if let Some(text) = text.as_ref().filter(|text| unified && !text.is_empty()) {
                list.push((name.into(), Value::Bytes(mask(text)?)));
            }
        }
    }
    if let Some(pids) = resources.pids() {
        put(
            &mut list,
            "TasksMax",
            Some(limited(match pids.limit() {
                limit if limit > 0 => limit,
                _ => -1,
            })),
        );
    }
    let weight = resources
        .block_io()
        .as_ref()
        .and_then(|block| block.weight());
    if let Some(weight) = weight.filter(|weight| *weight > 0) {
        match unified {
            true => put(&mut list, "IOWeight", Some(io_weight(weight))),
            false => put(&mut list, "BlockIOWeight", Some(u64::from(weight))),
        }
    }
    Ok(list)
}

fn put(list: &mut Properties, name: &str, value: Option<u64>) {
    list.extend(value.map(|value| (name.to_owned(), Value::Long(value))));
}

fn limited(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(INFINITY)
}

/// systemd counts in full percents: what is between is rounded up.
fn quota_per_second(quota: i64, period: Option<u64>) -> u64 {
    const PERCENT: u64 = US_PER_SECOND / 100;
    match u64::try_from(quota) {
        Ok(quota) => (quota.saturating_mul(US_PER_SECOND) / period.unwrap_or(PERIOD_US))
            .checked_next_multiple_of(PERCENT)
            .unwrap_or(INFINITY),
        Err(_) => INFINITY,
    }
}

/// `0-2,5` as bits, the lowest in the first byte.
fn mask(text: &str) -> Result<Vec<u8>> {
    const HIGHEST: usize = 8191;
    let invalid = || Error::Unsupported(format!("{text:?} is not a list of numbers and ranges"));
    let mut bytes = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| invalid())?;
        let last: usize = last.parse().map_err(|_| invalid())?;
        if first > last || last > HIGHEST {
            return Err(invalid());
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    Ok(bytes)
}

/// Rules for devices. systemd allows a list of them and forbids the rest, or nothing: exceptions from what is allowed
/// are kept by the group's own program or list.
pub fn of_devices(rules: &[LinuxDeviceCgroup]) -> Properties {
    let mut all = false;
    let mut allowed: Vec<(String, String)> = Vec::new();
    for rule in rules {
        let every = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
        match (every, rule.allow()) {
            (true, allow) => {
                all = allow;
                allowed.clear();
            }
            (false, true) => allowed.extend(entry(rule)),
            (false, false) => {}
        }
    }
    if all {
        allowed.clear();
    }
    let policy = if all { "auto" } else { "strict" };
    vec![
        ("DevicePolicy".into(), Value::Text(policy.into())),
        ("DeviceAllow".into(), Value::Pairs(allowed)),
    ]
}

/// A rule in systemd's words: a node by its numbers, all of a driver by its name, all of a kind.
fn entry(rule: &LinuxDeviceCgroup) -> Option<(String, String)> {
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => "block",
        _ => "char",
    };
    let number = |number: Option<i64>| number.filter(|number| *number >= 0);
    let device = match (number(rule.major()), number(rule.minor())) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{}", driver(kind, major)?),
        (None, _) => format!("{kind}-*"),
    };
    let access = rule.access().clone().unwrap_or_else(|| "rwm".into());
    Some((device, access))
}

/// A driver's name in /proc/devices.
fn driver(kind: &str, major: i64) -> Option<String> {
    let text = std::fs::read_to_string("/proc/devices").ok()?;
    let heading = match kind {
        "block" => "Block devices:",
        _ => "Character devices:",
    };
    let section = text.lines().skip_while(|line| *line != heading).skip(1);
    section
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (number, name) = line.trim().split_once(' ')?;
            (number.parse() == Ok(major)).then(|| name.to_owned())
        })
}

/// Annotations `org.systemd.property.NAME`, whose values are written as GVariant texts.
pub fn of_annotation(name: &str, text: &str) -> Option<(String, Value)> {
    let text = text.trim();
    let value = match text.split_once(' ') {
        Some(("uint64", number)) => Value::Long(number.trim().parse().ok()?),
        Some(("int64", number)) => Value::SignedLong(number.trim().parse().ok()?),
        Some(("uint32", number)) => Value::Number(number.trim().parse().ok()?),
        Some(("int32", number)) => Value::Signed(number.trim().parse().ok()?),
        _ => match text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => plain(text)?,
        },
    };
    // Units have these times in microseconds alone.
    match (name.strip_suffix("Sec"), &value) {
        (Some(stem), value) if !name.ends_with("USec") => {
            let seconds = match value {
                Value::Long(number) => *number,
                Value::Number(number) => u64::from(*number),
                Value::Signed(number) => u64::try_from(*number).ok()?,
                Value::SignedLong(number) => u64::try_from(*number).ok()?,
                _ => return None,
            };
            let micros = seconds.checked_mul(US_PER_SECOND)?;
            Some((format!("{stem}USec"), Value::Long(micros)))
        }
        _ => Some((name.to_owned(), value)),
    }
}

/// `'text'`, `['a', 'b']`, `5`
fn plain(text: &str) -> Option<Value> {
    if let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let parts = inside.split(',').map(|part| quoted(part.trim()));
        return parts.collect::<Option<Vec<_>>>().map(Value::Texts);
    }
    match quoted(text) {
        Some(text) => Some(Value::Text(text)),
        None => text.parse().ok().map(Value::Signed),
    }
}

fn quoted(text: &str) -> Option<String> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inside.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_have_systemds_names() {
        let resources: LinuxResources = serde_json::from_value(json!({
            "memory": {"limit": 1000, "swap": 3000},
            "cpu": {"shares": 1024, "quota": 50_001, "period": 100_000, "cpus": "0-1,9"},
            "pids": {"limit": 20},
        }))
        .unwrap();
        let list = of_resources(&resources, Version::V2).unwrap();
        let expected = [
            ("MemoryMax", Value::Long(1000)),
            ("MemorySwapMax", Value::Long(2000)),
            ("CPUWeight", Value::Long(39)),
            ("CPUQuotaPeriodUSec", Value::Long(100_000)),
            ("CPUQuotaPerSecUSec", Value::Long(510_000)),
            ("AllowedCPUs", Value::Bytes(vec![3, 2])),
            ("TasksMax", Value::Long(20)),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(list, expected);
        assert!(mask("3-1").is_err());
        assert!(mask("0-99999").is_err());
    }

    #[test]
    fn annotations_are_properties() {
        let read = |name, text| of_annotation(name, text);
        let long = |name: &str, number| Some((name.to_owned(), Value::Long(number)));
        assert_eq!(
            read("TimeoutStopUSec", "uint64 123"),
            long("TimeoutStopUSec", 123)
        );
        assert_eq!(
            read("TimeoutStopSec", "2"),
            long("TimeoutStopUSec", 2_000_000)
        );
        assert_eq!(
            read("CollectMode", "'inactive-or-failed'"),
            Some((
                "CollectMode".into(),
                Value::Text("inactive-or-failed".into())
            ))
        );
        assert_eq!(read("X", "garbage"), None);
    }

    #[test]
    fn devices_are_forbidden_unless_listed() {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(json!([
            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"},
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "access": "m"},
        ]))
        .unwrap();
        let pairs = [("/dev/char/1:3", "rwm"), ("char-*", "m")];
        let pairs = pairs.map(|(d, a)| (d.to_owned(), a.to_owned())).to_vec();
        assert_eq!(
            of_devices(&rules),
            [
                ("DevicePolicy".into(), Value::Text("strict".into())),
                ("DeviceAllow".into(), Value::Pairs(pairs)),
            ]
        );
    }
}
