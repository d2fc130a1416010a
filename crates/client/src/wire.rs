//! What requests look like in HTTP: paths, parameters and bodies, for whoever carries them.

use serde_json::{Value, json};

use crate::api::{Deletion, Patch, Query, Resource, Target};

/// Parameters of a request.
pub type Parameters = Vec<(&'static str, String)>;

/// `/api/v1/namespaces/NS/pods/NAME/status` and the like. Names come from objects and are escaped.
fn path(resource: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(&escape(namespace));
    }
    for part in [&*resource.plural, name, subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(&escape(part));
        }
    }
    path
}

fn escape(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A query of parameters, escaped.
pub fn query_text(parameters: &[(&str, String)]) -> String {
    let parts: Vec<String> = parameters
        .iter()
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    parts.join("&")
}

impl Target {
    /// The path of the object or subresource.
    pub fn path(&self) -> String {
        path(
            &self.resource,
            &self.namespace,
            &self.name,
            &self.subresource,
        )
    }
}

impl Query {
    /// The path of the collection.
    pub fn path(&self) -> String {
        path(&self.resource, &self.namespace, "", "")
    }

    /// The selectors.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Vec::new();
        for (key, value) in [
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
        ] {
            if !value.is_empty() {
                parameters.push((key, value.clone()));
            }
        }
        parameters
    }
}

impl Patch {
    /// Media type, body and parameters.
    pub fn wire(self) -> (&'static str, Value, Parameters) {
        match self {
            Self::Merge(body) => ("application/merge-patch+json", body, Vec::new()),
            Self::Json(body) => ("application/json-patch+json", body, Vec::new()),
            Self::Strategic(body) => ("application/strategic-merge-patch+json", body, Vec::new()),
            Self::Apply {
                manager,
                force,
                object,
            } => (
                "application/apply-patch+yaml",
                object,
                vec![("fieldManager", manager), ("force", force.to_string())],
            ),
        }
    }
}

impl Deletion {
    /// The body of the request.
    pub fn options(&self) -> Value {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(seconds) = self.grace_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(uid) = &self.uid {
            options["preconditions"] = json!({"uid": uid});
        }
        if let Some(policy) = self.propagation {
            options["propagationPolicy"] = json!(policy);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_not_be_left_by_a_name() {
        let pods = Resource::new("", "v1", "pods");
        assert_eq!(
            path(&pods, "a", "b", "status"),
            "/api/v1/namespaces/a/pods/b/status"
        );
        assert_eq!(path(&pods, "", "", ""), "/api/v1/pods");
        assert_eq!(
            path(&pods, "../x", "a/b?c=d", ""),
            "/api/v1/namespaces/..%2Fx/pods/a%2Fb%3Fc%3Dd"
        );
        let leases = Resource::new("coordination.k8s.io", "v1", "leases");
        assert_eq!(
            path(&leases, "n", "x", ""),
            "/apis/coordination.k8s.io/v1/namespaces/n/leases/x"
        );
    }

    #[test]
    fn parameters_can_not_add_others() {
        let parameters = [("labelSelector", "a=b&force=true,c".to_owned())];
        assert_eq!(
            query_text(&parameters),
            "labelSelector=a%3Db%26force%3Dtrue%2Cc"
        );
    }
}
