//! Expressions and what they give.

use serde_json::{Value as Json, json};

use super::*;
use crate::field::Path;

fn give(text: &str, object: &Json) -> Result<Json, String> {
    let variables = [("self", Type::Dyn)];
    let program = compile(
        text,
        &Environment {
            variables: &variables,
        },
    )
    .map_err(|e| e.message.clone())?;
    let value = program.evaluate(&[("self", Value::of(object, None))], &mut Budget::of_call());
    value
        .map(|value| value.to_json())
        .map_err(|e| e.to_string())
}

#[track_caller]
fn check_all(object: &Json, expressions: &[&str]) {
    for text in expressions {
        assert_eq!(give(text, object), Ok(json!(true)), "{text}");
    }
}

#[track_caller]
fn check_errors(expressions: &[(&str, &str)]) {
    for (text, expected) in expressions {
        let error = give(text, &json!({"a": 1, "list": [1, 2]})).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_language() {
    let object = json!({"a": 1, "b": "text", "list": [1, 2, 3], "map": {"x": 1, "y.z": 2}, "none": null, "f": 1.5});
    check_all(
        &object,
        &[
            "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 % 3 == -1 && 1.0 + 0.5 == 1.5",
            "-9223372036854775808 < 0 && 0xff == 255 && 3u + 4u == 7u && 1e3 == 1000.0 && .5 < 1.0",
            "'a' + \"b\" == 'ab' && '''x\ny'''.size() == 3 && r'\\d' == '\\\\d' && '\\u0041\\x42\\103' == 'ABC'",
            "b'abc' == bytes('abc') && size(b'\\xff\\x00') == 2",
            "self.a == 1 && self['b'] == 'text' && has(self.a) && !has(self.c) && self.none == null",
            "self.map.x == 1 && self.map['y.z'] == 2 && 'x' in self.map && !('q' in self.map) && 2 in self.list",
            "self.list[1] == 2 && self.list + [4] == [1, 2, 3, 4] && size(self.list) == 3",
            "true ? true : 1 / 0 == 0",
            "true || 1 / 0 == 0",
            "1 / 0 == 0 || true",
            "!(1 / 0 == 0 && false)",
            "self.a < 2u && self.a < 1.5 && self.f > self.a",
            "[1, 2] == [1.0, 2u] && {'a': 1} == {'a': 1.0} && {'a': 1} != {'a': 2}",
            "self.list.all(x, x > 0) && self.list.exists(x, x == 2) && self.list.exists_one(x, x == 2)",
            "self.list.map(x, x * 2) == [2, 4, 6] && self.list.filter(x, x > 1) == [2, 3]",
            "self.list.map(x, x > 1, x * 10) == [20, 30] && self.map.map(k, k).size() == 2",
            "self.list.all(i, x, x == i + 1) && self.map.exists(k, v, k == 'x' && v == 1)",
            "self.list.transformList(i, x, i > 0, x * i) == [2, 6]",
            "self.map.transformMap(k, v, v + 1) == {'x': 2, 'y.z': 3}",
            "[1, 'a'].exists(x, x > 0) && [1, 2].exists(x, [3].all(y, y > x))",
            "self.?a.hasValue() && !self.?c.hasValue() && self.?c.d.orValue(5) == 5 && self.?a.value() == 1",
            "self.?c.or(self.?a).value() == 1 && self.list[?7].orValue(0) == 0 && self.map[?'x'].orValue(0) == 1",
            "self.?a.optMap(x, x + 1).value() == 2 && [?self.?c, 1].size() == 1 && {?'k': self.?c} == {}",
            "optional.of(1) == optional.of(1) && optional.none() != optional.of(1) && !optional.ofNonZeroValue('').hasValue()",
            "type(1) == int && type('') == string && type([]) == list && type(self) == map",
            "int('12') == 12 && double('1.5') == 1.5 && string(1) == '1' && bool('true') && uint(3) == 3u && int(2.9) == 2",
            "// a remark\ntrue",
        ],
    );
}

#[test]
fn mistakes_and_failures() {
    check_errors(&[
        ("1 +", "mismatched input '<EOF>'"),
        ("(1", "mismatched input"),
        ("1 = 2", "token recognition error"),
        ("'abc", "unterminated"),
        ("namespace == 1", "reserved identifier: namespace"),
        ("missing == 1", "undeclared reference to 'missing'"),
        ("nothing(1)", "undeclared reference to 'nothing'"),
        ("self.nothing()", "undeclared reference to 'nothing'"),
        (
            "1 + 'a'",
            "found no matching overload for '_+_' applied to '(int, string)'",
        ),
        (
            "1 == 'a'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("1 && true", "found no matching overload for '_&&_'"),
        ("has(self)", "invalid argument to has() macro"),
        ("'abc'.all(c, true)", "cannot be range of a comprehension"),
        ("[1].map(1, true)", "argument must be a simple name"),
        ("99999999999999999999", "invalid number literal"),
        ("self.b", "no such key: b"),
        ("self.list[2]", "index out of bounds: 2"),
        ("self.a.b", "no such overload"),
        ("1 / 0", "division by zero"),
        ("5 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("-(-9223372036854775808)", "integer overflow"),
        ("uint(-1)", "integer overflow"),
        ("int('x')", "type conversion error"),
        ("optional.none().value()", "dereference"),
        ("{'a': 1, 'a': 2}", "already exists"),
        ("'a'.matches('(')", "error parsing regexp"),
    ]);
}

#[test]
fn kubernetes_libraries() {
    let object = json!({"when": "2026-11-23T10:20:30.5Z"});
    check_all(
        &object,
        &[
            "'Hello'.lowerAscii() == 'hello' && 'tacocat'.charAt(3) == 'o' && 'a,b,c'.split(',') == ['a', 'b', 'c']",
            "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.substring(1, 3) == 'el' && 'x'.indexOf('y') == -1",
            "['a', 'b'].join('-') == 'a-b' && ' x '.trim() == 'x' && 'aaa'.replace('a', 'b', 2) == 'bba' && 'äb'.size() == 2",
            "'%s has %d of %.2f%%, %x'.format(['it', 3, 1.5, 255]) == 'it has 3 of 1.50%, ff'",
            "'abc 123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2'] && 'abc'.matches('^a.c$')",
            "[1, 2, 3].isSorted() && [3, 1].sum() == 4 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2, 1].indexOf(1) == 0",
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('1')).compareTo(quantity('1.5')) == 0",
            "isQuantity('1Ki') && !isQuantity('x') && quantity('2').asInteger() == 2 && quantity('100m').isInteger() == false",
            "url('https://example.com:80/a%20b?x=1&y=2').getHost() == 'example.com:80' && isURL('/path') && !isURL('../x')",
            "url('https://[::1]:80/p').getHostname() == '::1' && url('http://h/p?a=1&a=2').getQuery()['a'] == ['1', '2']",
            "isIP('127.0.0.1') && !isIP('1.2.3') && ip('::1').isLoopback() && ip('10.0.0.1').family() == 4 && !ip.isCanonical('0:0::1')",
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16')) && cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8')",
            "!cidr('10.0.0.0/8').containsIP(ip('11.0.0.1')) && cidr('::/0').prefixLength() == 0 && !isCIDR('10.0.0.0/33')",
            "sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])",
            "timestamp(self.when).getFullYear() == 2026 && timestamp(self.when).getDayOfWeek() == 1 && timestamp(self.when).getMilliseconds() == 500",
            "timestamp(self.when) + duration('1h30m') > timestamp(self.when) && duration('90s').getMinutes() == 1",
            "timestamp('2026-01-01T00:00:00Z') - timestamp('2025-12-31T00:00:00Z') == duration('24h')",
            "timestamp('2026-03-01T23:30:00Z').getDate('+01:00') == 2 && timestamp('2026-03-01T00:00:00Z').getDayOfYear() == 59",
            "!format.dns1123Label().validate('good-name').hasValue() && format.named('dns1123Label').value().validate('Bad').hasValue()",
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0')) && !isSemver('1.2') && semver('3.4.5').minor() == 4",
        ],
    );
}

#[test]
fn nobody_keeps_the_server_busy() {
    let many: Vec<i64> = (0..2_000).collect();
    let error = give(
        "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))",
        &json!(many),
    );
    assert_eq!(
        error,
        Err("operation cancelled: actual cost limit exceeded".to_owned())
    );
    // Neither can it be absorbed.
    assert!(give("self.all(x, self.all(y, x + y >= 0)) || true", &json!(many)).is_err());
    let long = "x".repeat(1 << 20);
    let doubled = "[1,2,3,4,5,6,7,8,9,10].map(i, self + self + self + self).size() > 0";
    assert!(give(doubled, &json!(long)).is_err());
    assert!(
        give(&"(".repeat(100_000), &Json::Null)
            .unwrap_err()
            .contains("longer than")
    );
    for deep in [
        "(".repeat(500),
        "!".repeat(60_000) + "true",
        "[".repeat(10_000),
        "-".repeat(50_001) + "1",
    ] {
        assert!(give(&deep, &Json::Null).is_err() || deep.starts_with(['!', '-']));
    }
    let chain = vec!["1"; 5_000].join("+");
    assert!(
        give(&chain, &Json::Null)
            .unwrap_err()
            .contains("nested deeper")
    );
}

fn schema() -> Json {
    json!({"type": "object", "properties": {"spec": {"type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.min <= self.max", "message": "min must not be above max", "fieldPath": ".min"},
        {"rule": "self.name == oldSelf.name", "reason": "FieldValueForbidden", "messageExpression": "'was ' + oldSelf.name"},
    ],
    "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
        "until": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer",
                "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "ports only grow"}]}}}},
        "namespace": {"type": "string", "x-kubernetes-validations": [{"rule": "self.size() < 5"}]},
    }}}})
}

fn object(spec: Json) -> Json {
    json!({"metadata": {"name": "x"}, "spec": spec})
}

fn broken(rules: &Rules, new: &Json, old: Option<&Json>) -> Vec<String> {
    rules
        .validate(new, old)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn rules_of_a_schema() {
    let rules = Rules::of(&schema()).unwrap();
    let good =
        object(json!({"min": 1, "max": 2, "name": "a", "ports": [{"name": "p", "port": 80}]}));
    assert!(broken(&rules, &good, None).is_empty());
    let bad = object(json!({"min": 3, "max": 2, "name": "a", "namespace": "too long"}));
    assert_eq!(
        broken(&rules, &bad, None),
        [
            "spec.min: Invalid value: min must not be above max",
            "spec.namespace: Invalid value: \"too long\": failed rule: self.size() < 5",
        ]
    );
    let lacking = object(json!({"min": 3}));
    let said = broken(&rules, &lacking, None);
    assert_eq!(
        said,
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"]
    );
}

#[test]
fn rules_of_changes() {
    let rules = Rules::of(&schema()).unwrap();
    let ports = |a: i64, b: i64| json!([{"name": "b", "port": b}, {"name": "a", "port": a}]);
    let old =
        object(json!({"min": 1, "max": 2, "name": "a", "ports": [{"name": "a", "port": 10}]}));
    let new = object(json!({"min": 1, "max": 2, "name": "b", "ports": ports(9, 1)}));
    assert_eq!(
        broken(&rules, &new, Some(&old)),
        [
            "spec: Forbidden: was a",
            "spec.ports[1].port: Invalid value: 9: ports only grow",
        ]
    );
    // What was wrong already and is not touched is let be.
    let wrong = object(json!({"min": 3, "max": 2, "name": "a"}));
    let mut touched = wrong.clone();
    touched["metadata"]["labels"] = json!({"a": "b"});
    assert!(broken(&rules, &touched, Some(&wrong)).is_empty());
}

#[test]
fn rules_are_checked_by_their_schema() {
    let with = |rule: &str| {
        let mut schema = schema();
        schema["properties"]["spec"]["x-kubernetes-validations"] = json!([{"rule": rule}]);
        let path = Path::new("schema");
        verify_rules(&schema, &path)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    for good in [
        "self.until > timestamp('2020-01-01T00:00:00Z')",
        "self.tags == ['b', 'a'] || self.ports.all(p, p.port > 0)",
        "self.__namespace__ != ''",
        "has(self.min) ? self.min > 0 : true",
    ] {
        assert_eq!(with(good), Vec::<String>::new(), "{good}");
    }
    let place = "schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: ";
    for (bad, why) in [
        (
            "self.nothing > 1",
            "undefined field 'nothing'\n | self.nothing > 1\n | ....^",
        ),
        (
            "self.min == 'a'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("self.min", "must evaluate to a bool"),
        (
            "self.ports.all(p, p.name > 1)",
            "applied to '(string, int)'",
        ),
    ] {
        let said = with(bad).join("");
        assert!(
            said.starts_with(place) && said.contains(why),
            "{bad}: {said}"
        );
    }
}

#[test]
fn sets_and_times_come_from_the_schema() {
    let schema = schema();
    let part = crate::schema::Schema::part(&schema["properties"]["spec"]);
    let spec = json!({"tags": ["a", "b"], "until": "2026-11-23T00:00:00Z"});
    let variables = [("self", Type::of(&part))];
    let text = "self.tags == ['b', 'a'] && self.until.getFullYear() == 2026 && (self.tags + ['a', 'c']).size() == 3";
    let program = compile(
        text,
        &Environment {
            variables: &variables,
        },
    )
    .unwrap();
    let value = program.evaluate(
        &[("self", Value::of(&spec, Some(&part)))],
        &mut Budget::of_call(),
    );
    assert!(matches!(value, Ok(Value::Bool(true))), "{value:?}");
}
