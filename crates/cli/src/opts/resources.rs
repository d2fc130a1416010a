//! Bounds on memory, processors, processes and block I/O: the part that `create`, `run` and `update` share.

use serde_json::{Map, Value, json};

use super::{checks, devices};
use crate::line::parse::Matches;
use crate::units;

const ULIMITS: [&str; 16] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
    "as",
];

/// `name=soft[:hard]` as the API's `Ulimit`; the error is Docker's.
pub fn ulimit(text: &str) -> Result<Value, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |part: &str| {
        part.parse::<i64>()
            .map_err(|_| format!("strconv.ParseInt: parsing {part:?}: invalid syntax"))
    };
    let (soft, hard) = match value.split_once(':') {
        None => (number(value)?, number(value)?),
        Some((_, hard)) if hard.contains(':') => {
            return Err(format!(
                "too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"
            ));
        }
        Some((soft, hard)) => (number(soft)?, number(hard)?),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// Bytes of a size flag, 0 when not given, -1 as it is.
pub fn bytes(matches: &Matches, name: &str) -> i64 {
    match matches.text(name) {
        "" => 0,
        "-1" => -1,
        text => units::ram_bytes(text).unwrap_or(0),
    }
}

/// The resource fields of `HostConfig`.
pub fn collect(matches: &Matches) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    let nano = match matches.text("cpus") {
        "" => 0,
        text => checks::nano_cpus(text)?,
    };
    let mut put = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
    put("CpuShares", matches.number("cpu-shares").into());
    put("Memory", bytes(matches, "memory").into());
    put("NanoCpus", nano.into());
    put("CgroupParent", matches.text("cgroup-parent").into());
    put("BlkioWeight", matches.number("blkio-weight").into());
    put(
        "BlkioWeightDevice",
        devices::weights(&matches.list("blkio-weight-device")),
    );
    put(
        "BlkioDeviceReadBps",
        devices::rates(&matches.list("device-read-bps")),
    );
    put(
        "BlkioDeviceWriteBps",
        devices::rates(&matches.list("device-write-bps")),
    );
    put(
        "BlkioDeviceReadIOps",
        devices::rates(&matches.list("device-read-iops")),
    );
    put(
        "BlkioDeviceWriteIOps",
        devices::rates(&matches.list("device-write-iops")),
    );
    put("CpuPeriod", matches.number("cpu-period").into());
    put("CpuQuota", matches.number("cpu-quota").into());
    put("CpuRealtimePeriod", matches.number("cpu-rt-period").into());
    put(
        "CpuRealtimeRuntime",
        matches.number("cpu-rt-runtime").into(),
    );
    put("CpusetCpus", matches.text("cpuset-cpus").into());
    put("CpusetMems", matches.text("cpuset-mems").into());
    put(
        "MemoryReservation",
        bytes(matches, "memory-reservation").into(),
    );
    put("MemorySwap", bytes(matches, "memory-swap").into());
    if matches.changed("kernel-memory") {
        put("KernelMemory", bytes(matches, "kernel-memory").into());
    }
    put("PidsLimit", matches.number("pids-limit").into());
    Ok(map)
}

/// `no`, `on-failure:3` … as the API's `RestartPolicy`; the error is Docker's.
pub fn restart_policy(text: &str) -> Result<Value, String> {
    let (name, count) = match text.split_once(':') {
        None => (text, 0),
        Some(("", _)) => {
            return Err("invalid restart policy format: no policy provided before colon".into());
        }
        Some((name, count)) => {
            let count = count.parse::<i64>().map_err(
                |_| "invalid restart policy format: maximum retry count must be an integer",
            )?;
            (name, count)
        }
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        assert_eq!(
            ulimit("nofile=1:2").unwrap(),
            json!({"Name":"nofile","Soft":1,"Hard":2})
        );
        assert_eq!(ulimit("foo").unwrap_err(), "invalid ulimit argument: foo");
        assert_eq!(ulimit("foo=1").unwrap_err(), "invalid ulimit type: foo");
        assert_eq!(
            ulimit("nofile=2:1").unwrap_err(),
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1"
        );
    }

    #[test]
    fn restart_policies() {
        assert_eq!(
            restart_policy("on-failure:3").unwrap(),
            json!({"Name":"on-failure","MaximumRetryCount":3})
        );
        assert_eq!(
            restart_policy("on-failure:x").unwrap_err(),
            "invalid restart policy format: maximum retry count must be an integer"
        );
    }
}
