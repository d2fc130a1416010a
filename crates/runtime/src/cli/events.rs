//! `events`: figures and out-of-memory notices of a container, a line of JSON each.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};
use wharf_cgroup::{Cgroup, Stats};

use super::args::{Flag, Parsed};
use super::state::Container;
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed, print};

const INTERVAL_SECONDS: i64 = 5;

pub const COMMAND: Command = Command {
    name: "events",
    usage: "<container-id>",
    about: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    flags: &[
        Flag::value("interval", "time between figures, such as 5s"),
        Flag::switch("stats", "display the figures once"),
    ],
    words: (1, 1),
    in_order: false,
    run: events,
};

fn events(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    let Some(init) = container.init() else {
        return Err(Failure::new(format!(
            "container with id {} is not running",
            container.id
        )));
    };
    let group = container.cgroup()?;
    if parsed.has("stats") {
        print_stats(&container.id, group.as_ref())?;
        return Ok(0);
    }
    let seconds = parsed
        .get("interval")
        .map_or(Ok(INTERVAL_SECONDS), seconds)?;
    let watch = group
        .oom_watch()
        .map_err(cgroup_failed("watch for want of memory"))?;
    let mut kills = watch.kills();
    let interval = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    loop {
        let polled = &mut [
            PollFd::from_borrowed_fd(init.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(watch.fd(), PollFlags::IN),
        ];
        match rustix::event::poll(polled, Some(&interval)) {
            Ok(0) => print_stats(&container.id, group.as_ref())?,
            Ok(_) if !polled[0].revents().is_empty() => return Ok(0),
            Ok(_) => {
                let now = watch.kills();
                for _ in kills..now {
                    print(&format!("{}\n", json!({"type": "oom", "id": container.id})))?;
                }
                kills = now;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait for events")(error)),
        }
    }
}

/// `5s`, `1m`, `5`.
fn seconds(text: &str) -> Outcome<i64> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    number
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| Failure::new("duration interval must be greater than 0"))
}

fn print_stats(id: &str, group: &dyn Cgroup) -> Outcome<()> {
    let stats = group.stats().map_err(cgroup_failed("read the figures"))?;
    print(&format!(
        "{}\n",
        json!({"type": "stats", "id": id, "data": data(&stats)})
    ))
}

/// The shape that runc gives it.
fn data(stats: &Stats) -> Value {
    let list = |kind: fn(&wharf_cgroup::IoStat) -> [(&'static str, u64); 2]| -> Vec<Value> {
        let entries = stats.io.iter().flat_map(|device| {
            kind(device).map(|(op, value)| {
                json!({"major": device.major, "minor": device.minor, "op": op, "value": value})
            })
        });
        entries.collect()
    };
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu_usage_ns,
                "percpu": stats.cpu_per_core_ns,
                "kernel": stats.cpu_system_ns,
                "user": stats.cpu_user_ns,
            },
            "throttling": {
                "periods": stats.cpu_periods,
                "throttledPeriods": stats.cpu_throttled_periods,
                "throttledTime": stats.cpu_throttled_ns,
            },
        },
        "memory": {
            "cache": stats.memory_stat.get("cache").or(stats.memory_stat.get("file")).copied().unwrap_or(0),
            "usage": {
                "limit": stats.memory_limit_bytes,
                "usage": stats.memory_usage_bytes,
                "max": stats.memory_max_usage_bytes,
                "failcnt": stats.memory_failcnt,
            },
            "swap": {"usage": stats.swap_usage_bytes},
            "raw": stats.memory_stat,
        },
        "pids": {
            "current": stats.pids_current,
            "limit": if stats.pids_limit == u64::MAX { 0 } else { stats.pids_limit },
        },
        "blkio": {
            "ioServiceBytesRecursive": list(|io| [("Read", io.read_bytes), ("Write", io.write_bytes)]),
            "ioServicedRecursive": list(|io| [("Read", io.read_ops), ("Write", io.write_ops)]),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}
