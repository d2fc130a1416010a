//! A server of one's own for a test, and kubectl pointed at it.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use wharf_testkit::kubectl::{self, Kubectl};
use wharf_testkit::process::{run, run_with_input};

/// A server on a free port of loopback. It ends with the test.
pub struct House {
    folder: TempDir,
    child: Child,
}

impl House {
    /// A server on an empty data root.
    pub fn open() -> House {
        kubectl::install();
        let folder = tempfile::Builder::new()
            .prefix("wharf-server-")
            .tempdir()
            .unwrap();
        let child = start(&folder.path().join("data"), &folder.path().join("log"));
        House { folder, child }
    }

    /// SIGKILL, then a new server on the same data root.
    pub fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = start(&self.data_root(), &self.folder.path().join("log"));
    }

    /// Ends the server as an operator does.
    pub fn stop(&mut self) {
        run(Command::new("kill").arg(self.child.id().to_string())).ok();
        self.child.wait().unwrap();
    }

    /// A new server on the same data root, after [`House::stop`].
    pub fn start(&mut self) {
        self.child = start(&self.data_root(), &self.folder.path().join("log"));
    }

    /// The server's folder.
    pub fn data_root(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The test's folder.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// A kubeconfig with the server but without a user.
    pub fn bare_kubeconfig(&self) -> PathBuf {
        let whole = fs::read_to_string(self.data_root().join("admin.kubeconfig")).unwrap();
        let bare: String = whole
            .lines()
            .filter(|line| !line.contains("client-"))
            .map(|line| format!("{line}\n"))
            .collect();
        let path = self.folder.path().join("bare.kubeconfig");
        fs::write(&path, bare.replace("  user:\n", "  user: {}\n")).unwrap();
        path
    }

    /// curl as the administrator; `{}` in the arguments stands for the server's URL. Gives status and body.
    #[track_caller]
    pub fn curl(&self, args: &[&str]) -> (u16, String) {
        let kubeconfig = fs::read_to_string(self.data_root().join("admin.kubeconfig")).unwrap();
        let value = |name: &str| {
            let line = kubeconfig.lines().find(|l| l.contains(name)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "30", "-w", "\n%{http_code}"]);
        for (option, name) in [
            ("--cacert", "certificate-authority-data"),
            ("--cert", "client-certificate-data"),
            ("--key", "client-key-data"),
        ] {
            let path = self.folder.path().join(format!("{name}.pem"));
            let decode = run_with_input(Command::new("base64").arg("-d"), value(name).as_bytes());
            fs::write(&path, decode.ok()).unwrap();
            curl.arg(option).arg(path);
        }
        let server = value("server:");
        curl.args(args.iter().map(|arg| arg.replace("{}", &server)));
        let ran = run(&mut curl);
        let (body, code) = ran
            .stdout
            .rsplit_once('\n')
            .unwrap_or_else(|| panic!("{}", ran.both()));
        (code.parse().unwrap(), body.to_owned())
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Kubectl for House {
    fn kubectl(&self) -> Command {
        let mut command = Command::new("timeout");
        command
            .arg("60")
            .arg(kubectl::program())
            .arg("--kubeconfig")
            .arg(self.data_root().join("admin.kubeconfig"))
            .arg("--cache-dir")
            .arg(self.folder.path().join("cache"))
            .env("HOME", self.folder.path());
        command
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- the server's log ---\n{log}");
        }
    }
}

fn start(data: &std::path::Path, log: &std::path::Path) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["server", "--listen", "127.0.0.1:0", "--data-root"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The second line is the last thing that is said before requests are served.
    let said: Vec<String> = lines.by_ref().take(2).map(|l| l.unwrap()).collect();
    assert_eq!(said.len(), 2, "the server ended: {said:?}");
    child
}
