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

/// Flags that are numbers, and where the configuration has them.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-share", "cpu", "shares"),
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
        if let Some(number) = parsed.number::<i64>(flag)? {
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
