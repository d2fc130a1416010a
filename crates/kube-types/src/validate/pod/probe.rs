//! Probes and hooks.

use serde_json::Value;

use super::super::faults::Faults;
use super::super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, int, list, text};

/// All probes and hooks of a container.
pub(super) fn all(container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(lifecycle) = at(container, "lifecycle") {
        let here = path.field("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(hook_value) = at(lifecycle, hook) {
                handler(
                    hook_value,
                    &["exec", "httpGet", "tcpSocket", "sleep"],
                    &here.field(hook),
                    out,
                );
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(found) = at(container, name) else {
            continue;
        };
        let here = path.field(name);
        probe(found, &here, out);
        if name == "readinessProbe" {
            if let Some(seconds) = int(found, "terminationGracePeriodSeconds") {
                let place = here.field("terminationGracePeriodSeconds");
                out.invalid(&place, seconds, "must not be set for readinessProbes");
            }
        } else {
            let threshold = int(found, "successThreshold").unwrap_or_default();
            if threshold != 1 {
                out.invalid(&here.field("successThreshold"), threshold, "must be 1");
            }
        }
    }
}

fn probe(probe: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], path, out);
    let counts = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    for field in counts {
        out.not_negative(&path.field(field), &probe[field]);
    }
    if let Some(seconds) = int(probe, "terminationGracePeriodSeconds").filter(|s| *s <= 0) {
        out.invalid(
            &path.field("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
}

fn handler(holder: &Value, sorts: &[&str], path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut found = 0;
    for sort in sorts {
        let Some(action) = at(holder, sort) else {
            continue;
        };
        found += 1;
        let here = path.field(sort);
        if found > 1 {
            out.forbidden(&here, "may not specify more than 1 handler type");
            continue;
        }
        match *sort {
            "exec" if list(action, "command").is_empty() => {
                out.required(&here.field("command"), "")
            }
            "httpGet" => http(action, &here, out),
            "tcpSocket" | "grpc" => out.port(&here.field("port"), &action["port"]),
            _ => {}
        }
    }
    if found == 0 {
        out.required(path, "must specify a handler type");
    }
}

fn http(action: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if text(action, "path").is_empty() {
        out.required(&path.field("path"), "");
    }
    out.port(&path.field("port"), &action["port"]);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        out.not_supported(&path.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        out.rule(
            &path.field("httpHeaders"),
            text(header, "name"),
            names::http_header_name,
        );
    }
}
