//! ValidatingAdmissionPolicies: rules in CEL about requests, put in force by bindings, with parameters of any kind.

use serde_json::{Value, json};
use wharf_kube_types::cel::{self, Budget, EvalError, Program};
use wharf_kube_types::selector::LabelSelector;
use wharf_kube_types::{Status, object};

use super::Attributes;
use super::matching::{Subject, compile, conditions_hold, matches_rule, selected};
use super::webhook::{GROUP, is_own, review};
use crate::call::Call;

/// A policy as one binding puts it in force.
pub(super) struct Bound<'a> {
    pub(super) policy: &'a Value,
    pub(super) binding: &'a Value,
}

/// What a rule says of a request that it does not hold for.
struct Fault {
    message: String,
    reason: String,
}

/// Lets policies refuse the request, or warn of it.
///
/// # Errors
/// The first policy that refuses it.
pub fn check(call: &mut Call, what: &Attributes<'_>) -> Result<(), Status> {
    if is_own(call) {
        return Ok(());
    }
    let bindings = all(call, "validatingadmissionpolicybindings")?;
    if bindings.is_empty() {
        return Ok(());
    }
    let policies = all(call, "validatingadmissionpolicies")?;
    for binding in &bindings {
        let wanted = object::text(binding, "spec.policyName");
        let found = policies
            .iter()
            .find(|policy| object::name(policy) == wanted);
        let Some(policy) = found else {
            continue;
        };
        let bound = Bound { policy, binding };
        if bound.concerns(call, what) {
            bound.judge(call, what)?;
        }
    }
    Ok(())
}

pub(super) fn all(call: &Call, plural: &str) -> Result<Vec<Value>, Status> {
    let kind = call.api.builtin(GROUP, plural)?;
    let objects = kind.cache.all("");
    Ok(objects
        .iter()
        .map(|object| object.record.to_value())
        .collect())
}

/// Whether the rules and selectors of `matchConstraints` or `matchResources` fit; none at all fit everything.
fn fits(call: &Call, what: &Attributes<'_>, by: &Value) -> bool {
    let any = |rules: &[Value]| {
        rules
            .iter()
            .any(|rule| matches_rule(call, what.operation, rule))
    };
    let wanted = object::list(by, "resourceRules");
    (wanted.is_empty() || any(wanted))
        && !any(object::list(by, "excludeResourceRules"))
        && selected(call, what, by)
}

impl Bound<'_> {
    pub(super) fn concerns(&self, call: &Call, what: &Attributes<'_>) -> bool {
        let constraints = &self.policy["spec"]["matchConstraints"];
        !object::list(constraints, "resourceRules").is_empty()
            && fits(call, what, constraints)
            && fits(call, what, &self.binding["spec"]["matchResources"])
    }

    pub(super) fn ignores_failures(&self) -> bool {
        object::text(self.policy, "spec.failurePolicy") == "Ignore"
    }

    fn judge(&self, call: &mut Call, what: &Attributes<'_>) -> Result<(), Status> {
        let faults = match self.faults(call, what) {
            Ok(faults) => faults,
            Err(_) if self.ignores_failures() => return Ok(()),
            Err(message) => vec![Fault {
                message,
                reason: "Invalid".to_owned(),
            }],
        };
        let (policy, binding) = (object::name(self.policy), object::name(self.binding));
        let actions = object::list(self.binding, "spec.validationActions");
        let does = |action: &str| actions.iter().any(|known| known == action);
        for fault in faults {
            let message = &fault.message;
            if does("Warn") {
                let head = format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
                );
                call.warnings.push(format!("{head}: {message}"));
            }
            if does("Deny") {
                let head = format!(
                    "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request"
                );
                return Err(refusal(call, &format!("{head}: {message}"), &fault));
            }
        }
        Ok(())
    }

    /// Every rule that does not hold, for each of the parameters.
    ///
    /// # Errors
    /// The policy can't be evaluated.
    fn faults(&self, call: &Call, what: &Attributes<'_>) -> Result<Vec<Fault>, String> {
        let mut faults = Vec::new();
        for params in self.params(call)? {
            let mut asked = review(call, what, "");
            let subject = Subject::of(call, what, asked["request"].take()).with_params(params);
            let conditions = object::list(self.policy, "spec.matchConditions");
            if conditions_hold(conditions, call, &subject)? {
                faults.extend(self.faults_of(call, &subject)?);
            }
        }
        Ok(faults)
    }

    fn faults_of(&self, call: &Call, subject: &Subject) -> Result<Vec<Fault>, String> {
        let programs = named(self.policy)?;
        let validations = object::list(self.policy, "spec.validations");
        let rules = validations.iter().map(|rule| {
            let message = object::text(rule, "messageExpression");
            let message = (!message.is_empty())
                .then(|| compile(message))
                .transpose()?;
            Ok((rule, compile(object::text(rule, "expression"))?, message))
        });
        let rules: Vec<(&Value, Program, Option<Program>)> =
            rules.collect::<Result<_, String>>()?;

        let mut budget = Budget::of_object();
        let mut variables = subject.variables(call);
        compose(&programs, &mut variables, &mut budget)?;
        let mut faults = Vec::new();
        for (rule, program, message) in &rules {
            let text = program.text();
            match program.evaluate(&variables, &mut budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => {
                    faults.push(fault(rule, text, message.as_ref(), &variables, &mut budget))
                }
                Ok(other) => {
                    return Err(format!("expression '{text}' gives a {}", other.type_name()));
                }
                Err(error) => {
                    return Err(format!("expression '{text}' resulted in error: {error}"));
                }
            }
        }
        Ok(faults)
    }

    /// The parameters that the binding names; null alone where the policy takes none.
    ///
    /// # Errors
    /// There are none, and the binding wants some.
    pub(super) fn params(&self, call: &Call) -> Result<Vec<Value>, String> {
        let of_kind = &self.policy["spec"]["paramKind"];
        let reference = &self.binding["spec"]["paramRef"];
        if of_kind.is_null() || reference.is_null() {
            return Ok(vec![Value::Null]);
        }
        let (api_version, kind) = (
            object::text(of_kind, "apiVersion"),
            object::text(of_kind, "kind"),
        );
        let registry = call.api.registry();
        let found = registry.by_kind(api_version, kind);
        let kind = found.ok_or_else(|| {
            format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'")
        })?;
        let namespace = match object::text(reference, "namespace") {
            _ if !kind.resource.namespaced => "",
            "" => call.namespace.as_str(),
            given => given,
        };
        let name = object::text(reference, "name");
        let params: Vec<Value> = if name.is_empty() {
            let selector =
                LabelSelector::from_object(reference.get("selector")).map_err(|e| e.to_string())?;
            let all = kind.cache.all(&kind.range(namespace));
            let values = all.iter().map(|object| object.record.to_value());
            values.filter(|value| selector.matches(value)).collect()
        } else {
            let found = kind.cache.get(&kind.key(namespace, name));
            found
                .iter()
                .map(|object| object.record.to_value())
                .collect()
        };
        let refuses = object::text(reference, "parameterNotFoundAction") == "Deny";
        if params.is_empty() && refuses {
            let action = "`Deny` parameterNotFoundAction";
            return Err(format!("no params found for policy binding with {action}"));
        }
        Ok(params)
    }
}

/// The variables that a policy names, compiled.
///
/// # Errors
/// One that is no expression.
pub(super) fn named(policy: &Value) -> Result<Vec<(&str, Program)>, String> {
    let named = object::list(policy, "spec.variables").iter();
    let programs = named.map(|one| {
        let program = compile(object::text(one, "expression"))?;
        Ok((object::text(one, "name"), program))
    });
    programs.collect()
}

/// Adds what the named variables give.
///
/// # Errors
/// The budget is used up.
pub(super) fn compose<'a>(
    programs: &'a [(&'a str, Program)],
    variables: &mut Vec<(&'a str, cel::Value<'a>)>,
    budget: &mut Budget,
) -> Result<(), String> {
    let mut composed = Vec::new();
    for (name, program) in programs {
        variables.push(("variables", cel::Value::map(composed.clone())));
        // One that fails is missing; only the rules that speak of it fail.
        match program.evaluate(variables, budget) {
            Ok(value) => composed.push((*name, value)),
            Err(EvalError::Budget) => return Err(EvalError::Budget.to_string()),
            Err(_) => {}
        }
        variables.pop();
    }
    variables.push(("variables", cel::Value::map(composed)));
    Ok(())
}

fn fault<'a>(
    rule: &Value,
    text: &str,
    message: Option<&'a Program>,
    variables: &[(&str, cel::Value<'a>)],
    budget: &mut Budget,
) -> Fault {
    let made = message.and_then(|program| match program.evaluate(variables, budget) {
        Ok(cel::Value::String(text)) => Some(text.trim().to_owned()),
        _ => None,
    });
    let made = made.filter(|text| !text.is_empty() && !text.contains('\n'));
    let message = made.unwrap_or_else(|| match object::text(rule, "message") {
        "" => format!("failed expression: {}", text.trim()),
        given => given.trim().to_owned(),
    });
    Fault {
        message,
        reason: object::text(rule, "reason").to_owned(),
    }
}

fn refusal(call: &Call, message: &str, fault: &Fault) -> Status {
    let resource = &call.kind.resource;
    let mut status = Status::forbidden(&resource.group, &resource.plural, &call.name, message);
    (status.code, status.reason) = match fault.reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.details["causes"] = json!([{"message": message}]);
    status
}
