//! What a supervisor costs: run by hand, with the shipped build in `WHARF_SHIM`, and one thread.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod bundle;

use std::fs;
use std::time::{Duration, Instant};

use bundle::Bundle;
use wharf_shim::client::{Idle, Notice, Supervisor};

const ROUNDS: usize = 50;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn exit(supervisor: &Supervisor) {
    while !matches!(supervisor.next_notice().unwrap().unwrap(), Notice::Exit(_)) {}
}

fn memory(pid: i32) -> String {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let wanted = [
        "Rss:",
        "Pss:",
        "Pss_Anon:",
        "Private_Dirty:",
        "Shared_Clean:",
    ];
    let lines = rollup
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
#[ignore = "measures, asserts nothing"]
fn figures() {
    let bundle = Bundle::new(&["sh", "-c", ":"]);
    let (mut spawn, mut launch, mut end) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let idle = Idle::spawn().unwrap();
        spawn.push(start.elapsed());
        let start = Instant::now();
        let supervisor = idle.launch(bundle.launch()).unwrap();
        launch.push(start.elapsed());
        let start = Instant::now();
        exit(&supervisor);
        end.push(start.elapsed());
    }
    println!(
        "spawn {:?}, launch {:?}, exit {:?}",
        median(spawn),
        median(launch),
        median(end)
    );
    let bundle = Bundle::new(&["sleep", "1000"]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    println!("alone: {}", memory(supervisor.shim_pid));
    let others: Vec<(Bundle, Supervisor)> = (0..9)
        .map(|_| {
            let bundle = Bundle::new(&["sleep", "1000"]);
            let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
            (bundle, supervisor)
        })
        .collect();
    println!("one of ten: {}", memory(supervisor.shim_pid));
    for supervisor in others.iter().map(|(_, s)| s).chain([&supervisor]) {
        supervisor.signal(9).unwrap();
        exit(supervisor);
    }
}
