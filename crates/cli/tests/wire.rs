//! What the client sends and makes of answers, seen from a daemon made of canned ones.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
    connection: u32,
}

/// Answers by the start of `METHOD path`; each answer is raw bytes after which the connection stays open.
type Answers = Vec<(&'static str, Vec<u8>)>;

struct Daemon {
    folder: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Daemon {
    fn new(answers: Answers) -> Daemon {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("wharf-cli-wire-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("sock")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, answers) = (seen.clone(), Arc::new(answers));
        std::thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming()) {
                let (record, answers) = (record.clone(), answers.clone());
                std::thread::spawn(move || serve(stream.unwrap(), number, &record, &answers));
            }
        });
        Daemon { folder, seen }
    }

    fn run_with(&self, words: &[&str], input: &[u8]) -> Output {
        let client = std::env::current_exe().unwrap();
        let client = client.ancestors().nth(2).unwrap().join("examples/client");
        let mut child = Command::new(client)
            .args(words)
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.folder.join("sock").display()),
            )
            .env("DOCKER_CONFIG", &self.folder)
            .env_remove("WHARF_HOST")
            .env_remove("DOCKER_API_VERSION")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn run(&self, words: &[&str]) -> (String, String, i32) {
        let output = self.run_with(words, b"");
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            output.status.code().unwrap(),
        )
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

fn serve(stream: UnixStream, connection: u32, record: &Mutex<Vec<Seen>>, answers: &Answers) {
    let mut from = BufReader::new(stream.try_clone().unwrap());
    let mut to = stream;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            from.read_line(&mut header).unwrap();
            if header.trim_end().is_empty() {
                break;
            }
            headers.push(header.trim_end().to_owned());
        }
        let body = body(&mut from, &headers);
        record.lock().unwrap().push(Seen {
            line: line.clone(),
            headers,
            body,
            connection,
        });
        let found = answers.iter().find(|(start, _)| line.starts_with(start));
        let bytes = found.map_or_else(
            || answer("404 Not Found", r#"{"message":"nothing here"}"#),
            |(_, b)| b.clone(),
        );
        to.write_all(&bytes).unwrap();
        if bytes.starts_with(b"HTTP/1.1 101") {
            to.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = from.read_to_end(&mut Vec::new());
            return;
        }
    }
}

fn body(from: &mut impl BufRead, headers: &[String]) -> Vec<u8> {
    let header = |name: &str| {
        headers
            .iter()
            .find_map(|h| h.strip_prefix(name))
            .map(str::trim)
    };
    let mut body = Vec::new();
    if let Some(length) = header("Content-Length:") {
        body.resize(length.parse().unwrap(), 0);
        from.read_exact(&mut body).unwrap();
    } else if header("Transfer-Encoding:").is_some() {
        loop {
            let mut size = String::new();
            from.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            from.read_exact(&mut chunk).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    body
}

const CREATED: &str = r#"{"Id":"abc123","Warnings":["slow disk"]}"#;

fn runnable(exit: &str) -> Answers {
    let mut stream =
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_vec();
    stream.extend_from_slice(b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
    vec![
        ("POST /containers/create", answer("201 Created", CREATED)),
        ("POST /containers/abc123/attach", stream),
        ("POST /containers/abc123/wait", answer("200 OK", exit)),
        (
            "POST /containers/abc123/start",
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        ),
        (
            "GET /containers/abc123/wharf/trace",
            answer("200 OK", r#"[["snapshot",120],["network",80]]"#),
        ),
    ]
}

#[test]
fn run_asks_no_more_than_it_must_and_in_order() {
    let daemon = Daemon::new(runnable(r#"{"StatusCode":7}"#));
    let (out, err, code) = daemon.run(&["run", "--rm", "busybox", "true"]);
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        ("out\n", "WARNING: slow disk\nerr\n", 7)
    );
    assert_eq!(
        daemon.lines(),
        [
            "POST /containers/create",
            "POST /containers/abc123/attach?stream=1&stdout=1&stderr=1",
            "POST /containers/abc123/wait?condition=removed",
            "POST /containers/abc123/start",
        ]
    );
    let connections: Vec<u32> = daemon.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(
        connections,
        [0, 0, 1, 2],
        "create and attach share a connection"
    );
}

#[test]
fn run_sends_the_flags() {
    let daemon = Daemon::new(runnable(r#"{"StatusCode":0}"#));
    let (_, err, code) = daemon.run(&[
        "run", "-d", "-p", "8080:80", "-m", "20m", "--name", "n", "-e", "A=b", "--net", "mine",
        "--link", "db:d", "x:1", "sh", "-c", "-p",
    ]);
    assert_eq!(code, 0, "{err}");
    let seen = daemon.seen();
    assert_eq!(seen[0].line, "POST /containers/create?name=n");
    let body: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(body["Image"], "x:1");
    assert_eq!(body["Cmd"], serde_json::json!(["sh", "-c", "-p"]));
    assert_eq!(body["Env"], serde_json::json!(["A=b"]));
    assert_eq!(body["AttachStdout"], false);
    assert_eq!(body["HostConfig"]["Memory"], 20 << 20);
    assert_eq!(body["HostConfig"]["NetworkMode"], "mine");
    assert_eq!(
        body["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"],
        "8080"
    );
    assert_eq!(
        body["NetworkingConfig"]["EndpointsConfig"]["mine"]["Links"][0],
        "db:d"
    );
}

#[test]
fn a_missing_image_is_pulled_with_progress() {
    let progress = r#"{"status":"Pulling from library/x","id":"1"}{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"a"}{"errorDetail":{"message":"no such host"},"error":"no such host"}"#;
    let daemon = Daemon::new(vec![
        (
            "POST /containers/create",
            answer("404 Not Found", r#"{"message":"No such image: x:1"}"#),
        ),
        ("POST /images/create", answer("200 OK", progress)),
    ]);
    let (out, err, code) = daemon.run(&["run", "x:1"]);
    assert_eq!((out.as_str(), code), ("", 125));
    assert_eq!(
        err,
        "Unable to find image 'x:1' locally\n1: Pulling from library/x\nwharf: no such host\n\nRun 'wharf run --help' for more information\n"
    );
    assert_eq!(daemon.lines()[1], "POST /images/create?fromImage=x&tag=1");
}

#[test]
fn a_failed_start_has_the_shells_exit_codes() {
    for (message, code) in [
        ("exec: \\\"x\\\": executable file not found in $PATH", 127),
        ("exec: permission denied", 126),
        ("port is taken", 125),
    ] {
        let mut answers = runnable(r#"{"StatusCode":0}"#);
        answers[3].1 = answer(
            "500 Internal Server Error",
            &format!(r#"{{"message":"{message}"}}"#),
        );
        let daemon = Daemon::new(answers);
        let (_, err, given) = daemon.run(&["run", "x"]);
        assert_eq!(given, code, "{err}");
        assert!(err.contains("wharf: Error response from daemon: "), "{err}");
    }
}

#[test]
fn the_trace_is_a_table() {
    let daemon = Daemon::new(runnable(r#"{"StatusCode":0}"#));
    let (_, err, _) = daemon.run(&["run", "--trace", "x"]);
    assert!(
        err.contains("STEP       TIME\nsnapshot   120 µs\nnetwork    80 µs\nsum        200 µs\n"),
        "{err}"
    );
}

#[test]
fn connections_are_kept_and_failures_counted() {
    let daemon = Daemon::new(vec![(
        "POST /containers/a/stop",
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    )]);
    let (out, err, code) = daemon.run(&["stop", "-t", "3", "a", "b", "a"]);
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        ("a\na\n", "Error response from daemon: nothing here\n", 1)
    );
    assert!(daemon.seen().iter().all(|seen| seen.connection == 0));
    assert_eq!(daemon.lines()[0], "POST /containers/a/stop?t=3");
}

#[test]
fn credentials_travel_in_the_header_and_the_file_is_private() {
    let daemon = Daemon::new(vec![
        (
            "POST /auth",
            answer(
                "200 OK",
                r#"{"Status":"Login Succeeded","IdentityToken":""}"#,
            ),
        ),
        (
            "POST /images/h:5000/me/x/push",
            answer(
                "200 OK",
                r#"{"status":"The push refers to repository [h:5000/me/x]"}"#,
            ),
        ),
    ]);
    let output = daemon.run_with(
        &["login", "-u", "me", "--password-stdin", "h:5000"],
        b"secret\n",
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Login Succeeded\n");
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("WARNING! Your credentials are stored unencrypted in '")
    );
    let sent: serde_json::Value = serde_json::from_slice(&daemon.seen()[0].body).unwrap();
    assert_eq!(
        sent,
        serde_json::json!({"username":"me","password":"secret","serveraddress":"h:5000"})
    );
    let file = daemon.folder.join("config.json");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("\"auth\": \"bWU6c2VjcmV0\"")
    );
    let (out, err, code) = daemon.run(&["push", "h:5000/me/x"]);
    assert_eq!(
        (out.as_str(), code),
        (
            "Using default tag: latest\nThe push refers to repository [h:5000/me/x]\n",
            0
        ),
        "{err}"
    );
    let push = daemon.seen().pop().unwrap();
    let header = push
        .headers
        .iter()
        .find_map(|h| h.strip_prefix("X-Registry-Auth: "))
        .unwrap()
        .to_owned();
    assert_eq!(
        header,
        "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQiLCJzZXJ2ZXJhZGRyZXNzIjoiaDo1MDAwIn0="
    );
    let (out, _, _) = daemon.run(&["logout", "h:5000"]);
    assert_eq!(out, "Removing login credentials for h:5000\n");
    assert!(
        !std::fs::read_to_string(&file)
            .unwrap()
            .contains("bWU6c2VjcmV0")
    );
}

#[test]
fn a_build_sends_its_context_and_ends_with_the_steps_code() {
    let stream = r#"{"stream":"Step 1/2 : FROM x\n"}{"errorDetail":{"code":3,"message":"returned a non-zero code: 3"},"error":"returned a non-zero code: 3"}"#;
    let daemon = Daemon::new(vec![("POST /build", answer("200 OK", stream))]);
    let context = daemon.folder.join("context");
    std::fs::create_dir_all(context.join("left")).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM x\nRUN false\n").unwrap();
    std::fs::write(context.join(".dockerignore"), "left\nDockerfile\n").unwrap();
    std::fs::write(context.join("left/out"), "x").unwrap();
    std::fs::write(context.join("sent"), "x").unwrap();
    let (out, err, code) = daemon.run(&[
        "build",
        "-t",
        "a/b",
        "--build-arg",
        "X=1",
        context.to_str().unwrap(),
    ]);
    assert_eq!(code, 3);
    assert!(
        out.starts_with("Sending build context to Docker daemon")
            && out.ends_with("Step 1/2 : FROM x\n"),
        "{out}"
    );
    assert_eq!(err, "returned a non-zero code: 3\n");
    let seen = daemon.seen().remove(0);
    assert!(
        seen.line.contains("t=a%2Fb") && seen.line.contains("buildargs=%7B%22X%22%3A%221%22%7D"),
        "{}",
        seen.line
    );
    let mut archive = tar::Archive::new(seen.body.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, [".dockerignore", "Dockerfile", "sent"]);
}

#[test]
fn nobody_there_is_said_clearly() {
    let daemon = Daemon::new(Vec::new());
    let (out, err, code) = daemon.run(&["-H", "unix:///no/such.sock", "ps"]);
    assert_eq!(
        (out.as_str(), err.as_str(), code),
        (
            "",
            "Cannot connect to the Wharf daemon at unix:///no/such.sock. Is the daemon running?\n",
            1
        )
    );
}

#[test]
fn mistakes_have_a_suggestion_and_dockers_exit_codes() {
    let daemon = Daemon::new(Vec::new());
    let (_, err, code) = daemon.run(&["run", "--nam", "x", "y"]);
    assert_eq!(code, 125);
    assert_eq!(
        err,
        "unknown flag: --nam\nDid you mean '--name'?\n\nUsage:  wharf run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'wharf run --help' for more information\n"
    );
    let (_, err, code) = daemon.run(&["rnu"]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "wharf: unknown command: wharf rnu\nDid you mean 'run'?\n\nRun 'wharf --help' for more information\n"
    );
    assert!(daemon.seen().is_empty());
}

#[test]
fn an_answer_that_is_no_http_is_an_error() {
    let daemon = Daemon::new(vec![(
        "GET /containers/json",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
    )]);
    let (_, err, code) = daemon.run(&["ps"]);
    assert_eq!(code, 1);
    assert!(err.contains("malformed chunk size"), "{err}");
}

#[test]
fn a_daemon_that_reports_during_an_upload_is_not_waited_for() {
    let folder = std::env::temp_dir().join(format!("wharf-cli-upload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let listener = UnixListener::bind(folder.join("sock")).unwrap();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0u8; 64];
            if stream.read(&mut head).unwrap() == 0 {
                continue;
            }
            // Far more than a socket holds, before a byte of the upload is taken.
            let line = "{\"stream\":\"x\"}".repeat(200_000);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                .unwrap();
            stream.write_all(line.as_bytes()).unwrap();
            let mut tail = Vec::new();
            let mut buffer = [0u8; 65536];
            while !tail.ends_with(b"\r\n0\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                tail.extend_from_slice(&buffer[..count]);
                tail.drain(..tail.len().saturating_sub(16));
            }
            return;
        }
    });
    let archive = folder.join("archive");
    std::fs::write(&archive, vec![0u8; 4 << 20]).unwrap();
    let client = std::env::current_exe().unwrap();
    let client = client.ancestors().nth(2).unwrap().join("examples/client");
    let output = Command::new(client)
        .args([
            "-H",
            &format!("unix://{}", folder.join("sock").display()),
            "load",
            "-i",
        ])
        .arg(&archive)
        .output()
        .unwrap();
    server.join().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(
        output.stdout.len(),
        200_000,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_helper_keeps_the_credentials() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Daemon::new(vec![
        (
            "POST /auth",
            answer("200 OK", r#"{"Status":"Login Succeeded"}"#),
        ),
        (
            "POST /images/create",
            answer("200 OK", r#"{"status":"done"}"#),
        ),
    ]);
    let helper = daemon.folder.join("docker-credential-box");
    let kept = daemon.folder.join("kept").display().to_string();
    let script = format!(
        "#!/bin/sh\ncase $1 in store) cat > {kept};; get) cat >/dev/null; sed 's/ServerURL/ServerURL/' {kept};; erase) rm {kept};; esac\n"
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(daemon.folder.join("config.json"), r#"{"credsStore":"box"}"#).unwrap();
    let client = std::env::current_exe().unwrap();
    let client = client.ancestors().nth(2).unwrap().join("examples/client");
    let run = |words: &[&str]| {
        let path = format!(
            "{}:{}",
            daemon.folder.display(),
            std::env::var("PATH").unwrap()
        );
        let socket = format!("unix://{}", daemon.folder.join("sock").display());
        let mut command = Command::new(&client);
        command
            .args(words)
            .env("PATH", path)
            .env("DOCKER_HOST", socket)
            .env("DOCKER_CONFIG", &daemon.folder);
        command
            .env_remove("WHARF_HOST")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = run(&["login", "-u", "me", "-p", "secret", "h:5000"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Login Succeeded\n");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("unencrypted"));
    assert!(
        !std::fs::read_to_string(daemon.folder.join("config.json"))
            .unwrap()
            .contains("secret")
    );
    assert!(run(&["pull", "h:5000/x"]).status.success());
    let pull = daemon.seen().pop().unwrap();
    assert!(
        pull.headers
            .iter()
            .any(|h| h.starts_with("X-Registry-Auth: eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQi")),
        "{pull:?}"
    );
    assert!(run(&["logout", "h:5000"]).status.success());
    assert!(!daemon.folder.join("kept").exists());
}

#[test]
fn cp_sends_a_folder_or_only_what_is_in_it() {
    // A folder's mode in Go's form, as the daemon describes the destination.
    let stat = "eyJuYW1lIjoiZCIsIm1vZGUiOjIxNDc0ODQxNDF9";
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: {stat}\r\nContent-Length: 0\r\n\r\n"
    );
    let daemon = Daemon::new(vec![
        ("HEAD /containers/c/archive", head.into_bytes()),
        ("PUT /containers/c/archive", answer("200 OK", "")),
    ]);
    let source = daemon.folder.join("src");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("f"), "x").unwrap();
    for (from, expected) in [("src", ["src", "src/f"]), ("src/.", [".", "f"])] {
        let from = daemon.folder.join(from).display().to_string();
        let (_, err, code) = daemon.run(&["cp", &from, "c:/d"]);
        assert_eq!(code, 0, "{err}");
        let put = daemon.seen().pop().unwrap();
        assert!(
            put.line.starts_with("PUT /containers/c/archive?path=%2Fd&"),
            "{}",
            put.line
        );
        let mut archive = tar::Archive::new(put.body.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| {
                e.unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .trim_start_matches("./")
                    .trim_end_matches('/')
                    .to_owned()
            })
            .collect();
        let expected = expected.map(|name| if name == "." { "" } else { name });
        let names: Vec<&str> = names
            .iter()
            .map(|name| if name == "." { "" } else { name.as_str() })
            .collect();
        assert_eq!(names, expected);
    }
}
