//! What a request asks for: verb, resource and names, read from method, path and query.

use std::collections::HashMap;

use http::Method;
use percent_encoding::percent_decode_str;

/// A request's query, decoded. The first of several values counts.
#[derive(Clone, Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        let mut all = HashMap::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            all.entry(decode(key)).or_insert_with(|| decode(value));
        }
        Self(all)
    }

    /// A value; empty if absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether it is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// These values, and those of another query that are not here; field selectors are joined.
    pub fn or(mut self, other: &Self) -> Self {
        for (key, value) in &other.0 {
            match self.0.get_mut(key) {
                Some(own) if key == "fieldSelector" && !own.is_empty() => {
                    own.push(',');
                    own.push_str(value);
                }
                Some(own) if !own.is_empty() => {}
                _ => {
                    self.0.insert(key.clone(), value.clone());
                }
            }
        }
        self
    }

    /// A flag: there, and not false.
    pub fn flag(&self, name: &str) -> bool {
        match self.0.get(name).map(String::as_str) {
            None => false,
            Some("0" | "false" | "False" | "FALSE" | "f" | "F") => false,
            Some(_) => true,
        }
    }
}

/// All values of a query's option, in their order.
pub fn values(query: &str, name: &str) -> Vec<String> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    pairs
        .filter(|(key, _)| decode(key) == name)
        .map(|(_, value)| decode(value))
        .collect()
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The verb of the authoriser's vocabulary, as `list`.
    pub verb: &'static str,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// The path.
    pub path: String,
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// What follows the subresource in the path.
    pub rest: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "",
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::GET | Method::HEAD => "get",
        _ => "",
    }
}

impl Info {
    /// Reads a request. Paths that name no resource are verbs on a path.
    pub fn read(method: &Method, path: &str, query: &Query) -> Self {
        let parts: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let mut info = Self {
            verb: plain_verb(method),
            path: path.to_owned(),
            ..Self::default()
        };
        let steps: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest = match steps.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = verb(method);
        info.resource_of(rest);
        info.refine(query);
        info
    }

    fn resource_of(&mut self, steps: &[&str]) {
        let steps = match steps {
            ["watch", rest @ ..] if !rest.is_empty() => {
                self.verb = "watch";
                rest
            }
            steps => steps,
        };
        let steps = match steps {
            ["namespaces", name, rest @ ..] => {
                self.namespace = (*name).to_owned();
                match rest {
                    [] | ["status" | "finalize", ..] => steps,
                    rest => rest,
                }
            }
            steps => steps,
        };
        let step = |n: usize| steps.get(n).copied().unwrap_or_default().to_owned();
        self.resource = step(0);
        self.name = step(1);
        self.subresource = step(2);
        self.rest = steps.get(3..).unwrap_or_default().join("/");
    }

    /// Without a name, a get is a list or a watch, and a delete one of a collection.
    fn refine(&mut self, query: &Query) {
        if self.name.is_empty() {
            self.verb = match self.verb {
                "get" if query.flag("watch") => "watch",
                "get" => "list",
                "delete" => "deletecollection",
                verb => verb,
            };
        } else if self.verb == "get" && query.flag("watch") && self.subresource.is_empty() {
            self.verb = "watch";
        }
        if matches!(self.verb, "list" | "watch" | "deletecollection") && self.name.is_empty() {
            let selector =
                wharf_kube_types::selector::FieldSelector::parse(query.get("fieldSelector"));
            if let Some(name) = selector
                .ok()
                .and_then(|s| s.exact("metadata.name").map(str::to_owned))
            {
                self.name = name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &Method, uri: &str, expect: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = Info::read(method, path, &Query::parse(query));
        let text = format!(
            "{} {}|{}|{}|{}|{}|{}",
            info.verb,
            info.group,
            info.version,
            info.namespace,
            info.resource,
            info.name,
            info.subresource
        );
        assert_eq!(text, expect, "{method} {uri}");
    }

    #[test]
    fn paths_become_verbs_on_resources() {
        check(&Method::GET, "/api/v1/pods", "list |v1||pods||");
        check(&Method::GET, "/api/v1/pods?watch=1", "watch |v1||pods||");
        check(
            &Method::GET,
            "/api/v1/namespaces/a",
            "get |v1|a|namespaces|a|",
        );
        check(
            &Method::PUT,
            "/api/v1/namespaces/a/finalize",
            "update |v1|a|namespaces|a|finalize",
        );
        check(
            &Method::GET,
            "/api/v1/namespaces/a/pods/b/log",
            "get |v1|a|pods|b|log",
        );
        check(
            &Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection apps|v1|a|deployments||",
        );
        check(
            &Method::POST,
            "/apis/apps/v1/namespaces/a/deployments",
            "create apps|v1|a|deployments||",
        );
        check(
            &Method::GET,
            "/api/v1/watch/namespaces/a/pods",
            "watch |v1|a|pods||",
        );
        check(
            &Method::GET,
            "/api/v1/pods?fieldSelector=metadata.name%3Dx",
            "list |v1||pods|x|",
        );
        check(&Method::GET, "/apis/apps/v1", "get |||||");
        check(&Method::GET, "/version", "get |||||");
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&x=1+2&watch=false&dryRun=All");
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert_eq!(query.get("x"), "1 2");
        assert!(!query.flag("watch"));
        assert!(query.has("dryRun") && !query.has("y"));
    }
}
