//! Admission webhooks and policies, APIServices, certificate requests, reviews, flow control.

use serde_json::Value;

use super::faults::{Faults, Seen, label_selector};
use super::names;
use crate::cel::{Environment, Type, compile};
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, same, text};

/// A webhook configuration of either sort.
pub fn webhooks(object: &Value, mutating: bool, out: &mut Vec<FieldError>) {
    let root = Path::new("webhooks");
    let mut seen = Seen::default();
    for (index, hook) in list(object, "webhooks").iter().enumerate() {
        let here = root.index(index);
        let name = text(hook, "name");
        webhook(hook, mutating, &here, out);
        review_versions(hook, &here.field("admissionReviewVersions"), out);
        if seen.twice(name) && !name.is_empty() {
            out.duplicate(&here.field("name"), name);
        }
    }
}

fn webhook(hook: &Value, mutating: bool, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let name = text(hook, "name");
    if name.is_empty() {
        out.required(&path.field("name"), "");
    } else {
        let faults = names::dns1123_subdomain(name);
        if !faults.is_empty() {
            out.invalid(&path.field("name"), name, faults.join(","));
        } else if name.split('.').count() < 3 {
            let detail = "should be a domain with at least three segments separated by dots";
            out.invalid(&path.field("name"), name, detail);
        }
    }
    let place = path.field("rules");
    for (index, rule) in list(hook, "rules").iter().enumerate() {
        self::rule(rule, &place.index(index), out);
    }
    out.optional_one_of(
        &path.field("failurePolicy"),
        &hook["failurePolicy"],
        &["Fail", "Ignore"],
    );
    out.optional_one_of(
        &path.field("matchPolicy"),
        &hook["matchPolicy"],
        &["Equivalent", "Exact"],
    );
    match at(hook, "sideEffects") {
        None => out.required(
            &path.field("sideEffects"),
            "must specify one of None, NoneOnDryRun",
        ),
        Some(found) => {
            out.optional_one_of(&path.field("sideEffects"), found, &["None", "NoneOnDryRun"])
        }
    }
    if let Some(seconds) = int(hook, "timeoutSeconds").filter(|s| !(1..=30).contains(s)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        out.invalid(&path.field("timeoutSeconds"), seconds, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        label_selector(&hook[field], &path.field(field), out);
    }
    if mutating {
        let policies = ["IfNeeded", "Never"];
        out.optional_one_of(
            &path.field("reinvocationPolicy"),
            &hook["reinvocationPolicy"],
            &policies,
        );
    }
    client_config(&hook["clientConfig"], &path.field("clientConfig"), out);
    match_conditions(hook, &path.field("matchConditions"), out);
}

/// Where a webhook is: a URL or a service, not both.
pub(crate) fn client_config(config: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let (url, service) = (config["url"].as_str(), at(config, "service"));
    match (url, service) {
        (Some(_), Some(_)) | (None, None) => {
            out.required(path, "exactly one of url or service is required")
        }
        (Some(url), None) => {
            let place = path.field("url");
            let Some(rest) = url.strip_prefix("https://") else {
                let detail =
                    "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                return out.invalid(&place, url, detail);
            };
            let host = rest.split('/').next().unwrap_or_default();
            if host.is_empty() {
                out.invalid(
                    &place,
                    url,
                    "host must be specified; desired format: https://host[/path]",
                );
            }
            if host.contains('@') {
                let detail = "user information is not permitted in the URL; desired format: https://host[/path]";
                out.invalid(&place, url, detail);
            }
            for (mark, what) in [('#', "fragments are"), ('?', "query parameters are")] {
                if url.contains(mark) {
                    let shown = url.split(mark).nth(1).unwrap_or_default();
                    let detail = format!(
                        "{what} not permitted in the URL; desired format: https://host[/path]"
                    );
                    out.invalid(&place, shown, detail);
                }
            }
        }
        (None, Some(service)) => {
            let here = path.field("service");
            for field in ["name", "namespace"] {
                if text(service, field).is_empty() {
                    out.required(&here.field(field), &format!("service {field} is required"));
                }
            }
            if let Some(port) = int(service, "port").filter(|p| !(1..=65_535).contains(p)) {
                let detail = format!("port is not valid: {}", names::range(1, 65_535));
                out.invalid(&here.field("port"), port, detail);
            }
            if let Some(found) = service["path"].as_str().filter(|p| !p.starts_with('/')) {
                out.invalid(&here.field("path"), found, "must start with a '/'");
            }
        }
    }
}

fn review_versions(hook: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let versions = list(hook, "admissionReviewVersions");
    if versions.is_empty() {
        return out.required(path, "must specify one of v1, v1beta1");
    }
    let mut seen = Seen::default();
    for (index, version) in versions.iter().enumerate() {
        let version = version.as_str().unwrap_or_default();
        if seen.twice(version) {
            out.invalid(&path.index(index), version, "duplicate version");
        }
        out.rule(&path.index(index), version, names::dns1035_label);
    }
    if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
        out.invalid(
            path,
            versions.to_vec(),
            "must include at least one of v1, v1beta1",
        );
    }
}

fn rule(rule: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let starred =
        |field: &str| list(rule, field).len() > 1 && list(rule, field).iter().any(|v| v == "*");
    let operations = path.field("operations");
    if list(rule, "operations").is_empty() {
        out.required(&operations, "");
    } else if starred("operations") {
        out.invalid(
            &operations,
            rule["operations"].clone(),
            "if '*' is present, must not specify other operations",
        );
    }
    for (index, operation) in list(rule, "operations").iter().enumerate() {
        let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        out.optional_one_of(&operations.index(index), operation, &known);
    }
    for (field, words) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        if list(rule, field).is_empty() {
            out.required(&path.field(field), "");
        } else if starred(field) {
            let detail = format!("if '*' is present, must not specify other {words}");
            out.invalid(&path.field(field), rule[field].clone(), detail);
        }
    }
    let resources = path.field("resources");
    let found: Vec<&str> = list(rule, "resources")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if found.is_empty() {
        out.required(&resources, "");
    }
    if found.len() > 1 && found.contains(&"*/*") {
        out.invalid(
            &resources,
            rule["resources"].clone(),
            "if '*/*' is present, must not specify other resources",
        );
    } else if found.contains(&"*") && found.iter().filter(|r| !r.contains('/')).count() > 1 {
        let detail = "if '*' is present, must not specify other resources without subresources";
        out.invalid(&resources, rule["resources"].clone(), detail);
    }
    out.optional_one_of(
        &path.field("scope"),
        &rule["scope"],
        &["*", "Cluster", "Namespaced"],
    );
}

fn match_conditions(holder: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let conditions = list(holder, "matchConditions");
    if conditions.len() > 64 {
        out.put(FieldError::too_many(path, conditions.len(), 64));
    }
    let mut seen = Seen::default();
    for (index, condition) in conditions.iter().enumerate() {
        let here = path.index(index);
        let name = text(condition, "name");
        if text(condition, "expression").trim().is_empty() {
            out.required(&here.field("expression"), "");
        }
        expression(condition, "expression", &here, out);
        out.required_rule(&here.field("name"), name, names::qualified_name);
        if !name.is_empty() && seen.twice(name) {
            out.duplicate(&here.field("name"), name);
        }
    }
}

/// An expression of a policy must at least be one; what it speaks of is known when it is evaluated.
fn expression(holder: &Value, field: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    checked_expression(holder, field, path, &[], out);
}

fn checked_expression(
    holder: &Value,
    field: &str,
    path: &Path<'_>,
    more: &[&str],
    out: &mut Vec<FieldError>,
) {
    const NAMES: [&str; 7] = [
        "object",
        "oldObject",
        "request",
        "params",
        "namespaceObject",
        "authorizer",
        "variables",
    ];
    let source = text(holder, field);
    if source.trim().is_empty() {
        return;
    }
    let names = NAMES.iter().chain(more);
    let variables: Vec<(&str, Type)> = names.map(|name| (*name, Type::Dyn)).collect();
    if let Err(error) = compile(
        source,
        &Environment {
            variables: &variables,
        },
    ) {
        out.invalid(
            &path.field(field),
            source,
            format!("compilation failed: {error}"),
        );
    }
}

fn variables(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    for (index, variable) in list(spec, "variables").iter().enumerate() {
        let here = path.index(index);
        if text(variable, "name").is_empty() {
            out.required(&here.field("name"), "name is not specified");
        }
        if text(variable, "expression").trim().is_empty() {
            out.required(&here.field("expression"), "expression is not specified");
        }
        expression(variable, "expression", &here, out);
    }
}

/// A ValidatingAdmissionPolicy or MutatingAdmissionPolicy.
pub fn policy(object: &Value, validating: bool, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    out.one_of(
        &path.field("failurePolicy"),
        text(spec, "failurePolicy"),
        &["Fail", "Ignore"],
    );
    let constraints = path.field("matchConstraints");
    match at(spec, "matchConstraints") {
        None => out.required(&constraints, ""),
        Some(found) if list(found, "resourceRules").is_empty() => {
            out.required(&constraints.field("resourceRules"), "");
        }
        Some(found) => {
            let place = constraints.field("resourceRules");
            for (index, rule) in list(found, "resourceRules").iter().enumerate() {
                self::rule(rule, &place.index(index), out);
            }
        }
    }
    match_conditions(spec, &path.field("matchConditions"), out);
    variables(spec, &path.field("variables"), out);
    if let Some(kind) = at(spec, "paramKind") {
        let here = path.field("paramKind");
        for field in ["apiVersion", "kind"] {
            if text(kind, field).is_empty() {
                out.required(&here.field(field), "");
            }
        }
    }
    if !validating {
        return mutations(spec, &path, out);
    }
    let (rules, audits) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if rules.is_empty() && audits.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        out.required(&path.field("validations"), detail);
        out.required(&path.field("auditAnnotations"), detail);
    }
    let place = path.field("validations");
    for (index, rule) in rules.iter().enumerate() {
        validation(rule, &place.index(index), out);
    }
}

fn validation(rule: &Value, here: &Path<'_>, out: &mut Vec<FieldError>) {
    if text(rule, "expression").trim().is_empty() {
        out.required(&here.field("expression"), "expression is not specified");
    }
    expression(rule, "expression", here, out);
    expression(rule, "messageExpression", here, out);
    if text(rule, "message").contains('\n') {
        out.invalid(
            &here.field("message"),
            text(rule, "message"),
            "must not contain line breaks",
        );
    }
}

fn mutations(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("mutations");
    let all = list(spec, "mutations");
    if all.is_empty() {
        out.required(&place, "mutations must contain at least one item");
    }
    for (index, mutation) in all.iter().enumerate() {
        self::mutation(mutation, &place.index(index), out);
    }
    out.one_of(
        &path.field("reinvocationPolicy"),
        text(spec, "reinvocationPolicy"),
        &["IfNeeded", "Never"],
    );
}

fn mutation(mutation: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    const FORMS: [(&str, &str, &[&str]); 2] = [
        (
            "ApplyConfiguration",
            "applyConfiguration",
            &["Object", "JSONPatch"],
        ),
        ("JSONPatch", "jsonPatch", &["Object", "JSONPatch"]),
    ];
    let kind = text(mutation, "patchType");
    let place = path.field("patchType");
    if kind.is_empty() {
        return out.required(&place, "");
    }
    let Some((_, field, names)) = FORMS.iter().find(|(known, ..)| *known == kind) else {
        return out.not_supported(&place, kind, &["ApplyConfiguration", "JSONPatch"]);
    };
    for (known, other, _) in FORMS {
        if known != kind && at(mutation, other).is_some() {
            let words = format!("must not be specified when patchType is {kind}");
            out.invalid(&path.field(other), mutation[other].clone(), words);
        }
    }
    let here = path.field(field);
    match at(mutation, field) {
        None => {
            let words = format!("must be specified when patchType is {kind}");
            out.required(&here, &words);
        }
        Some(change) => {
            if text(change, "expression").trim().is_empty() {
                out.required(&here.field("expression"), "expression is not specified");
            }
            checked_expression(change, "expression", &here, names, out);
        }
    }
}

/// A binding of a policy of either sort.
pub fn policy_binding(object: &Value, validating: bool, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    out.required_rule(
        &path.field("policyName"),
        text(spec, "policyName"),
        names::dns1123_subdomain,
    );
    if let Some(reference) = at(spec, "paramRef") {
        let here = path.field("paramRef");
        let (name, selector) = (text(reference, "name"), at(reference, "selector"));
        match (name, selector) {
            ("", None) => out.required(&here, "one of name or selector must be specified"),
            ("", Some(_)) | (_, None) => {}
            _ => out.forbidden(
                &here.field("name"),
                "name and selector are mutually exclusive",
            ),
        }
        if text(reference, "parameterNotFoundAction").is_empty() {
            out.required(&here.field("parameterNotFoundAction"), "");
        }
    }
    if !validating {
        return;
    }
    let place = path.field("validationActions");
    let actions = list(spec, "validationActions");
    let mut seen = Seen::default();
    for (index, action) in actions.iter().enumerate() {
        let action = action.as_str().unwrap_or_default();
        if !matches!(action, "Audit" | "Deny" | "Warn") {
            out.not_supported(&place.index(index), action, &["Audit", "Deny", "Warn"]);
        }
        if seen.twice(action) {
            out.duplicate(&place.index(index), action);
        }
    }
    if seen.has("Deny") && seen.has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        out.invalid(&place, actions.to_vec(), detail);
    }
    if actions.is_empty() {
        out.required(&place, "at least one validation action is required");
    }
}

/// An APIService.
pub fn api_service(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let required = format!("{version}.{group}");
    let name = crate::object::name(object);
    if name != required {
        let root = Path::new("metadata");
        out.invalid(
            &root.field("name"),
            name,
            format!("must be `spec.version+\".\"+spec.group`: {required:?}"),
        );
    }
    if !group.is_empty() {
        out.rule(&path.field("group"), group, names::dns1123_subdomain);
    }
    out.rule(&path.field("version"), version, names::dns1035_label);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let number = int(spec, field).unwrap_or_default();
        if number <= 0 || number > max {
            out.invalid(
                &path.field(field),
                number,
                format!("must be positive and less than {}", max),
            );
        }
    }
    match at(spec, "service") {
        None => {
            if at(spec, "caBundle").is_some() {
                out.invalid(
                    &path.field("caBundle"),
                    "",
                    "local APIServices may not have a caBundle",
                );
            }
        }
        Some(service) => {
            let here = path.field("service");
            for field in ["namespace", "name"] {
                if text(service, field).is_empty() {
                    out.required(&here.field(field), "");
                }
            }
            if spec["insecureSkipTLSVerify"] == true && at(spec, "caBundle").is_some() {
                out.invalid(
                    &path.field("insecureSkipTLSVerify"),
                    true,
                    "may not be true if caBundle is present",
                );
            }
        }
    }
}

/// A CertificateSigningRequest; whether the request itself is one is for its signer to tell.
pub fn signing_request(object: &Value, out: &mut Vec<FieldError>) {
    const USAGES: [&str; 23] = [
        "any",
        "cert sign",
        "client auth",
        "code signing",
        "content commitment",
        "crl sign",
        "data encipherment",
        "decipher only",
        "digital signature",
        "email protection",
        "encipher only",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "key agreement",
        "key encipherment",
        "microsoft sgc",
        "netscape sgc",
        "ocsp signing",
        "s/mime",
        "server auth",
        "signing",
        "timestamping",
    ];
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let request = crate::protobuf::base64_decode(text(spec, "request")).unwrap_or_default();
    let is_pem = String::from_utf8_lossy(&request).contains("-----BEGIN CERTIFICATE REQUEST-----");
    if !is_pem {
        let shown = spec["request"].clone();
        out.invalid(
            &path.field("request"),
            shown,
            "PEM block type must be CERTIFICATE REQUEST",
        );
    }
    let place = path.field("usages");
    if list(spec, "usages").is_empty() {
        out.required(&place, "");
    }
    let mut seen = Seen::default();
    for (index, usage) in list(spec, "usages").iter().enumerate() {
        let usage = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&usage) {
            out.not_supported(&place.index(index), usage, &USAGES);
        }
        if seen.twice(usage) {
            out.duplicate(&place.index(index), usage);
        }
    }
    let signer = text(spec, "signerName");
    let place = path.field("signerName");
    if signer == "kubernetes.io/legacy-unknown" {
        out.invalid(
            &place,
            signer,
            "the legacy signerName is not allowed via this API version",
        );
    } else {
        signer_name(signer, &place, out);
    }
    if let Some(seconds) = int(spec, "expirationSeconds").filter(|s| *s < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        out.invalid(&path.field("expirationSeconds"), seconds, detail);
    }
    conditions(object, out);
}

fn signer_name(name: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if name.is_empty() {
        return out.required(path, "");
    }
    let Some((domain, rest)) = name.split_once('/') else {
        return out.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    let faults = names::dns1123_subdomain(domain);
    if !faults.is_empty() {
        out.invalid(
            path,
            domain,
            format!("validating label {domain:?}: {}", faults[0]),
        );
    } else if !domain.contains('.') {
        out.invalid(
            path,
            name,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for fault in names::dns1123_subdomain(rest) {
        out.invalid(path, rest, format!("validating label {rest:?}: {fault}"));
    }
}

/// Conditions of a certificate request.
pub fn conditions(object: &Value, out: &mut Vec<FieldError>) {
    let root = Path::new("status");
    let place = root.field("conditions");
    let all = list(object, "status.conditions");
    let mut seen = Seen::default();
    for (index, condition) in all.iter().enumerate() {
        let here = place.index(index);
        let kind = text(condition, "type");
        if kind.is_empty() {
            out.required(&here.field("type"), "");
        }
        let status = text(condition, "status");
        if matches!(kind, "Approved" | "Denied" | "Failed") && status != "True" {
            out.one_of(&here.field("status"), status, &["True"]);
        } else {
            out.one_of(&here.field("status"), status, &["False", "True", "Unknown"]);
        }
        if seen.twice(kind) {
            out.duplicate(&here.field("type"), kind);
        }
    }
    if seen.has("Approved") && seen.has("Denied") {
        out.invalid(
            &place,
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        );
    }
}

/// A FlowSchema.
pub fn flow_schema(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let precedence = int(spec, "matchingPrecedence").unwrap_or_default();
    let place = path.field("matchingPrecedence");
    if precedence <= 0 {
        out.invalid(&place, precedence, "must be a positive value");
    } else if precedence > 10_000 {
        out.invalid(&place, precedence, "must not be greater than 10000");
    } else if precedence == 1 && crate::object::name(object) != "exempt" {
        out.invalid(
            &place,
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
    let level = path.field("priorityLevelConfiguration");
    let name = text(spec, "priorityLevelConfiguration.name");
    if name.is_empty() {
        out.required(&level.field("name"), "must reference a priority level");
    } else {
        out.rule(&level.field("name"), name, names::dns1123_subdomain);
    }
    let rules = path.field("rules");
    for (index, rule) in list(spec, "rules").iter().enumerate() {
        let here = rules.index(index);
        if list(rule, "subjects").is_empty() {
            out.required(
                &here.field("subjects"),
                "subjects must contain at least one value",
            );
        }
        if list(rule, "resourceRules").is_empty() && list(rule, "nonResourceRules").is_empty() {
            out.required(
                &here,
                "at least one of resourceRules and nonResourceRules has to be non-empty",
            );
        }
    }
}

/// A PriorityLevelConfiguration.
pub fn priority_level(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    match text(spec, "type") {
        "Limited" => match at(spec, "limited") {
            None => out.required(
                &path.field("limited"),
                "must not be empty when type is Limited",
            ),
            Some(limited) => {
                let here = path.field("limited");
                out.not_negative(
                    &here.field("nominalConcurrencyShares"),
                    &limited["nominalConcurrencyShares"],
                );
                let response = here.field("limitResponse");
                let kind = text(limited, "limitResponse.type");
                if !matches!(kind, "Queue" | "Reject") {
                    out.not_supported(&response.field("type"), kind, &["Queue", "Reject"]);
                }
                if kind == "Reject" && at(limited, "limitResponse.queuing").is_some() {
                    out.forbidden(
                        &response.field("queuing"),
                        "must be nil if limited.limitResponse.type is not Limited",
                    );
                }
            }
        },
        "Exempt" => {
            if at(spec, "limited").is_some() {
                out.forbidden(
                    &path.field("limited"),
                    "must be nil if the type is not Limited",
                );
            }
        }
        other => out.not_supported(&path.field("type"), other, &["Exempt", "Limited"]),
    }
}

/// A review of access: what is asked about.
pub fn access_review(object: &Value, whose: bool, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let (resource, other) = (
        at(spec, "resourceAttributes"),
        at(spec, "nonResourceAttributes"),
    );
    match (resource, other) {
        (Some(_), Some(other)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            out.invalid(&path.field("nonResourceAttributes"), other.clone(), detail);
        }
        (None, None) => {
            let detail =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            out.invalid(&path.field("resourceAttributes"), Value::Null, detail);
        }
        _ => {}
    }
    if whose && text(spec, "user").is_empty() && list(spec, "groups").is_empty() {
        out.invalid(
            &path.field("user"),
            "",
            "at least one of user or group must be specified",
        );
    }
}

/// What may not change once set, of kinds that have nothing else to check.
pub fn fixed(new: &Value, old: &Value, field: &str, out: &mut Vec<FieldError>) {
    if !same(new.get(field), old.get(field)) {
        out.invalid(&Path::new(field), new[field].clone(), "field is immutable");
    }
}
