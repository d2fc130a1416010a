//! The acceptance script: what a textbook on containers shows, row by row, with both clients: `wharf` and the unmodified
//! `docker`. Real images made from Debian packages, pulled from a registry of Wharf's own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use wharf_testkit::images;
use wharf_testkit::process::Ran;
use wharf_testkit::sandbox::{Client, MACHINE_ADDRESS, REGISTRY, Sandbox, Server};

/// A sandbox with a registry that stands in for the hub, and a daemon.
struct House {
    sandbox: Sandbox,
    client: Client,
    _registry: Server,
    _daemon: Server,
}

impl House {
    fn open(client: Client) -> House {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
        let registry = sandbox.start_registry(&[]);
        let daemon = sandbox.start_daemon(&["--hub", &format!("http://{REGISTRY}")]);
        House {
            sandbox,
            client,
            _registry: registry,
            _daemon: daemon,
        }
    }

    #[track_caller]
    fn try_run(&self, args: &[&str]) -> Ran {
        self.sandbox.client(self.client, args)
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        self.try_run(args).ok().to_owned()
    }

    #[track_caller]
    fn curl(&self, url: &str) -> String {
        // A server that was just started needs a moment to listen: until then curl is refused, or cut off.
        let args = [
            "-sS",
            "--retry",
            "30",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "--max-time",
            "20",
            url,
        ];
        self.sandbox.run("curl", &args).ok().to_owned()
    }

    /// What a person at a terminal sees of a command of the client's.
    fn on_terminal(&self, command: &str) -> String {
        let program = self.sandbox.program(self.client).display();
        let line = format!("script -qec '{program} {command}' /dev/null");
        self.sandbox.sh(&line).ok().to_owned()
    }

    fn inspect(&self, format: &str, container: &str) -> String {
        self.run(&["inspect", "--format", format, container])
    }

    /// A build context with an example program and its Dockerfile.
    fn context(&self, example: &str) -> String {
        let folder = self.sandbox.folder().join(example);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(images::example(example), folder.join(example)).unwrap();
        let dockerfile = wharf_testkit::workspace_dir()
            .join("examples")
            .join(example)
            .join("Dockerfile");
        fs::copy(dockerfile, folder.join("Dockerfile")).unwrap();
        folder.display().to_string()
    }
}

/// Runs a chapter with each client.
macro_rules! both {
    ($($chapter:ident),* $(,)?) => {
        mod wharf {
            $(#[test] fn $chapter() { super::$chapter(super::Client::Wharf) })*
        }
        mod docker {
            $(#[test] fn $chapter() { super::$chapter(super::Client::Docker) })*
        }
    };
}

both!(
    running,
    published_ports,
    hello_world,
    building,
    logging_in_and_shipping,
    namespaces,
    shared_namespaces,
    control_groups,
    memory_limits,
    linked_containers,
    networks_and_volumes,
);

/// Rows 1–5, 9.
fn running(client: Client) {
    let house = House::open(client);
    assert!(house.run(&["--version"]).contains("ersion"));
    let pulled = house.try_run(&["run", "-d", "nginx"]);
    let id = pulled.ok().lines().last().unwrap().to_owned();
    assert_eq!(id.len(), 64);
    assert!(
        pulled
            .both()
            .contains("Unable to find image 'nginx:latest' locally"),
        "{pulled:?}"
    );
    assert!(
        pulled.both().contains("Pulling from library/nginx"),
        "{pulled:?}"
    );

    let listed = house.run(&["ps"]);
    let line = listed.lines().nth(1).expect("a container is listed");
    assert!(line.starts_with(&id[..12]), "{listed}");
    for part in ["nginx", "\"nginx -g 'daemon of", "Up ", "80/tcp", "_"] {
        assert!(line.contains(part), "{part:?} is missing in\n{listed}");
    }
    let address = house.inspect("{{.NetworkSettings.IPAddress}}", &id[..4]);
    assert!(address.starts_with("172.17.0."), "{address}");
    assert!(
        house
            .curl(&format!("{address}:80"))
            .contains("Welcome to nginx!")
    );
    let logs = house.try_run(&["logs", &id[..4]]);
    assert!(logs.stdout.contains("GET / HTTP/1.1"), "{logs:?}");
    let both = "echo out; echo err >&2";
    house.run(&["run", "--name", "both", "busybox", "sh", "-c", both]);
    let logs = house.try_run(&["logs", "both"]);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("out\n", "err\n")
    );
    house.run(&["rm", "-f", &id]);
}

/// Row 6.
fn published_ports(client: Client) {
    let house = House::open(client);
    house.run(&["run", "-p", "8080:80", "-d", "--name", "web", "nginx"]);
    for host in ["127.0.0.1", "localhost", "[::1]", MACHINE_ADDRESS] {
        assert!(
            house
                .curl(&format!("http://{host}:8080"))
                .contains("Welcome to nginx!"),
            "{host}"
        );
    }
    let taken = house.try_run(&["run", "-p", "8080:80", "-d", "nginx"]);
    assert!(
        taken.failed().contains("port is already allocated"),
        "{taken:?}"
    );
    assert!(
        house
            .run(&["port", "web"])
            .contains("80/tcp -> 0.0.0.0:8080")
    );
    house.run(&["rm", "-f", "web"]);
    house.run(&["run", "-p", "8080:80", "-d", "--name", "web", "nginx"]);
    assert!(
        house
            .curl("http://127.0.0.1:8080")
            .contains("Welcome to nginx!")
    );
}

/// Rows 7, 8.
fn hello_world(client: Client) {
    let house = House::open(client);
    let text = house.run(&["run", "--name", "hello", "hello-world"]);
    assert!(text.contains("Hello from Wharf!"), "{text}");
    assert!(!house.run(&["ps"]).contains("hello-world"));
    let all = house.run(&["ps", "-a"]);
    assert!(all.contains("Exited (0) ") && all.contains(" ago"), "{all}");
    assert!(
        house
            .run(&["start", "-a", "hello"])
            .contains("Hello from Wharf!")
    );
    house.run(&["rm", "hello"]);
    assert!(!house.run(&["ps", "-a"]).contains("hello"));
    let unknown = house.try_run(&["run", "no-such-image"]);
    assert_eq!(unknown.code, 125, "{unknown:?}");
}

/// Rows 10–14.
fn building(client: Client) {
    let house = House::open(client);
    let context = house.context("k8s-for-beginners");
    let tag = "k8s-for-beginners:v0.0.1";
    let built = house.try_run(&["build", "-t", tag, &context]);
    built.ok();
    for part in [
        "Step 1/3 : FROM alpine:3.10",
        "Step 3/3 : CMD",
        "Successfully built",
        "Successfully tagged k8s-for-beginners:v0.0.1",
    ] {
        assert!(
            built.both().contains(part),
            "{part:?} is missing in {built:?}"
        );
    }
    let again = house.try_run(&["build", "-t", tag, &context]);
    again.ok();
    assert_eq!(again.both().matches("Using cache").count(), 2, "{again:?}");
    let listed = house.run(&["images"]);
    assert!(
        listed
            .lines()
            .any(|l| l.starts_with("k8s-for-beginners") && l.contains("v0.0.1")),
        "{listed}"
    );

    let id = house.run(&["run", "-p", "8080:8080", "-d", tag]);
    assert_eq!(house.curl("localhost:8080"), "Hello Kubernetes Beginners!");
    assert!(house.run(&["logs", &id]).contains("Ping from 172.17.0.1:"));
    let ids = house.run(&["ps", "-aq"]);
    house.run(&["rm", "-f", ids.trim()]);

    // Row 12: the base plus the binary, nothing more.
    let layers =
        |image: &str| house.run(&["inspect", "--format", "{{json .RootFS.Layers}}", image]);
    let (base, whole) = (layers("alpine:3.10"), layers(tag));
    assert!(whole.starts_with(base.trim_end_matches(']')), "{whole}");
    assert_eq!(
        whole.matches("sha256:").count(),
        base.matches("sha256:").count() + 1
    );
    let size = |image: &str| -> u64 {
        let bytes = house.run(&["inspect", "--format", "{{.Size}}", image]);
        bytes.parse().unwrap()
    };
    let binary = fs::metadata(images::example("k8s-for-beginners"))
        .unwrap()
        .len();
    assert_eq!(size(tag), size("alpine:3.10") + binary);
}

/// A hub that asks for a password.
fn closed_house(client: Client) -> House {
    // ann's password is `secret`.
    const HTPASSWD: &str = "ann:$2b$04$49MHOFuZQJghAl0.FMDQd.plWjVDrCJ6Tt07dEs9NQUPnz7EoR8kG\n";
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
    let users = sandbox.folder().join("htpasswd");
    fs::write(&users, HTPASSWD).unwrap();
    let registry = sandbox.start_registry(&["--htpasswd", &users.display().to_string()]);
    let daemon = sandbox.start_daemon(&["--hub", &format!("http://{REGISTRY}")]);
    House {
        sandbox,
        client,
        _registry: registry,
        _daemon: daemon,
    }
}

/// Rows 15–17.
fn logging_in_and_shipping(client: Client) {
    let house = closed_house(client);
    let log_in = || house.run(&["login", "-u", "ann", "-p", "secret"]);
    log_in();
    house.run(&["pull", "alpine:3.10"]);
    let logout = house.run(&["logout"]);
    assert!(logout.contains("Removing login credentials"), "{logout}");
    let tag = "k8s-for-beginners:v0.0.1";
    house.run(&[
        "build",
        "-q",
        "-t",
        tag,
        &house.context("k8s-for-beginners"),
    ]);

    let refused = house.try_run(&["push", tag]).failed();
    assert!(refused.contains("k8s-for-beginners"), "{refused}");
    assert!(refused.contains("login"), "says what to do: {refused}");
    let wrong = house
        .try_run(&["login", "-u", "ann", "-p", "wrong"])
        .failed();
    assert!(wrong.contains("unauthorized"), "{wrong}");
    let login = log_in();
    assert!(login.contains("Login Succeeded"), "{login}");

    let name = "ann/k8s-for-beginners:v0.0.1";
    house.run(&["tag", tag, name]);
    let ids = house.run(&["images", "-q", "--no-trunc"]);
    let image = house.run(&["inspect", "--format", "{{.Id}}", tag]);
    assert_eq!(
        ids.matches(&image).count(),
        2,
        "two names, one image: {ids}"
    );
    let pushed = house.try_run(&["push", name]);
    pushed.ok();
    let text = pushed.both();
    assert!(
        text.contains("Pushed") && text.contains("digest: sha256:"),
        "{text}"
    );
    assert!(text.contains("Mounted from library/alpine"), "{text}");

    house.run(&["rmi", name, tag]);
    house.run(&["pull", name]);
    house.run(&["run", "-d", "-p", "8081:8080", name]);
    assert_eq!(house.curl("localhost:8081"), "Hello Kubernetes Beginners!");
}

/// Rows 18–20.
fn namespaces(client: Client) {
    let house = House::open(client);
    house.run(&[
        "run",
        "-d",
        "--name",
        "web",
        "-h",
        "k8s-for-beginners",
        "nginx",
    ]);
    let pid = house.inspect("{{.State.Pid}}", "web");
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        let own = house.sandbox.sh(&format!("readlink /proc/{pid}/ns/{kind}"));
        let machine = house.sandbox.sh(&format!("readlink /proc/1/ns/{kind}"));
        assert_ne!(own.ok(), machine.ok(), "{kind}");
    }
    assert_eq!(house.run(&["exec", "web", "hostname"]), "k8s-for-beginners");
    let typed = house.on_terminal("exec -it web sh -c \"tty; hostname\"");
    assert!(
        typed.contains("/dev/pts/") && typed.contains("k8s-for-beginners"),
        "{typed}"
    );
    let processes = house.run(&["exec", "web", "ps"]);
    assert!(
        processes
            .lines()
            .nth(1)
            .unwrap()
            .trim_start()
            .starts_with("1 "),
        "{processes}"
    );
    assert!(processes.contains("nginx"), "{processes}");
    let plain = house.run(&["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]);
    assert_eq!(house.run(&["exec", "plain", "hostname"]), plain[..12]);
}

/// Rows 21–23.
fn shared_namespaces(client: Client) {
    let house = House::open(client);
    house.run(&["run", "-d", "--name", "web", "nginx"]);
    let joined = house.run(&["run", "--rm", "--pid", "container:web", "busybox", "ps"]);
    assert!(joined.contains("nginx"), "{joined}");
    let host = house.run(&["run", "--rm", "--pid", "host", "busybox", "ps"]);
    assert!(host.contains("wharf"), "{host}");
    let page = house.run(&[
        "run",
        "--rm",
        "--net",
        "container:web",
        "netshoot",
        "curl",
        "-s",
        "--retry",
        "30",
        "--retry-connrefused",
        "localhost:80",
    ]);
    assert!(page.contains("Welcome to nginx!"), "{page}");
    let shared = "readlink /proc/self/ns/net; curl -s localhost:80";
    let typed = house.on_terminal(&format!(
        "run -it --rm --net container:web netshoot sh -c \"{shared}\""
    ));
    let own = house.run(&["exec", "web", "readlink", "/proc/self/ns/net"]);
    assert!(
        typed.contains(&own) && typed.contains("Welcome to nginx!"),
        "{typed}"
    );
    house.run(&[
        "run", "-d", "--name", "open", "--net", "host", "busybox", "sleep", "1000",
    ]);
    let pid = house.inspect("{{.State.Pid}}", "open");
    let (own, machine) = (
        format!("readlink /proc/{pid}/ns/net"),
        "readlink /proc/1/ns/net",
    );
    assert_eq!(house.sandbox.sh(&own).ok(), house.sandbox.sh(machine).ok());
}

/// Rows 24, 25, 28, 29.
fn control_groups(client: Client) {
    let house = House::open(client);
    let id = house.run(&["run", "-d", "busybox", "sleep", "1000"]);
    let (folder, file, unlimited) = if Path::new("/sys/fs/cgroup/memory").exists() {
        (
            "/sys/fs/cgroup/memory/docker",
            "memory.limit_in_bytes",
            "9223372036854771712",
        )
    } else {
        ("/sys/fs/cgroup/docker", "memory.max", "max")
    };
    let limit = fs::read_to_string(format!("{folder}/{id}/{file}")).unwrap();
    assert_eq!(limit.trim(), unlimited);
    let info = house.run(&["info"]);
    for part in [
        "Cgroup Driver: cgroupfs",
        "Cgroup Version: ",
        "Storage Driver: overlay2",
        "Kernel Version: ",
    ] {
        assert!(info.contains(part), "{part:?} is missing in\n{info}");
    }
    let pid = house.inspect("{{.State.Pid}}", &id);
    let parent = house
        .sandbox
        .sh(&format!("ps -o comm= -p $(ps -o ppid= -p {pid})"));
    assert_eq!(parent.ok().trim(), "wharf-shim");
    // The supervisor is nobody's child: it has been given to the machine's first process.
    let grandparent = house
        .sandbox
        .sh(&format!("ps -o ppid= -p $(ps -o ppid= -p {pid})"));
    assert_eq!(grandparent.ok().trim(), "1");
    house.run(&["rm", "-f", &id]);
    assert!(!Path::new(&format!("{folder}/{id}")).exists());
}

/// Rows 26, 27.
fn memory_limits(client: Client) {
    let house = House::open(client);
    house.run(&[
        "build",
        "-q",
        "-t",
        "memconsumer",
        &house.context("memconsumer"),
    ]);
    let run = |limit: &str, name: &str| {
        let (memory, swap) = (
            format!("--memory={limit}"),
            format!("--memory-swap={limit}"),
        );
        house.run(&["run", "--name", name, "-d", &memory, &swap, "memconsumer"])
    };
    run("100m", "enough");
    run("20m", "short");
    assert_eq!(house.run(&["wait", "short"]), "137");
    assert!(house.run(&["ps"]).contains("enough"));
    let all = house.run(&["ps", "-a", "--filter", "name=short"]);
    assert!(all.contains("Exited (137)"), "{all}");
    assert_eq!(house.inspect("{{.State.OOMKilled}}", "short"), "true");
    let logs = house.run(&["logs", "short"]);
    assert!(logs.contains("10 MB") && !logs.contains("40 MB"), "{logs}");
}

/// Rows 30, 31.
fn linked_containers(client: Client) {
    let house = House::open(client);
    house.run(&[
        "build",
        "-q",
        "-t",
        "pagecounter",
        &house.context("pagecounter"),
    ]);
    house.run(&["run", "--name", "db", "-d", "redis"]);
    let counter = || {
        house.run(&[
            "run",
            "-d",
            "--name",
            "counter",
            "-p",
            "8080:8080",
            "--link",
            "db:db",
            "-e",
            "REDIS=db:6379",
            "pagecounter",
        ])
    };
    counter();
    for visitor in 1..=3 {
        assert_eq!(
            house.curl("localhost:8080"),
            format!("Hello, you're visitor #{visitor}.")
        );
    }
    let env = house.run(&["run", "--rm", "--link", "db:db", "busybox", "env"]);
    assert!(env.contains("DB_PORT_6379_TCP_ADDR=172.17.0."), "{env}");
    house.run(&["rm", "-f", "counter"]);
    counter();
    assert_eq!(house.curl("localhost:8080"), "Hello, you're visitor #4.");
}

/// Rows 32, 33.
fn networks_and_volumes(client: Client) {
    let house = House::open(client);
    house.run(&[
        "build",
        "-q",
        "-t",
        "pagecounter",
        &house.context("pagecounter"),
    ]);
    house.run(&["network", "create", "pages"]);
    let db = || {
        house.run(&[
            "run",
            "--name",
            "db",
            "-d",
            "--net",
            "pages",
            "-v",
            "count:/data",
            "redis",
        ])
    };
    db();
    house.run(&[
        "run",
        "-d",
        "--name",
        "counter",
        "--net",
        "pages",
        "-p",
        "8080:8080",
        "-e",
        "REDIS=db:6379",
        "pagecounter",
    ]);
    for visitor in 1..=3 {
        assert_eq!(
            house.curl("localhost:8080"),
            format!("Hello, you're visitor #{visitor}.")
        );
    }
    house.run(&["rm", "-f", "db"]);
    db();
    // The name leads to the new container, and the volume has kept the count.
    let page = house.sandbox.sh("for i in $(seq 30); do p=$(curl -s --max-time 10 localhost:8080); case \"$p\" in Hello*) echo \"$p\"; exit;; esac; sleep 0.3; done; exit 1");
    assert_eq!(page.ok(), "Hello, you're visitor #4.");
    house
        .run(&["volume", "ls"])
        .lines()
        .find(|l| l.contains("count"))
        .expect("the volume is listed");
}
