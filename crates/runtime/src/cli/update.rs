//! `update`, `pause` and `resume`: the control group of a running container.

use std::io::Read;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::args::{Flag, Parsed};
use super::state::{self, Container, Status};
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed};

const RESOURCES_BYTES_MAX: u64 = 1024 * 1024;

pub const PAUSE: Command = Command {
    name: "pause",
    usage: "<container-id>",
    about: "pause suspends all processes inside the container",
    flags: &[],
    words: (1, 1),
    in_order: false,
    run: |global, parsed| {
        let container = Container::open(global, parsed.id())?;
        let _lock = container.lock()?;
        if !matches!(container.status(), Status::Running | Status::Created) {
            return Err(Failure::new("container not running"));
        }
        let group = container.cgroup()?;
        group
            .freeze()
            .map_err(cgroup_failed("pause the container"))?;
        Ok(0)
    },
};

pub const RESUME: Command = Command {
    name: "resume",
    usage: "<container-id>",
    about: "resumes all processes that have been previously paused",
    flags: &[],
    words: (1, 1),
    in_order: false,
    run: |global, parsed| {
        let container = Container::open(global, parsed.id())?;
        let _lock = container.lock()?;
        if container.status() != Status::Paused {
            return Err(Failure::new("container not paused"));
        }
        let group = container.cgroup()?;
        group
            .thaw()
            .map_err(cgroup_failed("resume the container"))?;
        Ok(0)
    },
};

pub const COMMAND: Command = Command {
    name: "update",
    usage: "<container-id>",
    about: "update container resource constraints",
    flags: &[
        Flag::value(
            "resources",
            "file with the resources as in config.json, - for standard input",
        )
        .short("r"),
        Flag::value("blkio-weight", "weight of block I/O, 10 to 1000"),
        Flag::value("cpu-period", "period of the CPU quota, in microseconds"),
        Flag::value("cpu-quota", "CPU time in a period, in microseconds"),
        Flag::value("cpu-share", "CPU shares (relative weight)"),
        Flag::value("cpu-burst", "time that may be used on top, in microseconds"),
        Flag::value("cpu-idle", "1: only when nothing else wants to run"),
        Flag::value(
            "cpu-rt-period",
            "period of real-time processes, in microseconds",
        ),
        Flag::value(
            "cpu-rt-runtime",
            "time of real-time processes, in microseconds",
        ),
        Flag::value("cpuset-cpus", "CPUs to use"),
        Flag::value("cpuset-mems", "memory nodes to use"),
        Flag::value("memory", "limit of memory, in bytes"),
        Flag::value("memory-reservation", "soft limit of memory, in bytes"),
        Flag::value(
            "memory-swap",
            "limit of memory and swap, in bytes; -1: none",
        ),
        Flag::value("pids-limit", "processes; -1: no limit"),
        Flag::value("kernel-memory", "accepted and ignored, as the kernel does"),
        Flag::value("kernel-memory-tcp", "accepted and ignored"),
    ],
    words: (1, 1),
    in_order: false,
    run: update,
};

/// Those of the flags below that may have a unit.
const BYTES: &[&str] = &["memory", "memory-reservation", "memory-swap"];

/// Flags that are numbers, and where the configuration has them.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-idle", "cpu", "idle"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("pids-limit", "pids", "limit"),
];

fn update(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    let _lock = container.lock()?;
    if container.status() == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    let changes = match parsed.get("resources") {
        Some(path) => from_file(path)?,
        None => from_flags(parsed)?,
    };
    let resources: LinuxResources = serde_json::from_value(changes.clone())
        .map_err(|e| Failure::new(format!("the resources are not valid: {e}")))?;
    if let Some(unit) = &container.record.unit {
        wharf_cgroup::systemd::update(unit, &resources)
            .map_err(cgroup_failed("update the container"))?;
    }
    container
        .cgroup()?
        .apply(&resources)
        .map_err(cgroup_failed("update the container"))?;
    save(&container, changes)
}

fn from_file(path: &str) -> Outcome<Value> {
    let text = if path == "-" {
        let mut text = Vec::new();
        std::io::stdin()
            .take(RESOURCES_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(failed("read standard input"))?;
        text
    } else {
        state::read(std::path::Path::new(path))?
            .ok_or_else(|| Failure::new(format!("open {path}: no such file or directory")))?
    };
    let mut value: Value = serde_json::from_slice(&text)
        .map_err(|e| Failure::new(format!("the resources are not valid: {e}")))?;
    if let Some(fields) = value.as_object_mut() {
        // A container's device rules are those it was created with.
        fields.remove("devices");
    }
    Ok(value)
}

fn from_flags(parsed: &Parsed) -> Outcome<Value> {
    let mut value = json!({});
    for (flag, controller, field) in NUMBERS {
        let number = match parsed.get(flag).filter(|_| BYTES.contains(flag)) {
            Some(text) => Some(bytes(flag, text)?),
            None => parsed.number::<i64>(flag)?,
        };
        if let Some(number) = number {
            value[*controller][*field] = json!(number);
        }
    }
    for (flag, field) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(text) = parsed.get(flag) {
            value["cpu"][field] = json!(text);
        }
    }
    Ok(value)
}

/// `67108864`, `64m`, `64MB`, `-1`.
fn bytes(flag: &str, text: &str) -> Outcome<i64> {
    let invalid = || {
        Failure::new(format!(
            "invalid value \"{text}\" for flag -{flag}: not a number of bytes"
        ))
    };
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let lower = lower.strip_suffix('i').unwrap_or(lower);
    let (number, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        Some(b't') => (&lower[..lower.len() - 1], 40),
        Some(b'p') => (&lower[..lower.len() - 1], 50),
        _ => (lower, 0),
    };
    let number: u32 = number.trim().parse().map_err(|_| invalid())?;
    i64::from(number)
        .checked_mul(1 << shift)
        .ok_or_else(invalid)
}

/// Keeps the configuration in the state as it is now.
fn save(container: &Container, changes: Value) -> Outcome {
    let path = container.folder.join("config.json");
    let text = state::read(&path)?.unwrap_or_default();
    let mut config: Value = serde_json::from_slice(&text)
        .map_err(|e| Failure::new(format!("read {}: {e}", path.display())))?;
    merge(&mut config["linux"]["resources"], changes);
    state::write(&path, config.to_string().as_bytes(), 0o600)?;
    Ok(0)
}

fn merge(into: &mut Value, changes: Value) {
    let Value::Object(changes) = changes else {
        *into = changes;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, change) in changes {
        if !change.is_null() {
            merge(&mut into[key], change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn amounts_with_units() {
        let read = |text| bytes("memory", text).ok();
        assert_eq!(read("50M"), Some(50 << 20));
        assert_eq!(read("1gb"), Some(1 << 30));
        assert_eq!(read("2KiB"), Some(2048));
        assert_eq!(read("-1"), Some(-1));
        for bad in ["", "m", "-1m", "5x", "4294967295p"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
