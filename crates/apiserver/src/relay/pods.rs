//! What clients ask of a pod's containers, and the path at the node that answers it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use wharf_kube_types::field::{FieldError, Path};
use wharf_kube_types::{Status, object};

use crate::info::{Query, values};

/// Commands and their arguments, together.
const COMMAND_WORDS_MAX: usize = 4096;

const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

fn names(pod: &Value, field: &str) -> Vec<String> {
    let all = object::list(pod, field).iter();
    all.map(|c| object::text(c, "name").to_owned()).collect()
}

/// The container that is meant: the one that is named, or the only one.
///
/// # Errors
/// 400 with the names to choose from.
pub fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let pod_name = object::name(pod);
    let containers = names(pod, "spec.containers");
    let first = names(pod, "spec.initContainers");
    let ephemeral = names(pod, "spec.ephemeralContainers");
    if !asked.is_empty() {
        let mut known = containers.iter().chain(&first).chain(&ephemeral);
        return match known.any(|name| name == asked) {
            true => Ok(asked.to_owned()),
            false => Err(Status::bad_request(format!(
                "container {asked} is not valid for pod {pod_name}"
            ))),
        };
    }
    let mut text = format!("a container name must be specified for pod {pod_name}");
    match containers.as_slice() {
        [only] => return Ok(only.clone()),
        [] => {}
        several => {
            text.push_str(&format!(", choose one of: [{}]", several.join(" ")));
            if !first.is_empty() {
                let names = first.join(" ");
                text.push_str(&format!(" or one of the init containers: [{names}]"));
            }
        }
    }
    Err(Status::bad_request(text))
}

/// The options of an exec, attach or port-forward request, as the object that admission sees.
///
/// # Errors
/// 400 for options that are none.
pub fn options(subresource: &str, query: &str) -> Result<Value, Status> {
    let read = Query::parse(query);
    if subresource == "portforward" {
        let mut ports = Vec::new();
        for port in values(query, "ports") {
            let number = port.parse::<u16>().ok().filter(|p| *p != 0);
            ports.push(number.ok_or_else(|| {
                Status::bad_request(format!("ports: {port:?} is not a port number"))
            })?);
        }
        return Ok(json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": ports}));
    }
    let kind = match subresource {
        "exec" => "PodExecOptions",
        _ => "PodAttachOptions",
    };
    let mut out = json!({"kind": kind, "apiVersion": "v1"});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if read.flag(flag) {
            out[flag] = true.into();
        }
    }
    if !read.get("container").is_empty() {
        out["container"] = read.get("container").into();
    }
    if subresource == "exec" {
        let command = values(query, "command");
        if command.is_empty() {
            return Err(Status::bad_request("you must specify at least 1 command"));
        }
        if command.len() > COMMAND_WORDS_MAX {
            return Err(Status::bad_request(format!(
                "the command has more than {COMMAND_WORDS_MAX} words"
            )));
        }
        out["command"] = json!(command);
    }
    Ok(out)
}

/// Path and query at the node.
///
/// # Errors
/// 400: which container?
pub fn location(subresource: &str, pod: &Value, options: &Value) -> Result<String, Status> {
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let mut query: Vec<String> = Vec::new();
    if subresource == "portforward" {
        let ports = object::list(options, "ports").iter();
        let ports: Vec<String> = ports.map(Value::to_string).collect();
        if !ports.is_empty() {
            query.push(format!("port={}", escaped(&ports.join(","))));
        }
        return Ok(joined(format!("/portForward/{namespace}/{name}"), &query));
    }
    let container = container(pod, object::text(options, "container"))?;
    let flags = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    for word in object::list(options, "command") {
        let word = word.as_str().unwrap_or_default();
        query.push(format!("command={}", escaped(word)));
    }
    for (own, theirs) in flags {
        if options[own] == true {
            query.push(format!("{theirs}=1"));
        }
    }
    let path = format!("/{subresource}/{namespace}/{name}/{container}");
    Ok(joined(path, &query))
}

fn joined(path: String, query: &[String]) -> String {
    if query.is_empty() {
        path
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    match query.get(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        }),
    }
}

/// Path and query of a log at the node.
///
/// # Errors
/// 400 and 422 for options that make no sense.
pub fn log_location(pod: &Value, query: &Query) -> Result<String, Status> {
    let container = container(pod, query.get("container"))?;
    let mut out = Vec::new();
    let mut faults = Vec::new();
    for flag in ["follow", "previous"] {
        if query.flag(flag) {
            out.push(format!("{flag}=true"));
        }
    }
    let stream = query.get("stream");
    match stream {
        "" | "All" => {}
        "Stdout" | "Stderr" => out.push(format!("stream={stream}")),
        other => {
            let known = ["All", "Stderr", "Stdout"];
            faults.push(FieldError::not_supported(
                &Path::new("stream"),
                other,
                &known,
            ));
        }
    }
    if query.flag("timestamps") {
        out.push("timestamps=true".to_owned());
    }
    for (name, least, words) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(value) = number(query, name)? {
            if value < least {
                faults.push(FieldError::invalid(&Path::new(name), value, words));
            }
            out.push(format!("{name}={value}"));
        }
    }
    let since = query.get("sinceTime");
    if !since.is_empty() {
        if query.has("sinceSeconds") {
            let words = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            faults.push(FieldError::forbidden(&Path::new(""), words));
        }
        let time: jiff::Timestamp = since.parse().map_err(|_| {
            Status::bad_request(format!("sinceTime: {since:?} is not a time of RFC 3339"))
        })?;
        out.push(format!("sinceTime={}", escaped(&time.to_string())));
    }
    if !faults.is_empty() {
        let name = object::name(pod);
        return Err(Status::invalid("", "PodLogOptions", name, &faults));
    }
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let path = format!("/containerLogs/{namespace}/{name}/{container}");
    Ok(joined(path, &out))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}})
    }

    #[test]
    fn a_container_is_chosen_in_the_words_of_the_original() {
        let check = |pod: &Value, asked: &str, expect: Result<&str, &str>| {
            let got = container(pod, asked).map_err(|s| s.message);
            assert_eq!(got.as_deref().map_err(String::as_str), expect);
        };
        let mut pod = pod();
        check(
            &pod,
            "",
            Err(
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
            ),
        );
        check(&pod, "i", Ok("i"));
        check(&pod, "x", Err("container x is not valid for pod p"));
        pod["spec"]["containers"] = json!([{"name": "a"}]);
        check(&pod, "", Ok("a"));
    }

    #[test]
    fn options_become_the_nodes_paths() {
        let pod = pod();
        let check = |sub: &str, query: &str, expect: &str| {
            let got = options(sub, query).and_then(|o| location(sub, &pod, &o));
            let got = got.unwrap_or_else(|status| status.message);
            assert_eq!(got, expect, "{sub}?{query}");
        };
        check(
            "exec",
            "command=sh&command=-c&command=echo+a%26b&container=a&stdin=true&stdout=true&tty=true",
            "/exec/ns/p/a?command=sh&command=-c&command=echo%20a%26b&input=1&output=1&tty=1",
        );
        check("exec", "container=a", "you must specify at least 1 command");
        check(
            "attach",
            "container=b&stdout=1&stderr=1&tty=false",
            "/attach/ns/p/b?output=1&error=1",
        );
        check("portforward", "", "/portForward/ns/p");
        check(
            "portforward",
            "ports=80&ports=443",
            "/portForward/ns/p?port=80%2C443",
        );
        check(
            "portforward",
            "ports=0",
            "ports: \"0\" is not a port number",
        );
    }

    #[test]
    fn logs_are_asked_for_in_bounds() {
        let pod = pod();
        let check = |query: &str, expect: &str| {
            let got = log_location(&pod, &Query::parse(query));
            assert_eq!(
                got.unwrap_or_else(|status| status.message),
                expect,
                "{query}"
            );
        };
        check("container=a", "/containerLogs/ns/p/a");
        check(
            "container=a&follow=true&previous=false&tailLines=5&timestamps=true&limitBytes=9",
            "/containerLogs/ns/p/a?follow=true&timestamps=true&tailLines=5&limitBytes=9",
        );
        check(
            "container=a&sinceTime=2026-01-02T03:04:05Z",
            "/containerLogs/ns/p/a?sinceTime=2026-01-02T03%3A04%3A05Z",
        );
        check(
            "container=a&tailLines=-1",
            "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
        );
    }
}
