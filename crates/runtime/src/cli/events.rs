//! `events`: figures and out-of-memory notices of a container, a line of JSON each.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};
use wharf_cgroup::{Cgroup, Stats};

use super::args::{Flag, Parsed};
use super::state::Container;
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed, print};

const INTERVAL: Duration = Duration::from_secs(5);

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
    let interval = parsed.get("interval").map_or(Ok(INTERVAL), duration)?;
    let watch = group
        .oom_watch()
        .map_err(cgroup_failed("watch for want of memory"))?;
    let mut kills = watch.kills();
    let interval = Timespec {
        tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: interval.subsec_nanos().into(),
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
                    print_event("oom", &container.id, None)?;
                }
                kills = now;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait for events")(error)),
        }
    }
}

/// `5s`, `1m30s`, `100ms`, `0.5s` (Go's durations); a number alone: seconds.
fn duration(text: &str) -> Outcome<Duration> {
    let fail = || Failure::new("duration interval must be greater than 0");
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()))
            .filter(|whole| !whole.is_zero())
            .ok_or_else(fail);
    }
    let mut rest = text;
    let mut seconds = 0f64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(fail)?;
        let number: f64 = rest[..end].parse().map_err(|_| fail())?;
        let unit = &rest[end..];
        let length = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        seconds += number
            * match &unit[..length] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(fail()),
            };
        rest = &unit[length..];
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|whole| !whole.is_zero())
        .ok_or_else(fail)
}

fn print_stats(id: &str, group: &dyn Cgroup) -> Outcome<()> {
    let stats = group.stats().map_err(cgroup_failed("read the figures"))?;
    print_event("stats", id, Some(data(&stats)))
}

/// One line; readers expect the fields in this order.
fn print_event(kind: &'static str, id: &str, data: Option<Value>) -> Outcome<()> {
    #[derive(serde::Serialize)]
    struct Event<'a> {
        r#type: &'static str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
    }
    let event = Event {
        r#type: kind,
        id,
        data,
    };
    let text =
        serde_json::to_string(&event).map_err(|e| Failure::new(format!("write the event: {e}")))?;
    print(&format!("{text}\n"))
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

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_as_go_writes_them() {
        let ms = |text| duration(text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("5s"), Some(5000));
        assert_eq!(ms("100ms"), Some(100));
        assert_eq!(ms("1m30.5s"), Some(90_500));
        assert_eq!(ms("7"), Some(7000));
        for bad in ["0", "0s", "", "s", "5x", "1..2s", "-1s"] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
    }
}
