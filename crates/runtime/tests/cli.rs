//! The command line as a caller uses it: words, exit codes, states, terminals. The steps were first taken with runc.
#![allow(clippy::unwrap_used)]

mod case;

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::pty::OpenptFlags;
use serde_json::{Value, json};

use case::{Case, await_end};

#[test]
fn a_container_goes_from_created_to_deleted() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    let id = case.id.as_str();
    let pid_file = case.path("pid");
    case.good(&["create", "--pid-file", pid_file.to_str().unwrap(), id]);
    assert_eq!(case.status(), "created");
    let pid = fs::read_to_string(pid_file).unwrap();
    assert_eq!(pid, case.state()["pid"].to_string());
    case.refused(&["create", id], 1, "container with given ID already exists");
    case.good(&["start", id]);
    assert_eq!(case.status(), "running");
    case.refused(
        &["start", id],
        1,
        "cannot start an already running container",
    );
    let words = format!("cannot delete container {id} that is not stopped: running");
    case.refused(&["delete", id], 1, &words);
    case.good(&["pause", id]);
    assert_eq!(case.status(), "paused");
    case.refused(
        &["exec", id, "true"],
        255,
        "cannot exec in a paused container",
    );
    case.good(&["resume", id]);
    case.refused(&["resume", id], 1, "container not paused");
    assert_eq!(case.good(&["list", "-q"]), format!("{id}\n"));
    assert_eq!(case.good(&["ps", "-f", "json", id]), format!("[{pid}]\n"));
    let init = case.init();
    case.good(&["kill", id, "KILL"]);
    await_end(&init);
    assert_eq!(case.status(), "stopped");
    case.refused(&["kill", id, "KILL"], 1, "container not running");
    case.refused(
        &["start", id],
        1,
        "cannot start a container that has stopped",
    );
    case.refused(
        &["exec", id, "true"],
        255,
        "cannot exec in a stopped container",
    );
    case.good(&["delete", id]);
    case.refused(&["state", id], 1, "container does not exist");
    assert_eq!(fs::read_dir(case.path("state")).unwrap().count(), 0);
}

#[test]
fn what_does_not_exist_is_refused_in_runcs_words() {
    let case = Case::new(&["/bin/true"]);
    for command in [
        "start", "state", "kill", "delete", "ps", "pause", "resume", "update", "events",
    ] {
        case.refused(&[command, "nope"], 1, "container does not exist");
    }
    case.refused(
        &["exec", "nope", "true"],
        255,
        "exec failed: container does not exist",
    );
    case.good(&["delete", "--force", "nope"]);
    case.refused(&["create", "a/b"], 1, "invalid container ID format");
    case.refused(
        &["delete", "--force", ".."],
        1,
        "invalid container ID format",
    );
    case.refused(
        &["create", "-b", "/nonexistent", "x"],
        1,
        "chdir /nonexistent: no such file or directory",
    );
    case.refused(&["bogus"], 3, "No help topic for 'bogus'");
    case.refused(
        &["create", "--bogus", "x"],
        1,
        "flag provided but not defined: -bogus",
    );
    case.refused(&["create"], 1, "requires exactly 1 argument(s)");
    case.refused(
        &["--systemd-cgroup", "run", "x"],
        1,
        "expected cgroupsPath to be of format",
    );
}

#[test]
fn run_gives_output_and_exit_code_and_leaves_nothing() {
    let case = Case::new(&["/bin/sh", "-c", "echo hi; exit 3"]);
    let (code, out, err) = case.call(&["run", &case.id]);
    assert_eq!((code, out.as_str()), (3, "hi\n"), "{err}");
    case.refused(&["state", &case.id], 1, "container does not exist");
    assert_eq!(case.call(&["run", "--keep", &case.id]).0, 3);
    assert_eq!(case.status(), "stopped");
    case.good(&["delete", &case.id]);
    case.configure(|spec| spec["process"]["args"] = json!(["/bin/nope"]));
    let words = "unable to start container process: exec: \\\"/bin/nope\\\": stat /bin/nope: no such file or directory";
    case.refused(&["run", &case.id], 1, words);
    case.refused(&["state", &case.id], 1, "container does not exist");
}

#[test]
fn a_signal_to_run_is_the_containers() {
    let case = Case::new(&[
        "/bin/sh",
        "-c",
        "trap 'exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done",
    ]);
    let mut run = case
        .command(&["run", &case.id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    run.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&run),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(5));
}

#[test]
fn further_processes_run_with_what_the_flags_say() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    let id = case.id.as_str();
    case.good(&["run", "-d", id]);
    let script = "echo $A $PWD $(id -u) $(id -g)";
    let out = case.good(&[
        "exec", "--cwd", "/bin", "-e", "A=b", "-u", "5:6", id, "sh", "-c", script,
    ]);
    assert_eq!(out, "b /bin 5 6\n");
    assert_eq!(case.call(&["exec", id, "sh", "-c", "exit 7"]).0, 7);
    assert_eq!(case.call(&["exec", id, "sh", "-c", "kill -9 $$"]).0, 137);
    let words = "exec failed: unable to start container process: exec: \\\"nope\\\": executable file not found in $PATH";
    case.refused(&["exec", id, "nope"], 255, words);
    let process =
        json!({"args": ["/bin/echo", "by file"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(case.path("process.json"), process.to_string()).unwrap();
    assert_eq!(case.good(&["exec", "-p", "process.json", id]), "by file\n");
    case.good(&["update", "--pids-limit", "7", id]);
    let stats: Value = serde_json::from_str(&case.good(&["events", "--stats", id])).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 7);
}

#[test]
fn the_hosts_program_cannot_be_written_to_from_inside() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    // A copy that nothing else runs: a program that runs is busy for everybody, protected or not.
    let program = case.path("runtime");
    // By another process: a child of a test that runs beside this one would inherit our descriptor for a moment, and
    // the copy would be busy.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_wharf-runtime"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let created = Command::new(&program)
        .arg("--root")
        .arg(case.path("state"))
        .args(["create", &case.id])
        .current_dir(case.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(created.unwrap().success());
    // What a process inside would hold on to until the runtime has ended.
    let exe = format!("/proc/{}/exe", case.state()["pid"]);
    let held = fs::File::open(&exe).unwrap();
    let init = case.init();
    case.good(&["delete", "--force", &case.id]);
    await_end(&init);
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    let refused = fs::File::options().write(true).open(again).unwrap_err();
    let expected = rustix::io::Errno::ROFS.raw_os_error();
    assert_eq!(refused.raw_os_error(), Some(expected), "{refused}");
    // The same by the host's own path is allowed: it is the way that is closed, not the file.
    fs::File::options().write(true).open(&program).unwrap();
}

#[test]
fn errors_are_written_to_the_log_in_json() {
    let case = Case::new(&["/bin/true"]);
    let log = case.path("log.json");
    let words = [
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "state",
        "nope",
    ];
    let (code, _, err) = case.call(&words);
    assert_eq!((code, err.as_str()), (1, "container does not exist\n"));
    let entry: Value = serde_json::from_slice(&fs::read(log).unwrap()).unwrap();
    assert_eq!(
        (&entry["level"], &entry["msg"]),
        (&json!("error"), &json!("container does not exist"))
    );
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_console_socket_gets_the_terminal() {
    let case = Case::new(&[
        "/bin/sh",
        "-c",
        "echo on a terminal; test -t 0 && stty size; cat",
    ]);
    case.configure(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    });
    let id = case.id.as_str();
    case.refused(&["create", id], 1, "without setting console socket");
    let listener = UnixListener::bind(case.path("console")).unwrap();
    case.good(&[
        "create",
        "--console-socket",
        case.path("console").to_str().unwrap(),
        id,
    ]);
    let (connection, _) = listener.accept().unwrap();
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    rustix::net::recvmsg(&connection, slices, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let master = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    let mut master = fs::File::from(master.unwrap());
    case.good(&["start", id]);
    let mut seen = String::new();
    while !seen.contains("33 77") {
        let mut chunk = [0; 256];
        let count = master.read(&mut chunk).unwrap();
        seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    assert!(seen.starts_with("on a terminal\r\n"), "{seen:?}");
    let init = case.init();
    master.write_all(b"\x04").unwrap();
    await_end(&init);
}

#[test]
fn run_joins_the_callers_terminal_to_the_containers() {
    let case = Case::new(&["/bin/sh", "-c", "stty size; read x; echo got-$x; exit 9"]);
    case.configure(|spec| spec["process"]["terminal"] = json!(true));
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut size = rustix::termios::tcgetwinsize(&slave).unwrap();
    (size.ws_row, size.ws_col) = (40, 100);
    rustix::termios::tcsetwinsize(&slave, size).unwrap();
    let mut run = case
        .command(&["run", &case.id])
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut master = fs::File::from(master);
    let mut seen = String::new();
    let mut read_until = |master: &mut fs::File, words: &str| {
        while !seen.contains(words) {
            let mut chunk = [0; 256];
            let count = master.read(&mut chunk).unwrap();
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    read_until(&mut master, "40 100\r\n");
    // A carriage return is what a key sends; the container's terminal, not the caller's, makes a line's end of it.
    master.write_all(b"abc\r").unwrap();
    read_until(&mut master, "got-abc\r\n");
    assert_eq!(run.wait().unwrap().code(), Some(9));
    let modes = rustix::termios::tcgetattr(&slave).unwrap().local_modes;
    assert!(
        modes.contains(rustix::termios::LocalModes::ICANON),
        "not set back"
    );
}

#[test]
fn descriptors_go_on_when_asked_for_and_else_not() {
    let case = Case::new(&["/bin/sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"]);
    symlink("busybox", case.path("rootfs/bin/ls")).unwrap();
    symlink("busybox", case.path("rootfs/bin/wc")).unwrap();
    fs::write(case.path("given"), "given\n").unwrap();
    let run = |flag: &str| {
        let line = format!(
            "exec 3<given 4<given; exec {} --root state run {flag} {}",
            env!("CARGO_BIN_EXE_wharf-runtime"),
            case.id
        );
        let mut shell = Command::new("/bin/sh");
        let output = shell
            .args(["-c", &line])
            .current_dir(case.folder.path())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    // Three streams, the one that ls reads the folder by, and what was passed.
    assert_eq!(run("--preserve-fds 2"), "given\n6\n");
    assert_eq!(run("--preserve-fds=1"), "given\n5\n");
    assert_eq!(run(""), "4\n");
    let words = "please check that preserved-fd";
    case.refused(&["run", "--preserve-fds", "40", &case.id], 1, words);
}

#[test]
fn a_group_left_frozen_is_refused_rather_than_waited_for() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    let path = format!("/wharf-runtime-cli/{}-frozen", case.id);
    let group = wharf_cgroup::create(&path).unwrap();
    group.freeze().unwrap();
    case.configure(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    case.refused(&["create", &case.id], 1, "unexpectedly frozen");
    group.thaw().unwrap();
    group.delete().unwrap();
}

#[test]
fn a_creation_cut_off_is_cleaned_up_by_its_control_group() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    case.good(&["create", &case.id]);
    let init = case.init();
    fs::write(case.path("state").join(&case.id).join("state.json"), "").unwrap();
    case.good(&["delete", "--force", &case.id]);
    await_end(&init);
    assert_eq!(fs::read_dir(case.path("state")).unwrap().count(), 0);
}

#[test]
fn system_calls_that_the_filter_asks_about_go_to_the_agent() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    let listener = UnixListener::bind(case.path("agent")).unwrap();
    case.configure(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": case.path("agent"),
            "listenerMetadata": "ours",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    case.good(&["create", &case.id]);
    let (mut connection, _) = listener.accept().unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!(
        (&message["metadata"], &message["pid"]),
        (&json!("ours"), &case.state()["pid"])
    );
}

#[test]
fn spec_and_features_are_json() {
    let case = Case::new(&["/bin/true"]);
    case.refused(&["spec"], 1, "File config.json exists. Remove it first");
    fs::remove_file(case.path("config.json")).unwrap();
    case.good(&["spec"]);
    let spec: Value = serde_json::from_slice(&fs::read(case.path("config.json")).unwrap()).unwrap();
    assert_eq!(spec["root"]["path"], "rootfs");
    let features: Value = serde_json::from_str(&case.good(&["features"])).unwrap();
    assert_eq!(features["linux"]["cgroup"]["systemd"], true);
    let version: Output = case.command(&["--version"]).output().unwrap();
    assert!(
        String::from_utf8(version.stdout)
            .unwrap()
            .starts_with("wharf runtime version ")
    );
}

#[test]
fn hooks_after_start_and_end_get_the_state() {
    let case = Case::new(&["/bin/true"]);
    let out = case.path("hooks");
    case.configure(|spec| {
        let hook = |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >> {0}; cat >> {0}", out.display())]}]);
        spec["hooks"] = json!({"poststart": hook("after-start"), "poststop": hook("after-end")});
    });
    case.good(&["run", &case.id]);
    let text = fs::read_to_string(out).unwrap();
    let (start, end) = text.split_once("after-end\n").unwrap();
    assert!(
        start.starts_with("after-start\n") && start.contains("\"running\""),
        "{text}"
    );
    assert!(
        end.contains("\"stopped\"") && end.contains(&case.id),
        "{text}"
    );
}

#[test]
fn a_process_joins_a_group_below_the_containers() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    let id = case.id.as_str();
    case.good(&["run", "--detach", id]);
    let refused = |group: &str, words: &str| {
        case.refused(&["exec", "--cgroup", group, id, "true"], 255, words);
    };
    refused("..", " .. is not a sub cgroup path");
    refused("missing", "/missing/cgroup.procs: no such file");
    refused("unknown:/", "unknown controller ");
    let below = format!("/wharf-runtime-cli/{id}/below");
    let group = wharf_cgroup::create(&below).unwrap();
    let seen = case.good(&["exec", "--cgroup", "below", id, "cat", "/proc/self/cgroup"]);
    assert!(seen.contains(&below), "{seen}");
    let whole = case.good(&["exec", "--cgroup", "/", id, "cat", "/proc/self/cgroup"]);
    assert!(!whole.contains(&below), "{whole}");
    group.delete().unwrap();
}

#[test]
fn a_container_without_a_mount_namespace_is_cleaned_up() {
    let case = Case::new(&["/bin/sh", "-c", "echo /proc/self; cat /proc/self/comm"]);
    case.configure(|spec| {
        let linux = &mut spec["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|entry| entry["type"] != "mount");
        linux["maskedPaths"] = json!([]);
        linux["readonlyPaths"] = json!([]);
    });
    let out = case.good(&["run", &case.id]);
    assert_eq!(out, "/proc/self\ncat\n");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = case.path("rootfs").display().to_string();
    assert!(!table.contains(&root), "{table}");
}

#[test]
fn capabilities_that_do_not_exist_are_warned_of() {
    let case = Case::new(&["/bin/true"]);
    case.configure(|spec| {
        let sets = &mut spec["process"]["capabilities"];
        sets["bounding"]
            .as_array_mut()
            .unwrap()
            .push(json!("CAP_TEST"));
    });
    let (code, _, err) = case.call(&["run", &case.id]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("capability \\\"CAP_TEST\\\""), "{err}");
}

#[test]
fn a_program_that_is_not_there_leaves_a_message_and_not_a_crash() {
    let case = Case::new(&["/bin/missing"]);
    case.configure(|spec| spec["process"]["terminal"] = json!(true));
    case.refused(&["run", &case.id], 1, "stat /bin/missing: no such file");
    // The interpreter is missed only by the exec itself.
    let case = Case::new(&["/bin/script"]);
    case.configure(|spec| spec["process"]["terminal"] = json!(true));
    let script = case.path("rootfs/bin/script");
    fs::write(&script, "#!/missing\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    case.refused(&["run", &case.id], 1, "exec /bin/script: no such file");
}

#[test]
fn a_waiting_container_can_be_ended() {
    let case = Case::new(&["/bin/true"]);
    case.good(&["create", &case.id]);
    let init = case.init();
    case.good(&["kill", &case.id, "TERM"]);
    await_end(&init);
    assert_eq!(case.status(), "stopped");
}

#[test]
fn containers_share_a_user_namespace() {
    let first = Case::new(&["/bin/sleep", "1000"]);
    first.configure(|spec| {
        let linux = &mut spec["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
    });
    // Its root must reach the bundle.
    let open = |case: &Case| {
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(case.folder.path(), all).unwrap();
    };
    open(&first);
    first.good(&["run", "--detach", &first.id]);
    let users = format!("/proc/{}/ns/user", first.state()["pid"]);
    let second = Case::new(&["/bin/sh", "-c", "id -u; cat /proc/self/uid_map"]);
    open(&second);
    second.configure(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user", "path": users}));
    });
    let out = second.good(&["run", &second.id]);
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536"]);
}

#[test]
fn a_hook_that_fails_after_the_start_stops_the_container() {
    let case = Case::new(&["/bin/sleep", "1000"]);
    case.configure(|spec| spec["hooks"]["poststart"] = json!([{"path": "/bin/false"}]));
    case.refused(
        &["run", "-d", &case.id],
        1,
        "error running poststart hook #0",
    );
    case.refused(&["state", &case.id], 1, "container does not exist");
    case.good(&["create", &case.id]);
    case.refused(&["start", &case.id], 1, "error running poststart hook #0");
    assert_eq!(case.status(), "stopped");
}

/// Runs the container in a network namespace where a shell line has prepared devices.
fn run_with_devices(case: &Case, prepare: &str) -> (i32, String) {
    let line = format!("set -e; {prepare}; exec \"$0\" --root \"$1\" run \"$2\"");
    let output = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", &line])
        .arg(case::program())
        .arg(case.path("state"))
        .arg(&case.id)
        .current_dir(case.folder.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

#[test]
fn network_devices_move_in_with_their_addresses() {
    let case = Case::new(&[
        "/bin/sh",
        "-c",
        "/bin/busybox ip addr show dev inside; /bin/busybox ip addr show dev lo",
    ]);
    case.configure(|spec| {
        spec["linux"]["netDevices"] = json!({"out0": {"name": "inside"}});
    });
    let (code, text) = run_with_devices(
        &case,
        "ip link add out0 type veth peer name out1; ip link set out1 up; \
         ip addr add 10.77.0.1/24 dev out0; ip addr add fd77::1/64 dev out0 nodad; ip link set out0 mtu 1400",
    );
    assert_eq!(code, 0, "{text}");
    for wanted in [
        "inet 10.77.0.1/24",
        "inet6 fd77::1/64",
        "mtu 1400",
        "UP",
        "inside",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("out0"), "{text}");
}

#[test]
fn a_network_device_that_is_not_there_is_named() {
    let case = Case::new(&["/bin/true"]);
    case.configure(|spec| spec["linux"]["netDevices"] = json!({"missing0": {}}));
    let (code, text) = run_with_devices(&case, "true");
    assert_ne!(code, 0);
    assert!(text.contains("missing0"), "{text}");
    case.configure(|spec| spec["linux"]["netDevices"] = json!({"lo": {"name": "a/b"}}));
    let (code, text) = run_with_devices(&case, "true");
    assert_ne!(code, 0);
    assert!(
        text.contains("can't be the name of a network device"),
        "{text}"
    );
    let left = std::fs::read_dir(case.path("state")).map(|all| all.count());
    assert_eq!(left.unwrap_or(0), 0, "a failed creation leaves nothing");
}
