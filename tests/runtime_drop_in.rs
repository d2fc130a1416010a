//! Wharf in the place of runc under other people's engines, as Debian ships them: podman, containerd and dockerd run
//! containers with it, told nothing but its path.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wharf_testkit::images;
use wharf_testkit::process::{Ran, run};
use wharf_testkit::sandbox::Sandbox;

const MEMORY: &str = "67108864";
const MEMORY_FILE: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
const ENGINE_SECONDS_MAX: u64 = 60;

/// A sandbox with an engine in it; `runc` in its folder is a link to `wharf`.
struct Bench {
    sandbox: Sandbox,
    engine: Option<Child>,
}

impl Bench {
    fn new() -> Bench {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
        symlink(
            env!("CARGO_BIN_EXE_wharf"),
            sandbox.folder().join("wharf-runtime"),
        )
        .unwrap();
        symlink(env!("CARGO_BIN_EXE_wharf"), sandbox.folder().join("runc")).unwrap();
        // podman wants the file that DOCKER_CONFIG promises.
        fs::create_dir(sandbox.folder().join("client")).unwrap();
        fs::write(sandbox.folder().join("client/config.json"), "{}").unwrap();
        Bench {
            sandbox,
            engine: None,
        }
    }

    fn path(&self, name: &str) -> String {
        self.sandbox.folder().join(name).display().to_string()
    }

    fn image(&self) -> PathBuf {
        images::path("busybox")
    }

    /// Starts an engine and waits until this line succeeds in the sandbox.
    fn start(&mut self, mut command: Command, ready: &str) {
        let log = fs::File::create(self.path("engine.log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.engine = Some(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(ENGINE_SECONDS_MAX);
        // These engines tell nobody when they listen: their clients are asked, each of which waits by itself a while.
        while self.sandbox.sh(ready).code != 0 {
            assert!(Instant::now() < end, "the engine does not listen");
        }
    }

    /// A command of the engine's client, ended by force when it hangs.
    #[track_caller]
    fn call(&self, client: &[String], args: &[&str]) -> Ran {
        let mut command = self.sandbox.command("timeout");
        command.arg("60").args(client).args(args);
        run(&mut command)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("engine.log")).unwrap_or_default();
            eprintln!("--- the engine's log ---\n{log}");
        }
        if let Some(mut engine) = self.engine.take() {
            // What it started ends with the sandbox.
            let _ = engine.kill();
            let _ = engine.wait();
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_name_it_is_called_by_makes_it_the_runtime() {
    let bench = Bench::new();
    for name in ["runc", "wharf-runtime"] {
        let said = bench.sandbox.run(&bench.path(name), &["--version"]);
        assert!(said.ok().contains("spec: 1."), "{}", said.both());
    }
}

#[test]
fn podman_runs_containers_with_it() {
    let bench = Bench::new();
    let podman = words(&format!(
        "podman --root {} --runroot {} --tmpdir {} --runtime {} --cgroup-manager cgroupfs --storage-driver vfs \
         --events-backend file",
        bench.path("storage"),
        bench.path("runroot"),
        bench.path("libpod"),
        bench.path("runc"),
    ));
    let call = |args: &[&str]| bench.call(&podman, args);
    call(&["load", "-i", bench.image().to_str().unwrap()]).ok();
    let one_shot = ["run", "--rm", "--network", "none", "busybox"];
    let ended = call(&[&one_shot[..], &["sh", "-c", "echo hello; exit 9"]].concat());
    let (code, said) = (ended.code, ended.stdout.trim());
    assert_eq!((code, said), (9, "hello"), "{}", ended.stderr);
    call(&[
        "run",
        "-d",
        "--name",
        "drop-in",
        "--network",
        "none",
        "--memory",
        MEMORY,
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    assert_eq!(call(&["exec", "drop-in", "cat", MEMORY_FILE]).ok(), MEMORY);
    assert_eq!(call(&["exec", "drop-in", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(call(&["ps", "--format", "{{.Names}}"]).ok(), "drop-in");
    call(&["pause", "drop-in"]).ok();
    call(&["unpause", "drop-in"]).ok();
    call(&["stop", "-t", "0", "drop-in"]).ok();
    let code = call(&["inspect", "-f", "{{.State.ExitCode}}", "drop-in"]);
    assert_eq!(code.ok(), "137");
    call(&["rm", "drop-in"]).ok();
    assert_eq!(call(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "");
}

#[test]
fn containerd_runs_containers_with_it() {
    let mut bench = Bench::new();
    let socket = bench.path("containerd.sock");
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {socket:?}\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
        bench.path("root"),
        bench.path("state"),
        bench.path("opt"),
    );
    fs::write(bench.path("config.toml"), config).unwrap();
    let mut containerd = bench.sandbox.command("containerd");
    containerd.args(["--config", &bench.path("config.toml")]);
    bench.start(containerd, &format!("ctr --address {socket} version"));
    let ctr = words(&format!("ctr --address {socket}"));
    let call = |args: &[&str]| bench.call(&ctr, args);
    call(&["image", "import", bench.image().to_str().unwrap()]).ok();
    let image = call(&["image", "ls", "-q"]).ok().to_owned();
    let runtime = bench.path("runc");
    let run = ["run", "--snapshotter", "native", "--runc-binary", &runtime];
    let ended = call(
        &[
            &run[..],
            &["--rm", &image, "once", "sh", "-c", "echo hello; exit 9"],
        ]
        .concat(),
    );
    let (code, said) = (ended.code, ended.stdout.trim());
    assert_eq!((code, said), (9, "hello"), "{}", ended.stderr);
    let limited = [
        "-d",
        "--memory-limit",
        MEMORY,
        &image,
        "drop-in",
        "sleep",
        "1000",
    ];
    call(&[&run[..], &limited].concat()).ok();
    assert!(call(&["task", "metrics", "drop-in"]).ok().contains(MEMORY));
    let exec = ["task", "exec", "--exec-id", "one", "drop-in"];
    assert_eq!(call(&[&exec[..], &["sh", "-c", "exit 7"]].concat()).code, 7);
    call(&["task", "pause", "drop-in"]).ok();
    assert!(call(&["task", "ls"]).ok().contains("PAUSED"));
    call(&["task", "resume", "drop-in"]).ok();
    call(&["task", "kill", "-s", "KILL", "drop-in"]).ok();
    // With the code of the task's end, which it waits for.
    let removed = call(&["task", "rm", "--force", "drop-in"]);
    assert!(matches!(removed.code, 0 | 137), "{}", removed.both());
    call(&["container", "rm", "drop-in"]).ok();
    assert_eq!(call(&["container", "ls", "-q"]).ok(), "");
}

#[test]
fn dockerd_runs_containers_with_it() {
    let mut bench = Bench::new();
    let host = format!("unix://{}", bench.path("dockerd.sock"));
    let mut dockerd = bench.sandbox.command("dockerd");
    dockerd.args(words(&format!(
        "-H {host} --data-root {} --exec-root {} -p {} --bridge none --iptables=false --storage-driver vfs \
         --add-runtime wharf={}",
        bench.path("docker"),
        bench.path("exec"),
        bench.path("pid"),
        bench.path("wharf-runtime"),
    )));
    bench.start(dockerd, &format!("docker -H {host} version"));
    let docker = words(&format!("docker -H {host}"));
    let call = |args: &[&str]| bench.call(&docker, args);
    call(&["load", "-i", bench.image().to_str().unwrap()]).ok();
    let run = ["run", "--runtime", "wharf"];
    let ended = call(
        &[
            &run[..],
            &["--rm", "busybox", "sh", "-c", "echo hello; exit 9"],
        ]
        .concat(),
    );
    let (code, said) = (ended.code, ended.stdout.trim());
    assert_eq!((code, said), (9, "hello"), "{}", ended.stderr);
    let kept = ["-d", "--name", "drop-in", "--memory", MEMORY, "busybox"];
    call(&[&run[..], &kept, &["sleep", "1000"]].concat()).ok();
    assert_eq!(call(&["exec", "drop-in", "cat", MEMORY_FILE]).ok(), MEMORY);
    assert_eq!(call(&["exec", "drop-in", "sh", "-c", "exit 7"]).code, 7);
    call(&[
        "update",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "drop-in",
    ])
    .ok();
    assert_eq!(
        call(&["exec", "drop-in", "cat", MEMORY_FILE]).ok(),
        "33554432"
    );
    call(&["pause", "drop-in"]).ok();
    let state = call(&["inspect", "-f", "{{.State.Status}}", "drop-in"]);
    assert_eq!(state.ok(), "paused");
    call(&["unpause", "drop-in"]).ok();
    call(&["stop", "-t", "0", "drop-in"]).ok();
    let format = "{{.State.ExitCode}} {{.HostConfig.Runtime}}";
    assert_eq!(
        call(&["inspect", "-f", format, "drop-in"]).ok(),
        "137 wharf"
    );
    call(&["rm", "drop-in"]).ok();
    assert_eq!(call(&["ps", "-aq"]).ok(), "");
}
