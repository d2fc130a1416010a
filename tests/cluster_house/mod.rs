//! A cluster of one machine for a test: a sandbox, `wharf up` in it, and kubectl pointed at it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use wharf_testkit::images;
use wharf_testkit::kubectl::{self, Kubectl, words};
use wharf_testkit::process::Ran;
use wharf_testkit::sandbox::{MACHINE_ADDRESS, Sandbox, Server};

/// The longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The cluster. It ends with the test.
pub struct Cluster {
    /// The machine.
    pub sandbox: Sandbox,
    /// `wharf up`.
    pub process: Server,
}

impl Cluster {
    /// A cluster on an empty data root, which has these images.
    #[track_caller]
    pub fn up(names: &[&str]) -> Cluster {
        kubectl::install();
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
        let process = start(&sandbox);
        for name in names {
            let path = images::path(name);
            sandbox.wharf(&["load", "-i", path.to_str().unwrap()]).ok();
        }
        Cluster { sandbox, process }
    }

    /// SIGKILL, then `wharf up` again on the same data root.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = start(&self.sandbox);
    }

    /// `wharf up` again, after its end.
    #[track_caller]
    pub fn start(&mut self) {
        self.process = start(&self.sandbox);
    }

    /// Waits until `kubectl wait` is content.
    #[track_caller]
    pub fn wait(&self, line: &str) -> String {
        self.run(&format!("wait --timeout={}s {line}", PATIENCE.as_secs()))
    }

    /// Waits until a field of an object has this value.
    #[track_caller]
    pub fn wait_field(&self, object: &str, path: &str, value: &str) {
        self.wait(&format!("{object} --for=jsonpath={{{path}}}={value}"));
    }

    /// Waits until a rollout has arrived.
    #[track_caller]
    pub fn rolled_out(&self, object: &str) {
        self.run(&format!(
            "rollout status {object} --timeout={}s",
            PATIENCE.as_secs()
        ));
    }

    /// Asks again until the answer is right: for what no event of the API tells.
    #[track_caller]
    pub fn until<T>(&self, what: &str, ask: impl Fn() -> Result<T, String>) -> T {
        let start = Instant::now();
        loop {
            match ask() {
                Ok(value) => return value,
                Err(last) if start.elapsed() > PATIENCE => panic!("{what}: still {last}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Runs a shell line on the machine.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Ran {
        self.sandbox.sh(line)
    }

    /// The page at a URL, as the machine sees it.
    pub fn page(&self, url: &str) -> Ran {
        self.sandbox.run("curl", &["-sS", "--max-time", "5", url])
    }

    /// Runs a shell line in a pod.
    #[track_caller]
    pub fn exec(&self, pod: &str, line: &str) -> Ran {
        let mut command = self.kubectl();
        command.args(["exec", pod, "--", "sh", "-c", line]);
        wharf_testkit::process::run(&mut command)
    }

    /// Names of the pods that a selector finds, in order.
    #[track_caller]
    pub fn pods(&self, selector: &str) -> Vec<String> {
        let found = self.run(&format!("get pods -l {selector} -o name"));
        words(&found.replace("pod/", ""))
    }
}

impl Kubectl for Cluster {
    fn kubectl(&self) -> Command {
        let mut command = self.sandbox.command("timeout");
        command
            .arg("120")
            .arg(kubectl::program())
            .arg("--kubeconfig")
            .arg(kubeconfig(&self.sandbox))
            .arg("--cache-dir")
            .arg(self.sandbox.folder().join("cache"))
            .env("HOME", self.sandbox.folder());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in [
                "get pods -A -o wide",
                "get events -A --sort-by=.metadata.creationTimestamp",
            ] {
                eprintln!("--- {line} ---\n{}", self.try_run(line).both());
            }
        }
    }
}

fn kubeconfig(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder().join("kubeconfig")
}

fn start(sandbox: &Sandbox) -> Server {
    let mut command = sandbox.command(sandbox.program(wharf_testkit::sandbox::Client::Wharf));
    command
        .args(["up", "-H", &sandbox.host()])
        .args(["--listen", &format!("{MACHINE_ADDRESS}:6443")])
        .arg("--data-root")
        .arg(sandbox.data_root())
        .arg("--run-root")
        .arg(sandbox.run_root())
        .arg("--kubeconfig-out")
        .arg(kubeconfig(sandbox));
    sandbox.start(command, "daemon.log")
}
