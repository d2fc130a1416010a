//! The wire, spoken by hand: what every client relies on, and what hostile ones try.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use sha2::{Digest, Sha256};
use wharf_registry::{Config, serve};

/// A registry on a free port; gone when dropped.
struct Running {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(data: &Path, htpasswd: Option<&Path>) -> Running {
        let config = Config {
            addr: ([127, 0, 0, 1], 0).into(),
            data: data.to_owned(),
            htpasswd: htpasswd.map(Path::to_owned),
            tls: None,
        };
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async move {
                let _ = stopped.await;
            };
            runtime
                .block_on(serve(
                    config,
                    move |address| tell.send(address).unwrap(),
                    shutdown,
                ))
                .unwrap();
        });
        Running {
            address: told.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // Refused before the body was read: the answer still comes.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let answer = self.ask(
            "POST",
            &format!("/v2/{name}/blobs/uploads/?digest={digest}"),
            &[],
            bytes,
        );
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(k, v)| (k.to_lowercase(), v.to_owned()))
            .collect();
        Answer {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn code(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        value["errors"][0]["code"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn manifest(config: &str, layer: &str) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}],
    })
    .to_string()
    .into_bytes()
}

const OCI: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

#[test]
fn a_blob_in_chunks_survives_a_restart_between_them() {
    let data = tempfile::tempdir().unwrap();
    let registry = Running::start(data.path(), None);
    let begun = registry.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    assert_eq!(begun.status, 202);
    let place = begun.header("location").to_owned();
    let first = registry.ask("PATCH", &place, &[("Content-Range", "0-4")], b"hello");
    assert_eq!((first.status, first.header("range")), (202, "0-4"));
    drop(registry);

    let registry = Running::start(data.path(), None);
    let out_of_order = registry.ask("PATCH", &place, &[("Content-Range", "9-13")], b"world");
    assert_eq!(
        (out_of_order.status, out_of_order.header("range")),
        (416, "0-4")
    );
    assert_eq!(registry.ask("GET", &place, &[], b"").header("range"), "0-4");
    assert_eq!(
        registry
            .ask("PATCH", &place, &[("Content-Range", "5-9")], b"world")
            .status,
        202
    );
    let expected = digest(b"helloworld");
    let done = registry.ask("PUT", &format!("{place}?digest={expected}"), &[], b"");
    assert_eq!(
        (done.status, done.header("docker-content-digest")),
        (201, expected.as_str())
    );
    let part = registry.ask(
        "GET",
        &format!("/v2/a/b/blobs/{expected}"),
        &[("Range", "bytes=5-")],
        b"",
    );
    assert_eq!(
        (
            part.status,
            part.body.as_slice(),
            part.header("content-range")
        ),
        (206, &b"world"[..], "bytes 5-9/10")
    );
    assert_eq!(
        registry.ask("PATCH", &place, &[], b"x").status,
        404,
        "a finished upload is gone"
    );
}

#[test]
fn a_wrong_digest_keeps_nothing() {
    let data = tempfile::tempdir().unwrap();
    let registry = Running::start(data.path(), None);
    let claimed = digest(b"something else");
    let answer = registry.ask(
        "POST",
        &format!("/v2/a/blobs/uploads/?digest={claimed}"),
        &[],
        b"content",
    );
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "DIGEST_INVALID")
    );
    assert_eq!(
        registry
            .ask("HEAD", &format!("/v2/a/blobs/{claimed}"), &[], b"")
            .status,
        404
    );
}

#[test]
fn manifests_tags_mounts_and_deletion() {
    let data = tempfile::tempdir().unwrap();
    let registry = Running::start(data.path(), None);
    let config = registry.push_blob("one", b"{}");
    let layer = registry.push_blob("one", b"layer");
    let bytes = manifest(&config, &layer);
    let put = registry.ask("PUT", "/v2/one/manifests/v1", &[OCI], &bytes);
    assert_eq!(
        (put.status, put.header("docker-content-digest")),
        (201, digest(&bytes).as_str())
    );

    let lacking = registry.ask("PUT", "/v2/two/manifests/v1", &[OCI], &bytes);
    assert_eq!(
        (lacking.status, lacking.code().as_str()),
        (400, "MANIFEST_BLOB_UNKNOWN")
    );
    for blob in [&config, &layer] {
        let mount = registry.ask(
            "POST",
            &format!("/v2/two/blobs/uploads/?mount={blob}&from=one"),
            &[],
            b"",
        );
        assert_eq!(mount.status, 201);
    }
    let absent = digest(b"absent");
    let refused = registry.ask(
        "POST",
        &format!("/v2/two/blobs/uploads/?mount={absent}&from=one"),
        &[],
        b"",
    );
    assert_eq!(
        refused.status, 202,
        "an upload begins where nothing can be mounted"
    );
    assert_eq!(
        registry
            .ask("PUT", "/v2/two/manifests/v2", &[OCI], &bytes)
            .status,
        201
    );

    shown_and_deleted(&registry, &bytes, &layer);
}

/// What both repositories show, and what is left when one of them loses its manifest and a blob.
fn shown_and_deleted(registry: &Running, bytes: &[u8], layer: &str) {
    let got = registry.ask("GET", "/v2/two/manifests/v2", &[], b"");
    assert_eq!(
        (got.status, got.body.as_slice(), got.header("content-type")),
        (200, bytes, OCI.1)
    );
    assert_eq!(
        registry.ask("GET", "/v2/one/tags/list", &[], b"").body,
        br#"{"name":"one","tags":["v1"]}"#
    );
    assert_eq!(
        registry.ask("GET", "/v2/_catalog", &[], b"").body,
        br#"{"repositories":["one","two"]}"#
    );

    assert_eq!(
        registry
            .ask(
                "DELETE",
                &format!("/v2/one/manifests/{}", digest(bytes)),
                &[],
                b""
            )
            .status,
        202
    );
    assert_eq!(
        registry.ask("GET", "/v2/one/manifests/v1", &[], b"").status,
        404
    );
    assert_eq!(
        registry.ask("GET", "/v2/two/manifests/v2", &[], b"").status,
        200,
        "the other repository keeps it"
    );
    assert_eq!(
        registry
            .ask("DELETE", &format!("/v2/one/blobs/{layer}"), &[], b"")
            .status,
        202
    );
    assert_eq!(
        registry
            .ask("GET", &format!("/v2/one/blobs/{layer}"), &[], b"")
            .status,
        404
    );
    assert_eq!(
        registry
            .ask("GET", &format!("/v2/two/blobs/{layer}"), &[], b"")
            .body,
        b"layer"
    );
}

#[test]
fn referrers_are_listed_with_their_subject() {
    let data = tempfile::tempdir().unwrap();
    let registry = Running::start(data.path(), None);
    let empty = registry.push_blob("r", b"{}");
    let subject = digest(b"not pushed yet");
    let artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI.1, "artifactType": "application/x-signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [], "subject": {"mediaType": OCI.1, "digest": subject, "size": 1}, "annotations": {"k": "v"},
    })
    .to_string();
    let put = registry.ask(
        "PUT",
        &format!("/v2/r/manifests/{}", digest(artifact.as_bytes())),
        &[OCI],
        artifact.as_bytes(),
    );
    assert_eq!(
        (put.status, put.header("oci-subject")),
        (201, subject.as_str())
    );
    let list = |query: &str| -> serde_json::Value {
        let answer = registry.ask(
            "GET",
            &format!("/v2/r/referrers/{subject}{query}"),
            &[],
            b"",
        );
        assert_eq!(answer.status, 200);
        serde_json::from_slice(&answer.body).unwrap()
    };
    assert_eq!(list("")["manifests"][0]["annotations"]["k"], "v");
    assert_eq!(
        list("?artifactType=application/x-signature")["manifests"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        list("?artifactType=other")["manifests"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    registry.ask(
        "DELETE",
        &format!("/v2/r/manifests/{}", digest(artifact.as_bytes())),
        &[],
        b"",
    );
    assert_eq!(list("")["manifests"].as_array().unwrap().len(), 0);
}

#[test]
fn users_log_in() {
    let data = tempfile::tempdir().unwrap();
    let users = data.path().join("htpasswd");
    std::fs::write(
        &users,
        format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap()),
    )
    .unwrap();
    let registry = Running::start(&data.path().join("data"), Some(&users));
    let without = registry.ask("GET", "/v2/", &[], b"");
    assert_eq!(
        (without.status, without.code().as_str()),
        (401, "UNAUTHORIZED")
    );
    assert!(
        without
            .header("www-authenticate")
            .starts_with("Basic realm=")
    );
    // ann:secret, ann:wrong, bob:secret
    for (token, status) in [
        ("YW5uOnNlY3JldA==", 200),
        ("YW5uOndyb25n", 401),
        ("Ym9iOnNlY3JldA==", 401),
        ("%%%", 401),
    ] {
        for _ in 0..2 {
            let answer = registry.ask(
                "GET",
                "/v2/",
                &[("Authorization", &format!("Basic {token}"))],
                b"",
            );
            assert_eq!(answer.status, status, "{token}");
        }
    }
}

#[test]
fn hostile_paths_and_bodies_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let registry = Running::start(data.path(), None);
    for (path, code) in [
        ("/v2/../../etc/manifests/passwd", "NAME_INVALID"),
        ("/v2/a/manifests/..", "TAG_INVALID"),
        ("/v2/a/blobs/sha256:../../x", "NAME_UNKNOWN"),
        ("/v2/a/blobs/md5:00", "DIGEST_INVALID"),
        ("/v2/_tags/manifests/x", "NAME_INVALID"),
    ] {
        let answer = registry.ask("GET", path, &[], b"");
        assert_eq!(
            (answer.status / 100, answer.code().as_str()),
            (4, code),
            "{path}"
        );
    }
    let large = vec![b' '; 5 * 1024 * 1024];
    assert_eq!(
        registry
            .ask("PUT", "/v2/a/manifests/v1", &[OCI], &large)
            .status,
        413
    );
    assert_eq!(
        registry
            .ask("PUT", "/v2/a/manifests/v1", &[OCI], b"{\"config\":{}}")
            .code(),
        "MANIFEST_INVALID"
    );
}
