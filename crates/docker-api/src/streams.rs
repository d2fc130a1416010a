//! What lasts: attach, logs, wait, stats.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use wharf_engine::{AttachOptions, ContainerStats, LogLine, LogOptions, WaitCondition};

use crate::answer::{Outcome, Refusal, json_answer, json_lines, stream};
use crate::hijack::{MULTIPLEXED, RAW, Wish, detach_keys, frame, hijack};
use crate::route::Call;

pub async fn attach(mut call: Call, id: &str) -> Outcome {
    let query = &call.query;
    let options = AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let keys = detach_keys(query.get("detachKeys").unwrap_or_default())?;
    let attached = call.api.engine.attach(id, options).await?;
    let wish = Wish {
        tty: attached.tty,
        detach: attached.tty.then_some(keys),
    };
    Ok(hijack(&mut call, wish, std::future::ready(attached)))
}

pub async fn logs(call: Call, id: &str) -> Outcome {
    let query = &call.query;
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        since_ns: query
            .get("since")
            .and_then(parse_time_ns)
            .filter(|t| *t != 0),
        until_ns: query
            .get("until")
            .and_then(parse_time_ns)
            .filter(|t| *t != 0),
        tail: query.get("tail").and_then(|text| text.parse().ok()),
    };
    if !options.stdout && !options.stderr {
        return Err(Refusal::bad(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let (timestamps, details) = (query.flag("timestamps"), query.flag("details"));
    let tty = call.api.engine.container(id)?.spec.tty;
    let lines = call.api.engine.logs(id, options).await?;
    let blocks = lines.map(move |line| match line {
        Ok(line) => Ok(log_frame(&line, tty, timestamps, details)),
        Err(error) => Err(std::io::Error::other(error)),
    });
    Ok(stream(
        if tty || call.version < (1, 42) {
            RAW
        } else {
            MULTIPLEXED
        },
        blocks,
    ))
}

fn log_frame(line: &LogLine, tty: bool, timestamps: bool, details: bool) -> Bytes {
    let mut text = Vec::new();
    if timestamps {
        text.extend_from_slice(line.time.as_bytes());
        text.push(b' ');
    }
    if details {
        let pairs: Vec<String> = line
            .attributes
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        text.extend_from_slice(pairs.join(",").as_bytes());
        text.push(b' ');
    }
    text.extend_from_slice(&line.text);
    if tty {
        return text.into();
    }
    frame(if line.stderr { 2 } else { 1 }, &text)
}

pub async fn wait(call: Call, id: &str) -> Outcome {
    let condition = match call.query.get("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => return Err(Refusal::bad(format!("invalid condition: {other:?}"))),
    };
    let exit = call.api.engine.wait(id, condition).await?;
    // The head goes out at once: the client starts the container when it has it.
    let lines = futures_util::stream::once(async move {
        match exit.await {
            Ok(exit) => match exit.error {
                Some(message) => {
                    json!({"StatusCode": exit.exit_code, "Error": {"Message": message}})
                }
                None => json!({"StatusCode": exit.exit_code}),
            },
            Err(error) => json!({"StatusCode": -1, "Error": {"Message": error.message}}),
        }
    });
    Ok(json_lines(lines))
}

/// Seconds since 1970 with a fraction, or RFC 3339.
pub fn parse_time_ns(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return i64::try_from(time.as_nanosecond()).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    seconds
        .parse::<i64>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(nanoseconds)
}

pub async fn stats(call: Call, id: &str) -> Outcome {
    let container = call.api.engine.container(id)?.id;
    let engine = call.api.engine.clone();
    if !call.query.flag_or("stream", true) {
        let before = if call.query.flag("one-shot") {
            None
        } else {
            let first = engine.stats(&container).await?;
            // Rates need two readings, a second apart, as the specification of this end point says.
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some(first)
        };
        let now = engine.stats(&container).await?;
        return Ok(json_answer(&stats_json(&now, before.as_ref())));
    }
    let state = (engine, container, None::<ContainerStats>);
    let lines = futures_util::stream::unfold(state, |(engine, id, before)| async move {
        if before.is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let now = engine.stats(&id).await.ok()?;
        let line = stats_json(&now, before.as_ref());
        Some((line, (engine, id, Some(now))))
    });
    Ok(json_lines(lines))
}

fn cpu_json(stats: Option<&ContainerStats>) -> Value {
    let Some(stats) = stats.filter(|stats| stats.running) else {
        return json!({"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}});
    };
    let cpu = &stats.cgroup;
    json!({
        "cpu_usage": {"total_usage": cpu.cpu_usage_ns, "usage_in_kernelmode": cpu.cpu_system_ns, "usage_in_usermode": cpu.cpu_user_ns, "percpu_usage": cpu.cpu_per_core_ns},
        "system_cpu_usage": stats.system_cpu_ns, "online_cpus": stats.online_cpus,
        "throttling_data": {"periods": cpu.cpu_periods, "throttled_periods": cpu.cpu_throttled_periods, "throttled_time": cpu.cpu_throttled_ns},
    })
}

fn stats_json(stats: &ContainerStats, before: Option<&ContainerStats>) -> Value {
    let group = &stats.cgroup;
    let networks: serde_json::Map<String, Value> = stats
        .networks
        .iter()
        .map(|n| {
            let value = json!({"rx_bytes": n.rx_bytes, "rx_packets": n.rx_packets, "rx_errors": n.rx_errors, "rx_dropped": n.rx_dropped,
                "tx_bytes": n.tx_bytes, "tx_packets": n.tx_packets, "tx_errors": n.tx_errors, "tx_dropped": n.tx_dropped});
            (n.interface.clone(), value)
        })
        .collect();
    let io: Vec<Value> = group
        .io
        .iter()
        .flat_map(|d| {
            [("read", d.read_bytes), ("write", d.write_bytes)].map(
                |(op, value)| json!({"major": d.major, "minor": d.minor, "op": op, "value": value}),
            )
        })
        .collect();
    let memory = if stats.running {
        json!({"usage": group.memory_usage_bytes, "max_usage": group.memory_max_usage_bytes, "stats": group.memory_stat, "limit": group.memory_limit_bytes.min(memory_of_machine())})
    } else {
        json!({})
    };
    json!({
        "read": jiff::Timestamp::now().to_string(), "preread": "0001-01-01T00:00:00Z", "name": format!("/{}", stats.name), "id": stats.id,
        "num_procs": 0, "pids_stats": {"current": group.pids_current}, "cpu_stats": cpu_json(Some(stats)), "precpu_stats": cpu_json(before),
        "memory_stats": memory, "networks": networks, "blkio_stats": {"io_service_bytes_recursive": io}, "storage_stats": {},
    })
}

fn memory_of_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_time_ns("1.5"), Some(1_500_000_000));
        assert_eq!(
            parse_time_ns("1700000000.000000001"),
            Some(1_700_000_000_000_000_001)
        );
        assert_eq!(parse_time_ns("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(parse_time_ns("x"), None);
    }
}
