//! The published ways out of a container, played again: each is refused, or leads nowhere. What an attacker controls is
//! the image, the volumes and the processes inside; what is asked for is what an engine would ask for.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use serde_json::{Value, json};

const APPLETS: &[&str] = &[
    "sh", "true", "cat", "id", "echo", "sleep", "ls", "grep", "readlink", "touch", "pwd", "rm",
    "mv",
];

/// A bundle and one container, with the runtime's program as a file of the case's own: an attack that works hits a copy.
struct Case {
    folder: tempfile::TempDir,
    id: String,
}

impl Case {
    fn new(script: &str) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("install the package busybox-static");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        // Copied by a process of its own: none of ours may hold the file open for writing while another test clones.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_wharf-runtime"))
            .arg(folder.path().join("runtime"))
            .status();
        assert!(copied.unwrap().success());
        let name = folder.path().file_name().unwrap().to_string_lossy();
        let id = format!("escape-{}", name.trim_start_matches('.'));
        let mut spec = serde_json::to_value(wharf_runtime::default_spec()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["root"]["readonly"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(format!("/wharf-runtime-escapes/{id}"));
        let case = Case { folder, id };
        fs::write(case.path("config.json"), spec.to_string()).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.path("rootfs").join(name)
    }

    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("config.json");
        let mut spec = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(path, spec.to_string()).unwrap();
    }

    fn mount(&self, mount: Value) {
        self.configure(|spec| spec["mounts"].as_array_mut().unwrap().push(mount));
    }

    /// Takes the mount of a place out of the configuration, so that what the image has there shows.
    fn without_mount(&self, destination: &str) {
        self.configure(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| {
                !mount["destination"]
                    .as_str()
                    .unwrap()
                    .starts_with(destination)
            });
        });
    }

    /// Exit code, and both outputs. Output goes to files: a container left running must not keep a pipe open.
    fn call(&self, words: &[&str]) -> (i32, String) {
        self.call_by("exec \"$0\" \"$@\"", words)
    }

    /// The same by a line of shell that runs `"$0" "$@"`.
    fn call_by(&self, line: &str, words: &[&str]) -> (i32, String) {
        let said = self.path("said");
        let file = fs::File::create(&said).unwrap();
        let status = Command::new("timeout")
            .args(["60", "sh", "-c", line])
            .arg(self.path("runtime"))
            .arg("--root")
            .arg(self.path("state"))
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .status()
            .unwrap();
        let code = status.code().unwrap();
        assert_ne!(code, 124, "{words:?} hangs");
        (code, fs::read_to_string(said).unwrap())
    }

    fn run(&self) -> (i32, String) {
        self.call(&["run", &self.id])
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        let (code, said) = self.run();
        assert!(code != 0 && said.contains(words), "{code}: {said}");
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
    }
}

/// A process that enters a container could be looked into, and its descriptors of the host used, before its exec.
#[test]
fn cve_2016_9962_descriptors_of_an_entering_process() {
    let case = Case::new("while :; do ls -l /proc/[0-9]*/fd; done >> /seen 2>/dev/null");
    assert_eq!(case.call(&["run", "--detach", &case.id]).0, 0);
    for _ in 0..30 {
        let line = "exec \"$0\" \"$@\" >/dev/null 2>&1";
        assert_eq!(case.call_by(line, &["exec", &case.id, "true"]).0, 0);
    }
    let seen = fs::read_to_string(case.root("seen")).unwrap();
    let targets: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(_, target)| target)
        .collect();
    assert!(targets.len() > 10, "nothing was seen at all: {seen}");
    let known = |target: &&str| {
        ["/dev/null", "/seen"].contains(target)
            || target.starts_with("/proc/")
            || target.ends_with("/said")
    };
    let others: Vec<_> = targets.iter().filter(|target| !known(target)).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The runtime's program, reached by `/proc/PID/exe` of a process it became, could be overwritten by the container.
#[test]
fn cve_2019_5736_the_runtimes_program_is_overwritten() {
    let case = Case::new(
        "touch /go; while [ ! -e /done ]; do sleep 0.02; done; cat /told; readlink /proc/1/exe",
    );
    // The hook runs inside, and its parent is the runtime.
    let attack = "exec 9</proc/$PPID/exe; \
                  ( readlink /proc/self/fd/9; while [ ! -e /go ]; do sleep 0.02; done; \
                  echo overwritten > /proc/self/fd/9; echo result $?; touch /done ) >/told 2>&1 &";
    case.configure(|spec| {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", attack]});
        spec["hooks"] = json!({"startContainer": [hook]});
    });
    let before = fs::read(case.path("runtime")).unwrap();
    let (code, said) = case.run();
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("Read-only file system") || said.contains("denied"),
        "{said}"
    );
    // A mount that is attached nowhere has no path.
    assert!(said.starts_with("/\n"), "not the runtime: {said}");
    assert!(!said.contains("result 0"), "{said}");
    assert!(
        before == fs::read(case.path("runtime")).unwrap(),
        "the program has changed"
    );
}

/// A volume over /proc made labels and parameters go to files of the attacker's.
#[test]
fn cve_2019_16884_a_volume_in_place_of_proc() {
    let case = Case::new("true");
    fs::create_dir_all(case.path("fake/self/attr")).unwrap();
    case.without_mount("/proc");
    let fake = case.path("fake");
    case.mount(
        json!({"destination": "/proc", "type": "bind", "source": fake, "options": ["bind"]}),
    );
    case.refused("because it is not of type proc");
    let case = Case::new("true");
    case.mount(json!({"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"}));
    case.refused("because it is inside /proc");
    let case = Case::new("true");
    symlink("proc", case.root("other")).unwrap();
    case.mount(json!({"destination": "/other/sys", "type": "tmpfs", "source": "tmpfs"}));
    case.refused("because it is inside /proc");
}

/// A link in place of /proc or /sys led their mounts, and all that is hidden in them, elsewhere. It came back twice.
#[test]
fn cve_2019_19921_2023_27561_2023_28642_links_in_place_of_proc_and_sys() {
    for (place, target) in [
        ("proc", "/tmp"),
        ("proc", "tmp"),
        ("sys", "/tmp"),
        ("sys", "../etc"),
    ] {
        let case = Case::new("true");
        fs::remove_dir(case.root(place)).unwrap();
        symlink(target, case.root(place)).unwrap();
        case.refused("must be mounted on ordinary directory");
    }
    let case = Case::new("true");
    symlink("/tmp", case.root("a")).unwrap();
    case.mount(json!({"destination": "/a/proc", "type": "proc", "source": "proc"}));
    case.refused("must be mounted on ordinary directory");
}

/// A folder that is exchanged for a link between check and use had a mount made outside of the root.
#[test]
fn cve_2021_30465_a_mount_point_is_exchanged_for_a_link() {
    let case = Case::new("true");
    let (volume, secret) = (case.path("volume"), case.path("secret"));
    fs::create_dir_all(volume.join("x/y")).unwrap();
    fs::create_dir_all(secret.join("y")).unwrap();
    symlink(&secret, volume.join("link")).unwrap();
    symlink("../../../../../../../../", volume.join("up")).unwrap();
    case.mount(
        json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind"]}),
    );
    case.mount(json!({"destination": "/v/x/y", "type": "tmpfs", "source": "tmpfs"}));
    case.mount(json!({"destination": "/v/x/new", "type": "tmpfs", "source": "tmpfs"}));
    // In the container's mount namespace, the host's tree still in sight.
    let look = format!(
        "grep -F ' {}/' /proc/self/mountinfo >> {}",
        secret.display(),
        case.path("found").display()
    );
    case.configure(|spec| {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", look + "; true"]});
        spec["hooks"] = json!({"createRuntime": [], "createContainer": [hook]});
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (x, link) = (volume.join("x"), volume.join("link"));
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &x, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..25 {
            // It may fail: what it must not do is to succeed elsewhere.
            let _ = case.run();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        fs::read_to_string(case.path("found")).unwrap_or_default(),
        ""
    );
    assert!(
        !secret.join("new").exists(),
        "a folder of the host's was made"
    );
}

/// Processes had inheritable capabilities that nobody had asked for.
#[test]
fn cve_2022_29162_inheritable_capabilities() {
    let case = Case::new("while :; do sleep 1; done");
    assert_eq!(case.call(&["run", "--detach", &case.id]).0, 0);
    let read = [
        "exec",
        "--cap",
        "CAP_NET_ADMIN",
        &case.id,
        "cat",
        "/proc/self/status",
    ];
    let (code, said) = case.call(&read);
    assert_eq!(code, 0, "{said}");
    let line = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(line("CapInh:"), "0000000000000000", "{said}");
    assert_eq!(line("CapAmb:"), "0000000000000000", "{said}");
    assert_eq!(line("CapEff:"), "0000000020001420", "{said}");
}

/// A working folder named by a descriptor of the host that the runtime had left open.
#[test]
fn cve_2024_21626_a_working_folder_of_the_host() {
    // A caller's own descriptor too, which the runtime inherits.
    let line = "exec 7</ && exec \"$0\" \"$@\"";
    for number in 3..12 {
        for folder in [format!("/proc/self/fd/{number}"), format!("/link/{number}")] {
            let case = Case::new("pwd; ls; echo reached");
            symlink("/proc/self/fd", case.root("link")).unwrap();
            case.configure(|spec| spec["process"]["cwd"] = json!(folder));
            let (code, said) = case.call_by(line, &["run", &case.id]);
            assert!(code != 0 && !said.contains("reached"), "{folder}: {said}");
        }
    }
    let case = Case::new("while :; do sleep 1; done");
    assert_eq!(case.call(&["run", "--detach", &case.id]).0, 0);
    for number in 3..12 {
        let folder = format!("/proc/self/fd/{number}");
        let words = ["exec", "--cwd", &folder, &case.id, "echo", "reached"];
        let (code, said) = case.call_by(line, &words);
        assert!(code != 0 && !said.contains("reached\n"), "{folder}: {said}");
    }
    // Nor does a waiting process hold any that a second container could go to.
    let case = Case::new("true");
    assert_eq!(case.call_by(line, &["create", &case.id]).0, 0);
    let state: Value = serde_json::from_str(&case.call(&["state", &case.id]).1).unwrap();
    for entry in fs::read_dir(format!("/proc/{}/fd", state["pid"])).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_string_lossy().parse().unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        let ours = target.to_string_lossy().starts_with("socket:[");
        assert!(number < 3 || ours, "{number} -> {}", target.display());
    }
}

/// Folders and files for mount points were made on the host, through a link in a volume.
#[test]
fn cve_2024_45310_mount_points_made_on_the_host() {
    let case = Case::new("true");
    let (volume, outside) = (case.path("volume"), case.path("outside"));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, volume.join("absolute")).unwrap();
    symlink("../../../../../../../../../../..", volume.join("up")).unwrap();
    fs::write(case.path("file"), "").unwrap();
    case.mount(
        json!({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind"]}),
    );
    let file = case.path("file");
    let up = format!("/v/up{}/file-up", outside.display());
    for place in ["/v/absolute/file", up.as_str()] {
        case.mount(
            json!({"destination": place, "type": "bind", "source": file, "options": ["bind"]}),
        );
    }
    case.mount(json!({"destination": "/v/absolute/folder", "type": "tmpfs", "source": "tmpfs"}));
    let _ = case.run();
    let made: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
}

/// A link in place of the image's /dev/null took what masks the hidden files elsewhere.
#[test]
fn cve_2025_31133_masks_by_the_images_null_device() {
    let case = Case::new("cat /hidden; echo end");
    fs::write(case.root("hidden"), "secret\n").unwrap();
    fs::write(case.root("other"), "writable\n").unwrap();
    symlink("/other", case.root("dev/null")).unwrap();
    case.without_mount("/dev");
    case.configure(|spec| spec["linux"]["maskedPaths"] = json!(["/hidden"]));
    let (_, said) = case.run();
    assert!(
        !said.contains("secret") && !said.contains("writable"),
        "{said}"
    );
    // With the container's own /dev the mask is the host's null device, whatever the image has.
    let case = Case::new("cat /hidden; echo end; echo x > /hidden && echo written");
    fs::write(case.root("hidden"), "secret\n").unwrap();
    symlink("/hidden", case.root("dev/null")).unwrap();
    case.configure(|spec| spec["linux"]["maskedPaths"] = json!(["/hidden"]));
    let (code, said) = case.run();
    assert_eq!((code, said.as_str()), (0, "end\nwritten\n"));
    assert_eq!(fs::read_to_string(case.root("hidden")).unwrap(), "secret\n");
}

/// A terminal's file that was a link got something else bound to /dev/console.
#[test]
fn cve_2025_52565_a_terminal_that_is_none() {
    let case = Case::new("true");
    case.configure(|spec| {
        spec["process"]["terminal"] = json!(true);
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev/pts" {
                *mount = json!({"destination": "/dev/pts", "type": "tmpfs", "source": "tmpfs"});
            }
        }
    });
    case.refused("/dev/pts is not a devpts file system");
}

/// Labels and kernel parameters were written to files that only looked like procfs.
#[test]
fn cve_2025_52881_parameters_written_to_a_fake_procfs() {
    let case = Case::new("true");
    case.mount(json!({"destination": "/proc/sys/net", "type": "tmpfs", "source": "tmpfs"}));
    case.refused("because it is inside /proc");
    // Without a procfs of the container's own, the image's files are not taken for one.
    let case = Case::new("cat /proc/sys/net/ipv4/ip_forward");
    fs::create_dir_all(case.root("proc/sys/net/ipv4")).unwrap();
    fs::write(case.root("proc/sys/net/ipv4/ip_forward"), "fake\n").unwrap();
    case.without_mount("/proc");
    case.configure(|spec| {
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    let (_, said) = case.run();
    assert_eq!(said, "fake\n");
    let file = Path::new("proc/sys/net/ipv4/ip_forward").to_owned();
    assert_eq!(
        fs::read_to_string(case.root(file.to_str().unwrap())).unwrap(),
        "fake\n"
    );
}
