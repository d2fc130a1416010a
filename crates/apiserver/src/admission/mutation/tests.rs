//! Tests of policies that change objects.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
const NS: &str = "/api/v1/namespaces/default";

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn policy(name: &str, resources: &[&str], mutations: Vec<Value>) -> Value {
    json!({"metadata": {"name": name}, "spec": {"reinvocationPolicy": "Never", "mutations": mutations,
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"], "resources": resources}]}}})
}

async fn force(cluster: &Cluster, policy: Value, binding: Value) {
    let name = policy["metadata"]["name"].clone();
    cluster.make(POLICIES, policy).await;
    let mut spec = binding;
    spec["policyName"] = name.clone();
    cluster
        .make(BINDINGS, json!({"metadata": {"name": name}, "spec": spec}))
        .await;
    settle(cluster).await;
}

async fn settle(cluster: &Cluster) {
    let revision = cluster.api.revision().await.unwrap();
    cluster.api.caches.reach(revision).await;
}

async fn forget(cluster: &Cluster) {
    for path in [BINDINGS, POLICIES] {
        cluster.ask(Method::DELETE, path, &Value::Null).await;
    }
    settle(cluster).await;
}

async fn map(cluster: &Cluster, name: &str) -> Answer {
    let value = json!({"metadata": {"name": name, "labels": {"a": "b"}}, "data": {"k": "v"}});
    cluster
        .ask(Method::POST, &format!("{NS}/configmaps?dryRun=All"), &value)
        .await
}

#[tokio::test]
async fn partial_objects_are_merged_by_the_schema() {
    let cluster = Cluster::open().await;
    let sidecar = r#"Object{
        metadata: Object.metadata{labels: {"team": params.data.team}},
        spec: Object.spec{
            initContainers: [Object.spec.initContainers{name: "mesh", image: variables.image, restartPolicy: "Always"}],
            containers: [Object.spec.containers{name: "a", imagePullPolicy: "Always"}]}}"#;
    let mut object = policy("sidecar", &["pods"], vec![apply(sidecar)]);
    object["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    object["spec"]["variables"] =
        json!([{"name": "image", "expression": "'mesh:' + request.operation.lowerAscii()"}]);
    object["spec"]["matchConditions"] = json!([{"name": "not-yet",
        "expression": "!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name == 'mesh')"}]);
    let params = json!({"metadata": {"name": "params"}, "data": {"team": "blue"}});
    cluster.make(&format!("{NS}/configmaps"), params).await;
    let reference =
        json!({"name": "params", "namespace": "default", "parameterNotFoundAction": "Deny"});
    force(&cluster, object, json!({"paramRef": reference})).await;
    let account = format!("{NS}/serviceaccounts/default");
    cluster.until(&account, |a| a.code == 200).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"x": "y"}}, "spec": {
        "initContainers": [{"name": "first", "image": "i"}], "containers": [{"name": "a", "image": "x"}]}});
    let made = cluster.make(&format!("{NS}/pods"), pod).await;
    assert_eq!(
        made["metadata"]["labels"],
        json!({"x": "y", "team": "blue"})
    );
    let first = &made["spec"]["initContainers"];
    assert_eq!(
        (&first[0]["name"], &first[1]["name"]),
        (&json!("first"), &json!("mesh"))
    );
    assert_eq!(
        (&first[1]["image"], &first[1]["terminationMessagePath"]),
        (&json!("mesh:create"), &json!("/dev/termination-log"))
    );
    let containers = &made["spec"]["containers"];
    assert_eq!(
        (&containers[0]["image"], &containers[0]["imagePullPolicy"]),
        (&json!("x"), &json!("Always"))
    );
    // A pod that has it is let be.
    let labels = json!({"metadata": {"labels": {"team": "red"}}});
    let changed = cluster
        .ask(Method::PATCH, &format!("{NS}/pods/p"), &labels)
        .await
        .value();
    assert_eq!(changed["metadata"]["labels"]["team"], "red");
    let gone = cluster
        .ask(
            Method::DELETE,
            &format!("{NS}/configmaps/params"),
            &Value::Null,
        )
        .await;
    assert_eq!(gone.code, 200);
    settle(&cluster).await;
    let pod =
        json!({"metadata": {"name": "q"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    let refused = cluster.ask(Method::POST, &format!("{NS}/pods"), &pod).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let words = "pods \"q\" is forbidden: policy 'sidecar' with binding 'sidecar' denied request: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(refused.message(), words);
}

#[tokio::test]
async fn patches_are_made_one_after_another() {
    let cluster = Cluster::open().await;
    let steps = vec![
        patch(
            r#"[JSONPatch{op: "test", path: "/data/k", value: "v"},
            JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/x~y"), value: "1"}]"#,
        ),
        patch(
            r#"has(object.metadata.labels) && "example.com/x~y" in object.metadata.labels
            ? [JSONPatch{op: "copy", from: "/data/k", path: "/data/copy"}, JSONPatch{op: "remove", path: "/data/k"}] : []"#,
        ),
        apply(
            r#"Object{?data: has(object.data.copy) ? optional.of({"seen": object.data.copy}) : optional.none()}"#,
        ),
    ];
    force(&cluster, policy("steps", &["configmaps"], steps), json!({})).await;
    let made = map(&cluster, "x").await;
    assert_eq!(
        made.code, 422,
        "a label's key may not have a tilde: {made:?}"
    );
    forget(&cluster).await;
    let steps = vec![
        patch(
            r#"[JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/x"), value: "1"}]"#,
        ),
        patch(
            r#""example.com/x" in object.metadata.labels
            ? [JSONPatch{op: "copy", from: "/data/k", path: "/data/copy"}, JSONPatch{op: "remove", path: "/data/k"}] : []"#,
        ),
        apply(
            r#"Object{?data: has(object.data.copy) ? optional.of({"seen": object.data.copy}) : optional.none()}"#,
        ),
    ];
    force(&cluster, policy("steps", &["configmaps"], steps), json!({})).await;
    let made = map(&cluster, "x").await.value();
    assert_eq!(
        made["metadata"]["labels"],
        json!({"a": "b", "example.com/x": "1"})
    );
    assert_eq!(made["data"], json!({"copy": "v", "seen": "v"}));
}

#[tokio::test]
async fn failures_change_nothing() {
    let cluster = Cluster::open().await;
    for (mutation, words) in [
        (
            apply("Object{data: {'n': object.data.missing}}"),
            "resulted in error: no such key: missing",
        ),
        (
            apply("Object{metadata: Object.metadata{name: 'other'}}"),
            "it may not set metadata.name",
        ),
        (
            patch("[JSONPatch{op: 'replace', path: '/metadata/name', value: 'other'}]"),
            "it may not change the object's name",
        ),
        (
            patch("[JSONPatch{op: 'remove', path: '/nowhere'}]"),
            "JSON Patch: ",
        ),
        (
            patch("[JSONPatch{op: 'replace', path: '/data', value: 7}]"),
            "cannot unmarshal",
        ),
        (
            patch("'text'"),
            "should evaluate to array of JSONPatch, not string",
        ),
        (apply("[1]"), "gives a list, not an Object"),
        (apply("Object{unknown: 1}"), "error applying patch: "),
    ] {
        let good = patch("[JSONPatch{op: 'add', path: '/data/before', value: 'yes'}]");
        for ignored in [false, true] {
            let mut object = policy("p", &["configmaps"], vec![good.clone(), mutation.clone()]);
            if ignored {
                object["spec"]["failurePolicy"] = "Ignore".into();
            }
            force(&cluster, object, json!({})).await;
            let answer = map(&cluster, "x").await;
            if ignored {
                assert_eq!(
                    answer.value()["data"],
                    json!({"k": "v"}),
                    "{mutation} {answer:?}"
                );
            } else {
                assert_eq!(answer.code, 422, "{mutation} {answer:?}");
                let head =
                    "configmaps \"x\" is forbidden: policy 'p' with binding 'p' denied request: ";
                assert!(answer.message().starts_with(head), "{answer:?}");
                assert!(answer.message().contains(words), "{answer:?}");
            }
            forget(&cluster).await;
        }
    }
}

#[tokio::test]
async fn lists_that_are_one_value_are_not_merged() {
    let cluster = Cluster::open().await;
    let change =
        "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'a', args: ['x']}]}}";
    force(
        &cluster,
        policy("p", &["pods"], vec![apply(change)]),
        json!({}),
    )
    .await;
    let account = format!("{NS}/serviceaccounts/default");
    cluster.until(&account, |a| a.code == 200).await;
    let pod =
        json!({"metadata": {"name": "q"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    let refused = cluster.ask(Method::POST, &format!("{NS}/pods"), &pod).await;
    let words = "may not mutate atomic arrays, maps or structs: .spec.containers[0].args";
    assert!(refused.message().contains(words), "{refused:?}");
}

#[tokio::test]
async fn policies_are_asked_again_and_bindings_narrow_them() {
    let cluster = Cluster::open().await;
    let count = "Object{data: {'count': string(size(object.data))}}";
    for (again, expect) in [("Never", "1"), ("IfNeeded", "3")] {
        let mut first = policy("a", &["configmaps"], vec![apply(count)]);
        first["spec"]["reinvocationPolicy"] = again.into();
        force(&cluster, first, json!({})).await;
        let second = policy(
            "b",
            &["configmaps"],
            vec![apply("Object{data: {'later': 'x'}}")],
        );
        force(&cluster, second, json!({})).await;
        assert_eq!(map(&cluster, "x").await.value()["data"]["count"], expect);
        forget(&cluster).await;
    }
    let narrow = json!({"matchResources": {"objectSelector": {"matchLabels": {"a": "other"}}}});
    let change = vec![apply("Object{data: {'later': 'x'}}")];
    force(&cluster, policy("b", &["configmaps"], change), narrow).await;
    assert_eq!(map(&cluster, "x").await.value()["data"], json!({"k": "v"}));
}

#[tokio::test]
async fn mistakes_are_told_when_a_policy_is_made() {
    let cluster = Cluster::open().await;
    for (mutation, words) in [
        (json!({}), "spec.mutations[0].patchType: Required value"),
        (
            json!({"patchType": "Merge"}),
            "spec.mutations[0].patchType: Unsupported value: \"Merge\"",
        ),
        (
            json!({"patchType": "JSONPatch"}),
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ),
        (
            apply("Object{spec: Object.metadata{}}"),
            "unexpected type name \\\"Object.metadata\\\", expected \\\"Object.spec\\\"",
        ),
        (apply("Other{}"), "undeclared reference to 'Other'"),
        (
            patch("[JSONPatch{op: 1}]"),
            "expected type of field 'op' is 'string' but provided type is 'int'",
        ),
        (patch("[JSONPatch{what: 1}]"), "undefined field 'what'"),
        (apply("Object{"), "Syntax error"),
    ] {
        let answer = cluster
            .ask(
                Method::POST,
                POLICIES,
                &policy("p", &["pods"], vec![mutation]),
            )
            .await;
        assert_eq!(answer.code, 422, "{answer:?}");
        assert!(
            answer
                .text
                .contains(&words.replace('"', "\\\"").replace("\\\\\"", "\\\""))
                || answer.message().contains(&words.replace("\\\"", "\"")),
            "{words}: {answer:?}"
        );
    }
}
