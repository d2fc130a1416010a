//! Texts of selectors, what they select, and what they answer to nonsense.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

#[test]
fn label_selectors_select() {
    let labels = json!({"app": "web", "tier": "a", "n": "5", "empty": ""});
    let check = |text: &str, expect: bool| {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(
            selector.matches_labels(labels.as_object()),
            expect,
            "{text}"
        );
    };
    for text in [
        "",
        "app=web",
        "app==web",
        " app = web , tier in ( a , b ) ",
        "app!=db",
        "other!=x",
        "tier in (a,b)",
        "tier notin (c)",
        "none notin (c)",
        "app",
        "!none",
        "n>4",
        "n<6",
        "empty=",
        "empty in (,x)",
        "empty",
    ] {
        check(text, true);
    }
    for text in [
        "app=db",
        "app!=web",
        "tier in (b)",
        "tier notin (a,b)",
        "none",
        "!app",
        "n>5",
        "none>1",
        "app=web,!tier",
    ] {
        check(text, false);
    }
}

#[test]
fn label_selectors_are_written_again() {
    for text in [
        "app=web",
        "app!=web",
        "tier in (a,b)",
        "tier notin (a,b)",
        "app",
        "!app",
        "n>4,n<6",
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "=", "a=b=c", "a in b", "a in (b", "!a=b", "a b", ",", "a,", "-a=b", "a=-b-", "a>x", "(",
        "a in",
    ] {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
    assert!(LabelSelector::parse(&"a,".repeat(100_000)).is_err());
    assert_eq!(
        LabelSelector::parse("a b").unwrap_err().to_string(),
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
}

#[test]
fn selector_objects_select() {
    let object = json!({"metadata": {"labels": {"app": "web"}}});
    let check = |selector: Option<serde_json::Value>, expect: bool| {
        assert_eq!(
            LabelSelector::from_object(selector.as_ref())
                .unwrap()
                .matches(&object),
            expect
        );
    };
    check(None, false);
    check(Some(json!({})), true);
    check(Some(json!({"matchLabels": {"app": "web"}})), true);
    check(
        Some(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]})),
        false,
    );
    check(
        Some(json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]})),
        true,
    );
    assert!(
        LabelSelector::from_object(Some(
            &json!({"matchExpressions": [{"key": "x", "operator": "Is"}]})
        ))
        .is_err()
    );
}

#[test]
fn field_selectors_select() {
    let pods = crate::resources::find("", "v1", "pods").unwrap();
    let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x,y"}, "status": {"phase": "Running"}});
    let check = |text: &str, expect: bool| {
        let selector = FieldSelector::parse(text).unwrap();
        selector.check(pods).unwrap();
        assert_eq!(selector.matches(pods, &object), expect, "{text}");
    };
    check("", true);
    check("metadata.name=a", true);
    check("metadata.name==a,status.phase!=Failed", true);
    check(r"spec.nodeName=x\,y", true);
    check("status.phase=Failed", false);
    check("spec.hostNetwork=false", true);
    assert!(FieldSelector::parse("nonsense").is_err());
    assert!(FieldSelector::parse(r"a=\x").is_err());
    let unknown = FieldSelector::parse("spec.foo=a")
        .unwrap()
        .check(pods)
        .unwrap_err();
    assert_eq!(unknown.to_string(), "field label not supported: spec.foo");
}
