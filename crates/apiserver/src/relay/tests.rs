//! Tests against servers that speak as nodes, pods and extension servers do.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::NodeTrust;
use super::forward::Body;
use crate::harness::{Cluster, Other, other, says};

/// A node that speaks an upgraded protocol by sending everything back in capitals.
fn node_answers(mut request: Request<Incoming>) -> crate::harness::Handling {
    Box::pin(async move {
        if request.headers().contains_key("upgrade") {
            let protocol = request.headers()["upgrade"].clone();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut bytes = [0u8; 256];
                while let Ok(size) = io.read(&mut bytes).await {
                    if size == 0
                        || io
                            .write_all(&bytes[..size].to_ascii_uppercase())
                            .await
                            .is_err()
                    {
                        break;
                    }
                }
                let _ = io.shutdown().await;
            });
            let mut response = says(101, "");
            let headers = response.headers_mut();
            headers.insert("upgrade", protocol);
            headers.insert("connection", "Upgrade".parse().unwrap());
            headers.insert(
                "x-stream-protocol-version",
                "v4.channel.k8s.io".parse().unwrap(),
            );
            return response;
        }
        match request.uri().path() {
            "/containerLogs/default/p/a" => says(200, "one\ntwo\n"),
            "/containerLogs/default/p/b" => says(400, "container \"b\" is waiting to start"),
            "/moved" => {
                let mut response = says(302, "");
                let to = "https://evil.example/x".parse().unwrap();
                response.headers_mut().insert("location", to);
                response
            }
            path => says(200, format!("{} {path}", request.method())),
        }
    })
}

async fn with_node(trusted: bool) -> (Cluster, Other) {
    let cluster = Cluster::open().await;
    let hosts = ["127.0.0.1"];
    let pair = match trusted {
        true => cluster.certificate(&hosts),
        false => cluster.strange_certificate(&hosts),
    };
    let authority = cluster.api.authority.pem.clone();
    let node = other(Some(&pair), &authority, node_answers).await;
    let object = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}});
    cluster.make("/api/v1/nodes", object).await;
    let status = json!({
        "addresses": [{"type": "Hostname", "address": "nowhere.invalid"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.address.port()}}});
    cluster.set_status("/api/v1/nodes/n", &status).await;
    pod(&cluster, "p", "n").await;
    (cluster, node)
}

async fn pod(cluster: &Cluster, name: &str, node: &str) {
    let mut object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": {
        "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}});
    if !node.is_empty() {
        object["spec"]["nodeName"] = node.into();
    }
    cluster
        .until("/api/v1/namespaces/default/serviceaccounts/default", |a| {
            a.code == 200
        })
        .await;
    cluster
        .make("/api/v1/namespaces/default/pods", object)
        .await;
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

fn upgrading(method: Method, path: &str, protocol: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "test")
        .header("connection", "Upgrade")
        .header("upgrade", protocol)
        .header("authorization", "Bearer not-for-nodes")
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn upgraded_connections_pass_both_ways() {
    let (cluster, node) = with_node(true).await;
    for (method, protocol, path, expect) in [
        (
            Method::POST,
            "SPDY/3.1",
            "exec?command=ls&command=-l&container=a&stdout=true",
            "POST /exec/default/p/a?command=ls&command=-l&output=1\n",
        ),
        (
            Method::GET,
            "websocket",
            "attach?container=b&stdin=true&tty=true",
            "GET /attach/default/p/b?input=1&tty=1\n",
        ),
        (
            Method::POST,
            "SPDY/3.1",
            "portforward",
            "POST /portForward/default/p\n",
        ),
    ] {
        let request = upgrading(method, &format!("{POD}/{path}"), protocol);
        let mut answer = cluster.begin(request, true).await;
        assert_eq!(answer.status(), 101, "{path}");
        assert_eq!(answer.headers()["upgrade"], protocol);
        assert_eq!(
            answer.headers()["x-stream-protocol-version"],
            "v4.channel.k8s.io"
        );
        let mut io = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        for text in ["hello", "again"] {
            io.write_all(text.as_bytes()).await.unwrap();
            let mut back = [0u8; 5];
            io.read_exact(&mut back).await.unwrap();
            assert_eq!(back, *text.to_uppercase().as_bytes());
        }
        io.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = io.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        let seen = node.last();
        assert!(seen.starts_with(expect), "{seen}");
        assert!(
            seen.contains("user: kube-apiserver-kubelet-client"),
            "{seen}"
        );
        assert!(!seen.contains("not-for-nodes"), "{seen}");
    }
}

#[tokio::test]
async fn refusals_have_the_words_of_the_original() {
    let (cluster, node) = with_node(true).await;
    pod(&cluster, "homeless", "").await;
    let homeless = "/api/v1/namespaces/default/pods/homeless";
    let check = async |path: String, upgrade: bool, code: u16, message: &str| {
        let answer = match upgrade {
            true => {
                cluster
                    .send(upgrading(Method::GET, &path, "websocket"), true)
                    .await
            }
            false => cluster.get(&path).await,
        };
        assert_eq!(
            (answer.code, answer.message().as_str()),
            (code, message),
            "{path}"
        );
    };
    check(
        format!("{POD}/exec?container=a&command=x"),
        false,
        400,
        "Upgrade request required",
    )
    .await;
    let which = "a container name must be specified for pod p, choose one of: [a b]";
    check(format!("{POD}/exec?command=x"), true, 400, which).await;
    check(format!("{POD}/log"), false, 400, which).await;
    let absent = "container x is not valid for pod p";
    check(format!("{POD}/log?container=x"), false, 400, absent).await;
    let none = "pod homeless does not have a host assigned";
    check(
        format!("{homeless}/exec?container=a&command=x"),
        true,
        400,
        none,
    )
    .await;
    check(format!("{homeless}/log?container=a"), false, 200, "").await;
    let missing = "/api/v1/namespaces/default/pods/nope/log".to_owned();
    check(missing, false, 404, "pods \"nope\" not found").await;
    let waiting = "container \"b\" is waiting to start";
    check(format!("{POD}/log?container=b"), false, 400, waiting).await;
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn logs_come_as_they_are_written() {
    let cluster = Cluster::open().await;
    let pair = cluster.certificate(&["127.0.0.1"]);
    let (lines, receiver) = mpsc::channel::<Bytes>(4);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let authority = cluster.api.authority.pem.clone();
    let node = other(Some(&pair), &authority, move |_| {
        let mut receiver = receiver.lock().unwrap().take().unwrap();
        let frames = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let frames = frames.map(|line| Ok::<_, std::io::Error>(Frame::data(line)));
        Box::pin(async move { Response::new(Body::new(StreamBody::new(frames))) })
    })
    .await;
    cluster
        .make("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await;
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.address.port()}}});
    cluster.set_status("/api/v1/nodes/n", &status).await;
    pod(&cluster, "p", "n").await;
    let path = format!("{POD}/log?container=a&follow=true&tailLines=3");
    let request = Request::get(path)
        .header("host", "test")
        .body(Full::default());
    let answer = cluster.begin(request.unwrap(), true).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain");
    let mut body = answer.into_body();
    for line in ["first\n", "second\n"] {
        lines.send(line.into()).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), line);
    }
    let seen = node.last();
    assert!(
        seen.contains("GET /containerLogs/default/p/a?follow=true&tailLines=3\n"),
        "{seen}"
    );
    // When the reader goes, so does the connection to the node.
    drop(body);
    let gone = tokio::time::timeout(Duration::from_secs(10), lines.closed()).await;
    assert!(gone.is_ok());
}

#[tokio::test]
async fn only_nodes_with_a_known_certificate_are_spoken_to() {
    let (cluster, node) = with_node(false).await;
    let path = format!("{POD}/log?container=a");
    let answer = cluster.get(&path).await;
    assert_eq!(answer.code, 500);
    assert!(answer.message().contains("tls: "), "{answer:?}");
    assert_eq!(node.count(), 0);
    let asked = cluster
        .get(&format!("{path}&insecureSkipTLSVerifyBackend=true"))
        .await;
    assert_eq!((asked.code, asked.text.as_str()), (200, "one\ntwo\n"));
    assert!(
        node.last().contains("user: nobody"),
        "no certificate for a server that isn't known"
    );
    cluster.api.relay.trust(NodeTrust::Anyone).unwrap();
    assert_eq!(cluster.get(&path).await.code, 200);
}

async fn bearer(cluster: &Cluster, rules: Value) -> String {
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    cluster
        .make(accounts, json!({"metadata": {"name": "u"}}))
        .await;
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    cluster.make(&format!("{rbac}/roles"), role).await;
    let binding = json!({"metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "u", "namespace": "default"}]});
    cluster.make(&format!("{rbac}/rolebindings"), binding).await;
    let token = cluster
        .make(&format!("{accounts}/u/token"), json!({"spec": {}}))
        .await;
    token["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn reading_rights_do_not_run_commands() {
    let (cluster, node) = with_node(true).await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/attach"], "verbs": ["get", "create"]}]);
    let token = bearer(&cluster, rules).await;
    let mut request = upgrading(
        Method::GET,
        &format!("{POD}/exec?container=a&command=x"),
        "websocket",
    );
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    let answer = cluster.send(request, false).await;
    assert_eq!(answer.code, 403);
    assert!(
        answer
            .message()
            .contains("cannot create resource \"pods/exec\""),
        "{answer:?}"
    );
    // As a browser sends its token.
    use base64::Engine as _;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&token);
    let protocols = format!("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{text}");
    let path = format!("{POD}/attach?container=a&stdout=1");
    let mut request = upgrading(Method::GET, &path, "websocket");
    request.headers_mut().remove("authorization");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocols.parse().unwrap());
    let answer = cluster.begin(request, false).await;
    assert_eq!(answer.status(), 101);
    let seen = node.last();
    assert!(
        seen.contains("sec-websocket-protocol: v4.channel.k8s.io\n"),
        "{seen}"
    );
}

/// A pod behind the service `s`, which tells what it was asked.
async fn backend(cluster: &Cluster) -> Other {
    let backend = other(None, "", |request| {
        Box::pin(async move {
            let path = request.uri().to_string();
            if path == "/moved" {
                let mut response = says(302, "");
                let headers = response.headers_mut();
                headers.insert("location", "/login?x=1".parse().unwrap());
                headers.insert("access-control-allow-origin", "*".parse().unwrap());
                return response;
            }
            let method = request.method().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            says(200, format!("{method} {path} {}", body.len()))
        })
    })
    .await;
    let addresses = json!({"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]});
    cluster.set_status(POD, &addresses).await;
    let ports = json!([{"name": "web", "port": 80}]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": ports}});
    cluster.make(&format!("{NS}/services"), service).await;
    let port = backend.address.port();
    cluster.endpoint("s", "web", port, "p").await;
    backend
}

const NS: &str = "/api/v1/namespaces/default";

/// Method, path, and the status and text of the answer.
const PROXIED: &str = r#"GET | NS/pods/p:PORT/proxy/a/b%2Fc?d=e | 200 | GET /a/b%2Fc?d=e 0
    GET | NS/pods/http:p:PORT/proxy/../../x/ | 200 | GET /x/ 0
    DELETE | NS/services/s:web/proxy/it | 200 | DELETE /it 0
    PUT | NS/services/s:80/proxy/ | 200 | PUT / 0
    GET | NS/services/s:81/proxy/ | 503 | no service port 81 found for service "s"
    GET | NS/services/s:other/proxy/ | 503 | no endpoints available for service "s"
    GET | NS/services/ftp:s:80/proxy/ | 400 | invalid service request "ftp:s:80"
    GET | /api/v1/nodes/n/proxy/metrics | 200 | GET /metrics
    GET | /api/v1/nodes/n:PORT/proxy/stats | 200 | GET /stats 0"#;

#[tokio::test]
async fn proxies_reach_nodes_pods_and_services() {
    let (cluster, node) = with_node(true).await;
    let backend = backend(&cluster).await;
    let port = backend.address.port();
    for line in PROXIED.lines() {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [method, path, code, text] = parts.try_into().unwrap();
        let path = path.replace("PORT", &port.to_string()).replace("NS", NS);
        let method = method.parse().unwrap();
        let answer = cluster.ask(method, &path, &Value::Null).await;
        assert_eq!(
            (answer.code.to_string().as_str(), answer.message().as_str()),
            (code, text),
            "{path}"
        );
    }
    let seen = node.last();
    assert!(
        seen.contains("user: kube-apiserver-kubelet-client"),
        "{seen}"
    );
    let seen = backend.last();
    assert!(seen.contains("x-forwarded-uri: /api/v1/nodes/n"), "{seen}");
    let big = "x".repeat(5 << 20);
    let request = Request::post(format!("{NS}/services/s:80/proxy/big"))
        .header("host", "test")
        .body(Full::new(Bytes::from(big)));
    let answer = cluster.send(request.unwrap(), true).await;
    assert_eq!(answer.text, format!("POST /big {}", 5 << 20));
}

#[tokio::test]
async fn redirections_of_services_stay_below_the_proxy() {
    let (cluster, _node) = with_node(true).await;
    let _backend = backend(&cluster).await;
    let proxy = format!("{NS}/services/s:80/proxy");
    let moved = cluster.get(&proxy).await;
    assert_eq!(moved.code, 301);
    assert_eq!(moved.headers["location"], format!("{proxy}/"));
    let moved = cluster.get(&format!("{proxy}/moved")).await;
    assert_eq!(moved.code, 302);
    assert_eq!(moved.headers["location"], format!("{proxy}/login?x=1"));
    assert!(!moved.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn hostile_upstreams_are_held_at_bay() {
    let (cluster, node) = with_node(true).await;
    // A redirection is the client's to judge: it is handed on and never followed.
    let answer = cluster.get("/api/v1/nodes/n/proxy/moved").await;
    assert_eq!(answer.code, 302);
    assert_eq!(answer.headers["location"], "https://evil.example/x");
    let before = node.count();
    // The server never speaks to itself: it would do so with all rights.
    let own = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": cluster.address.port()}}});
    cluster.set_status("/api/v1/nodes/n", &own).await;
    let answer = cluster.get("/api/v1/nodes/n/proxy/api/v1/secrets").await;
    assert_eq!(
        (answer.code, answer.message().as_str()),
        (400, "address not allowed")
    );
    assert_eq!(node.count(), before);

    let raw = raw_server(|_| {
        b"HTTP/1.1 302 Found\r\nLocation: https://evil.example\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    })
    .await;
    let mut port = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": raw}}});
    let pair_less = cluster.get("/api/v1/nodes/n/proxy/x").await;
    assert_eq!(pair_less.code, 400);
    cluster.set_status("/api/v1/nodes/n", &port).await;
    // Plain text where TLS is due.
    let answer = cluster.get(&format!("{POD}/log?container=a")).await;
    assert_eq!(answer.code, 500);

    cluster
        .set_status(
            POD,
            &json!({"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}),
        )
        .await;
    let proxy = async |reply: fn(usize) -> Vec<u8>| {
        let port = raw_server(reply).await;
        cluster
            .get(&format!("/api/v1/namespaces/default/pods/p:{port}/proxy/"))
            .await
    };
    let endless = proxy(|n| match n {
        0 => b"HTTP/1.1 200 OK\r\n".to_vec(),
        n => format!("x-{n}: {}\r\n", "y".repeat(1000)).into_bytes(),
    })
    .await;
    assert_eq!(endless.code, 503, "{endless:?}");
    let nonsense = proxy(|_| b"\x15\x03\x01\x00\x02\x02\x16".to_vec()).await;
    assert_eq!(nonsense.code, 503, "{nonsense:?}");
    let unasked =
        proxy(|_| b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n".to_vec())
            .await;
    assert_eq!(unasked.code, 503, "{unasked:?}");
    port = json!({});
    drop(port);
    cluster.api.relay.forbid_loopback();
    let answer = proxy(|_| Vec::new()).await;
    assert_eq!(
        (answer.code, answer.message().as_str()),
        (400, "address not allowed")
    );
}

/// A server that sends what it is told, piece by piece, until nobody takes it.
async fn raw_server(reply: fn(usize) -> Vec<u8>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0u8; 4096];
                let _ = socket.read(&mut bytes).await;
                for n in 0..100_000 {
                    let piece = reply(n);
                    let same = n > 0 && piece == reply(0);
                    if same || socket.write_all(&piece).await.is_err() {
                        break;
                    }
                }
                let _ = socket.shutdown().await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_node_that_redirects_an_exec_is_refused() {
    let cluster = Cluster::open().await;
    let pair = cluster.certificate(&["127.0.0.1"]);
    let authority = cluster.api.authority.pem.clone();
    let node = other(Some(&pair), &authority, |_| {
        Box::pin(async {
            let mut response = says(307, "");
            let to = "https://other-node:10250/exec".parse().unwrap();
            response.headers_mut().insert("location", to);
            response
        })
    })
    .await;
    cluster
        .make("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await;
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.address.port()}}});
    cluster.set_status("/api/v1/nodes/n", &status).await;
    pod(&cluster, "p", "n").await;
    let path = format!("{POD}/exec?container=a&command=x");
    let answer = cluster
        .send(upgrading(Method::POST, &path, "SPDY/3.1"), true)
        .await;
    assert_eq!(answer.code, 502);
    assert!(!answer.headers.contains_key("location"));
    let words = "the backend attempted to redirect this request, which is not permitted";
    assert_eq!(answer.text, words);
}

#[test]
fn paths_after_proxy_are_kept_as_they_were_sent() {
    let check = |path: &str, raw: &str, cleaned: &str| {
        assert_eq!(super::path_after_proxy(path), raw, "{path}");
        assert_eq!(super::clean(raw), cleaned, "{path}");
        assert!(super::is_relayed(path));
    };
    check("/api/v1/nodes/n/proxy", "", "/");
    check("/api/v1/nodes/n/proxy/", "/", "/");
    check("/api/v1/nodes/n/proxy/a/b", "/a/b", "/a/b");
    check("/api/v1/namespaces/x/pods/y/proxy/a//b/", "/a//b/", "/a/b/");
    check(
        "/api/v1/namespaces/x/services/y/proxy/%2e%2E/../a/.",
        "/%2e%2E/../a/.",
        "/a/",
    );
    assert!(!super::is_relayed("/api/v1/namespaces/x/pods/y"));
    assert!(!super::is_relayed(
        "/api/v1/namespaces/proxy/pods/exec/status"
    ));
    assert!(!super::is_relayed("/apis/apps/v1/namespaces/x/pods/y/log"));
}
