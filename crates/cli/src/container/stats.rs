//! `stats`.

use std::io::{BufRead, BufReader};
use std::sync::mpsc;

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::table::{Layout, short_id};
use crate::template::value::{Row, Value};
use crate::units;
use crate::wire::query::{Query, segment};
use crate::wire::{Client, Request};

const LAYOUT: Layout = Layout {
    table: r"{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: "{{.ID}}",
    headings: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// One container's line.
#[derive(Debug, Clone)]
struct Line {
    asked: String,
    latest: Option<Value>,
    failed: bool,
}

/// `stats`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let wanted = match matches.text("format") {
        "" => session.config.text("statsFormat"),
        given => given,
    };
    let format = LAYOUT.format(wanted, false);
    let whole = matches.on("no-trunc");
    let names = match matches.args.is_empty() {
        false => matches.args.clone(),
        true => running(session, matches.on("all"))?,
    };
    let once = matches.on("no-stream");
    let (samples, received) = mpsc::channel();
    for (at, name) in names.iter().enumerate() {
        let (client, name, samples) = (session.another_client(), name.clone(), samples.clone());
        std::thread::spawn(move || follow(client, &name, at, once, &samples));
    }
    drop(samples);
    let mut lines: Vec<Line> = names
        .into_iter()
        .map(|asked| Line {
            asked,
            latest: None,
            failed: false,
        })
        .collect();
    let mut errors = Vec::new();
    let mut waiting = lines.len();
    for (at, sample) in received {
        let line: &mut Line = &mut lines[at];
        waiting -= usize::from(line.latest.is_none() && !line.failed);
        match sample.and_then(|text| Value::parse_json(&text).map_err(Failure::Said)) {
            Ok(value) => line.latest = Some(value),
            Err(failure) => {
                line.failed = true;
                line.latest = None;
                errors.push(failure.to_string());
            }
        }
        if !once && waiting == 0 {
            let text = table(&lines, &format, whole)?.replace('\n', "\x1b[K\n");
            session.out(format!("\x1b[H{text}\x1b[J").as_bytes())?;
        }
    }
    if once && (errors.is_empty() || lines.iter().any(|line| !line.failed)) {
        session.out(table(&lines, &format, whole)?.as_bytes())?;
    }
    match errors.is_empty() {
        true => Ok(0),
        false => Err(Failure::said(errors.join("\n"))),
    }
}

fn running(session: &mut Session<'_>, all: bool) -> Result<Vec<String>, Failure> {
    let path = Query::new().on("all", all).to_path("/containers/json");
    let list: Vec<serde_json::Value> = session.client()?.json(Request::get(path))?;
    Ok(list
        .iter()
        .map(|c| short_id(c["Id"].as_str().unwrap_or_default(), false))
        .collect())
}

fn follow(
    mut client: Client,
    name: &str,
    at: usize,
    once: bool,
    samples: &mpsc::Sender<(usize, Result<Vec<u8>, Failure>)>,
) {
    let path = Query::new()
        .add("stream", if once { "0" } else { "1" })
        .to_path(&format!("/containers/{}/stats", segment(name)));
    let streaming = match client.stream(Request::get(path)) {
        Ok(streaming) => streaming,
        Err(failure) => {
            let _ = samples.send((at, Err(failure)));
            return;
        }
    };
    let mut sent = false;
    for line in BufReader::new(streaming.body).split(b'\n') {
        let Ok(line) = line else {
            break;
        };
        sent = true;
        if samples.send((at, Ok(line))).is_err() || once {
            return;
        }
    }
    if !sent {
        let _ = samples.send((at, Err(Failure::said("the daemon sent no figures"))));
    }
}

fn table(lines: &[Line], format: &str, whole: bool) -> Result<String, Failure> {
    let rows: Vec<Value> = lines
        .iter()
        .filter(|line| !line.failed)
        .map(|line| row(line, whole))
        .collect();
    LAYOUT.render(format, &rows)
}

fn row(line: &Line, whole: bool) -> Value {
    let nothing = Value::Nil;
    let sample = line.latest.as_ref().unwrap_or(&nothing);
    let part = |name: &str| sample.get(name).cloned().unwrap_or_default();
    let memory = part("memory_stats");
    let used = memory_used(&memory);
    let limit = memory.int_at("limit") as f64;
    let percent = if limit > 0.0 {
        used / limit * 100.0
    } else {
        0.0
    };
    let (mut received, mut sent) = (0, 0);
    for (_, network) in part("networks").pairs() {
        received += network.int_at("rx_bytes");
        sent += network.int_at("tx_bytes");
    }
    let (read, written) = block_io(&part("blkio_stats"));
    let pair = |a: f64, b: f64| format!("{} / {}", units::human_size_3(a), units::human_size_3(b));
    let name = sample.str_at("name").trim_start_matches('/').to_owned();
    Row::new("*container.statsContext")
        .with("Container", line.asked.as_str())
        .with(
            "Name",
            if name.is_empty() {
                "--".to_owned()
            } else {
                name
            },
        )
        .with("ID", short_id(sample.str_at("id"), whole))
        .with(
            "CPUPerc",
            format!(
                "{:.2}%",
                processor_percent(&part("cpu_stats"), &part("precpu_stats"))
            ),
        )
        .with(
            "MemUsage",
            format!("{} / {}", units::bytes_size(used), units::bytes_size(limit)),
        )
        .with("MemPerc", format!("{percent:.2}%"))
        .with("NetIO", pair(received as f64, sent as f64))
        .with("BlockIO", pair(read as f64, written as f64))
        .with("PIDs", part("pids_stats").int_at("current").to_string())
        .done()
}

/// Memory in use without what is only cached and can be given back.
fn memory_used(memory: &Value) -> f64 {
    let usage = memory.int_at("usage");
    let stats = memory.get("stats").cloned().unwrap_or_default();
    let cached = match stats.get("total_inactive_file") {
        Some(Value::Int(bytes)) => *bytes,
        _ => stats.int_at("inactive_file"),
    };
    if cached < usage {
        (usage - cached) as f64
    } else {
        usage as f64
    }
}

fn processor_percent(now: &Value, before: &Value) -> f64 {
    let usage = |stats: &Value| {
        stats
            .get("cpu_usage")
            .map_or(0, |usage| usage.int_at("total_usage"))
    };
    let spent = (usage(now) - usage(before)) as f64;
    let passed = (now.int_at("system_cpu_usage") - before.int_at("system_cpu_usage")) as f64;
    let per_cpu = now
        .get("cpu_usage")
        .map_or(0, |usage| usage.items_at("percpu_usage").len());
    let processors = match now.int_at("online_cpus") {
        0 => per_cpu as f64,
        online => online as f64,
    };
    if spent > 0.0 && passed > 0.0 {
        spent / passed * processors * 100.0
    } else {
        0.0
    }
}

fn block_io(stats: &Value) -> (i64, i64) {
    let (mut read, mut written) = (0, 0);
    for entry in stats.items_at("io_service_bytes_recursive") {
        match entry
            .str_at("op")
            .bytes()
            .next()
            .map(|b| b.to_ascii_lowercase())
        {
            Some(b'r') => read += entry.int_at("value"),
            Some(b'w') => written += entry.int_at("value"),
            _ => {}
        }
    }
    (read, written)
}
