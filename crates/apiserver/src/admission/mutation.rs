//! MutatingAdmissionPolicies: changes of objects in CEL, as partial objects that are merged or as JSON patches.

use serde_json::{Map, Value};
use wharf_kube_types::cel::{self, Budget};
use wharf_kube_types::{Status, apply, object, patch, schema};

use super::matching::{Subject, compile_change, conditions_hold};
use super::policy::{Bound, all, compose, named};
use super::webhook::{IDENTITY, is_own, review};
use super::{Attributes, Operation};
use crate::call::Call;

/// Changes that one policy makes for one request, with all its parameters.
const CHANGES_MAX: usize = 1000;

/// Whether all policies are asked, or those only that wish to be asked again after others changed the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// All.
    First,
    /// Those that wish.
    Again,
}

/// What policies did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The object was changed.
    pub changed: bool,
    /// It was changed after another policy had seen it.
    pub later: bool,
}

/// Lets policies change the object, in the order of their names.
///
/// # Errors
/// A policy that can't be evaluated and may not be passed by.
pub fn mutate(call: &Call, what: &mut Attributes<'_>, round: Round) -> Result<Outcome, Status> {
    let changes = matches!(what.operation, Operation::Create | Operation::Update);
    let mut outcome = Outcome::default();
    if is_own(call) || !changes || what.object.is_none() {
        return Ok(outcome);
    }
    let bindings = all(call, "mutatingadmissionpolicybindings")?;
    if bindings.is_empty() {
        return Ok(outcome);
    }
    let policies = all(call, "mutatingadmissionpolicies")?;
    let mut seen = 0;
    for policy in &policies {
        let again = object::text(policy, "spec.reinvocationPolicy") == "IfNeeded";
        if round == Round::Again && !again {
            continue;
        }
        let name = object::name(policy);
        let own = |binding: &&Value| object::text(binding, "spec.policyName") == name;
        for binding in bindings.iter().filter(own) {
            let bound = Bound { policy, binding };
            if !bound.concerns(call, what) {
                continue;
            }
            if one(call, what, &bound)? {
                outcome.changed = true;
                outcome.later |= seen > 0;
            }
            seen += 1;
        }
    }
    Ok(outcome)
}

/// Lets a policy as one binding puts it in force change the object.
fn one(call: &Call, what: &mut Attributes<'_>, bound: &Bound<'_>) -> Result<bool, Status> {
    let Some(before) = what.object.as_deref().cloned() else {
        return Ok(false);
    };
    match changed(call, what, bound) {
        Ok(()) => Ok(what.object.as_deref() != Some(&before)),
        Err(why) => {
            // Half of a policy's changes is none.
            if let Some(object) = what.object.as_deref_mut() {
                *object = before;
            }
            if bound.ignores_failures() {
                return Ok(false);
            }
            let (policy, binding) = (object::name(bound.policy), object::name(bound.binding));
            let why = format!("policy '{policy}' with binding '{binding}' denied request: {why}");
            let resource = &call.kind.resource;
            let mut status = Status::forbidden(&resource.group, &resource.plural, &call.name, &why);
            (status.code, status.reason) = (422, "Invalid");
            Err(status)
        }
    }
}

fn changed(call: &Call, what: &mut Attributes<'_>, bound: &Bound<'_>) -> Result<(), String> {
    let mut left = CHANGES_MAX;
    for params in bound.params(call)? {
        let mut asked = review(call, what, "");
        let subject = Subject::of(call, what, asked["request"].take()).with_params(params.clone());
        let conditions = object::list(bound.policy, "spec.matchConditions");
        if !conditions_hold(conditions, call, &subject)? {
            continue;
        }
        let mut budget = Budget::of_object();
        for mutation in object::list(bound.policy, "spec.mutations") {
            left = left.checked_sub(1).ok_or_else(|| {
                format!("it makes more than {CHANGES_MAX} changes for one request")
            })?;
            // What one mutation did the next one sees.
            let change = evaluate(call, what, bound.policy, mutation, &params, &mut budget)?;
            let object = what.object.as_deref_mut().ok_or("there is no object")?;
            *object = made(call, object, mutation, &change)?;
        }
    }
    Ok(())
}

/// What a mutation's expression gives.
fn evaluate(
    call: &Call,
    what: &Attributes<'_>,
    policy: &Value,
    mutation: &Value,
    params: &Value,
    budget: &mut Budget,
) -> Result<Value, String> {
    let mut asked = review(call, what, "");
    let subject = Subject::of(call, what, asked["request"].take()).with_params(params.clone());
    let form = match object::text(mutation, "patchType") {
        "JSONPatch" => "jsonPatch",
        _ => "applyConfiguration",
    };
    let text = object::text(&mutation[form], "expression");
    let program = compile_change(text)?;
    let programs = named(policy)?;
    let mut variables = subject.variables(call);
    compose(&programs, &mut variables, budget)?;
    let value: cel::Value<'_> = program
        .evaluate(&variables, budget)
        .map_err(|error| format!("expression '{text}' resulted in error: {error}"))?;
    let json = value.to_json();
    match (form, &json) {
        ("jsonPatch", Value::Array(_)) | ("applyConfiguration", Value::Object(_)) => Ok(json),
        ("jsonPatch", _) => Err(format!(
            "type mismatch: JSONPatchType.Expression should evaluate to array of JSONPatch, not {}",
            value.type_name()
        )),
        _ => Err(format!(
            "expression '{text}' gives a {}, not an Object",
            value.type_name()
        )),
    }
}

/// The object with a change, in its canonical form.
fn made(call: &Call, object: &Value, mutation: &Value, change: &Value) -> Result<Value, String> {
    let resource = &call.kind.resource;
    let mut new = object.clone();
    if object::text(mutation, "patchType") == "JSONPatch" {
        patch::json_patch(&mut new, change).map_err(|e| format!("JSON Patch: {e}"))?;
    } else {
        let mut partial = change.clone();
        // The type of what is merged is that of the object.
        if let Some(fields) = partial.as_object_mut() {
            for field in ["apiVersion", "kind"] {
                fields.insert(field.to_owned(), object[field].clone());
            }
            let meta = fields.get("metadata").cloned().unwrap_or_default();
            forbid_identity(meta.as_object())?;
        }
        new = apply::merge_partial(resource, object, &partial)
            .map_err(|why| format!("error applying patch: {why}"))?;
    }
    for (path, what) in IDENTITY {
        if object::at(object, path) != object::at(&new, path) {
            return Err(format!("it may not change the object's {what}"));
        }
    }
    schema::read(resource, &mut new)?;
    Ok(new)
}

/// What a partial object's metadata may not say.
fn forbid_identity(meta: Option<&Map<String, Value>>) -> Result<(), String> {
    const FORBIDDEN: [&str; 6] = [
        "name",
        "namespace",
        "uid",
        "generateName",
        "resourceVersion",
        "managedFields",
    ];
    let found = FORBIDDEN.iter().find(|field| {
        let meta = meta.and_then(|meta| meta.get(**field));
        meta.is_some_and(|value| !value.is_null())
    });
    match found {
        Some(field) => Err(format!("it may not set metadata.{field}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
