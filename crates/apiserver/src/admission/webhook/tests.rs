//! Tests with webhooks that answer as they should, and with hostile ones.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Other, other, read_value, says, says_value};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

/// What a webhook responds to a request, besides the uid. Nothing: it answers with an empty body.
type Judge = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

async fn server(
    cluster: &Cluster,
    judge: impl Fn(&Value) -> Value + Send + Sync + 'static,
) -> Other {
    let judge: Judge = Arc::new(judge);
    let pair = cluster.certificate(&["127.0.0.1", "hook.default.svc"]);
    let authority = cluster.api.authority.pem.clone();
    other(Some(&pair), &authority, move |request| {
        let judge = judge.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let review = read_value(request).await;
            let uid = review["request"]["uid"].clone();
            let mut response = judge(&review["request"]);
            match path.as_str() {
                "/slow" => std::future::pending().await,
                "/broken" => return says(500, "no"),
                "/garbage" => return says(200, "{"),
                "/huge" => return says(200, vec![b' '; 4 << 20]),
                "/absent" => response = Value::Null,
                "/uid" => response["uid"] = "other".into(),
                "/moved" => {
                    let mut response = says(302, "");
                    let to = "https://127.0.0.1:1/".parse().unwrap();
                    response.headers_mut().insert("location", to);
                    return response;
                }
                _ => response["uid"] = uid,
            }
            let version = match path.as_str() {
                "/old" => "admission.k8s.io/v1beta1",
                _ => "admission.k8s.io/v1",
            };
            says_value(
                &json!({"kind": "AdmissionReview", "apiVersion": version, "response": response}),
            )
        })
    })
    .await
}

fn patch(operations: &Value) -> Value {
    let text = STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": text})
}

fn hook(cluster: &Cluster, name: &str, server: &Other, path: &str) -> Value {
    let url = format!("https://{}{path}", server.address);
    json!({"name": name, "clientConfig": {"url": url, "caBundle": cluster.bundle()}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps", "namespaces"]}]})
}

async fn configure(cluster: &Cluster, sort: &str, hooks: Vec<Value>) {
    let path = format!("{CONFIGURATIONS}/{sort}webhookconfigurations");
    let name = format!("c-{}", crate::random::suffix(5));
    cluster
        .make(
            &path,
            json!({"metadata": {"name": name}, "webhooks": hooks}),
        )
        .await;
    let objects = cluster.get(&path).await.value();
    let revision = objects["metadata"]["resourceVersion"].as_str().unwrap();
    cluster.api.caches.reach(revision.parse().unwrap()).await;
}

async fn forget(cluster: &Cluster) {
    for sort in ["mutating", "validating"] {
        let path = format!("{CONFIGURATIONS}/{sort}webhookconfigurations");
        cluster.ask(Method::DELETE, &path, &Value::Null).await;
    }
    let revision = cluster.api.revision().await.unwrap();
    cluster.api.caches.reach(revision).await;
}

async fn map(cluster: &Cluster, name: &str, query: &str) -> Answer {
    let value = json!({"metadata": {"name": name, "labels": {"a": "b"}}});
    cluster
        .ask(Method::POST, &format!("{MAPS}{query}"), &value)
        .await
}

#[tokio::test]
async fn changes_are_made_and_told_about() {
    let cluster = Cluster::open().await;
    let first = server(&cluster, |request| {
        assert_eq!(request["userInfo"]["username"], "admin");
        assert_eq!(
            request["kind"],
            json!({"group": "", "version": "v1", "kind": "ConfigMap"})
        );
        let options = request["options"]["kind"].as_str().unwrap();
        let text = format!(
            "{} {options} {}",
            request["operation"].as_str().unwrap(),
            request["dryRun"]
        );
        let mut response = patch(&json!([{"op": "add", "path": "/data", "value": {"told": text}}]));
        response["warnings"] = json!(["mind this"]);
        response
    })
    .await;
    configure(
        &cluster,
        "mutating",
        vec![hook(&cluster, "a.example.com", &first, "/")],
    )
    .await;
    let made = map(&cluster, "x", "").await;
    assert_eq!(
        made.value()["data"]["told"],
        "CREATE CreateOptions false",
        "{made:?}"
    );
    assert_eq!(made.headers["warning"], "299 - \"mind this\"");
    assert!(
        first.last().starts_with("POST /?timeout=1s\n"),
        "{}",
        first.last()
    );
    let dry = map(&cluster, "y", "?dryRun=All").await;
    assert_eq!(dry.value()["data"]["told"], "CREATE CreateOptions true");
    assert_eq!(cluster.get(&format!("{MAPS}/y")).await.code, 404);
    let change = json!({"metadata": {"labels": {"c": "d"}}});
    let changed = cluster
        .ask(Method::PATCH, &format!("{MAPS}/x"), &change)
        .await;
    assert_eq!(
        changed.value()["data"]["told"],
        "UPDATE UpdateOptions false"
    );
    let seen = server(&cluster, |request| {
        assert!(request["object"].is_null());
        assert_eq!(request["oldObject"]["metadata"]["name"], "x");
        json!({"allowed": false})
    })
    .await;
    configure(
        &cluster,
        "validating",
        vec![hook(&cluster, "v.example.com", &seen, "/")],
    )
    .await;
    let deleted = cluster
        .ask(Method::DELETE, &format!("{MAPS}/x"), &Value::Null)
        .await;
    let words = "admission webhook \"v.example.com\" denied the request without explanation";
    assert_eq!((deleted.code, deleted.message().as_str()), (400, words));
}

#[tokio::test]
async fn refusals_are_passed_on() {
    let cluster = Cluster::open().await;
    let hooks = server(&cluster, |request| match request["name"].as_str().unwrap() {
        "teapot" => json!({"allowed": false, "status": {"code": 418, "message": "short and stout", "reason": "Forbidden"}}),
        "reason" => json!({"allowed": false, "status": {"reason": "Conflict", "code": 200}}),
        // What only changing webhooks may send.
        "sly" => patch(&json!([{"op": "add", "path": "/data", "value": {"a": "b"}}])),
        _ => json!({"allowed": true}),
    })
    .await;
    configure(
        &cluster,
        "validating",
        vec![hook(&cluster, "v.example.com", &hooks, "/")],
    )
    .await;
    let head = "admission webhook \"v.example.com\" denied the request";
    let teapot = map(&cluster, "teapot", "").await;
    assert_eq!(
        (teapot.code, teapot.message()),
        (418, format!("{head}: short and stout"))
    );
    assert_eq!(teapot.value()["reason"], "Forbidden");
    let reason = map(&cluster, "reason", "").await;
    assert_eq!(
        (reason.code, reason.message()),
        (400, format!("{head}: Conflict"))
    );
    let sly = map(&cluster, "sly", "").await;
    assert_eq!((sly.code, &sly.value()["data"]), (201, &Value::Null));
}

const BROKEN: [(&str, &str); 8] = [
    (
        "/slow",
        "failed to call webhook: Post \"URL?timeout=1s\": context deadline exceeded",
    ),
    (
        "/broken",
        "failed to call webhook: Post \"URL?timeout=1s\": the answer is 500 Internal Server Error",
    ),
    (
        "/moved",
        "failed to call webhook: Post \"URL?timeout=1s\": the answer is 302 Found",
    ),
    ("/garbage", "failed to call webhook: "),
    (
        "/huge",
        "failed to call webhook: Post \"URL?timeout=1s\": length limit exceeded",
    ),
    (
        "/absent",
        "received invalid webhook response: webhook response was absent",
    ),
    (
        "/uid",
        "received invalid webhook response: expected response.uid=\"",
    ),
    (
        "/old",
        "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview",
    ),
];

#[tokio::test]
async fn failures_count_as_the_policy_says() {
    let cluster = Cluster::open().await;
    let hooks = server(&cluster, |_| json!({"allowed": true})).await;
    for (path, words) in BROKEN {
        for sort in ["validating", "mutating"] {
            let mut one = hook(&cluster, "h.example.com", &hooks, path);
            configure(&cluster, sort, vec![one.clone()]).await;
            let answer = map(&cluster, "x", "").await;
            let url = format!("https://{}{path}", hooks.address);
            let words = words.replace("URL", &url);
            let head = "Internal error occurred: failed calling webhook \"h.example.com\": ";
            assert_eq!(answer.code, 500);
            assert!(
                answer.message().starts_with(&format!("{head}{words}")),
                "{path} {answer:?}"
            );
            forget(&cluster).await;
            one["failurePolicy"] = "Ignore".into();
            configure(&cluster, sort, vec![one]).await;
            let answer = map(&cluster, "x", "?dryRun=All").await;
            assert_eq!(answer.code, 201, "{path} {answer:?}");
            forget(&cluster).await;
        }
    }
    let mut nobody = hook(&cluster, "h.example.com", &hooks, "/");
    nobody["clientConfig"]["url"] = "https://127.0.0.1:1/x".into();
    configure(&cluster, "validating", vec![nobody]).await;
    let answer = map(&cluster, "x", "").await.message();
    let refused = "Post \"https://127.0.0.1:1/x?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert!(answer.ends_with(refused), "{answer}");
}

#[tokio::test]
async fn hostile_changes_are_refused() {
    let cluster = Cluster::open().await;
    let hooks = server(&cluster, |request| {
        match request["name"].as_str().unwrap() {
            "untyped" => {
                let mut response = patch(&json!([]));
                response.as_object_mut().unwrap().remove("patchType");
                response
            }
            "typed" => {
                let mut response = patch(&json!([]));
                response["patchType"] = "Merge".into();
                response
            }
            "nonsense" => json!({"allowed": true, "patchType": "JSONPatch", "patch": "!"}),
            "missing" => patch(&json!([{"op": "remove", "path": "/nowhere"}])),
            "rename" => {
                patch(&json!([{"op": "replace", "path": "/metadata/name", "value": "other"}]))
            }
            "move" => patch(
                &json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}]),
            ),
            "wrong" => patch(&json!([{"op": "add", "path": "/data", "value": 7}])),
            "invalid" => patch(&json!([{"op": "add", "path": "/metadata/labels/b", "value": "-"}])),
            "null" => patch(&json!([{"op": "replace", "path": "", "value": null}])),
            _ => patch(&json!([{"op": "add", "path": "/unknown", "value": 1}])),
        }
    })
    .await;
    configure(
        &cluster,
        "mutating",
        vec![hook(&cluster, "h.example.com", &hooks, "/")],
    )
    .await;
    for (name, code, words) in [
        (
            "untyped",
            500,
            "webhook returned response.patch but not response.patchType",
        ),
        (
            "typed",
            500,
            "webhook returned invalid response.patchType of \"Merge\"",
        ),
        ("nonsense", 500, "Invalid"),
        ("missing", 500, "/nowhere"),
        ("rename", 500, "it may not change the object's name"),
        ("move", 500, "it may not change the object's namespace"),
        ("wrong", 500, "cannot unmarshal"),
        ("invalid", 422, "metadata.labels: Invalid value: \"-\""),
        ("null", 500, "it may not change the object's version"),
    ] {
        let answer = map(&cluster, name, "").await;
        assert_eq!(answer.code, code, "{name} {answer:?}");
        assert!(answer.message().contains(words), "{name} {answer:?}");
    }
    let made = map(&cluster, "unknown", "").await;
    assert_eq!((made.code, made.value().get("unknown")), (201, None));
    assert_eq!(
        cluster
            .get("/api/v1/namespaces/kube-system/configmaps/move")
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn those_that_wish_are_asked_again_after_others() {
    let cluster = Cluster::open().await;
    let counts = server(&cluster, |request| {
        let seen = request["object"]["data"]["seen"].as_str().unwrap_or("");
        let saw = if request["object"]["data"]["late"].is_string() {
            "L"
        } else {
            "e"
        };
        patch(
            &json!([{"op": "add", "path": "/data", "value": {"seen": format!("{seen}{saw}"),
            "late": request["object"]["data"]["late"]}}]),
        )
    })
    .await;
    let late = server(&cluster, |request| {
        if request["object"]["data"]["late"].is_string() {
            return json!({"allowed": true});
        }
        patch(&json!([{"op": "add", "path": "/data/late", "value": "yes"}]))
    })
    .await;
    for (policy, expect, calls) in [("Never", "e", 1), ("IfNeeded", "eL", 2)] {
        let mut first = hook(&cluster, "a.example.com", &counts, "/");
        first["reinvocationPolicy"] = policy.into();
        // Controllers make objects of this kind meanwhile.
        first["objectSelector"] = json!({"matchLabels": {"a": "b"}});
        let second = hook(&cluster, "b.example.com", &late, "/");
        configure(&cluster, "mutating", vec![first, second]).await;
        let before = counts.count();
        let made = map(&cluster, "x", "?dryRun=All").await;
        assert_eq!(made.value()["data"]["seen"], expect, "{policy} {made:?}");
        assert_eq!(counts.count() - before, calls);
        forget(&cluster).await;
    }
}

#[tokio::test]
async fn conditions_and_selectors_choose() {
    let cluster = Cluster::open().await;
    let hooks = server(&cluster, |_| json!({"allowed": false})).await;
    let check = async |changes: Value, asked: bool| {
        let mut one = hook(&cluster, "h.example.com", &hooks, "/");
        for (key, value) in changes.as_object().unwrap() {
            one[key] = value.clone();
        }
        configure(&cluster, "validating", vec![one]).await;
        let answer = map(&cluster, "x", "?dryRun=All").await;
        let code = if asked { 400 } else { 201 };
        assert_eq!(answer.code, code, "{changes} {answer:?}");
        forget(&cluster).await;
    };
    let labels = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    check(json!({"objectSelector": labels("a", "b")}), true).await;
    check(json!({"objectSelector": labels("a", "c")}), false).await;
    let name = "kubernetes.io/metadata.name";
    check(json!({"namespaceSelector": labels(name, "default")}), true).await;
    check(json!({"namespaceSelector": labels(name, "other")}), false).await;
    let conditions = |text: &str| json!([{"name": "c", "expression": text}]);
    check(
        json!({"matchConditions": conditions("object.metadata.name == 'x'")}),
        true,
    )
    .await;
    check(
        json!({"matchConditions": conditions("request.operation == 'DELETE'")}),
        false,
    )
    .await;
    check(
        json!({"matchConditions": conditions("request.dryRun && has(object.metadata.labels)")}),
        true,
    )
    .await;
    // A condition that can't be evaluated is a failure.
    let failing = conditions("object.data.missing == 'x'");
    check(
        json!({"matchConditions": failing, "failurePolicy": "Ignore"}),
        false,
    )
    .await;
    let mut one = hook(&cluster, "h.example.com", &hooks, "/");
    one["matchConditions"] = failing;
    // What is in no namespace is judged whatever namespaces are selected.
    let mut outside = hook(&cluster, "o.example.com", &hooks, "/");
    outside["namespaceSelector"] = labels(name, "nowhere");
    outside["rules"] = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["*"],
        "operations": ["CREATE"], "resources": ["clusterroles"]}]);
    configure(&cluster, "validating", vec![one, outside]).await;
    let answer = map(&cluster, "x", "").await;
    assert_eq!(answer.code, 403, "{answer:?}");
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({"metadata": {"name": "r"}, "rules": []});
    assert_eq!(cluster.ask(Method::POST, path, &role).await.code, 400);
    let space = json!({"metadata": {"name": "other"}});
    let made = cluster
        .ask(Method::POST, "/api/v1/namespaces", &space)
        .await;
    assert_eq!(
        made.code, 403,
        "its condition fails for namespaces too: {made:?}"
    );
}

#[tokio::test]
async fn services_are_reached_and_connections_judged() {
    let cluster = Cluster::open().await;
    let hooks = server(&cluster, |request| {
        assert_eq!(request["operation"], "CONNECT");
        assert_eq!(request["kind"]["kind"], "PodExecOptions");
        assert_eq!(request["subResource"], "exec");
        let command = request["object"]["command"][0].as_str().unwrap();
        json!({"allowed": command != "rm"})
    })
    .await;
    let ports = json!([{"name": "h", "port": 8443}]);
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": ports}});
    cluster
        .make("/api/v1/namespaces/default/services", service)
        .await;
    cluster
        .endpoint("hook", "h", hooks.address.port(), "")
        .await;
    let mut one = hook(&cluster, "h.example.com", &hooks, "/");
    one["clientConfig"] = json!({"caBundle": cluster.bundle(),
        "service": {"name": "hook", "namespace": "default", "port": 8443, "path": "/connect"}});
    one["rules"] = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}]);
    configure(&cluster, "validating", vec![one]).await;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    cluster.until(account, |a| a.code == 200).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    cluster.make("/api/v1/namespaces/default/pods", pod).await;
    for (command, code, words) in [
        (
            "rm",
            400,
            "admission webhook \"h.example.com\" denied the request without explanation",
        ),
        ("ls", 400, "pod p does not have a host assigned"),
    ] {
        let path = format!("/api/v1/namespaces/default/pods/p/exec?command={command}");
        let request = Request::post(path)
            .header("host", "test")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .body(Full::default());
        let answer = cluster.send(request.unwrap(), true).await;
        assert_eq!((answer.code, answer.message().as_str()), (code, words));
    }
    assert!(
        hooks.last().starts_with("POST /connect?timeout=1s\n"),
        "{}",
        hooks.last()
    );
}
