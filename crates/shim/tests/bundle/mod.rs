//! A bundle with busybox, and ways to watch what a supervisor does without fixed sleeps.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Once;

use oci_spec::runtime::Process;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;
use rustix::mount::MountFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::{Value, json};
use wharf_shim::client::{self, AttachStreams, Idle, Launch};
use wharf_shim::protocol::LogConfig;

/// Folder, root file system and configuration of one container.
pub struct Bundle {
    folder: tempfile::TempDir,
    pub spec: Value,
}

/// Installs the supervisor's program in this process.
pub fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // Another build of the same supervisor can be put to the test, such as the one that is shipped.
        let path = std::env::var_os("WHARF_SHIM")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_wharf-shim").into());
        client::install(fs::read(path).unwrap().leak()).unwrap();
    });
}

impl Bundle {
    pub fn new(args: &[&str]) -> Bundle {
        install();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc", "../run"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("install the package busybox-static");
        for applet in [
            "sh", "cat", "echo", "sleep", "seq", "stty", "kill", "printf", "grep", "ls",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        let mut spec = serde_json::to_value(wharf_runtime::default_spec()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(args);
        spec["root"]["path"] = json!(root);
        let bundle = Bundle { folder, spec };
        let mut bundle = bundle;
        bundle.spec["linux"]["cgroupsPath"] = json!(format!("/wharf-shim-test/{}", bundle.id()));
        bundle
    }

    pub fn id(&self) -> String {
        let name = self.folder.path().file_name().unwrap().to_string_lossy();
        format!("{}0123456789abcdef", name.trim_start_matches('.'))
    }

    pub fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("c-json.log")
    }

    pub fn launch(&self) -> Launch {
        Launch {
            id: self.id(),
            run_dir: self.run_dir(),
            spec: serde_json::from_value(self.spec.clone()).unwrap(),
            log: LogConfig::JsonFile {
                path: self.log(),
                max_size_bytes: None,
                max_files: 1,
                compress: false,
                attributes: BTreeMap::new(),
            },
            open_stdin: false,
            stdin_once: false,
            console_size: None,
            rootfs: None,
            netns: None,
            ports: Vec::new(),
            attached: Vec::new(),
        }
    }

    pub fn process(&self, args: &[&str], terminal: bool) -> Process {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(args);
        process["terminal"] = json!(terminal);
        serde_json::from_value(process).unwrap()
    }

    pub fn assert_no_cgroup(&self) {
        for controller in ["memory", "pids", "cpu", "freezer"] {
            let path = Path::new("/sys/fs/cgroup")
                .join(controller)
                .join("wharf-shim-test")
                .join(self.id());
            assert!(!path.exists(), "{} is left", path.display());
        }
    }
}

impl Drop for Bundle {
    /// Nothing outlives a failed test.
    fn drop(&mut self) {
        if let Ok(Some(supervisor)) = client::Supervisor::connect(&self.run_dir()) {
            let _ = supervisor.signal(9);
            while let Ok(Some(_)) = supervisor.next_notice() {}
        }
    }
}

pub fn streams() -> AttachStreams {
    AttachStreams {
        stdin: true,
        stdout: true,
        stderr: true,
    }
}

pub fn log_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}")))
        .collect()
}

/// One frame: stream and payload; `None` at the end.
pub fn frame(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).ok()?;
    assert_eq!(header[1..4], [0; 3]);
    let mut payload = vec![0; u32::from_be_bytes(header[4..].try_into().unwrap()) as usize];
    stream.read_exact(&mut payload).unwrap();
    Some((header[0], payload))
}

/// Output and errors up to the end.
pub fn frames(mut stream: UnixStream) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((number, payload)) = frame(&mut stream) {
        match number {
            1 => out.extend(payload),
            2 => err.extend(payload),
            other => panic!("stream {other}"),
        }
    }
    (out, err)
}

pub fn read_until(stream: &mut UnixStream, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut byte = [0];
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "ended after {:?}",
            String::from_utf8_lossy(&seen)
        );
        seen.push(byte[0]);
    }
}

pub fn read_to_end(mut stream: UnixStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    String::from_utf8(rest).unwrap()
}

pub fn pidfd(pid: i32) -> OwnedFd {
    rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
}

pub fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The process at the other end of an idle supervisor's socket, found by its placeholder in `argv`.
pub fn peer(_idle: &Idle) -> OwnedFd {
    let is_idle = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|text| text.starts_with(b"wharf-shim\0------------"))
    };
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pidfd(pids.filter(is_idle).max().expect("no idle supervisor"))
}

pub fn wait_readable(fd: &OwnedFd) {
    rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], None).unwrap();
}

/// Waits until nothing was written to the log for a second; its output in bytes.
pub fn log_stands_still(path: &Path) -> usize {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).unwrap();
    let second = rustix::event::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let mut buffer = [0; 4096];
    while rustix::event::poll(
        &mut [PollFd::new(&watch.as_fd(), PollFlags::IN)],
        Some(&second),
    )
    .unwrap()
        > 0
    {
        rustix::io::read(&watch, &mut buffer).unwrap();
    }
    log_lines(path)
        .iter()
        .map(|line| line["log"].as_str().unwrap().len())
        .sum()
}

/// A file system with little room.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new(bytes: usize) -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        rustix::mount::mount(
            "tmpfs",
            folder.path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        SmallDisk(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
