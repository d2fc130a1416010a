//! Owners, conflicts and removals, by the examples of the original's documentation and by random sequences.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::resources::find;

fn deployments() -> &'static Resource {
    find("apps", "v1", "deployments").unwrap()
}

fn who<'a>(name: &'a str, now: &'a str) -> Manager<'a> {
    Manager {
        name,
        api_version: "apps/v1",
        subresource: "",
        now,
    }
}

fn owned(object: &Value, name: &str) -> Value {
    let entries = crate::object::list(object, "metadata.managedFields");
    entries
        .iter()
        .find(|e| e["manager"] == name)
        .map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn without_owners(object: &Value) -> Value {
    let mut object = object.clone();
    crate::object::metadata_mut(&mut object).shift_remove("managedFields");
    object
}

fn config(replicas: Option<i64>, image: &str) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n",
        "labels": {"app": "x"}}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

#[test]
fn an_update_owns_what_it_wrote() {
    let mut object = config(Some(1), "i");
    object["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
    track(deployments(), None, &mut object, who("kubectl", "t1"));
    assert_eq!(
        crate::object::list(&object, "metadata.managedFields"),
        [
            json!({"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "time": "t1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {"f:containers":
                    {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}}})
        ]
    );
    // The same again changes nothing, and another manager takes over what it changes.
    let mut same = object.clone();
    track(
        deployments(),
        Some(&object),
        &mut same,
        who("kubectl", "t2"),
    );
    assert_eq!(same, object);
    let mut scaled = object.clone();
    scaled["spec"]["replicas"] = json!(5);
    track(
        deployments(),
        Some(&object),
        &mut scaled,
        who("scaler", "t3"),
    );
    assert_eq!(
        owned(&scaled, "scaler"),
        json!({"f:spec": {"f:replicas": {}}})
    );
    assert_eq!(owned(&scaled, "kubectl")["f:spec"].get("f:replicas"), None);
}

#[test]
fn an_apply_owns_its_configuration_and_removes_what_it_gives_up() {
    let first = apply(
        deployments(),
        None,
        &config(Some(2), "i"),
        who("me", "t1"),
        false,
    )
    .unwrap();
    assert_eq!(
        owned(&first, "me"),
        json!({"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec":
            {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}})
    );
    let second = apply(
        deployments(),
        Some(&first),
        &config(None, "j"),
        who("me", "t2"),
        false,
    )
    .unwrap();
    assert_eq!(without_owners(&second), config(None, "j"));
    let again = apply(
        deployments(),
        Some(&second),
        &config(None, "j"),
        who("me", "t3"),
        false,
    )
    .unwrap();
    assert_eq!(
        again, second,
        "the same configuration changes nothing, not even the time"
    );
}

#[test]
fn a_change_of_what_another_owns_is_a_conflict_unless_forced() {
    let live = apply(
        deployments(),
        None,
        &config(Some(2), "i"),
        who("a", "t1"),
        false,
    )
    .unwrap();
    let error = apply(
        deployments(),
        Some(&live),
        &config(Some(3), "i"),
        who("b", "t2"),
        false,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
    assert_eq!(
        error.causes(),
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.replicas"}])
    );
    let error = apply(
        deployments(),
        Some(&live),
        &config(Some(3), "j"),
        who("b", "t2"),
        false,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
    let forced = apply(
        deployments(),
        Some(&live),
        &config(Some(3), "i"),
        who("b", "t2"),
        true,
    )
    .unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert_eq!(owned(&forced, "a")["f:spec"].get("f:replicas"), None);
    // What both want alike is shared, and stays when one gives it up.
    let shared = apply(
        deployments(),
        Some(&live),
        &config(Some(2), "i"),
        who("b", "t2"),
        false,
    )
    .unwrap();
    let left = apply(
        deployments(),
        Some(&shared),
        &config(None, "i"),
        who("a", "t3"),
        false,
    )
    .unwrap();
    assert_eq!(left["spec"]["replicas"], 2);
}

#[test]
fn an_updater_is_named_with_its_version() {
    let mut live = config(Some(1), "i");
    track(
        deployments(),
        None,
        &mut live,
        who("kubectl", "2026-01-01T00:00:00Z"),
    );
    let error = apply(
        deployments(),
        Some(&live),
        &config(Some(3), "i"),
        who("b", "t2"),
        false,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1 at 2026-01-01T00:00:00Z: .spec.replicas"
    );
}

#[test]
fn list_items_belong_to_who_brought_them() {
    let with = |names: &[&str]| {
        let containers: Vec<Value> = names
            .iter()
            .map(|n| json!({"name": n, "image": "i"}))
            .collect();
        json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let names = |object: &Value| -> Vec<String> {
        let list = crate::object::list(object, "spec.template.spec.containers");
        list.iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let live = apply(
        deployments(),
        None,
        &with(&["a", "b"]),
        who("one", "t1"),
        false,
    )
    .unwrap();
    let live = apply(
        deployments(),
        Some(&live),
        &with(&["c", "b"]),
        who("two", "t2"),
        false,
    )
    .unwrap();
    assert_eq!(names(&live), ["a", "c", "b"]);
    let live = apply(
        deployments(),
        Some(&live),
        &with(&["b"]),
        who("one", "t3"),
        false,
    )
    .unwrap();
    assert_eq!(names(&live), ["c", "b"]);
    let live = apply(
        deployments(),
        Some(&live),
        &json!({"metadata": {"name": "a"}}),
        who("one", "t4"),
        false,
    )
    .unwrap();
    assert_eq!(names(&live), ["c", "b"], "the other still owns it");
}

#[test]
fn nonsense_is_refused() {
    let check = |config: Value, expect: &str| {
        let error = apply(deployments(), None, &config, who("a", "t"), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("failed to create typed patch object (/a; apps/v1, Kind=Deployment): {expect}")
        );
    };
    let head = |spec: Value| json!({"kind": "Deployment", "metadata": {"name": "a"}, "spec": spec});
    check(
        head(json!({"foo": 1})),
        ".spec.foo: field not declared in schema",
    );
    check(
        head(json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}})),
        ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
    );
    check(
        head(json!({"template": {"spec": {"containers": [{"image": "a"}]}}})),
        ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
    );
}

#[test]
fn many_updaters_are_joined() {
    let mut live = config(Some(0), "i");
    track(deployments(), None, &mut live, who("first", "t00"));
    for n in 1..30 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{n}")] = json!("x");
        track(
            deployments(),
            Some(&live),
            &mut new,
            who(&format!("m{n}"), &format!("t{n:02}")),
        );
        live = new;
    }
    let entries = crate::object::list(&live, "metadata.managedFields");
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().any(|e| e["manager"] == "ancient-changes"));
}

#[test]
fn sets_survive_the_wire() {
    let wire = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:ports": {
        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}, "f:l": {"v:\"x\"": {}}}});
    let set = FieldSet::from_value(&wire);
    assert_eq!(set.to_value(), wire);
    let mut bomb = json!({});
    for _ in 0..120 {
        bomb = json!({"f:a": bomb});
    }
    FieldSet::from_value(&bomb);
    assert!(FieldSet::from_value(&json!({"x": 1, "f": 2, "": {}, "k:nonsense": {}})).is_empty());
}

fn labels() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", "[x-z]", 0..4).prop_map(|m| {
        m.into_iter()
            .map(|(k, v)| (k, Value::from(v)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

proptest! {
    /// Whatever was applied before: forced, a manager's configuration is in the object, and only what some manager
    /// wants is.
    #[test]
    fn a_forced_apply_gives_exactly_what_its_managers_want(steps in prop::collection::vec((0..3_usize, labels()), 1..12)) {
        let names = ["a", "b", "c"];
        let mut live: Option<Value> = None;
        let mut wants: [Value; 3] = [json!({}), json!({}), json!({})];
        for (at, (who_index, labels)) in steps.into_iter().enumerate() {
            let config = json!({"metadata": {"name": "x", "labels": labels}});
            let now = format!("t{at:03}");
            let next = apply(deployments(), live.as_ref(), &config, who(names[who_index], &now), true).unwrap();
            let found = next["metadata"]["labels"].as_object().cloned().unwrap_or_default();
            for (other, want) in wants.iter_mut().enumerate() {
                // Who lost a label to another value no longer wants it.
                if other != who_index
                    && let Some(want) = want.as_object_mut() {
                        want.retain(|k, v| labels.get(k).is_none_or(|new| new == v));
                    }
            }
            wants[who_index] = labels.clone();
            let mut expected = std::collections::BTreeMap::new();
            for want in &wants {
                for (k, v) in want.as_object().unwrap() {
                    expected.insert(k.clone(), v.clone());
                }
            }
            let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
            prop_assert_eq!(found, expected);
            live = Some(next);
        }
    }

    #[test]
    fn sets_are_sets(a in labels(), b in labels()) {
        let set = |labels: &Value| super::compare::fields(&deployments().schema, &json!({"metadata": {"labels": labels}})).unwrap();
        let (a, b) = (set(&a), set(&b));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&b), b.union(&a));
    }
}
