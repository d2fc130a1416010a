//! Groups that systemd makes, and groups that it gives to an ordinary user.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::case::{Case, await_end};

const MIB: u64 = 1 << 20;

/// Runs a command of the machine.
#[track_caller]
fn call(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{line}: {}: {}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn property(unit: &str, name: &str) -> String {
    let line = call(&format!("systemctl show -p {name} --value {unit}"));
    line.trim().to_owned()
}

/// A container with limits, whose group systemd is to make, and the name of its unit.
fn in_scope(args: &[&str]) -> (Case, String) {
    let case = Case::new(args);
    case.configure(|spec| {
        spec["linux"]["cgroupsPath"] = json!(format!("house-room.slice:box:{}", case.id));
        spec["linux"]["devices"] =
            json!([{"path": "/dev/disk", "type": "b", "major": 1, "minor": 0}]);
        spec["linux"]["resources"] = json!({
            "memory": {"limit": 64 * MIB},
            "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000},
            "pids": {"limit": 20},
            "devices": [{"allow": false, "access": "rwm"}],
        });
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "uint64 7000000"});
    });
    let unit = format!("box-{}.scope", case.id);
    (case, unit)
}

#[test]
#[ignore = "for the virtual machine"]
fn systemd_makes_and_removes_the_group() {
    let (case, unit) = in_scope(&["/bin/sleep", "1000"]);
    case.good(&["--systemd-cgroup", "run", "-d", &case.id]);
    for (name, expected) in [
        ("ActiveState", "active"),
        ("Slice", "house-room.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "20"),
        ("CPUWeight", "39"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("DevicePolicy", "strict"),
        ("TimeoutStopUSec", "7s"),
    ] {
        assert_eq!(property(&unit, name), expected, "{name}");
    }
    let group = property(&unit, "ControlGroup");
    assert_eq!(group, format!("/house.slice/house-room.slice/{unit}"));
    let folder = format!("/sys/fs/cgroup{group}");
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap();
    assert_eq!(read("memory.max"), "67108864\n");
    // The process that held the scope has gone.
    assert_eq!(read("cgroup.procs").trim(), case.state()["pid"].to_string());
    case.good(&["exec", "-d", &case.id, "/bin/sleep", "1000"]);
    assert_eq!(read("pids.current"), "2\n");
    case.good(&["pause", &case.id]);
    assert_eq!(case.status(), "paused");
    case.good(&["resume", &case.id]);
    let init = case.init();
    case.good(&["kill", &case.id, "KILL"]);
    await_end(&init);
    case.good(&["delete", &case.id]);
    assert!(!Path::new(&folder).exists());
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
#[ignore = "for the virtual machine"]
fn what_systemd_reloads_stays_as_it_was() {
    let (case, unit) = in_scope(&["/bin/sleep", "1000"]);
    case.good(&["--systemd-cgroup", "run", "-d", &case.id]);
    case.good(&[
        "update",
        "--memory",
        "33554432",
        "--cpu-share",
        "512",
        &case.id,
    ]);
    call("systemctl daemon-reload");
    assert_eq!(property(&unit, "MemoryMax"), "33554432");
    assert_eq!(property(&unit, "CPUWeight"), "20");
    let group = property(&unit, "ControlGroup");
    let limit = fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.max")).unwrap();
    assert_eq!(limit, "33554432\n");
    let (code, _, said) = case.call(&["exec", &case.id, "/bin/cat", "/dev/disk"]);
    assert_eq!(code, 1);
    assert!(said.contains("Operation not permitted"), "{said}");
    case.good(&["exec", &case.id, "/bin/cat", "/dev/null"]);
}

#[test]
#[ignore = "for the virtual machine"]
fn a_creation_that_fails_leaves_no_unit() {
    let (case, unit) = in_scope(&["/bin/nothing"]);
    case.refused(
        &["--systemd-cgroup", "run", &case.id],
        1,
        "no such file or directory",
    );
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
#[ignore = "for the virtual machine"]
fn systemd_is_reached_over_the_bus_too() {
    let (case, unit) = in_scope(&["/bin/sleep", "1000"]);
    let hidden = format!(
        "unshare --mount sh -c 'mount --make-rprivate /; mount --bind /dev/null /run/systemd/private; \
         cd {}; exec $WHARF_RUNTIME --root state --systemd-cgroup run -d {} <&- >said 2>&1'",
        case.folder.path().display(),
        case.id
    );
    let said = Command::new("sh").args(["-c", &hidden]).status().unwrap();
    let words = fs::read_to_string(case.path("said")).unwrap_or_default();
    assert!(said.success(), "{words}");
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
}

#[test]
#[ignore = "for the virtual machine"]
fn an_ordinary_user_limits_containers_in_the_group_that_was_given_to_it() {
    let case = Case::new(&["/bin/true"]);
    let folder = case.folder.path().display().to_string();
    fs::remove_file(case.path("config.json")).unwrap();
    call(&format!("chown -R 1000:1000 {folder}"));
    let mut spec = case.command(&["spec", "--rootless"]);
    assert!(spec.uid(1000).gid(1000).status().unwrap().success());
    case.configure(|spec| {
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
        spec["linux"]["cgroupsPath"] = json!("GROUP/box");
        spec["linux"]["resources"] = json!({"pids": {"limit": 5}});
    });
    let script = case.path("script");
    fs::write(
        &script,
        "set -e
        cd $1
        group=$(cat /proc/self/cgroup); group=${group#0::}
        # A group with members passes no limits on: they go into one of their own.
        mkdir /sys/fs/cgroup$group/caller
        echo $$ >/sys/fs/cgroup$group/caller/cgroup.procs
        sed -i s,GROUP,$group, config.json
        /test/wharf-runtime --root state run -d box </dev/null >said 2>&1 || { cat said; exit 1; }
        cat /sys/fs/cgroup$group/box/pids.max
        cat /sys/fs/cgroup$group/box/pids.current
        /test/wharf-runtime --root state exec box id -u
        /test/wharf-runtime --root state pause box
        /test/wharf-runtime --root state state box | grep status
        /test/wharf-runtime --root state delete -f box
        test ! -e /sys/fs/cgroup$group/box
        ",
    )
    .unwrap();
    let said = call(&format!(
        "systemd-run --quiet --wait --pipe --uid=1000 --property=Delegate=yes --property=DefaultDependencies=no \
         /bin/busybox sh -x {} {folder} 2>/tmp/trace || {{ cat /tmp/trace; exit 1; }}",
        script.display()
    ));
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(
        words,
        ["5", "1", "0", "\"status\":", "\"paused\","],
        "{said}"
    );
}
