//! Memory of daemons and supervisors, as the kernel counts it.

use std::fs;
use std::time::Duration;

use wharf_testkit::process::run;

use crate::contest::Report;
use crate::daemons::House;

/// Resident memory of the daemons before anything was asked of them.
pub fn idle(report: &mut Report, ours: &House, peer: &House) {
    let measure = "daemon, idle (resident)";
    if report.wants(measure) {
        let resident = |house: &House| mib(tree(house.server.pid()), "VmRSS:", "status");
        report.add(measure, "MiB", resident(ours), resident(peer), Some(0.15));
    }
}

/// Proportional memory of what supervises one sleeping container.
pub fn supervisors(report: &mut Report, ours: &House, peer: &House) {
    let measure = "supervisor of one container (proportional)";
    if report.wants(measure) {
        // At rest: what the execs before needed is given back a second after the last.
        std::thread::sleep(Duration::from_secs(2));
        let (ours, peer) = (supervisor(ours), supervisor(peer));
        report.add(measure, "MiB", ours, peer, Some(0.33));
    }
}

fn supervisor(house: &House) -> f64 {
    let inside = house.run(&["inspect", "--format", "{{.State.Pid}}", "sleeper"]);
    let parent = house
        .sandbox
        .sh(&format!("ps -o ppid= -p {inside}"))
        .ok()
        .trim()
        .to_owned();
    let sum = house
        .sandbox
        .sh(&format!("cat /proc/{parent}/smaps_rollup"));
    kib(sum.ok(), "Pss:") / 1024.0
}

/// A process and its descendants that are daemons themselves, not what they run.
fn tree(root: u32) -> Vec<u32> {
    let children = run(std::process::Command::new("pgrep").args(["-P", &root.to_string()]));
    let children = children.stdout.lines().filter_map(|line| line.parse().ok());
    std::iter::once(root)
        .chain(children.flat_map(tree))
        .collect()
}

fn mib(pids: Vec<u32>, field: &str, file: &str) -> f64 {
    let sum: f64 = pids
        .iter()
        .filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // A supervisor that waits for the next container is part of the daemon's memory.
            !name.contains("docker-proxy")
        })
        .map(|pid| {
            kib(
                &fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default(),
                field,
            )
        })
        .sum();
    sum / 1024.0
}

fn kib(text: &str, field: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0.0)
}
