//! A machine of one's own for a test: its own mount, network and process namespaces, its own data folder, a daemon
//! and a registry in it. Whatever a test starts ends with the sandbox.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Ran, run, run_with_input};

/// Address of the sandbox's machine, on a link that is not loopback.
pub const MACHINE_ADDRESS: &str = "10.99.0.2";
/// Where [`Sandbox::start_registry`] listens.
pub const REGISTRY: &str = "127.0.0.1:5000";

const READY_LIMIT: Duration = Duration::from_secs(60);

/// The namespaces, and all that runs in them. Dropping it ends every process inside.
#[derive(Debug)]
pub struct Sandbox {
    /// Held open: the first process ends, and the kernel with it all others, when this closes.
    stdin: Option<ChildStdin>,
    holder: Child,
    init: u32,
    folder: TempDir,
    wharf: PathBuf,
}

/// A daemon or server in a sandbox.
#[derive(Debug)]
pub struct Server {
    entering: Child,
    pid: u32,
}

impl Sandbox {
    /// Makes a sandbox that runs this `wharf` binary (`env!("CARGO_BIN_EXE_wharf")`).
    pub fn new(wharf: impl Into<PathBuf>) -> Sandbox {
        let folder = tempfile::Builder::new()
            .prefix("wharf-test-")
            .tempdir()
            .expect("make the sandbox's folder");
        // Orphans are reaped by the kernel since SIGCHLD is ignored; `cat` ends when the test does.
        let setup = format!(
            "set -e; ip link set lo up; ip link add machine type bridge; \
             ip addr add {MACHINE_ADDRESS}/24 dev machine; ip link set machine up; \
             ip route add default via 10.99.0.1; mount -t tmpfs -o mode=755 none /run; \
             echo ready; trap '' CHLD; exec cat >/dev/null"
        );
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--uts",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--propagation",
                "private",
            ])
            .args(["sh", "-c", &setup])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare (package util-linux) as root");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe was asked for"))
            .read_line(&mut line)
            .expect("read from the sandbox");
        assert_eq!(
            line, "ready\n",
            "the sandbox could not be set up; it needs root and the package iproute2"
        );
        let init = only_child(holder.id());
        Sandbox {
            stdin: holder.stdin.take(),
            holder,
            init,
            folder,
            wharf: wharf.into(),
        }
    }

    /// A folder that goes with the sandbox, on a disk file system.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// URL of the daemon's socket.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder().join("wharf.sock").display())
    }

    /// The daemon's data root.
    pub fn data_root(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The daemon's run root.
    pub fn run_root(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// A command that will run inside, with the clients pointed at the sandbox's daemon.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.init.to_string(),
                "--mount",
                "--net",
                "--pid",
                "--uts",
                "--",
            ])
            .arg(program.as_ref())
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.folder().join("client"))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("NOTIFY_SOCKET");
        command
    }

    /// Runs a program inside.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Ran {
        run(self.command(program).args(args))
    }

    /// Runs a shell line inside.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Ran {
        run(self.command("sh").args(["-c", line]))
    }

    /// Runs `wharf` inside.
    #[track_caller]
    pub fn wharf(&self, args: &[&str]) -> Ran {
        run(self.command(&self.wharf).args(args))
    }

    /// Runs a client inside with something on standard input.
    #[track_caller]
    pub fn client_with_input(&self, client: Client, args: &[&str], input: &[u8]) -> Ran {
        run_with_input(self.command(self.program(client)).args(args), input)
    }

    /// Runs a client inside.
    #[track_caller]
    pub fn client(&self, client: Client, args: &[&str]) -> Ran {
        run(self.command(self.program(client)).args(args))
    }

    /// Path of a client's program.
    pub fn program(&self, client: Client) -> &Path {
        match client {
            Client::Wharf => &self.wharf,
            Client::Docker => Path::new("docker"),
        }
    }

    /// Starts `wharf daemon` with these further arguments and waits until it is ready.
    #[track_caller]
    pub fn start_daemon(&self, args: &[&str]) -> Server {
        let (data, run_root, host) = (self.data_root(), self.run_root(), self.host());
        let mut command = self.command(&self.wharf);
        command
            .args(["daemon", "-H", &host, "--data-root"])
            .arg(data)
            .arg("--run-root")
            .arg(run_root)
            .args(args);
        self.start(command, "daemon.log")
    }

    /// Starts `wharf registry serve` on [`REGISTRY`] with a copy of the test images' registry and waits until it is ready.
    #[track_caller]
    pub fn start_registry(&self, args: &[&str]) -> Server {
        let data = self.folder().join("registry");
        if !data.exists() {
            run(Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(crate::images::registry())
                .arg(&data))
            .ok();
        }
        let mut command = self.command(&self.wharf);
        command
            .args(["registry", "serve", "--addr", REGISTRY, "--data"])
            .arg(data)
            .args(args);
        self.start(command, "registry.log")
    }

    /// Starts a server that reports readiness by sd_notify(3); its messages go to a file in the sandbox's folder.
    #[track_caller]
    pub fn start(&self, mut command: Command, log: &str) -> Server {
        let log_path = self.folder().join(log);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .expect("open the log");
        let socket_path = self.folder().join("notify.sock");
        let _ = fs::remove_file(&socket_path);
        let socket = UnixDatagram::bind(&socket_path).expect("bind the readiness socket");
        socket
            .set_read_timeout(Some(READY_LIMIT))
            .expect("bound the wait");
        let entering = command
            .env("NOTIFY_SOCKET", &socket_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start nsenter (package util-linux)");
        let mut buffer = [0; 64];
        if let Err(error) = socket.recv(&mut buffer) {
            panic!(
                "{command:?} is not ready: {error}\n{}",
                fs::read_to_string(log_path).unwrap_or_default()
            );
        }
        let pid = only_child(entering.id());
        Server { entering, pid }
    }

    /// What the daemon logged so far.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.folder().join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.daemon_log();
            let start = log.len().saturating_sub(8_000);
            eprintln!(
                "--- the daemon's log ---\n{}",
                log.get(start..).unwrap_or(&log)
            );
        }
        self.stdin.take();
        let _ = self.holder.wait();
        self.remove_control_groups();
    }
}

impl Sandbox {
    /// Groups of containers that were ended from outside: nobody is left to remove them.
    fn remove_control_groups(&self) {
        let Ok(containers) = fs::read_dir(self.data_root().join("containers")) else {
            return;
        };
        for container in containers.flatten() {
            for controller in fs::read_dir("/sys/fs/cgroup")
                .into_iter()
                .flatten()
                .flatten()
            {
                let _ =
                    fs::remove_dir(controller.path().join("docker").join(container.file_name()));
            }
            let _ = fs::remove_dir(Path::new("/sys/fs/cgroup/docker").join(container.file_name()));
        }
    }
}

impl Server {
    /// PID as seen from outside the sandbox.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal("KILL");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        self.signal("TERM");
    }

    fn signal(&mut self, signal: &str) {
        run(Command::new("kill").args([&format!("-{signal}"), &self.pid.to_string()])).ok();
        self.entering.wait().expect("wait for the server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.entering.try_wait() {
            let _ = run(Command::new("kill").args(["-KILL", &self.pid.to_string()]));
            let _ = self.entering.wait();
        }
    }
}

/// Who drives the daemon: both must show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Our own command.
    Wharf,
    /// The unmodified docker CLI.
    Docker,
}

/// PID of the only child of a process that has exactly one.
fn only_child(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    children
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("{path} holds {children:?}, not one child"))
}
