//! What the API server does with input that nobody well-meaning sends, and with clients that don't behave.
#![allow(clippy::unwrap_used)]

mod server_house;

use std::fs;
use std::process::{Command, Stdio};

use server_house::House;
use wharf_testkit::kubectl::Kubectl;

const MAPS: &str = "{}/api/v1/namespaces/default/configmaps";

fn post(house: &House, content_type: &str, body: &[u8]) -> (u16, String) {
    let path = house.folder().join("body");
    fs::write(&path, body).unwrap();
    let data = format!("@{}", path.display());
    let header = format!("Content-Type: {content_type}");
    house.curl(&["-X", "POST", "-H", &header, "--data-binary", &data, MAPS])
}

/// Anchors of anchors: nine to the power of eight items.
fn yaml_bomb() -> String {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (one, before) in ["b", "c", "d", "e", "f", "g", "h"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        let many = vec![format!("*{before}"); 9].join(",");
        bomb.push_str(&format!("{one}: &{one} [{many}]\n"));
    }
    bomb
}

#[test]
fn bodies_have_bounds() {
    let house = House::open();
    let json = "application/json";
    let named = |text: &str| format!(r#"{{"metadata":{{"name":"a"}},"data":{{"x":"{text}"}}}}"#);
    let check = |content_type: &str, body: &[u8], code: u16, words: &str| {
        let (is, said) = post(&house, content_type, body);
        assert!(is == code && said.contains(words), "{is} {said:.300}");
    };
    check(
        json,
        named(&"x".repeat(4 << 20)).as_bytes(),
        413,
        "RequestEntityTooLarge",
    );
    check(
        json,
        named(&"x".repeat(2 << 20)).as_bytes(),
        422,
        "Too long: may not be more than 1048576 bytes",
    );
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1");
    check(json, deep.as_bytes(), 400, "BadRequest");
    check(json, "[".repeat(1 << 20).as_bytes(), 400, "BadRequest");
    check(
        json,
        b"{\"metadata\":{\"name\":\"\xff\xfe\"}}",
        400,
        "BadRequest",
    );
    check(json, b"", 400, "BadRequest");
    check(json, b"42", 400, "BadRequest");
    check(
        json,
        br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#,
        400,
        "must be of type ConfigMap",
    );
    check(
        json,
        br#"{"metadata":{"name":"a","namespace":"other"}}"#,
        400,
        "does not match the namespace",
    );
    check(
        json,
        br#"{"metadata":{"name":"../../etc"}}"#,
        422,
        "Invalid",
    );
    check(
        json,
        br#"{"metadata":{"name":"a"},"data":{"x":1}}"#,
        400,
        "cannot be handled as a ConfigMap",
    );
    check("text/html", b"<p>", 415, "UnsupportedMediaType");
    check(
        "application/vnd.kubernetes.protobuf",
        b"k8s\0\xff\xff\xff\xff\xff",
        400,
        "BadRequest",
    );
    check(
        "application/yaml",
        yaml_bomb().as_bytes(),
        400,
        "BadRequest",
    );
    check(json, named("fine").as_bytes(), 201, "fine");
}

#[test]
fn questions_have_bounds() {
    let house = House::open();
    let check = |query: &str, code: u16, words: &str| {
        let (is, said) = house.curl(&["-g", &format!("{MAPS}{query}")]);
        assert!(
            is == code && said.contains(words),
            "{query:.80}: {is} {said:.300}"
        );
    };
    check("?labelSelector=%3D%3D,,(", 400, "BadRequest");
    check(
        "?fieldSelector=spec.nodeName%3Da",
        400,
        "is not a known field selector",
    );
    check("?limit=many", 400, "limit");
    check("?resourceVersion=old", 422, "resourceVersion");
    check(
        "?resourceVersionMatch=Exact",
        422,
        "resourceVersionMatch is forbidden",
    );
    check("?continue=nonsense", 400, "continue");
    check(
        "?resourceVersion=99999999",
        504,
        "Too large resource version",
    );
    check(
        "?watch=1&resourceVersion=1&sendInitialEvents=true",
        422,
        "sendInitialEvents",
    );
    check("/nothing", 404, "configmaps \\\"nothing\\\" not found");
    let (code, said) = house.curl(&["{}/apis/none/v1/things"]);
    assert!(
        code == 404 && said.contains("could not find the requested resource"),
        "{code} {said}"
    );
    let (code, _) = house.curl(&["-X", "BREW", MAPS]);
    assert!(code == 405, "{code}");
    let (code, _) = house.curl(&["-H", "Accept: image/png", MAPS]);
    assert_eq!(code, 406);
    let (code, said) = house.curl(&["-H", "Authorization: Bearer a.b.c", "--cert", "", MAPS]);
    assert!(code == 401 || code == 0, "{code} {said}");
}

#[test]
fn patches_that_make_no_sense_are_refused() {
    let house = House::open();
    house.run("create configmap a --from-literal=x=1");
    let check = |sort: &str, patch: &str, code: u16| {
        let header = format!("Content-Type: application/{sort}");
        let (is, said) = house.curl(&[
            "-X",
            "PATCH",
            "-H",
            &header,
            "-d",
            patch,
            &format!("{MAPS}/a"),
        ]);
        assert_eq!(is, code, "{sort} {patch:.80}: {said:.300}");
    };
    check(
        "json-patch+json",
        r#"[{"op":"remove","path":"/data/none"}]"#,
        422,
    );
    check("json-patch+json", r#"{"op":"remove"}"#, 400);
    check("merge-patch+json", "[]", 400);
    check(
        "merge-patch+json",
        r#"{"metadata":{"resourceVersion":"1"}}"#,
        409,
    );
    check("merge-patch+json", r#"{"metadata":{"name":"b"}}"#, 422);
    check("merge-patch+json", r#"{"metadata":{"uid":"b"}}"#, 422);
    check(
        "strategic-merge-patch+json",
        r#"{"data":{"$patch":"explode"}}"#,
        400,
    );
    check(
        "apply-patch+yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
        422,
    );
    check("xml", "<a/>", 415);
    assert_eq!(house.field("configmap a", ".data.x"), "1");
}

fn resident_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn watchers_that_do_not_read_cost_no_memory() {
    let house = House::open();
    house.run("create configmap big");
    // Stopped as soon as they are connected: they never read again.
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let mut command = house.kubectl();
        let child = command
            .args([
                "get",
                "--raw",
                "/api/v1/namespaces/default/configmaps?watch=1",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        watchers.push(child);
    }
    for watcher in &mut watchers {
        use std::io::Read;
        let mut first = [0; 1];
        watcher
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
    }
    let before = resident_kib(house.pid());
    let path = house.folder().join("patch");
    let rounds = 150;
    for round in 0..rounds {
        let text = format!("{round}{}", "x".repeat(500_000));
        fs::write(&path, format!(r#"{{"data":{{"x":"{text}"}}}}"#)).unwrap();
        let data = format!("@{}", path.display());
        let header = "Content-Type: application/merge-patch+json";
        let (code, said) = house.curl(&[
            "-X",
            "PATCH",
            "-H",
            header,
            "--data-binary",
            &data,
            &format!("{MAPS}/big"),
        ]);
        assert_eq!(code, 200, "{said:.200}");
    }
    let grown = resident_kib(house.pid()).saturating_sub(before) / 1024;
    // 20 watchers that queued 150 changes of half a megabyte would hold 1.5 GB; history is bounded at 32 MB twice.
    assert!(grown < 400, "{grown} MiB more after {rounds} changes");
    for mut watcher in watchers {
        watcher.kill().unwrap();
        watcher.wait().unwrap();
    }
}

#[test]
fn secrets_are_not_on_the_disk() {
    let house = House::open();
    house.run("create secret generic s --from-literal=password=correct-horse-battery");
    house.run("create configmap c --from-literal=plain=visible-on-disk");
    let store = house.data_root().join("store.redb");
    let found = |text: &str| {
        let grep = Command::new("grep")
            .args(["-c", "-a", text])
            .arg(&store)
            .output()
            .unwrap();
        grep.status.success()
    };
    assert!(found("visible-on-disk"));
    // What kubectl sends is base64 of the text.
    assert!(!found("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"));
    assert_eq!(
        house.field("secret s", ".data.password"),
        "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"
    );
}

#[test]
fn a_torn_database_is_refused_and_a_snapshot_restores_it() {
    let mut house = House::open();
    house.run("create configmap kept --from-literal=x=1");
    house.stop();
    let (store, copy) = (
        house.data_root().join("store.redb"),
        house.folder().join("copy"),
    );
    let wharf = |args: &[&str]| {
        wharf_testkit::process::run(Command::new(env!("CARGO_BIN_EXE_wharf")).args(args))
    };
    let root = house.data_root().display().to_string();
    wharf(&[
        "server",
        "snapshot",
        "--data-root",
        &root,
        &copy.display().to_string(),
    ])
    .ok();
    fs::write(&store, vec![7; 10_000]).unwrap();
    let refused = wharf(&["server", "--listen", "127.0.0.1:0", "--data-root", &root]).failed();
    assert!(
        refused.contains("restore a snapshot in its place"),
        "{refused}"
    );
    fs::copy(&copy, &store).unwrap();
    house.start();
    assert_eq!(house.field("configmap kept", ".data.x"), "1");
}
