//! A real group of this machine, with a real process in it.

#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};

use oci_spec::runtime::LinuxResources;
use wharf_cgroup::{Cgroup, create, open};

/// A group and a sleeping member; both go at the end.
struct Live {
    group: Box<dyn Cgroup>,
    child: Child,
}

impl Live {
    fn new(name: &str) -> Live {
        let group = create(&format!("/wharf-test-{}/{name}", std::process::id()))
            .expect("make a group; needs root");
        let child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        group.add_process(child.id() as i32).unwrap();
        Live { group, child }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.group.delete().unwrap();
        for path in self.group.paths().values() {
            assert!(!path.exists(), "{} is left", path.display());
            let _ = std::fs::remove_dir(path.parent().unwrap());
        }
    }
}

fn resources(json: serde_json::Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

#[test]
fn limits_are_read_back() {
    let live = Live::new("limits");
    let limits = serde_json::json!({
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 17},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}],
    });
    live.group.apply(&resources(limits)).unwrap();
    let stats = live.group.stats().unwrap();
    assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (64 << 20, 17));
    assert_eq!(live.group.processes().unwrap(), [live.child.id() as i32]);
    // Raised above what memory and swap together were: the order of the writes matters.
    live.group
        .apply(&resources(
            serde_json::json!({"memory": {"limit": 128 << 20, "swap": 256 << 20}}),
        ))
        .unwrap();
    live.group
        .apply(&resources(
            serde_json::json!({"memory": {"limit": 32 << 20, "swap": 48 << 20}}),
        ))
        .unwrap();
    assert_eq!(live.group.stats().unwrap().memory_limit_bytes, 32 << 20);
}

#[test]
fn frozen_processes_stop_and_killed_ones_end() {
    let mut live = Live::new("freeze");
    live.group.freeze().unwrap();
    assert!(live.group.is_frozen().unwrap());
    live.group.thaw().unwrap();
    assert!(!live.group.is_frozen().unwrap());
    live.group.kill_all().unwrap();
    let status = live.child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
}

#[test]
fn a_kill_for_want_of_memory_is_told() {
    let live = Live::new("oom");
    live.group
        .apply(&resources(
            serde_json::json!({"memory": {"limit": 8 << 20, "swap": 8 << 20}}),
        ))
        .unwrap();
    let watch = live.group.oom_watch().unwrap();
    // The shell joins the group itself, then fills a variable.
    let path = live
        .group
        .paths()
        .get("memory")
        .or(live.group.paths().get(""))
        .unwrap()
        .join("cgroup.procs");
    let script = format!(
        "echo 0 > {} && x=$(head -c 64M /dev/zero | tr '\\0' x); echo ${{#x}}",
        path.display()
    );
    let status = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    let fd = watch.fd();
    let mut poll = [rustix::event::PollFd::new(
        &fd,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut poll, Some(&limit)).unwrap(), 1);
    assert!(watch.kills() >= 1);
}

#[test]
fn groups_that_are_not_there_and_paths_that_climb() {
    assert!(open("/wharf-test-nothing").is_err());
    for path in ["relative", "/", "/a/../b", ""] {
        assert!(create(path).is_err(), "{path:?}");
    }
}
