//! The `Status` objects that API errors are, in the words clients know.

use serde_json::{Map, Value, json};

use crate::field::{FieldError, aggregate, go_quote};
use crate::resources::Resource;

/// An API error: its HTTP status code and the `Status` object to send with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, as `NotFound`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `details`; null for none.
    pub details: Value,
}

/// `resource` or `resource.group`, as messages name a resource or a kind.
pub fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    /// Details without empty fields, in the order clients see.
    fn with_details(mut self, name: &str, group: &str, kind: &str) -> Self {
        let mut details = Map::new();
        for (field, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(field.to_owned(), value.into());
            }
        }
        self.details = details.into();
        self
    }

    fn detail(mut self, field: &str, value: impl Into<Value>) -> Self {
        if !self.details.is_object() {
            self.details = json!({});
        }
        self.details[field] = value.into();
        self
    }

    /// The object to send.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status["code"] = self.code.into();
        status
    }

    /// The object to send after a success that has no object of its own, as a deletion.
    pub fn success(resource: &Resource, name: &str, uid: &str) -> Value {
        let mut details = json!({"name": name});
        if !resource.group.is_empty() {
            details["group"] = resource.group.as_str().into();
        }
        details["kind"] = resource.plural.as_str().into();
        if !uid.is_empty() {
            details["uid"] = uid.into();
        }
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }

    /// 404: no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::not_found_in(&resource.group, &resource.plural, name)
    }

    /// 404, for a resource known by its names only.
    pub fn not_found_in(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(plural, group), go_quote(name));
        Self::new(404, "NotFound", message).with_details(name, group, plural)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(404, "NotFound", message).detail("causes", json!([]))
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {} already exists", resource.qualified(), go_quote(name));
        Self::new(409, "AlreadyExists", message).with_details(
            name,
            &resource.group,
            &resource.plural,
        )
    }

    /// 409: every generated name was taken.
    pub fn generate_name_conflict(resource: &Resource, name: &str) -> Self {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            resource.qualified(),
            go_quote(name)
        );
        Self::new(409, "AlreadyExists", message)
            .with_details(name, &resource.group, &resource.plural)
            .detail("retryAfterSeconds", 1)
    }

    /// 409 with a cause in the caller's words.
    pub fn conflict(resource: &Resource, name: &str, cause: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {cause}",
            resource.qualified(),
            go_quote(name)
        );
        Self::new(409, "Conflict", message).with_details(name, &resource.group, &resource.plural)
    }

    /// 409: the resource version is not the newest.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409: fields belong to other managers.
    pub fn apply_conflict(message: String, causes: Value) -> Self {
        Self::new(409, "Conflict", message).detail("causes", causes)
    }

    /// 422: the object has faults.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut message = format!("{} {} is invalid", qualified(kind, group), go_quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&aggregate(errors));
        }
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        Self::new(422, "Invalid", message)
            .with_details(name, group, kind)
            .detail("causes", causes)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403, with the reason in the caller's words.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = match (plural, name) {
            ("", _) => format!("forbidden: {why}"),
            (plural, "") => format!("{} is forbidden: {why}", qualified(plural, group)),
            (plural, name) => {
                format!(
                    "{} {} is forbidden: {why}",
                    qualified(plural, group),
                    go_quote(name)
                )
            }
        };
        Self::new(403, "Forbidden", message).with_details(name, group, plural)
    }

    /// 405.
    pub fn method_not_allowed(resource: &Resource, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            go_quote(&resource.qualified())
        );
        Self::new(405, "MethodNotAllowed", message).with_details(
            "",
            &resource.group,
            &resource.plural,
        )
    }

    /// 405 where no resource is meant.
    pub fn method_not_allowed_here() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).detail("causes", json!([]))
    }

    /// 406.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        Self::new(406, "NotAcceptable", message)
    }

    /// 410: what is asked for is no longer there.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 410: the resource version is compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(message: &str) -> Self {
        let message = format!("Request entity too large: {message}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).detail("retryAfterSeconds", retry_after_seconds)
    }

    /// 500.
    pub fn internal(cause: &str) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {cause}"),
        )
        .detail("causes", json!([{"message": cause}]))
    }

    /// 500, without a reason that a program could go by.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// What another server answered in its own words, about an object.
    pub fn from_server(code: u16, resource: &Resource, name: &str, words: &str) -> Self {
        let (reason, text) = match code {
            401 => (
                "Unauthorized",
                "the server has asked for the client to provide credentials",
            ),
            403 => ("Forbidden", words),
            404 => (
                "NotFound",
                "the server could not find the requested resource",
            ),
            405 => (
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            409 => ("Conflict", "the server reported a conflict"),
            429 => (
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted, but may still be processing the request",
            ),
            code if code >= 500 => (
                "InternalError",
                "an error on the server has prevented the request from succeeding",
            ),
            _ => ("Unknown", "the server responded with an unknown error"),
        };
        let mut message = text.to_owned();
        if !words.is_empty() && words != text {
            let object = format!("{} {name}", resource.qualified());
            message = format!("{text} ({words}) ({object})");
        }
        Self::new(code, reason, message)
            .with_details(name, &resource.group, &resource.plural)
            .detail(
                "causes",
                json!([{"reason": "UnexpectedServerResponse", "message": words}]),
            )
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}"))
            .detail("retryAfterSeconds", retry_after_seconds)
    }

    /// 504: a list from a resource version that the server has not reached.
    pub fn too_large_resource_version(asked: u64, newest: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {newest}");
        Self::timeout(&message, 1).detail(
            "causes",
            json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn an_invalid_object_lists_its_faults() {
        let spec = Path::new("spec");
        let errors = [FieldError::required(&spec.field("selector"), "")];
        let status = Status::invalid("apps", "Deployment", "web", &errors).to_value();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Deployment.apps \"web\" is invalid: spec.selector: Required value",
                "reason": "Invalid",
                "details": {"name": "web", "group": "apps", "kind": "Deployment", "causes": [
                    {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.selector"}]},
                "code": 422,
            })
        );
    }

    #[test]
    fn messages_name_resource_and_object() {
        let check = |status: Status, code: u16, expect: &str| {
            assert_eq!((status.code, status.message.as_str()), (code, expect));
        };
        check(
            Status::not_found_in("", "pods", "a"),
            404,
            "pods \"a\" not found",
        );
        check(
            Status::not_found_in("apps", "deployments", "a"),
            404,
            "deployments.apps \"a\" not found",
        );
        check(
            Status::forbidden("", "pods", "", "no"),
            403,
            "pods is forbidden: no",
        );
        check(
            Status::forbidden("apps", "deployments", "x", "no"),
            403,
            "deployments.apps \"x\" is forbidden: no",
        );
    }
}
