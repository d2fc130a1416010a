//! Tests with an extension server behind a Service.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Handling, Other, other, says, says_value};

const API: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const OWN: &str = "/apis/ext.example/v1";

fn extension(request: Request<Incoming>) -> Handling {
    Box::pin(async move {
        match request.uri().path() {
            OWN => says_value(
                &json!({"kind": "APIResourceList", "groupVersion": "ext.example/v1", "resources": [
                {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]}),
            ),
            "/openapi/v3" => {
                says_value(&json!({"paths": {"apis/ext.example/v1": {"serverRelativeURL": "/x"}}}))
            }
            "/openapi/v2" => says_value(
                &json!({"paths": {"/apis/ext.example/v1/things": {"get": {}}, "/api/v1/pods": {"evil": 1}},
                "definitions": {"example.Thing": {"type": "object"}}}),
            ),
            "/openapi/v3/apis/ext.example/v1" => {
                says_value(&json!({"openapi": "3.0.0", "info": {"title": "ext"}}))
            }
            "/apis/ext.example/v1/moved" => {
                let mut response = says(302, "");
                let to = "https://evil.example".parse().unwrap();
                response.headers_mut().insert("location", to);
                response
            }
            path => says(200, format!("{} {path}", request.method())),
        }
    })
}

async fn with_extension() -> (Cluster, Other) {
    let cluster = Cluster::open().await;
    let pair = cluster.certificate(&["ext.default.svc"]);
    let front = cluster.api.relay.front_authority().to_owned();
    let server = other(Some(&pair), &front, extension).await;
    (cluster, server)
}

fn service(bundle: &str) -> Value {
    json!({"metadata": {"name": "v1.ext.example"}, "spec": {"group": "ext.example", "version": "v1",
        "groupPriorityMinimum": 100, "versionPriority": 10, "caBundle": bundle,
        "service": {"name": "ext", "namespace": "default", "port": 443}}})
}

fn available(answer: &Answer) -> (String, String, String) {
    let value = answer.value();
    let condition = &value["status"]["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

async fn reason(cluster: &Cluster, wished: &str) -> String {
    let path = format!("{API}/v1.ext.example");
    let answer = cluster.until(&path, |a| available(a).1 == wished).await;
    available(&answer).2
}

async fn ready(cluster: &Cluster, server: &Other) {
    let ports = json!([{"name": "https", "port": 443}]);
    let object = json!({"metadata": {"name": "ext"}, "spec": {"ports": ports}});
    cluster
        .make("/api/v1/namespaces/default/services", object)
        .await;
    cluster
        .endpoint("ext", "https", server.address.port(), "")
        .await;
    cluster.make(API, service(&cluster.bundle())).await;
    reason(cluster, "Passed").await;
}

#[tokio::test]
async fn conditions_tell_what_is_missing() {
    let (cluster, server) = with_extension().await;
    cluster.make(API, service(&cluster.bundle())).await;
    let text = reason(&cluster, "ServiceNotFound").await;
    assert_eq!(text, "service/ext in \"default\" is not present");
    let gone = cluster.get(&format!("{OWN}/things")).await;
    assert_eq!(
        (gone.code, gone.text.as_str()),
        (503, "service unavailable\n")
    );
    let services = "/api/v1/namespaces/default/services";
    let object = |port: u16| json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"name": "https", "port": port}]}});
    cluster.make(services, object(80)).await;
    let text = reason(&cluster, "ServicePortError").await;
    assert_eq!(
        text,
        "service/ext in \"default\" is not listening on port 443"
    );
    let patch = json!({"spec": object(443)["spec"]});
    let changed = cluster
        .ask(Method::PATCH, &format!("{services}/ext"), &patch)
        .await;
    assert_eq!(changed.code, 200, "{changed:?}");
    let text = reason(&cluster, "EndpointsNotFound").await;
    assert_eq!(
        text,
        "cannot find endpointslices for service/ext in \"default\""
    );
    cluster
        .endpoint("ext", "https", server.address.port(), "")
        .await;
    assert_eq!(reason(&cluster, "Passed").await, "all checks passed");
    // Another authority than the one that signed its certificate.
    let strange = cluster.strange_certificate(&["x"]);
    use base64::Engine as _;
    let bundle = base64::engine::general_purpose::STANDARD.encode(strange.certificate);
    let patch = json!({"spec": {"caBundle": bundle}});
    cluster
        .ask(Method::PATCH, &format!("{API}/v1.ext.example"), &patch)
        .await;
    let text = reason(&cluster, "FailedDiscoveryCheck").await;
    assert!(
        text.starts_with("failing or missing response from https://ext.default.svc:"),
        "{text}"
    );
}

#[tokio::test]
async fn requests_are_passed_on_in_the_users_name() {
    let (cluster, server) = with_extension().await;
    ready(&cluster, &server).await;
    let request = Request::post(format!("{OWN}/namespaces/default/things?a=b"))
        .header("host", "test")
        .header("x-remote-user", "system:admin")
        .header("x-remote-group", "system:masters")
        .header("impersonate-user", "jane")
        .header("impersonate-group", "dev")
        .header("impersonate-extra-a%2fb", "c")
        .body(Full::<Bytes>::default());
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let request = request.unwrap();
    let denied = cluster.send(request.clone(), true).await;
    assert_eq!(denied.code, 403, "{denied:?}");
    let role = json!({"metadata": {"name": "t"}, "rules": [
        {"apiGroups": ["ext.example"], "resources": ["things"], "verbs": ["create"]}]});
    cluster.make(&format!("{rbac}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "t"}, "subjects": [{"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "t"}});
    cluster
        .make(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
    let answer = cluster.send(request, true).await;
    assert_eq!(
        (answer.code, answer.text.as_str()),
        (200, "POST /apis/ext.example/v1/namespaces/default/things")
    );
    let seen = server.seen.lock().unwrap().clone();
    let mut seen = seen.iter();
    let seen = seen.find(|head| head.contains("things?a=b\n")).unwrap();
    for line in [
        "x-remote-user: jane\n",
        "x-remote-group: dev\n",
        "user: front-proxy-client\n",
    ] {
        assert!(seen.contains(line), "{line} {seen}");
    }
    for absent in ["system:masters", "system:admin", "impersonate"] {
        assert!(!seen.contains(absent), "{seen}");
    }
    let moved = cluster.get(&format!("{OWN}/moved")).await;
    assert_eq!(moved.code, 502);
    assert!(!moved.headers.contains_key("location"));
    let back = cluster.get(&format!("{OWN}/%2e%2e/x")).await;
    assert_eq!(back.code, 400, "{back:?}");
}

#[tokio::test]
async fn documents_tell_of_extension_servers() {
    let (cluster, server) = with_extension().await;
    ready(&cluster, &server).await;
    let groups = cluster.get("/apis").await.value();
    let groups = groups["groups"].as_array().unwrap().clone();
    let group = groups.iter().find(|g| g["name"] == "ext.example").unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "ext.example/v1");
    let group = cluster.get("/apis/ext.example").await.value();
    assert_eq!(
        (&group["kind"], &group["versions"][0]["version"]),
        (&json!("APIGroup"), &json!("v1"))
    );
    let list = cluster.get(OWN).await.value();
    assert_eq!(list["resources"][0]["name"], "things");
    let request = Request::get("/apis")
        .header("host", "test")
        .header(
            "accept",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        )
        .body(Full::default());
    let all = cluster.send(request.unwrap(), true).await.value();
    let all = all["items"].as_array().unwrap().clone();
    let group = all
        .iter()
        .find(|g| g["metadata"]["name"] == "ext.example")
        .unwrap();
    let version = &group["versions"][0];
    assert_eq!(version["freshness"], "Current");
    assert_eq!(
        version["resources"][0]["subresources"][0]["subresource"],
        "status"
    );
    let index = cluster.get("/openapi/v3").await.value();
    let url = index["paths"]["apis/ext.example/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = cluster.get(&url).await.value();
    assert_eq!(document["info"]["title"], "ext");
    let document = cluster.get("/openapi/v2").await.value();
    assert!(document["paths"]["/apis/ext.example/v1/things"].is_object());
    assert!(document["definitions"]["example.Thing"].is_object());
    assert!(
        document["paths"]
            .get("/api/v1/pods")
            .is_none_or(|p| p.get("evil").is_none())
    );
    let deleted = cluster
        .ask(
            Method::DELETE,
            &format!("{API}/v1.ext.example"),
            &Value::Null,
        )
        .await;
    assert_eq!(deleted.code, 200);
    cluster.until("/apis/ext.example", |a| a.code == 404).await;
}

#[tokio::test]
async fn own_groups_have_api_services() {
    let cluster = Cluster::open().await;
    let apps = cluster
        .until(&format!("{API}/v1.apps"), |a| available(a).0 == "True")
        .await;
    let (_, reason, message) = available(&apps);
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("Local", "Local APIServices are always available")
    );
    cluster
        .until(&format!("{API}/v1."), |a| a.code == 200)
        .await;
    let map = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let map = cluster.until(map, |a| a.code == 200).await.value();
    assert_eq!(
        map["data"]["requestheader-allowed-names"],
        "[\"front-proxy-client\"]"
    );
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({"metadata": {"name": "foos.own.example"}, "spec": {"group": "own.example", "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    cluster.make(definitions, definition).await;
    cluster
        .until(&format!("{API}/v1.own.example"), |a| a.code == 200)
        .await;
    cluster
        .ask(
            Method::DELETE,
            &format!("{definitions}/foos.own.example"),
            &Value::Null,
        )
        .await;
    cluster
        .until(&format!("{API}/v1.own.example"), |a| a.code == 404)
        .await;
}
