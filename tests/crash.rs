//! Any process may be killed at any instant: containers go on without the daemon, what happened meanwhile is known
//! afterwards, and nothing is left behind.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use wharf_testkit::images;
use wharf_testkit::process::Ran;
use wharf_testkit::sandbox::{Sandbox, Server};

/// Bound for everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const NGINX: &str = "Welcome to nginx!";

struct House {
    sandbox: Sandbox,
}

impl House {
    fn open() -> (House, Server) {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
        let daemon = sandbox.start_daemon(&[]);
        (House { sandbox }, daemon)
    }

    fn load(&self, name: &str) {
        let archive = images::path(name).display().to_string();
        self.run(&["load", "-i", &archive]);
    }

    fn try_run(&self, args: &[&str]) -> Ran {
        self.sandbox.wharf(args)
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        self.try_run(args).ok().to_owned()
    }

    fn inspect(&self, format: &str, container: &str) -> String {
        self.run(&["inspect", "--format", format, container])
    }

    #[track_caller]
    fn page(&self, url: &str) -> String {
        let args = [
            "-sS",
            "--retry",
            "20",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "--max-time",
            "20",
            url,
        ];
        self.sandbox.run("curl", &args).ok().to_owned()
    }

    /// Waits until something holds; what it is, for the message.
    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "{what} did not come about");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What containers leave on the machine while they are there: links, groups, folders, processes, snapshots.
    fn traces(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |what: &str, text: &str| {
            found.extend(
                text.lines()
                    .filter(|l| !l.is_empty())
                    .map(|l| format!("{what}: {l}")),
            );
        };
        for (what, line) in [
            (
                "mount",
                "grep -E 'overlay|/containers/' /proc/self/mountinfo",
            ),
            (
                "process",
                "ps -eo pid,args | grep -E 'sleep 1000|seq 1' | grep -v grep",
            ),
            (
                "rule",
                "nft list ruleset | grep -E 'dnat|: 172\\.' | grep -E ':80|8080'",
            ),
        ] {
            add(what, &self.sandbox.sh(line).stdout);
        }
        for folder in [
            self.sandbox.run_root().join("containers"),
            self.sandbox.data_root().join("containers"),
            self.sandbox.data_root().join("image/snapshots"),
            self.sandbox.data_root().join("scratch"),
        ] {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                add("folder", &entry.path().display().to_string());
            }
        }
        found
    }

    /// Control groups of these containers, of any hierarchy.
    fn groups(ids: &[String]) -> Vec<String> {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let places = roots.map(|root| root.path().join("docker"));
        places
            .chain([Path::new("/sys/fs/cgroup/docker").to_owned()])
            .flat_map(|place| ids.iter().map(move |id| place.join(id)))
            .filter(|place| place.exists())
            .map(|place| place.display().to_string())
            .collect()
    }
}

#[test]
fn containers_go_on_without_the_daemon() {
    let (house, mut daemon) = House::open();
    house.load("busybox");
    house.load("nginx");
    house.run(&["network", "create", "pages"]);
    house.run(&[
        "run", "-d", "--name", "web", "--net", "pages", "-p", "8080:80", "nginx",
    ]);
    assert!(house.page("127.0.0.1:8080").contains(NGINX));
    let count = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done; exit 3";
    house.run(&[
        "run", "-d", "--name", "counts", "busybox", "sh", "-c", count,
    ]);
    house.run(&[
        "run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1",
    ]);
    house.run(&[
        "run",
        "-d",
        "--restart",
        "always",
        "--name",
        "again",
        "busybox",
        "sleep",
        "1",
    ]);
    let pid = house.inspect("{{.State.Pid}}", "web");

    daemon.kill();
    assert!(
        house.page("127.0.0.1:8080").contains(NGINX),
        "without the daemon"
    );
    assert!(
        house.page("[::1]:8080").contains(NGINX),
        "through the supervisor's socket"
    );
    let over = |name: &str| {
        let id = house.sandbox.sh(&format!(
            "grep -l '\"name\":\"{name}\"' {}/containers/*/container.json",
            house.sandbox.data_root().display()
        ));
        let id = Path::new(id.ok())
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_owned();
        house
            .sandbox
            .run_root()
            .join("containers")
            .join(id)
            .join("exit.json")
            .exists()
    };
    for name in ["counts", "brief", "again"] {
        house.wait_for(name, || over(name));
    }

    let _daemon = house.sandbox.start_daemon(&[]);
    assert_eq!(house.inspect("{{.State.Pid}}", "web"), pid);
    what_happened_meanwhile_is_known(&house);
    names_and_ports_are_served_again(&house);
}

fn what_happened_meanwhile_is_known(house: &House) {
    assert!(
        house.page("127.0.0.1:8080").contains(NGINX),
        "with the new daemon"
    );
    let status = house.inspect("{{.State.Status}} {{.State.ExitCode}}", "counts");
    assert_eq!(status, "exited 3", "an end that nobody saw is known");
    assert_eq!(house.run(&["wait", "counts"]), "3");
    let expected: Vec<String> = (1..=300).map(|n| format!("line {n}")).collect();
    let logs = house.run(&["logs", "counts"]);
    assert!(
        logs.lines().eq(expected.iter().map(String::as_str)),
        "every line, once"
    );
    assert!(
        !house.run(&["ps", "-a"]).contains("brief"),
        "it was to go with its end"
    );
    house.wait_for("a restart", || {
        house.inspect("{{.State.Status}}", "again") == "running"
    });
}

fn names_and_ports_are_served_again(house: &House) {
    // Names are served again, to new containers and to the one that went on.
    let look_up = house.run(&[
        "run", "--rm", "--net", "pages", "busybox", "nslookup", "web",
    ]);
    let address = house.inspect("{{.NetworkSettings.Networks.pages.IPAddress}}", "web");
    assert!(look_up.contains(&address), "{look_up}");
    let resolved = house.run(&["exec", "web", "nslookup", "web"]);
    assert!(resolved.contains(&address), "{resolved}");
    house.run(&["stop", "-t", "1", "web"]);
    house.run(&["start", "web"]);
    assert!(house.page("127.0.0.1:8080").contains(NGINX));
}

#[test]
fn killed_at_any_instant_it_leaves_nothing() {
    let (house, mut daemon) = House::open();
    house.load("busybox");
    let context = house.sandbox.folder().join("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nARG N\nRUN echo $N > /n\n",
    )
    .unwrap();
    let context = context.display().to_string();
    let mut ids = Vec::new();
    for round in 0..15u64 {
        let number = format!("N={round}");
        thread::scope(|scope| {
            // Each of them may be cut off anywhere; none may be left half done.
            scope.spawn(|| house.try_run(&["run", "--rm", "busybox", "true"]));
            scope.spawn(|| {
                house.try_run(&["run", "-d", "-p", "8080:80", "busybox", "sleep", "1000"])
            });
            scope.spawn(|| {
                house.try_run(&[
                    "build",
                    "-q",
                    "-t",
                    "built",
                    "--build-arg",
                    &number,
                    &context,
                ])
            });
            scope.spawn(|| {
                let running = house.try_run(&["ps", "-q"]).stdout;
                running
                    .lines()
                    .for_each(|id| drop(house.try_run(&["rm", "-f", id])));
            });
            // Spread over the time that those take.
            thread::sleep(Duration::from_millis(7 * round));
            daemon.kill();
        });
        daemon = house.sandbox.start_daemon(&[]);
        ids.extend(
            house
                .run(&["ps", "-aq", "--no-trunc"])
                .lines()
                .map(str::to_owned),
        );
    }
    house.try_run(&["run", "-d", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let traces = house.traces();
    for kind in ["process", "rule", "folder"] {
        assert!(traces.iter().any(|t| t.starts_with(kind)), "{traces:?}");
    }
    let left = house.run(&["ps", "-aq"]);
    for id in left.lines() {
        house.run(&["rm", "-f", id]);
    }
    // A build's containers have no name that a person gave.
    daemon.stop();
    daemon = house.sandbox.start_daemon(&[]);
    assert_eq!(house.run(&["ps", "-aq"]), "");
    house.wait_for("the last traces' removal", || house.traces().is_empty());
    assert_eq!(House::groups(&ids), Vec::<String>::new());
    let built = house.run(&["run", "--rm", "-p", "8080:80", "busybox", "echo", "fine"]);
    assert_eq!(built, "fine");
    drop(daemon);
}

#[test]
fn a_killed_supervisor_is_an_end() {
    let (house, _daemon) = House::open();
    house.load("busybox");
    let id = house.run(&["run", "-d", "--name", "held", "busybox", "sleep", "1000"]);
    let pid = house.inspect("{{.State.Pid}}", "held");
    house
        .sandbox
        .sh(&format!("kill -KILL $(ps -o ppid= -p {pid})"))
        .ok();
    assert_eq!(house.run(&["wait", "held"]), "137");
    let status = house.inspect("{{.State.Status}} {{.State.ExitCode}}", "held");
    assert_eq!(status, "exited 137");
    let alive = house.sandbox.sh(&format!("ps -p {pid} -o args="));
    assert!(
        !alive.stdout.contains("sleep 1000"),
        "nothing runs unsupervised"
    );
    assert_eq!(House::groups(&[id]), Vec::<String>::new());
    house.run(&["start", "held"]);
    assert_eq!(house.run(&["exec", "held", "echo", "again"]), "again");
    house.run(&["rm", "-f", "held"]);
}

#[test]
fn the_first_run_starts_the_daemon() {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
    // The default places, empty ones of the sandbox's own.
    let places = "mkdir -p /var/lib/wharf && mount -t tmpfs none /var/lib/wharf";
    sandbox.sh(places).ok();
    let image = images::path("busybox").display().to_string();
    let wharf = env!("CARGO_BIN_EXE_wharf");
    let line = format!(
        "unset DOCKER_HOST; {wharf} load -i {image} && {wharf} run --rm busybox echo works"
    );
    let ran = sandbox.sh(&line);
    assert!(ran.ok().ends_with("works"), "{ran:?}");
    let told: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|l| l.contains("daemon"))
        .collect();
    assert_eq!(told.len(), 1, "says so, once, in one line: {ran:?}");
    let again = sandbox.sh(&format!("unset DOCKER_HOST; {wharf} ps"));
    assert_eq!(again.ok().lines().count(), 1);
    assert_eq!(again.stderr, "");
}
