//! Limits, figures and states of a group of version 2.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::{Case, await_end};

const MIB: u64 = 1 << 20;

/// A file of the container's group.
fn read(case: &Case, name: &str) -> String {
    let path: PathBuf = ["/sys/fs/cgroup/wharf-runtime-cli", &case.id, name]
        .iter()
        .collect();
    fs::read_to_string(path).unwrap().trim().to_owned()
}

fn limited(args: &[&str], resources: Value) -> Case {
    let case = Case::new(args);
    case.configure(|spec| spec["linux"]["resources"] = resources);
    case
}

#[test]
#[ignore = "for the virtual machine"]
fn the_machine_has_version_2_alone() {
    assert_eq!(wharf_cgroup::version().unwrap(), wharf_cgroup::Version::V2);
    let controllers = wharf_cgroup::controllers().unwrap();
    for name in ["cpu", "io", "memory", "pids", "cpuset"] {
        assert!(controllers.iter().any(|c| c == name), "{controllers:?}");
    }
}

#[test]
#[ignore = "for the virtual machine"]
fn limits_are_in_the_files() {
    let case = limited(
        &["/bin/sleep", "1000"],
        json!({
            "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 20},
            "blockIO": {
                "throttleWriteBpsDevice": [{"major": 1, "minor": 0, "rate": MIB}],
                "throttleReadIOPSDevice": [{"major": 1, "minor": 0, "rate": 100}],
            },
            "unified": {"memory.high": (48 * MIB).to_string()},
        }),
    );
    case.good(&["run", "-d", &case.id]);
    for (name, expected) in [
        ("memory.max", (64 * MIB).to_string().as_str()),
        ("memory.low", &(16 * MIB).to_string()),
        ("memory.high", &(48 * MIB).to_string()),
        ("cpu.weight", "20"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "20"),
        ("io.max", "1:0 rbps=max wbps=1048576 riops=100 wiops=max"),
    ] {
        assert_eq!(read(&case, name), expected, "{name}");
    }
    case.good(&[
        "update",
        "--memory",
        "33554432",
        "--pids-limit",
        "7",
        "--cpu-quota",
        "20000",
        &case.id,
    ]);
    assert_eq!(read(&case, "memory.max"), (32 * MIB).to_string());
    assert_eq!(read(&case, "pids.max"), "7");
    assert_eq!(read(&case, "cpu.max"), "20000 100000");
    let state = PathBuf::from("/sys/fs/cgroup/wharf-runtime-cli").join(&case.id);
    case.good(&["delete", "--force", &case.id]);
    assert!(!state.exists());
}

#[test]
#[ignore = "for the virtual machine"]
fn more_processes_than_allowed_are_refused() {
    let script = "for n in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait";
    let case = limited(&["/bin/sh", "-c", script], json!({"pids": {"limit": 4}}));
    let (code, _, said) = case.call(&["run", &case.id]);
    assert_ne!(code, 0);
    assert!(said.contains("can't fork"), "{said}");
}

#[test]
#[ignore = "for the virtual machine"]
fn a_busy_container_is_held_back() {
    // It ends once it was held back.
    let script = "while ! grep -q 'nr_throttled [1-9]' /sys/fs/cgroup/cpu.stat; do :; done";
    let resources = json!({"cpu": {"quota": 10_000, "period": 100_000}});
    let case = limited(
        &[
            "/bin/busybox",
            "timeout",
            "30",
            "/bin/busybox",
            "sh",
            "-c",
            script,
        ],
        resources,
    );
    case.good(&["run", &case.id]);
}

#[test]
#[ignore = "for the virtual machine"]
fn writing_to_a_disk_is_held_back() {
    let script = "dd if=/dev/zero of=/dev/disk bs=1M count=3 oflag=direct";
    let case = Case::new(&["/bin/busybox", "sh", "-c", script]);
    case.configure(|spec| {
        spec["linux"]["devices"] =
            json!([{"path": "/dev/disk", "type": "b", "major": 1, "minor": 0}]);
        spec["linux"]["resources"] = json!({
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "b", "major": 1, "minor": 0, "access": "rw"},
            ],
            "blockIO": {"throttleWriteBpsDevice": [{"major": 1, "minor": 0, "rate": MIB}]},
        });
    });
    let begin = Instant::now();
    case.good(&["run", &case.id]);
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(1900),
        "three megabytes at one a second: {took:?}"
    );
}

#[test]
#[ignore = "for the virtual machine"]
fn devices_are_forbidden_unless_allowed() {
    let script = "cat /dev/null && head -c 1 /dev/zero >/dev/null && ! cat /dev/disk";
    let case = Case::new(&["/bin/busybox", "sh", "-c", script]);
    case.configure(|spec| {
        spec["linux"]["devices"] =
            json!([{"path": "/dev/disk", "type": "b", "major": 1, "minor": 0}]);
        spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    });
    let (code, _, said) = case.call(&["run", &case.id]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Operation not permitted"), "{said}");
    case.configure(|spec| {
        let rules = spec["linux"]["resources"]["devices"]
            .as_array_mut()
            .unwrap();
        rules.push(json!({"allow": true, "type": "b", "major": 1, "minor": 0, "access": "r"}));
        let script = "head -c 1 /dev/disk >/dev/null && ! sh -c ': >/dev/disk'";
        spec["process"]["args"] = json!(["/bin/busybox", "sh", "-c", script]);
    });
    let (code, _, said) = case.call(&["run", &case.id]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Operation not permitted"), "{said}");
}

#[test]
#[ignore = "for the virtual machine"]
fn a_paused_container_stands_still() {
    let case = limited(&["/bin/sleep", "1000"], json!({}));
    case.good(&["run", "-d", &case.id]);
    case.good(&["pause", &case.id]);
    assert_eq!(case.status(), "paused");
    assert!(read(&case, "cgroup.events").contains("frozen 1"));
    case.good(&["resume", &case.id]);
    assert_eq!(case.status(), "running");
    case.good(&["pause", &case.id]);
    case.good(&["delete", "--force", &case.id]);
}

#[test]
#[ignore = "for the virtual machine"]
fn figures_are_told() {
    let resources = json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}});
    let case = limited(&["/bin/sleep", "1000"], resources);
    case.good(&["run", "-d", &case.id]);
    let event: Value = serde_json::from_str(&case.good(&["events", "--stats", &case.id])).unwrap();
    let data = &event["data"];
    assert_eq!(event["type"], "stats");
    assert_eq!(data["pids"]["current"], 1);
    assert_eq!(data["pids"]["limit"], 9);
    assert_eq!(data["memory"]["usage"]["limit"], 64 * MIB);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
}

#[test]
#[ignore = "for the virtual machine"]
fn want_of_memory_ends_a_process_and_is_told() {
    let hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1";
    let resources = json!({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}});
    let case = limited(
        &[
            "/bin/busybox",
            "sh",
            "-c",
            &format!("read go </tmp/gate; {hungry}; sleep 1000"),
        ],
        resources,
    );
    let gate = case.path("rootfs/tmp/gate");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    case.good(&["run", "-d", &case.id]);
    let mut events = case
        .command(&["events", "--interval", "1s", &case.id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    // The first figures: it watches now.
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("\"stats\""), "{first}");
    fs::write(gate, "go\n").unwrap();
    let told = lines.by_ref().any(|line| line.unwrap().contains("\"oom\""));
    assert!(told);
    assert!(read(&case, "memory.events").contains("oom_kill 1"));
    let init = case.init();
    case.good(&["kill", &case.id, "KILL"]);
    await_end(&init);
    events.wait().unwrap();
    // As the container's first process it is the container's end.
    let resources = json!({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}});
    let words: Vec<String> = hungry.split(' ').map(str::to_owned).collect();
    let words: Vec<&str> = ["/bin/busybox"]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    let case = limited(&words, resources);
    assert_eq!(case.call(&["run", &case.id]).0, 137);
}

#[test]
#[ignore = "for the virtual machine"]
fn a_further_process_is_in_the_group() {
    let case = limited(&["/bin/sleep", "1000"], json!({"pids": {"limit": 9}}));
    case.good(&["run", "-d", &case.id]);
    case.good(&["exec", "-d", &case.id, "/bin/sleep", "1000"]);
    assert_eq!(read(&case, "pids.current"), "2");
    let list: Vec<u32> = serde_json::from_str(&case.good(&["ps", "-f", "json", &case.id])).unwrap();
    assert_eq!(list.len(), 2);
    let seen = case.good(&["exec", &case.id, "/bin/cat", "/proc/self/cgroup"]);
    assert_eq!(seen.trim(), "0::/");
}
