//! Jobs and CronJobs.

use serde_json::Value;

use super::faults::{Faults, label_selector};
use super::{names, pod};
use crate::field::{FieldError, Path};
use crate::object::{at, flag, int, list, same, text};
use crate::selector::LabelSelector;

/// A Job.
pub fn job(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    generated_selector(object, out);
    job_spec(spec, &path, out);
    let place = path.field("selector");
    match at(spec, "selector") {
        None => out.required(&place, ""),
        Some(selector) => label_selector(selector, &place, out),
    }
    if let Ok(selector) = LabelSelector::from_object(spec.get("selector")) {
        let labels = &spec["template"]["metadata"]["labels"];
        if !selector.matches_labels(labels.as_object()) {
            let template = path.field("template");
            let meta = template.field("metadata");
            out.invalid(
                &meta.field("labels"),
                labels.clone(),
                "`selector` does not match template `labels`",
            );
        }
    }
}

/// A job whose selector the server makes carries the server's labels.
fn generated_selector(object: &Value, out: &mut Vec<FieldError>) {
    if flag(object, "spec.manualSelector") {
        return;
    }
    let root = Path::new("spec");
    let template = root.field("template");
    let meta = template.field("metadata");
    let labels = meta.field("labels");
    let expected = [
        (
            "batch.kubernetes.io/controller-uid",
            text(object, "metadata.uid"),
        ),
        ("controller-uid", text(object, "metadata.uid")),
        ("batch.kubernetes.io/job-name", crate::object::name(object)),
        ("job-name", crate::object::name(object)),
    ];
    for (label, wanted) in expected {
        let found = &object["spec"]["template"]["metadata"]["labels"][label];
        if found.as_str() != Some(wanted) {
            out.invalid(
                &labels.key(label),
                found.as_str().unwrap_or_default(),
                format!("must be '{wanted}'"),
            );
        }
    }
}

fn job_spec(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in counts {
        out.not_negative(&path.field(field), &spec[field]);
    }
    if at(spec, "maxFailedIndexes").is_some() && at(spec, "backoffLimitPerIndex").is_none() {
        out.required(
            &path.field("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        let place = path.field("managedBy");
        domain_path(manager, &place, out);
        if manager.len() > 63 {
            out.put(FieldError::too_long(&place, 63));
        }
    }
    out.optional_one_of(
        &path.field("completionMode"),
        &spec["completionMode"],
        &["NonIndexed", "Indexed"],
    );
    if spec["completionMode"] == "Indexed" {
        indexed(spec, path, out);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if let Some(found) = at(spec, field) {
                out.invalid(
                    &path.field(field),
                    found.clone(),
                    "requires indexed completion mode",
                );
            }
        }
    }
    let replaced = if at(spec, "podFailurePolicy").is_some() {
        &["Failed"][..]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    out.optional_one_of(
        &path.field("podReplacementPolicy"),
        &spec["podReplacementPolicy"],
        replaced,
    );
    failure_policy(spec, &path.field("podFailurePolicy"), out);
    let template = path.field("template");
    pod::template(&spec["template"], &template, out);
    restart_policy(spec, &template.field("spec"), out);
}

fn restart_policy(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("restartPolicy");
    match text(spec, "template.spec.restartPolicy") {
        "" | "Always" => out.required(&place, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if at(spec, "podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            out.invalid(&place, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => out.not_supported(&place, other, &["OnFailure", "Never"]),
    }
}

fn indexed(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let number = |field: &str| int(spec, field);
    let Some(completions) = number("completions") else {
        return out.required(
            &path.field("completions"),
            "when completion mode is Indexed",
        );
    };
    if let Some(parallel) = number("parallelism").filter(|n| *n > 100_000) {
        let detail = "must be less than or equal to 100000 when completion mode is Indexed";
        out.invalid(&path.field("parallelism"), parallel, detail);
    }
    if let Some(failed) = number("maxFailedIndexes") {
        let place = path.field("maxFailedIndexes");
        if failed > completions {
            out.invalid(&place, failed, "must be less than or equal to completions");
        }
        if failed > 100_000 {
            out.invalid(&place, failed, "must be less than or equal to 100000");
        }
    } else if completions > 100_000 && number("backoffLimitPerIndex").is_some() {
        let detail = "must be specified when completions is above 100000";
        out.required(&path.field("maxFailedIndexes"), detail);
    }
}

fn failure_policy(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let rules = list(spec, "podFailurePolicy.rules");
    let place = path.field("rules");
    if rules.len() > 20 {
        out.put(FieldError::too_many(&place, rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let here = place.index(index);
        out.one_of(
            &here.field("action"),
            text(rule, "action"),
            &["Count", "FailIndex", "FailJob", "Ignore"],
        );
        let (codes, conditions) = (at(rule, "onExitCodes"), list(rule, "onPodConditions"));
        match (codes, conditions.is_empty()) {
            (None, true) => {
                out.invalid(
                    &here,
                    rule.clone(),
                    "specifying one of OnExitCodes and OnPodConditions is required",
                );
            }
            (Some(_), false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                out.invalid(&here, rule.clone(), detail);
            }
            _ => {}
        }
        if let Some(codes) = codes {
            let inner = here.field("onExitCodes");
            out.one_of(
                &inner.field("operator"),
                text(codes, "operator"),
                &["In", "NotIn"],
            );
            if list(codes, "values").is_empty() {
                out.invalid(
                    &inner.field("values"),
                    Value::Null,
                    "at least one value is required",
                );
            }
        }
    }
}

/// What of a Job may change.
pub fn job_update(new: &Value, old: &Value, out: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let (new, old) = (&new["spec"], &old["spec"]);
    job_spec(new, &path, out);
    if !same(new.get("completions"), old.get("completions")) {
        let tandem = new["completionMode"] == "Indexed" && new["completions"] == new["parallelism"];
        if new["completionMode"] != "Indexed" {
            out.immutable(
                &path.field("completions"),
                &new["completions"],
                &old["completions"],
            );
        } else if !tandem {
            let detail = "can only be modified in tandem with spec.parallelism";
            out.invalid(
                &path.field("completions"),
                new["completions"].clone(),
                detail,
            );
        }
    }
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        out.immutable(&path.field(field), &new[field], &old[field]);
    }
    let mut kept = new["template"].clone();
    // A suspended job that never ran may still change where its pods go.
    if flag(old, "suspend") {
        for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
            crate::object::carry(&mut kept["spec"], &old["template"]["spec"], field);
        }
        for field in ["labels", "annotations"] {
            crate::object::carry(&mut kept["metadata"], &old["template"]["metadata"], field);
        }
    }
    if !same(Some(&kept), old.get("template")) {
        out.invalid(
            &path.field("template"),
            new["template"].clone(),
            "field is immutable",
        );
    }
}

/// A CronJob.
pub fn cron_job(object: &Value, out: &mut Vec<FieldError>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    if crate::object::name(object).len() > 52 {
        let root = Path::new("metadata");
        out.invalid(
            &root.field("name"),
            crate::object::name(object),
            "must be no more than 52 characters",
        );
    }
    schedule(spec, &path, out);
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        out.not_negative(&path.field(field), &spec[field]);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    out.one_of(
        &path.field("concurrencyPolicy"),
        text(spec, "concurrencyPolicy"),
        &policies,
    );
    let template = path.field("jobTemplate");
    let inner = template.field("spec");
    let job = &spec["jobTemplate"]["spec"];
    if let Some(selector) = at(job, "selector") {
        out.invalid(
            &inner.field("selector"),
            selector.clone(),
            "`selector` will be auto-generated",
        );
    }
    if flag(job, "manualSelector") {
        out.put(FieldError::not_supported(
            &inner.field("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
    job_spec(job, &inner, out);
}

fn schedule(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("schedule");
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        out.required(&place, "");
    } else if let Some(fault) = super::cron::fault(schedule) {
        out.invalid(&place, schedule, fault);
    }
    let zoned = schedule.contains("TZ");
    if zoned && at(spec, "timeZone").is_some() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        out.invalid(&place, schedule, detail);
    } else if zoned {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        out.invalid(&place, schedule, detail);
    }
    let Some(zone) = spec["timeZone"].as_str() else {
        return;
    };
    let place = path.field("timeZone");
    let part_ok = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    if zone.is_empty() {
        out.invalid(&place, zone, "timeZone must be nil or non-empty string");
    } else if !zone.split('/').all(part_ok) {
        out.invalid(&place, zone, format!("unknown time zone {zone}"));
    } else if zone.eq_ignore_ascii_case("local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        out.invalid(&place, zone, detail);
    }
}

/// A domain and a path, as `acme.io/foo`.
pub(crate) fn domain_path(text: &str, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if text.is_empty() {
        return out.required(path, "");
    }
    match text.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            out.rule(path, host, names::dns1123_subdomain);
            if !rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b))
            {
                let fault = names::pattern("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
                out.invalid(path, rest, fault);
            }
        }
        _ => out.invalid(
            path,
            text,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    }
}
