//! Tests with definitions of several versions and a conversion webhook.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::harness::{Cluster, Other, other, read_value, says, says_value};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/conv.example/v1/namespaces/default/things";
const V2: &str = "/apis/conv.example/v2/namespaces/default/things";

/// Version 1 has `spec.at` as `host:port`; version 2 has `spec.host` and `spec.port`.
fn convert(object: &Value, wanted: &str) -> Value {
    let mut out = object.clone();
    out["apiVersion"] = wanted.into();
    let spec = &object["spec"];
    out["spec"] = match wanted {
        "conv.example/v2" => {
            let (host, port) = spec["at"].as_str().unwrap().split_once(':').unwrap();
            json!({"host": host, "port": port, "unknown": "is dropped"})
        }
        _ => {
            json!({"at": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())})
        }
    };
    out["metadata"]["annotations"] = json!({"converted": "yes"});
    out["metadata"]["finalizers"] = json!(["hostile.example/never"]);
    out
}

fn answer(review: &Value, mode: &str) -> Value {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let mut made: Vec<Value> = objects.iter().map(|o| convert(o, wanted)).collect();
    let mut response = json!({"uid": request["uid"], "result": {"status": "Success"}});
    match mode {
        "uid" => response["uid"] = "other".into(),
        "refuses" => response["result"] = json!({"status": "Failed", "message": "not today"}),
        "mute" => response["result"] = json!({"status": "Failed"}),
        "short" => made.clear(),
        "name" => made[0]["metadata"]["name"] = "other".into(),
        "version" => made[0]["apiVersion"] = "conv.example/v9".into(),
        _ => {}
    }
    response["convertedObjects"] = made.into();
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response})
}

type Mode = Arc<Mutex<&'static str>>;

async fn webhook(cluster: &Cluster) -> (Other, Mode) {
    let pair = cluster.certificate(&["127.0.0.1"]);
    let mode: Mode = Arc::new(Mutex::new("ok"));
    let own = mode.clone();
    let server = other(Some(&pair), &cluster.api.authority.pem, move |request| {
        let mode = *own.lock().unwrap();
        Box::pin(async move {
            if mode == "broken" {
                return says(500, "no");
            }
            says_value(&answer(&read_value(request).await, mode))
        })
    })
    .await;
    (server, mode)
}

fn definition(cluster: &Cluster, hook: &Other) -> Value {
    let text = json!({"type": "string"});
    let version = |name: &str, storage: bool, properties: Value| {
        json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "Host", "type": "string", "jsonPath": ".spec.host"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": properties},
                "status": {"type": "object", "properties": {"n": {"type": "integer"}}}}}}})
    };
    let url = format!("https://{}/convert", hook.address);
    json!({"metadata": {"name": "things.conv.example"}, "spec": {"group": "conv.example", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": cluster.bundle()}}},
        "versions": [version("v1", true, json!({"at": text})),
            version("v2", false, json!({"host": text, "port": text}))]}})
}

fn thing(name: &str, version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("conv.example/{version}"), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

async fn with_things() -> (Cluster, Other, Mode) {
    let cluster = Cluster::open().await;
    let (hook, mode) = webhook(&cluster).await;
    cluster.make(DEFINITIONS, definition(&cluster, &hook)).await;
    cluster.until(V2, |a| a.code == 200).await;
    let object = thing("a", "v2", json!({"host": "h", "port": "1"}));
    let made = cluster.make(V2, object).await;
    assert_eq!(made["spec"], json!({"host": "h", "port": "1"}));
    (cluster, hook, mode)
}

async fn first_event(cluster: &Cluster, path: &str) -> Value {
    let request = Request::get(format!("{path}?watch=true&resourceVersion=0"))
        .header("host", "test")
        .body(Full::<Bytes>::default());
    let mut body = cluster.begin(request.unwrap(), true).await.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    let bytes = frame.into_data().unwrap();
    let line = bytes.split(|b| *b == b'\n').next().unwrap();
    serde_json::from_slice(line).unwrap()
}

#[tokio::test]
async fn every_verb_speaks_the_version_of_its_path() {
    let (cluster, hook, _) = with_things().await;
    let old = cluster.get(&format!("{V1}/a")).await.value();
    assert_eq!(old["apiVersion"], "conv.example/v1");
    assert_eq!(old["spec"], json!({"at": "h:1"}));
    let key = "conv.example/things/default/a";
    let stored = cluster.api.read(key).await.unwrap().unwrap();
    assert!(stored.is_version("conv.example/v1"));
    let asked = hook.count();
    let new = cluster.get(&format!("{V2}/a")).await.value();
    assert_eq!(new["spec"], json!({"host": "h", "port": "1"}));
    assert_eq!(new["metadata"]["annotations"], json!({"converted": "yes"}));
    assert!(
        new["metadata"].get("finalizers").is_none(),
        "only labels and annotations may change: {new}"
    );
    assert_eq!(hook.count(), asked, "what was converted once is remembered");

    let patch = json!({"spec": {"port": "2"}});
    let patched = cluster.ask(Method::PATCH, &format!("{V2}/a"), &patch).await;
    assert_eq!(
        patched.value()["spec"],
        json!({"host": "h", "port": "2"}),
        "{patched:?}"
    );
    let list = cluster.get(V2).await.value();
    assert_eq!(list["items"][0]["spec"]["port"], "2");
    assert_eq!(list["items"][0]["apiVersion"], "conv.example/v2");
    let list = cluster.get(V1).await.value();
    assert_eq!(list["items"][0]["spec"]["at"], "h:2");
    let event = first_event(&cluster, V2).await;
    assert_eq!(
        (&event["type"], &event["object"]["spec"]["host"]),
        (&json!("ADDED"), &json!("h"))
    );
    let request = Request::get(V2)
        .header("host", "test")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::default());
    let table = cluster.send(request.unwrap(), true).await.value();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "h"]));
}

#[tokio::test]
async fn writes_go_through_the_version_of_their_path() {
    let (cluster, _hook, _) = with_things().await;
    let config = thing("a", "v2", json!({"port": "3"}));
    let request = Request::patch(format!("{V2}/a?fieldManager=m&force=true"))
        .header("host", "test")
        .header("content-type", "application/apply-patch+yaml")
        .body(Full::new(Bytes::from(config.to_string())));
    let applied = cluster.send(request.unwrap(), true).await;
    assert_eq!(
        applied.value()["spec"],
        json!({"host": "h", "port": "3"}),
        "{applied:?}"
    );
    let status = json!({"status": {"n": 5}});
    let status = cluster
        .ask(Method::PATCH, &format!("{V2}/a/status"), &status)
        .await;
    assert_eq!(status.value()["status"]["n"], 5, "{status:?}");
    let dry = cluster
        .ask(
            Method::PATCH,
            &format!("{V2}/a?dryRun=All"),
            &json!({"spec": {"port": "9"}}),
        )
        .await;
    assert_eq!(dry.value()["spec"]["port"], "9");
    assert_eq!(
        cluster.get(&format!("{V2}/a")).await.value()["spec"]["port"],
        "3"
    );
    let gone = cluster
        .ask(Method::DELETE, &format!("{V2}/a"), &Value::Null)
        .await;
    assert_eq!(gone.code, 200);
}

#[tokio::test]
async fn failures_have_the_words_of_the_original() {
    let (cluster, hook, mode) = with_things().await;
    // Another revision, so that nothing is remembered of it.
    let touch = async || {
        *mode.lock().unwrap() = "ok";
        let path = format!("{V1}/a");
        let label = crate::random::suffix(8);
        let patch = json!({"metadata": {"labels": {"x": label}}});
        assert_eq!(cluster.ask(Method::PATCH, &path, &patch).await.code, 200);
    };
    let head = "conversion webhook for conv.example/v1, Kind=Thing";
    let cases = [
        ("refuses", "failed: not today"),
        (
            "mute",
            "failed: response.result.status was 'Failed', not 'Success'",
        ),
        ("short", "returned 0 objects, expected 1"),
        (
            "name",
            "returned invalid converted object at index 0: must have the same name: a != other",
        ),
        (
            "version",
            "returned invalid converted object at index 0: invalid groupVersion (expected conv.example/v2, received conv.example/v9)",
        ),
    ];
    for (wrong, words) in cases {
        touch().await;
        *mode.lock().unwrap() = wrong;
        for path in [format!("{V2}/a"), V2.to_owned()] {
            let answer = cluster.get(&path).await;
            assert_eq!(
                (answer.code, answer.message()),
                (500, format!("{head} {words}"))
            );
        }
    }
    touch().await;
    *mode.lock().unwrap() = "uid";
    let answer = cluster.get(&format!("{V2}/a")).await.message();
    assert!(
        answer.starts_with(&format!("{head} failed: expected response.uid=")),
        "{answer}"
    );
    assert!(answer.ends_with(", got \"other\""), "{answer}");
    *mode.lock().unwrap() = "broken";
    let answer = cluster.get(V2).await;
    assert!(
        answer
            .message()
            .starts_with(&format!("{head} failed: Post \"https://")),
        "{answer:?}"
    );
    let event = first_event(&cluster, V2).await;
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(500))
    );
    // What needs no conversion goes on.
    assert_eq!(cluster.get(&format!("{V1}/a")).await.code, 200);
    let made = thing("b", "v2", json!({"host": "h", "port": "1"}));
    assert_eq!(cluster.ask(Method::POST, V2, &made).await.code, 500);
    assert!(hook.count() > 5);
}

#[tokio::test]
async fn objects_move_to_another_storage_version_when_they_are_written() {
    let (cluster, _hook, _) = with_things().await;
    let path = format!("{DEFINITIONS}/things.conv.example");
    let mut object = cluster.get(&path).await.value();
    object["spec"]["versions"][0]["storage"] = false.into();
    object["spec"]["versions"][1]["storage"] = true.into();
    let changed = cluster.ask(Method::PUT, &path, &object).await;
    assert_eq!(changed.code, 200, "{changed:?}");
    let both = json!(["v1", "v2"]);
    cluster
        .until(&path, |a| a.value()["status"]["storedVersions"] == both)
        .await;
    let key = "conv.example/things/default/a";
    let same = cluster.get(&format!("{V1}/a")).await.value();
    assert_eq!(same["spec"], json!({"at": "h:1"}));
    let written = cluster.ask(Method::PUT, &format!("{V1}/a"), &same).await;
    assert_eq!(written.code, 200, "{written:?}");
    assert_eq!(written.value()["spec"], json!({"at": "h:1"}));
    let stored = cluster.api.read(key).await.unwrap().unwrap();
    assert!(stored.is_version("conv.example/v2"));
}

#[tokio::test]
async fn defaults_count_for_objects_that_were_stored_before() {
    let cluster = Cluster::open().await;
    let schema = |properties: Value| {
        json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": properties}}}])
    };
    let versions = schema(json!({"a": {"type": "string"}}));
    let names = json!({"plural": "olds", "kind": "Old"});
    let object = json!({"metadata": {"name": "olds.d.example"}, "spec": {
        "group": "d.example", "scope": "Cluster", "names": names, "versions": versions}});
    cluster.make(DEFINITIONS, object).await;
    let olds = "/apis/d.example/v1/olds";
    cluster.until(olds, |a| a.code == 200).await;
    let object = json!({"apiVersion": "d.example/v1", "kind": "Old", "metadata": {"name": "x"}});
    cluster.make(olds, object).await;
    let versions = schema(json!({"a": {"type": "string", "default": "A"}}));
    let patch = json!({"spec": {"versions": versions}});
    let path = format!("{DEFINITIONS}/olds.d.example");
    assert_eq!(cluster.ask(Method::PATCH, &path, &patch).await.code, 200);
    cluster
        .until(&format!("{olds}/x"), |a| a.value()["a"] == "A")
        .await;
    assert_eq!(cluster.get(olds).await.value()["items"][0]["a"], "A");
    assert_eq!(first_event(&cluster, olds).await["object"]["a"], "A");
}
