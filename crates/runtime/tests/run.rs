//! Real containers from a busybox root file system.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use rustix::process::{WaitId, WaitIdOptions};
use serde_json::{Value, json};
use wharf_runtime::{CreateRequest, Error, ExecRequest, Gate, Stdio, create, exec};

/// A bundle whose root file system holds busybox.
struct Bundle {
    folder: tempfile::TempDir,
    spec: Value,
}

impl Bundle {
    fn new(args: &[&str]) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("install the package busybox-static");
        for applet in [
            "sh", "true", "cat", "id", "echo", "ls", "sleep", "hostname", "grep", "mount", "touch",
            "head", "tty", "pwd", "kill", "stat",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        let mut spec = serde_json::to_value(wharf_runtime::default_spec()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(args);
        spec["linux"]["cgroupsPath"] =
            json!(format!("/wharf-runtime-test/{}", id_of(folder.path())));
        Bundle { folder, spec }
    }

    fn id(&self) -> String {
        id_of(self.folder.path())
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    fn spec(&self) -> Spec {
        serde_json::from_value(self.spec.clone()).unwrap()
    }

    /// Runs to the end: exit code and what it wrote.
    fn run(&self) -> (i32, String) {
        self.try_run()
            .unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    fn try_run(&self) -> Result<(i32, String), Error> {
        let spec = self.spec();
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio::Pipes {
            stdin: None,
            stdout: Some(writer.as_fd()),
            stderr: Some(writer.as_fd()),
        };
        let mut created = create(self.request(&spec, stdio))?;
        created.start()?;
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        let code = wait(created.pidfd.as_fd());
        created.cgroup.delete().unwrap();
        Ok((code, text))
    }

    fn request<'a>(&'a self, spec: &'a Spec, stdio: Stdio<'a>) -> CreateRequest<'a> {
        CreateRequest {
            id: Box::leak(self.id().into_boxed_str()),
            bundle: self.folder.path(),
            spec,
            stdio,
            rootfs: None,
            netns: None,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
            gate: Gate::Channel,
        }
    }

    fn refused(&self) -> Error {
        let error = self
            .try_run()
            .map(drop)
            .expect_err("it should have been refused");
        for controller in ["memory", "pids", "cpu"] {
            let path = Path::new("/sys/fs/cgroup")
                .join(controller)
                .join("wharf-runtime-test")
                .join(self.id());
            assert!(!path.exists(), "{} is left", path.display());
        }
        error
    }
}

fn id_of(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap()
        .to_string_lossy()
        .trim_start_matches('.')
        .to_owned()
}

fn wait(pidfd: std::os::fd::BorrowedFd<'_>) -> i32 {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)
        .unwrap()
        .unwrap();
    status
        .exit_status()
        .or(status.terminating_signal().map(|s| 128 + s))
        .unwrap()
}

fn sh(script: &str) -> Bundle {
    Bundle::new(&["/bin/sh", "-c", script])
}

#[test]
fn a_container_sees_only_itself() {
    let (code, text) =
        sh("echo $$; hostname; ls /proc | grep -c '^[0-9]'; cat /proc/1/comm; pwd; ls /").run();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        (code, lines[0], lines[1], lines[3], lines[4]),
        (0, "1", "wharf", "sh", "/"),
        "{text}"
    );
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{text}");
}

#[test]
fn exit_codes_and_signals_are_known() {
    assert_eq!(sh("exit 7").run().0, 7);
    assert_eq!(Bundle::new(&["true"]).run().0, 0, "found by PATH");
}

#[test]
fn commands_that_cannot_run_say_why() {
    for (args, code, words) in [
        (
            &["nothing-here"][..],
            127,
            "exec: \"nothing-here\": executable file not found in $PATH",
        ),
        (
            &["/nothing"],
            127,
            "exec: \"/nothing\": stat /nothing: no such file or directory",
        ),
        (
            &["/etc/passwd"],
            126,
            "exec: \"/etc/passwd\": permission denied",
        ),
        (&["/etc"], 126, "exec: \"/etc\": is a directory"),
    ] {
        let error = Bundle::new(args).refused();
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (code, words)
        );
    }
}

#[test]
fn rights_are_dropped() {
    let mut bundle = sh(
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; id -u; id -G; touch /x && echo wrote",
    );
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7]});
    bundle.spec["process"]["capabilities"] = json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": [], "inheritable": []});
    bundle.spec["linux"]["seccomp"] =
        serde_json::to_value(wharf_runtime::default_seccomp(&[])).unwrap();
    let (_, text) = bundle.run();
    for line in [
        "CapBnd:\t0000000000000020",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "1000",
        "1000 5 7",
    ] {
        assert!(
            text.lines().any(|l| l == line),
            "{line:?} is missing in\n{text}"
        );
    }
    assert!(!text.contains("wrote"), "the root is read-only");
}

#[test]
fn seccomp_is_loaded_without_no_new_privs_too() {
    let mut bundle = sh("grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp || echo refused");
    bundle.spec["process"]["noNewPrivileges"] = json!(false);
    bundle.spec["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
    bundle.spec["linux"]["seccomp"] =
        serde_json::to_value(wharf_runtime::default_seccomp(&[])).unwrap();
    let (_, text) = bundle.run();
    assert!(
        text.contains("Seccomp:\t2") && text.contains("refused"),
        "{text}"
    );
}

#[test]
fn masked_and_read_only_paths() {
    let (_, text) = sh("cat /proc/keys | head -c 1; ls /sys/firmware; echo 1 > /proc/sys/kernel/hostname && echo wrote; ls -l /proc/keys").run();
    assert!(!text.contains("wrote"), "{text}");
    assert!(
        text.contains("1,   3"),
        "/proc/keys is the null device: {text}"
    );
}

#[test]
fn devices_and_links() {
    let (code, text) = sh("for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; \
        [ -L /dev/fd ] && [ -L /dev/ptmx ] && [ -d /dev/pts ] && [ -d /dev/shm ] && echo x > /dev/null && echo good; stat -c %a /dev/null").run();
    assert_eq!((code, text.as_str()), (0, "good\n666\n"));
}

#[test]
fn mounts_of_all_kinds() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "from the host").unwrap();
    let mut bundle = sh(
        "cat /data/deep/file /one; echo x > /data/deep/new || echo read-only; echo y > /tmp/z && cat /tmp/z; grep -c ' /tmp ' /proc/self/mountinfo",
    );
    bundle.spec["root"]["readonly"] = json!(false);
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data/deep", "type": "bind", "source": host.path(), "options": ["rbind", "ro", "rprivate"]}));
    mounts.push(json!({"destination": "/one", "type": "bind", "source": host.path().join("file"), "options": ["bind"]}));
    mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m", "mode=1777"]}));
    let (_, text) = bundle.run();
    assert!(text.starts_with("from the hostfrom the host"), "{text}");
    assert!(text.contains("read-only\ny\n1\n"), "{text}");
    assert!(!host.path().join("new").exists());
}

#[test]
fn a_link_of_the_image_does_not_lead_a_mount_out() {
    let outside = tempfile::tempdir().unwrap();
    let mut bundle = sh("ls /");
    symlink(outside.path(), bundle.root().join("trap")).unwrap();
    bundle.spec["root"]["readonly"] = json!(false);
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/trap/in", "type": "tmpfs", "source": "tmpfs"}));
    bundle.run();
    assert!(
        !outside.path().join("in").exists(),
        "a folder was made on the host"
    );
    assert!(
        bundle
            .root()
            .join(outside.path().strip_prefix("/").unwrap())
            .join("in")
            .exists()
    );
}

#[test]
fn a_proc_that_is_a_link_is_refused_or_stays_inside() {
    let bundle = sh("cat /proc/1/comm; true");
    fs::remove_dir(bundle.root().join("proc")).unwrap();
    symlink("/tmp", bundle.root().join("proc")).unwrap();
    if let Ok((_, text)) = bundle.try_run() {
        assert_eq!(
            text.trim(),
            "sh",
            "the container's own processes, nobody else's"
        );
    }
}

#[test]
fn limits_reach_the_process() {
    let mut bundle =
        sh("ulimit -n; cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_default_ttl");
    bundle.spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "hard": 333, "soft": 222}]);
    bundle.spec["process"]["oomScoreAdj"] = json!(321);
    bundle.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
    assert_eq!(bundle.run().1, "222\n321\n77\n");
}

#[test]
fn no_descriptor_of_the_host_leaks_in() {
    let _open = File::open("/etc/hostname").unwrap();
    let (_, text) = sh("ls /proc/self/fd").run();
    let numbers: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
    assert!(
        numbers.iter().all(|n| *n <= 3),
        "ls has its three streams and the folder it reads: {text}"
    );
}

#[test]
fn a_working_folder_of_the_host_is_refused() {
    for number in 3..20 {
        let mut bundle = sh("pwd");
        bundle.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        if let Ok((_, text)) = bundle.try_run() {
            panic!("descriptor {number} leads somewhere: {text}");
        }
    }
}

#[test]
fn exec_joins_the_container() {
    let mut bundle = sh("read line");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "cgroup"}));
    let spec = bundle.spec();
    let (stdin, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::Pipes {
        stdin: Some(stdin.as_fd()),
        stdout: None,
        stderr: None,
    };
    let mut created =
        create(bundle.request(&spec, stdio)).unwrap_or_else(|e| panic!("{}", e.chain()));
    created.start().unwrap();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut process = spec.process().clone().unwrap();
    process.set_args(Some(
        [
            "sh",
            "-c",
            "echo $$; cat /proc/1/comm; hostname; cat /proc/self/cgroup | grep -vc ':/$'; true",
        ]
        .map(str::to_owned)
        .to_vec(),
    ));
    let id = bundle.id();
    let request = |process: &'static Process, stdio| ExecRequest {
        id: Box::leak(id.clone().into_boxed_str()),
        init: created.pid,
        bundle: Path::new("/"),
        spec: &spec,
        process,
        stdio,
        preserve_fds: 0,
        no_new_keyring: false,
        groups_below: &[],
    };
    let process: &'static Process = Box::leak(Box::new(process));
    let executed = exec(request(
        process,
        Stdio::Pipes {
            stdin: None,
            stdout: Some(writer.as_fd()),
            stderr: Some(writer.as_fd()),
        },
    ))
    .unwrap_or_else(|e| panic!("{}", e.chain()));
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(wait(executed.pidfd.as_fd()), 0);
    let lines: Vec<_> = text.lines().collect();
    assert_ne!(lines[0], "1");
    assert_eq!(lines[1..3], ["sh", "wharf"], "{text}");
    assert_eq!(lines[3], "0", "in its group it sees only roots: {text}");
    drop(hold);
    wait(created.pidfd.as_fd());
    created.cgroup.delete().unwrap();
}

#[test]
fn a_terminal_is_the_containers_own() {
    let bundle = sh("tty; [ -c /dev/console ] && echo console");
    let spec = bundle.spec();
    let mut created =
        create(bundle.request(&spec, Stdio::Pty)).unwrap_or_else(|e| panic!("{}", e.chain()));
    let mut master = File::from(created.pty.take().unwrap());
    created.start().unwrap();
    let mut text = String::new();
    // The end of a terminal is an I/O error.
    let _ = master.read_to_string(&mut text);
    assert_eq!(text.replace('\r', ""), "/dev/pts/0\nconsole\n");
    wait(created.pidfd.as_fd());
    created.cgroup.delete().unwrap();
}

#[test]
fn dropped_before_the_start_nothing_is_left() {
    let bundle = sh("true");
    let spec = bundle.spec();
    let stdio = Stdio::Pipes {
        stdin: None,
        stdout: None,
        stderr: None,
    };
    let created = create(bundle.request(&spec, stdio)).unwrap_or_else(|e| panic!("{}", e.chain()));
    let (pid, paths) = (created.pid, created.cgroup.paths());
    drop(created);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(paths.values().all(|path| !path.exists()));
}

#[test]
fn a_shared_root_can_be_had() {
    let mut bundle = sh("grep ' / ro,.* shared:' /proc/self/mountinfo");
    bundle.spec["linux"]["rootfsPropagation"] = json!("shared");
    let (code, text) = bundle.run();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("shared:"), "{text}");
}

#[test]
fn mounts_that_are_read_only_take_what_lies_on_them_first() {
    let mut bundle = sh("touch /dev/x; touch /m/x; ls /m");
    let dev = bundle.spec["mounts"].as_array_mut().unwrap();
    for mount in dev.iter_mut().filter(|m| m["destination"] == "/dev") {
        mount["options"].as_array_mut().unwrap().push(json!("ro"));
    }
    dev.push(json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    dev.push(json!({"destination": "/m/below", "type": "tmpfs", "source": "tmpfs"}));
    let (_, text) = bundle.run();
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.ends_with("below\n"), "{text}");
}

#[test]
fn without_a_mount_namespace_its_mounts_go_with_it() {
    let mut bundle = sh("readlink /proc/self/ns/mnt; ls /proc/self >/dev/null && echo has-proc");
    let linux = &mut bundle.spec["linux"];
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|entry| entry["type"] != "mount");
    let error = bundle.try_run().unwrap_err().chain();
    assert!(error.contains("without a private MNT namespace"), "{error}");
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    bundle.spec["linux"]["readonlyPaths"] = json!([]);
    bundle.spec["process"]["cwd"] = json!("/nonexistent\0");
    assert!(bundle.try_run().is_err());
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = bundle.root().display().to_string();
    assert!(!table().contains(&root), "a failed creation leaves mounts");
}
