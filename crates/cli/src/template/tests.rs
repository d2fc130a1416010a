//! Templates with results and errors as Docker's client gives them.

use super::Template;
use super::value::Value;

const DATA: &str = r#"{"Name":"/a1","N":3,"F":1.5,"T":true,"E":"","L":["x","y","z"],"M":{"b":"2","a":"1"},"Null":null,"S":{"Deep":{"Er":"v"}}}"#;

fn show(template: &str) -> String {
    let data = Value::parse_json(DATA.as_bytes()).unwrap();
    match Template::parse(template).and_then(|template| template.render(&data)) {
        Ok(text) => text,
        Err(error) => format!("ERR {error}"),
    }
}

fn strict(template: &str) -> String {
    let data = Value::parse_json(DATA.as_bytes()).unwrap();
    Template::parse(template)
        .and_then(|template| template.render_strict(&data))
        .unwrap_or_else(|e| format!("ERR {e}"))
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (template, expected) in cases {
        assert_eq!(show(template), *expected, "{template}");
    }
}

#[test]
fn values_and_pipelines() {
    check(&[
        ("a{{.Name}}b", "a/a1b"),
        ("{{.N}} {{.F}} {{.T}} [{{.E}}]", "3 1.5 true []"),
        ("{{.L}} {{.M}}", "[x y z] map[a:1 b:2]"),
        (
            "{{.Null}} {{.Nope}} {{.Nope.More}}",
            "<no value> <no value> <no value>",
        ),
        (
            "{{.S.Deep.Er}} {{(.S).Deep.Er}} {{$.S.Deep}}",
            "v v map[Er:v]",
        ),
    ]);
    check(&[(
        "{{`raw`}} {{\"q\\t\"}} {{'a'}} {{0x10}} {{1e3}}",
        "raw q\t 97 16 1000",
    )]);
}

#[test]
fn control() {
    check(&[
        (
            "{{if .T}}y{{else}}n{{end}}{{if .E}}y{{else if .N}}m{{else}}n{{end}}",
            "ym",
        ),
        (
            "{{if and .T .N}}1{{end}}{{if or .E .Null}}2{{else}}3{{end}}{{if not .E}}4{{end}}",
            "134",
        ),
        ("{{range .L}}<{{.}}>{{end}}", "<x><y><z>"),
        (
            "{{range $i, $v := .L}}{{$i}}={{$v}};{{end}}",
            "0=x;1=y;2=z;",
        ),
        ("{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .Nope}}x{{else}}none{{end}}", "none"),
        (
            "{{range .L}}{{if eq . \"y\"}}{{continue}}{{end}}{{.}}{{end}}",
            "xz",
        ),
        (
            "{{range .L}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}",
            "x",
        ),
        (
            "{{with .S.Deep}}{{.Er}}{{end}}{{with .E}}x{{else}}e{{end}}",
            "ve",
        ),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        (
            "{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .Name}}{{block \"b\" .N}}({{.}}){{end}}",
            "[/a1](3)",
        ),
        ("a {{- .N -}} b{{/* c */}}d {{- /* e */ -}} f", "a3bdf"),
    ]);
}

#[test]
fn functions() {
    check(&[
        (
            "{{json .L}}{{json .M}}{{json .Null}}{{json .F}}",
            "[\"x\",\"y\",\"z\"]{\"a\":\"1\",\"b\":\"2\"}null1.5",
        ),
        (
            "{{join .L \",\"}} {{split \"a,b\" \",\"}} {{upper \"a\"}}{{lower \"B\"}}{{title \"ab cd\"}}",
            "x,y,z [a b] AbAb Cd",
        ),
        (
            "[{{pad \"a\" 1 2}}][{{pad \"\" 1 2}}]{{truncate \"abcdef\" 3}}",
            "[ a  ][]abc",
        ),
        (
            "{{index .L 1}} {{index .M \"a\"}} {{slice .L 1 2}} {{slice \"abc\" 1}} {{len .L}}",
            "y 1 [y] bc 3",
        ),
        (
            "{{printf \"%s %q %d %05d %-4s| %4s %v %t %x %5.2f%%\" \"a\" \"b\" 3 4 \"c\" \"d\" .L true 255 1.5}}",
            "a \"b\" 3 00004 c   |    d [x y z] true ff  1.50%",
        ),
        (
            "{{printf \"%d\" \"a\"}}{{printf \"%s\"}}{{printf \"a\" 1}}",
            "%!d(string=a)%!s(MISSING)a%!(EXTRA int=1)",
        ),
        (
            "{{print 1 2 \"a\" \"b\" 3}}{{println 1 \"a\"}}",
            "1 2ab31 a\n",
        ),
        (
            "{{eq .N 3}} {{eq .N 1 2 3}} {{ne .N 3}} {{lt .N 4}} {{ge .F 1.5}} {{gt \"b\" \"a\"}}",
            "true true false true true true",
        ),
        (
            "{{html \"<a>&\\\"\"}} {{urlquery \"a b/c\"}} {{js \"'<\"}}",
            "&lt;a&gt;&amp;&#34; a+b%2Fc \\'\\u003C",
        ),
    ]);
}

#[test]
fn errors_while_running() {
    check(&[
        (
            "{{.Name.X}}",
            "ERR template: :1:7: executing \"\" at <.Name.X>: can't evaluate field X in type string",
        ),
        (
            "{{index .L 5}}",
            "ERR template: :1:2: executing \"\" at <index .L 5>: error calling index: index out of range: 5",
        ),
        (
            "x\n {{index .L 5}}",
            "ERR template: :2:3: executing \"\" at <index .L 5>: error calling index: index out of range: 5",
        ),
        (
            "{{eq .N \"a\"}}",
            "ERR template: :1:2: executing \"\" at <eq .N \"a\">: error calling eq: incompatible types for comparison",
        ),
    ]);
    assert_eq!(
        strict("{{.Nope}}"),
        "ERR template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
    );
    assert_eq!(
        strict("{{.S.Nope}}"),
        "ERR template: :1:4: executing \"\" at <.S.Nope>: map has no entry for key \"Nope\""
    );
}

#[test]
fn errors_while_parsing() {
    check(&[
        ("{{.Foo", "ERR template: :1: unclosed action"),
        ("{{foo}}", "ERR template: :1: function \"foo\" not defined"),
        ("{{if .A}}", "ERR template: :1: unexpected EOF"),
        ("{{end}}", "ERR template: :1: unexpected {{end}}"),
        ("{{$x}}", "ERR template: :1: undefined variable \"$x\""),
        ("{{}}", "ERR template: :1: missing value for command"),
        ("{{\"a}}", "ERR template: :1: unterminated quoted string"),
        ("{{(.A}}", "ERR template: :1: unclosed left paren"),
        ("{{/* a", "ERR template: :1: unclosed comment"),
    ]);
}

#[test]
fn hostile_templates_end() {
    assert!(show(&"{{if 1}}".repeat(5000)).starts_with("ERR"));
    assert!(show(&format!("{{{{{}", "(".repeat(5000))).starts_with("ERR"));
    assert!(
        show("{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}")
            .contains("exceeded maximum template depth")
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_a_template_panic(inner in "[-. $|(){}a-cL`'\"\\\\:=,0-9/*\\nü]{0,24}", around in "\\PC{0,8}") {
        let _ = show(&format!("{around}{{{{{inner}}}}}{around}"));
        let _ = show(&format!("{{{{range .L}}}}{{{{printf {inner} . 1}}}}{{{{end}}}}"));
        let _ = show(&around);
    }

    #[test]
    fn json_comes_back_as_it_was(text in "\\PC{0,20}", number in proptest::num::i64::ANY) {
        let value = Value::list(vec![Value::text(&text), Value::Int(number)]);
        let encoded = super::json::encode(&value);
        let back: (String, i64) = serde_json::from_str(&encoded).unwrap();
        proptest::prop_assert_eq!(back, (text, number));
        let indented = super::json::indent(&encoded);
        proptest::prop_assert_eq!(
            serde_json::from_str::<serde_json::Value>(&indented).unwrap(),
            serde_json::from_str::<serde_json::Value>(&encoded).unwrap()
        );
    }
}
