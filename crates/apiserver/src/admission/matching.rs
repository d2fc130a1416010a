//! Which webhooks and policies a request concerns: rules, selectors, conditions.

use serde_json::Value;
use wharf_kube_types::cel::{self, Budget, Environment, Program, Type};
use wharf_kube_types::object;
use wharf_kube_types::selector::LabelSelector;

use super::{Attributes, Operation};
use crate::call::Call;

/// What expressions about a request speak of, as JSON.
#[derive(Debug)]
pub struct Subject {
    object: Value,
    old: Value,
    request: Value,
    namespace: Value,
    params: Value,
}

impl Subject {
    /// Of a request, which is also given as webhooks get it.
    pub fn of(call: &Call, what: &Attributes<'_>, request: Value) -> Subject {
        Subject {
            object: what.object.as_deref().cloned().unwrap_or_default(),
            old: what.old.cloned().unwrap_or_default(),
            request,
            namespace: if call.namespace.is_empty() {
                Value::Null
            } else {
                namespace_of(call, what)
            },
            params: Value::Null,
        }
    }

    /// The same with the parameters of a binding.
    pub fn with_params(mut self, params: Value) -> Subject {
        self.params = params;
        self
    }

    /// The variables of expressions.
    pub fn variables<'a>(&'a self, call: &'a Call) -> Vec<(&'a str, cel::Value<'a>)> {
        let schema = Some(&call.kind.resource.schema);
        vec![
            ("object", cel::Value::of(&self.object, schema)),
            ("oldObject", cel::Value::of(&self.old, schema)),
            ("request", cel::Value::of(&self.request, None)),
            ("namespaceObject", cel::Value::of(&self.namespace, None)),
            ("params", cel::Value::of(&self.params, None)),
        ]
    }
}

/// Compiles an expression about a request. Types were checked when it was stored.
///
/// # Errors
/// In words for people.
pub fn compile(text: &str) -> Result<Program, String> {
    compile_with(text, &[])
}

/// Compiles an expression that makes a change.
///
/// # Errors
/// In words for people.
pub fn compile_change(text: &str) -> Result<Program, String> {
    compile_with(text, &["Object", "JSONPatch"])
}

fn compile_with(text: &str, more: &[&str]) -> Result<Program, String> {
    let names = [
        "object",
        "oldObject",
        "request",
        "namespaceObject",
        "params",
        "variables",
    ];
    let names = names.iter().chain(more);
    let variables: Vec<(&str, Type)> = names.map(|name| (*name, Type::Dyn)).collect();
    let environment = Environment {
        variables: &variables,
    };
    cel::compile(text, &environment).map_err(|error| format!("compilation error: {error}"))
}

/// Whether all conditions hold.
///
/// # Errors
/// One can't be evaluated, and none is false.
pub fn conditions_hold(
    conditions: &[Value],
    call: &Call,
    subject: &Subject,
) -> Result<bool, String> {
    let mut failed = None;
    for condition in conditions {
        let name = object::text(condition, "name");
        let program = compile(object::text(condition, "expression"))?;
        let variables = subject.variables(call);
        match program.evaluate(&variables, &mut Budget::of_call()) {
            Ok(cel::Value::Bool(true)) => {}
            // One that does not hold decides, whatever is wrong with others.
            Ok(cel::Value::Bool(false)) => return Ok(false),
            Ok(other) => failed = Some(format!("{name}: gives a {}", other.type_name())),
            Err(error) => failed = Some(format!("{name}: {error}")),
        }
    }
    failed.map_or(Ok(true), Err)
}

/// Whether a rule of a webhook or policy names what is being done.
pub fn matches_rule(call: &Call, operation: Operation, rule: &Value) -> bool {
    let resource = &call.kind.resource;
    let any = |field: &str, wanted: &str| {
        object::list(rule, field)
            .iter()
            .any(|v| v == "*" || v == wanted)
    };
    let scope = match object::text(rule, "scope") {
        "Namespaced" => resource.namespaced,
        "Cluster" => !resource.namespaced,
        _ => true,
    };
    let names = object::list(rule, "resourceNames");
    let named = names.is_empty() || names.iter().any(|name| name == call.name.as_str());
    let wanted = object::list(rule, "resources")
        .iter()
        .filter_map(Value::as_str);
    let mut fits =
        wanted.map(
            |pattern| match (pattern.split_once('/'), call.subresource.as_str()) {
                (None, "") => pattern == "*" || pattern == resource.plural,
                (None, _) => false,
                (Some((plural, sub)), own) => {
                    let sub_fits = if own.is_empty() {
                        plural == "*" && sub == "*"
                    } else {
                        sub == "*" || sub == own
                    };
                    (plural == "*" || plural == resource.plural) && sub_fits
                }
            },
        );
    scope
        && named
        && any("operations", operation.word())
        && any("apiGroups", &resource.group)
        && any("apiVersions", &resource.version)
        && fits.any(|fits| fits)
}

/// Whether the `objectSelector` and `namespaceSelector` of a webhook or policy select what is being done.
pub fn selected(call: &Call, what: &Attributes<'_>, by: &Value) -> bool {
    let selects = |field: &str, subject: &Value| match by.get(field).filter(|s| !s.is_null()) {
        None => true,
        selector => LabelSelector::from_object(selector).is_ok_and(|s| s.matches(subject)),
    };
    let objects = [what.object.as_deref(), what.old];
    let mut objects = objects.into_iter().flatten();
    let any_object = by.get("objectSelector").is_none_or(Value::is_null);
    // What is in no namespace is not kept back by a selector of namespaces.
    let outside = call.namespace.is_empty() && !call.kind.resource.is("", "namespaces");
    (any_object || objects.any(|o| selects("objectSelector", o)))
        && (outside || selects("namespaceSelector", &namespace_of(call, what)))
}

/// The namespace that a selector looks at; a namespace looks at itself.
fn namespace_of(call: &Call, what: &Attributes<'_>) -> Value {
    if call.kind.resource.is("", "namespaces") {
        return what
            .object
            .as_deref()
            .or(what.old)
            .cloned()
            .unwrap_or_default();
    }
    let found = call
        .api
        .builtin("", "namespaces")
        .ok()
        .and_then(|kind| kind.cache.get(&kind.key("", &call.namespace)));
    found
        .map(|object| object.record.to_value())
        .unwrap_or_default()
}
