//! Each kind of patch against the examples of its specification, and against random documents.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::Schema;

#[track_caller]
fn json_check(object: Value, patch: Value, expect: Result<Value, &str>) {
    let mut changed = object.clone();
    match (json_patch(&mut changed, &patch), expect) {
        (Ok(()), Ok(expect)) => assert_eq!(changed, expect),
        (Err(error), Err(expect)) => {
            assert_eq!(error.to_string(), expect);
            assert_eq!(changed, object, "a failed patch changes nothing");
        }
        (got, expect) => panic!("{got:?} instead of {expect:?}"),
    }
}

#[test]
fn json_patches_follow_their_specification() {
    json_check(
        json!({"a": 1}),
        json!([{"op": "add", "path": "/b", "value": 2}]),
        Ok(json!({"a": 1, "b": 2})),
    );
    json_check(
        json!({"a": [1, 3]}),
        json!([{"op": "add", "path": "/a/1", "value": 2}]),
        Ok(json!({"a": [1, 2, 3]})),
    );
    json_check(
        json!({"a": [1]}),
        json!([{"op": "add", "path": "/a/-", "value": 2}]),
        Ok(json!({"a": [1, 2]})),
    );
    json_check(
        json!({"a": 1, "b": 2}),
        json!([{"op": "remove", "path": "/a"}]),
        Ok(json!({"b": 2})),
    );
    json_check(
        json!({"a": [1, 2, 3]}),
        json!([{"op": "remove", "path": "/a/1"}]),
        Ok(json!({"a": [1, 3]})),
    );
    json_check(
        json!({"a": 1}),
        json!([{"op": "replace", "path": "/a", "value": {"b": 1}}]),
        Ok(json!({"a": {"b": 1}})),
    );
    json_check(
        json!({"a": {"x": 1}}),
        json!([{"op": "move", "from": "/a/x", "path": "/b"}]),
        Ok(json!({"a": {}, "b": 1})),
    );
    json_check(
        json!({"a": [1]}),
        json!([{"op": "copy", "from": "/a", "path": "/b"}]),
        Ok(json!({"a": [1], "b": [1]})),
    );
    json_check(
        json!({"a/b": {"m~n": 1}}),
        json!([{"op": "test", "path": "/a~1b/m~0n", "value": 1}]),
        Ok(json!({"a/b": {"m~n": 1}})),
    );
    json_check(
        json!({"a": 1}),
        json!([{"op": "test", "path": "/a", "value": 2}]),
        Err("testing value /a failed: test failed"),
    );
    json_check(
        json!({}),
        json!([{"op": "add", "path": "/a", "value": 1}, {"op": "replace", "path": "/b/c", "value": 1}]),
        Err("replace operation does not apply: doc is missing path: \"/b/c\": missing value"),
    );
    json_check(
        json!({}),
        json!([{"op": "fly", "path": "/a"}]),
        Err("Unexpected kind: fly"),
    );
    json_check(
        json!({}),
        json!({"op": "add"}),
        Err(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
    );
}

#[test]
fn json_patches_are_bounded() {
    let mut object = json!({"a": "x".repeat(1024)});
    let many: Vec<Value> = vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001];
    assert!(matches!(
        json_patch(&mut object, &many.into()),
        Err(PatchError::TooLarge(_))
    ));
    let doubling: Vec<Value> = (0..40)
        .map(|i| json!({"op": "copy", "from": "", "path": format!("/b{i}")}))
        .collect();
    assert!(matches!(
        json_patch(&mut object, &doubling.into()),
        Err(PatchError::TooLarge(_))
    ));
}

#[test]
fn merge_patches_follow_their_specification() {
    let check = |mut object: Value, patch: Value, expect: Value| {
        merge_patch(&mut object, &patch);
        assert_eq!(object, expect);
    };
    check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
    check(
        json!({"a": "b", "b": "c"}),
        json!({"a": null}),
        json!({"b": "c"}),
    );
    check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
    check(
        json!({"a": {"b": "c"}}),
        json!({"a": {"b": "d", "c": null}}),
        json!({"a": {"b": "d"}}),
    );
    check(
        json!({"e": null}),
        json!({"a": 1}),
        json!({"e": null, "a": 1}),
    );
    check(
        json!([1, 2]),
        json!({"a": "b", "c": null}),
        json!({"a": "b"}),
    );
    check(
        json!({}),
        json!({"a": {"bb": {"ccc": null}}}),
        json!({"a": {"bb": {}}}),
    );
}

#[track_caller]
fn strategic_check(mut spec: Value, patch: Value, expect: Value) {
    let schema = Schema::builtin("io.k8s.api.core.v1.PodSpec").unwrap();
    strategic_merge(&schema, &mut spec, &patch).unwrap();
    assert_eq!(spec, expect);
}

#[test]
fn lists_merge_by_their_keys() {
    strategic_check(
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
        json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}),
    );
    strategic_check(
        json!({"containers": [{"name": "a", "args": ["x"]}]}),
        json!({"containers": [{"name": "a", "args": ["y", "z"], "image": null}]}),
        json!({"containers": [{"name": "a", "args": ["y", "z"]}]}),
    );
}

#[test]
fn directives_are_obeyed() {
    let two = || json!({"containers": [{"name": "a"}, {"name": "b"}]});
    strategic_check(
        two(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
    strategic_check(
        two(),
        json!({"containers": [{"$patch": "replace"}, {"name": "x"}]}),
        json!({"containers": [{"name": "x"}]}),
    );
    strategic_check(
        json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}}),
        json!({"securityContext": {"$patch": "replace", "runAsUser": 3}}),
        json!({"securityContext": {"runAsUser": 3}}),
    );
    strategic_check(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"$patch": "delete"}}),
        json!({"securityContext": {}}),
    );
    strategic_check(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
}

#[test]
fn orders_are_kept() {
    strategic_check(
        json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c"}]}),
        json!({"containers": [{"name": "s"}, {"name": "c"}, {"name": "b"}, {"name": "a"}]}),
    );
    strategic_check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        json!({"containers": [{"name": "b"}, {"name": "a"}]}),
    );
    let schema = Schema::builtin("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    let mut meta = json!({"finalizers": ["a", "b", "c"]});
    let patch = json!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a", "d"], "finalizers": ["d"]});
    strategic_merge(&schema, &mut meta, &patch).unwrap();
    assert_eq!(meta, json!({"finalizers": ["c", "a", "d"]}));
}

#[test]
fn malformed_strategic_patches_are_refused() {
    let schema = Schema::builtin("io.k8s.api.core.v1.PodSpec").unwrap();
    let check = |patch: Value, expect: &str| {
        let mut spec = json!({"containers": [{"name": "a"}], "volumes": [{"name": "v"}]});
        assert_eq!(
            strategic_merge(&schema, &mut spec, &patch)
                .unwrap_err()
                .to_string(),
            expect
        );
    };
    check(
        json!({"containers": [{"image": "a"}]}),
        r#"map: {"image":"a"} does not contain declared merge key: name"#,
    );
    check(
        json!({"securityContext": {"$patch": "fly"}, "containers": [{"name": "a", "$patch": "fly"}]}),
        r#"unknown patch type "fly" in map: {"name":"a","$patch":"fly"}"#,
    );
    check(json!([]), "invalid JSON document");
    check(
        json!({"$setElementOrder/containers": 1}),
        "invalid patch format of setElementOrder list",
    );
}

/// Documents without nulls, which a merge patch can't write.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..9).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| m.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return to.clone();
    };
    let gone = from
        .keys()
        .filter(|k| !to.contains_key(*k))
        .map(|k| (k.clone(), Value::Null));
    let changed = to
        .iter()
        .filter(|(k, v)| from.get(*k) != Some(v))
        .map(|(k, v)| {
            (
                k.clone(),
                from.get(k).map_or(v.clone(), |f| difference(f, v)),
            )
        });
    gone.chain(changed).collect::<Map<_, _>>().into()
}

proptest! {
    #[test]
    fn a_merge_patch_of_the_difference_gives_the_target(from in document(), to in document()) {
        let patch = difference(&from, &to);
        let mut object = from;
        merge_patch(&mut object, &patch);
        prop_assert_eq!(object, to);
    }

    #[test]
    fn a_json_patch_that_adds_and_removes_gives_the_document_back(document in document(), value in document()) {
        let mut object = json!({"root": document});
        let before = object.clone();
        let patch = json!([{"op": "add", "path": "/new", "value": value}, {"op": "copy", "from": "/new", "path": "/twin"},
            {"op": "remove", "path": "/new"}, {"op": "remove", "path": "/twin"}]);
        json_patch(&mut object, &patch).unwrap();
        prop_assert_eq!(object, before);
    }

    #[test]
    fn a_strategic_patch_that_says_what_is_there_changes_nothing(names in prop::collection::btree_set("[a-f]", 0..5)) {
        let schema = Schema::builtin("io.k8s.api.core.v1.PodSpec").unwrap();
        let list: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": format!("i{n}")})).collect();
        let spec = json!({"containers": list});
        let mut object = spec.clone();
        strategic_merge(&schema, &mut object, &spec).unwrap();
        prop_assert_eq!(object, spec);
    }
}
