//! A container of a test, driven by the command line.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde_json::{Value, json};

/// A bundle, a state root, and one container; all of it goes with the value.
pub struct Case {
    pub folder: tempfile::TempDir,
    pub id: String,
}

impl Case {
    pub fn new(args: &[&str]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("install the package busybox-static");
        for applet in ["sh", "true", "cat", "id", "echo", "sleep", "stty", "dd"] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let name = folder.path().file_name().unwrap().to_string_lossy();
        let id = format!("cli-{}", name.trim_start_matches('.'));
        let case = Case { folder, id };
        case.configure(|spec| spec["process"]["args"] = json!(args));
        case
    }

    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.folder.path().join("config.json");
        let mut spec = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => {
                let mut spec = serde_json::to_value(wharf_runtime::default_spec()).unwrap();
                spec["process"]["terminal"] = json!(false);
                spec["linux"]["cgroupsPath"] = json!(format!("/wharf-runtime-cli/{}", self.id));
                spec
            }
        };
        change(&mut spec);
        fs::write(path, spec.to_string()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .arg("--root")
            .arg(self.path("state"))
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Exit code, standard output, standard error. Output goes through files: a container left running must not keep
    /// a pipe open.
    pub fn call(&self, words: &[&str]) -> (i32, String, String) {
        let (out, err) = (self.path("out"), self.path("err"));
        let status = self
            .command(words)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        (
            status.code().unwrap(),
            fs::read_to_string(out).unwrap(),
            fs::read_to_string(err).unwrap(),
        )
    }

    pub fn good(&self, words: &[&str]) -> String {
        let (code, out, err) = self.call(words);
        assert_eq!(code, 0, "{words:?}: {err}");
        out
    }

    pub fn refused(&self, words: &[&str], code: i32, message: &str) {
        let (found, _, err) = self.call(words);
        assert!(err.contains(message), "{words:?}: {err}");
        assert_eq!(found, code, "{words:?}: {err}");
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.good(&["state", &self.id])).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub fn init(&self) -> OwnedFd {
        let pid = i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap();
        rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
    }
}

/// The program: as it was built, or as the virtual machine has it.
pub fn program() -> PathBuf {
    std::env::var_os("WHARF_RUNTIME")
        .map_or_else(|| env!("CARGO_BIN_EXE_wharf-runtime").into(), PathBuf::from)
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).output();
    }
}

pub fn await_end(init: &OwnedFd) {
    let limit = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let ended = rustix::event::poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "the container goes on");
}
