//! What a person or a program may get wrong: each with the reference's status code, a sentence that says what is wrong,
//! and nothing lost or left behind.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::thread;

use serde_json::{Value, json};
use wharf_testkit::images;
use wharf_testkit::process::Ran;
use wharf_testkit::sandbox::{Client, Sandbox, Server};

/// A sandbox with a daemon that has busybox.
struct House {
    sandbox: Sandbox,
    _daemon: Server,
}

impl House {
    fn open() -> House {
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
        let daemon = sandbox.start_daemon(&[]);
        let house = House {
            sandbox,
            _daemon: daemon,
        };
        house.load("busybox");
        house
    }

    fn load(&self, name: &str) {
        let archive = images::path(name).display().to_string();
        self.run(&["load", "-i", &archive]);
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        self.sandbox.wharf(args).ok().to_owned()
    }

    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        self.sandbox.wharf(args).failed()
    }

    /// Speaks HTTP to the daemon: status code and message, or whole body.
    fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let socket = self.sandbox.folder().join("wharf.sock");
        let url = format!("http://localhost{path}");
        let args = [
            "-sS",
            "-X",
            method,
            "--unix-socket",
            &socket.display().to_string(),
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            body,
            "-w",
            "\n%{http_code}",
            &url,
        ];
        let answer = self.sandbox.run("curl", &args).ok().to_owned();
        let (body, status) = answer.rsplit_once('\n').unwrap();
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let message = json["message"].as_str().unwrap_or(body);
        (status.parse().unwrap(), message.to_owned())
    }

    #[track_caller]
    fn expect(&self, method: &str, path: &str, body: &Value, status: u16, words: &str) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (got, text) = self.http(method, path, &body);
        assert!(
            got == status && text.contains(words),
            "{method} {path} {body}: wanted {status} with {words:?}, got {got} with {text}"
        );
    }

    fn context(&self, name: &str, dockerfile: &str) -> String {
        let folder = self.sandbox.folder().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        folder.display().to_string()
    }
}

/// Method, path, status and a part of the message, as Docker answers.
const WRONG_PATHS: &str = "\
GET /containers/nope/json 404 No such container: nope
GET /images/nope/json 404 No such image: nope:latest
GET /networks/nope 404 network nope not found
GET /volumes/nope 404 get nope: no such volume
GET /exec/nope/json 404 No such exec instance: nope
GET /nonsense 404 page not found
POST /containers/taken/start 304
DELETE /containers/taken 409 container is running
POST /containers/taken/unpause 409 is not paused
GET /containers/json?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D 400 invalid filter 'nope'
GET /v1.12/info 400 client version 1.12 is too old
GET /v9.99/info 400 client version 9.99 is too new
GET /v1.24/info 200 \"ServerVersion\"
DELETE /networks/bridge 403 bridge is a pre-defined network and cannot be removed";

#[test]
fn status_codes_are_the_references() {
    let house = House::open();
    house.run(&["run", "-d", "--name", "taken", "busybox", "sleep", "1000"]);
    for line in WRONG_PATHS.lines() {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, path, status) = (word(), word(), word());
        house.expect(method, path, &Value::Null, status.parse().unwrap(), word());
    }
    let bridge = json!({"Name": "bridge"});
    house.expect("POST", "/networks/create", &bridge, 409, "bridge");
    let in_use = "The container name \"/taken\" is already in use by container \"";
    let busybox = json!({"Image": "busybox"});
    let create = "/containers/create";
    house.expect(
        "POST",
        "/containers/create?name=taken",
        &busybox,
        409,
        in_use,
    );
    let name = "Invalid container name (-x)";
    house.expect("POST", "/containers/create?name=-x", &busybox, 400, name);
    for (image, status, words) in [
        ("nope", 404, "No such image: nope:latest"),
        ("Upper", 400, "must be lowercase"),
        ("a b", 400, "invalid reference format"),
    ] {
        house.expect("POST", create, &json!({"Image": image}), status, words);
    }
    for (key, value, words) in [
        (
            "Memory",
            json!(1_000_000),
            "Minimum memory limit allowed is 6MB",
        ),
        (
            "CapAdd",
            json!(["NONSENSE"]),
            "unknown capability: \"CAP_NONSENSE\"",
        ),
        (
            "Binds",
            json!(["/x:relative"]),
            "mount path must be absolute",
        ),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": {key: value}});
        house.expect("POST", create, &body, 400, words);
    }
    let (status, text) = house.http("POST", create, "{\"Image\": ");
    assert_eq!(status, 400, "{text}");
    let left = house.run(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!(left, "taken", "a refused creation leaves nothing");
}

#[test]
fn a_port_in_use_names_its_holder() {
    let house = House::open();
    let publish = ["run", "-d", "-p", "8080:80", "busybox", "sleep", "1000"];
    house.run(&[&publish[..2], &["--name", "holder"], &publish[2..]].concat());
    let refused = house.refused(&publish);
    for words in ["8080", "port is already allocated", "container holder"] {
        assert!(refused.contains(words), "{words:?} is missing in {refused}");
    }
    house.run(&["rm", "-f", "holder"]);

    // A process of the machine's own: the registry.
    fs::create_dir_all(house.sandbox.folder().join("registry")).unwrap();
    let _registry = house.sandbox.start_registry(&[]);
    let refused = house.refused(&[
        "run",
        "-d",
        "-p",
        "127.0.0.1:5000:80",
        "busybox",
        "sleep",
        "1",
    ]);
    for words in ["127.0.0.1:5000", "already", "wharf (pid "] {
        assert!(refused.contains(words), "{words:?} is missing in {refused}");
    }
}

#[test]
fn a_dockerfile_is_refused_with_its_line() {
    let house = House::open();
    let outside = house.sandbox.folder().join("secret");
    fs::write(&outside, "secret").unwrap();
    for (number, (dockerfile, words)) in [
        ("FROM busybox\nRUNN true\n", "dockerfile parse error line 2: unknown instruction: RUNN"),
        ("FROM busybox\nCOPY only\n", "line 2"),
        ("", "cannot be empty"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM busybox\nCOPY nope /\n", "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"),
        ("FROM busybox\nCOPY ../secret /\n", "forbidden path outside the build context"),
        ("FROM busybox\nCOPY link /\n", "COPY failed"),
        ("FROM busybox\nRUN exit 7\n", "returned a non-zero code: 7"),
    ]
    .into_iter()
    .enumerate()
    {
        let context = house.context(&format!("context-{number}"), dockerfile);
        let _ = std::os::unix::fs::symlink(&outside, format!("{context}/link"));
        let refused = house.refused(&["build", "-t", "wrong", &context]);
        assert!(refused.contains(words), "{words:?} is missing in {refused}");
    }
    assert!(
        house
            .refused(&["build", "-f", "nope", "."])
            .contains("nope")
    );
    assert!(!house.run(&["images"]).contains("wrong"));
    assert_eq!(house.run(&["ps", "-aq"]), "", "no step's container is left");
}

#[test]
fn a_mistyped_flag_is_recognised() {
    let house = House::open();
    let refused = house.sandbox.wharf(&["run", "--detatch", "busybox"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("unknown flag: --detatch"),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("--detach"),
        "the nearest is named: {refused:?}"
    );
    let refused = house.refused(&["imagse"]);
    assert!(refused.contains("images"), "{refused}");
}

#[test]
fn a_full_disk_is_told_and_nothing_breaks() {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
    let data = sandbox.data_root().display().to_string();
    sandbox
        .sh(&format!(
            "mkdir {data} && mount -t tmpfs -o size=12m small {data}"
        ))
        .ok();
    let daemon = sandbox.start_daemon(&[]);
    let house = House {
        sandbox,
        _daemon: daemon,
    };
    let nginx = images::path("nginx").display().to_string();
    let refused = house.refused(&["load", "-i", &nginx]);
    assert!(
        refused.to_lowercase().contains("no space left on device"),
        "{refused}"
    );
    house.load("busybox");
    assert_eq!(
        house.run(&["run", "--rm", "busybox", "echo", "works"]),
        "works"
    );

    // A container fills what is left. Others are refused with the reason, or work; none is half there.
    let fill = "dd if=/dev/zero of=/fill bs=1M; echo full";
    house.run(&["run", "--name", "greedy", "busybox", "sh", "-c", fill]);
    let attempt = house
        .sandbox
        .wharf(&["run", "--name", "late", "busybox", "true"]);
    if attempt.code != 0 {
        let text = attempt.failed().to_lowercase();
        assert!(text.contains("no space left on device"), "{text}");
    }
    house.run(&["rm", "-f", "greedy"]);
    house.sandbox.wharf(&["rm", "-f", "late"]);
    assert_eq!(house.run(&["ps", "-aq"]), "");
    assert_eq!(
        house.run(&["run", "--rm", "busybox", "echo", "again"]),
        "again"
    );
}

#[test]
fn two_at_once() {
    let house = House::open();
    let clients = [Client::Wharf, Client::Docker];
    let at_once = |args: &[&str]| -> Vec<Ran> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let house = &house;
                    scope.spawn(move || house.sandbox.client(clients[n % 2], args))
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    };
    let won = |all: &[Ran]| all.iter().filter(|ran| ran.code == 0).count();
    let all = at_once(&["create", "--name", "one", "busybox", "sleep", "1000"]);
    assert_eq!(won(&all), 1, "one name, one container: {all:#?}");
    let all = at_once(&["start", "one"]);
    assert_eq!(won(&all), 8, "all of them want it running: {all:#?}");
    let all = at_once(&["stop", "-t", "0", "one"]);
    assert_eq!(won(&all), 8, "{all:#?}");
    let all = at_once(&["volume", "create", "shared"]);
    assert_eq!(won(&all), 8, "{all:#?}");
    let all = at_once(&["network", "create", "net"]);
    assert_eq!(won(&all), 1, "{all:#?}");
    let context = house.context("same", "FROM busybox\nRUN echo built > /file\n");
    let all = at_once(&["build", "-q", "-t", "same", &context]);
    assert_eq!(won(&all), 8, "{all:#?}");
    assert_eq!(house.run(&["run", "--rm", "same", "cat", "/file"]), "built");
    let all = at_once(&["rm", "-f", "one"]);
    assert!(won(&all) >= 1, "{all:#?}");
    assert_eq!(house.run(&["ps", "-aq"]), "");
}

#[test]
fn a_container_removed_while_it_starts() {
    let house = House::open();
    for round in 0..10 {
        let name = format!("brief-{round}");
        house.run(&[
            "create", "--name", &name, "-p", "9090:90", "busybox", "sleep", "1000",
        ]);
        thread::scope(|scope| {
            scope.spawn(|| house.sandbox.wharf(&["start", &name]));
            scope.spawn(|| house.sandbox.wharf(&["rm", "-f", &name]));
        });
        house.sandbox.wharf(&["rm", "-f", &name]);
    }
    assert_eq!(house.run(&["ps", "-aq"]), "");
    // Its port and its address are free again.
    house.run(&[
        "run", "-d", "--name", "after", "-p", "9090:90", "busybox", "sleep", "1000",
    ]);
}
