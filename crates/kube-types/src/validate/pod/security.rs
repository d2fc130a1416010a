//! Security contexts of pods and containers.

use serde_json::Value;

use super::super::faults::{Faults, descending};
use super::super::names;
use crate::field::{FieldError, Path};
use crate::object::{at, flag, int, list, text};

pub(super) fn pod(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let here = path.field("securityContext");
    let context = &spec["securityContext"];
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &here, out);
    let groups = here.field("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        id(group, &groups.index(index), out);
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        out.invalid(&here.field("shareProcessNamespace"), true, detail);
    }
    sysctls(context, &here.field("sysctls"), out);
    let policies = ["Always", "OnRootMismatch"];
    out.optional_one_of(
        &here.field("fsGroupChangePolicy"),
        &context["fsGroupChangePolicy"],
        &policies,
    );
    let policies = ["Merge", "Strict"];
    out.optional_one_of(
        &here.field("supplementalGroupsPolicy"),
        &context["supplementalGroupsPolicy"],
        &policies,
    );
    let policies = ["MountOption", "Recursive"];
    out.optional_one_of(
        &here.field("seLinuxChangePolicy"),
        &context["seLinuxChangePolicy"],
        &policies,
    );
    profiles(context, &here, out);
    host_network(spec, path, out);
    if spec["hostUsers"] == false {
        for field in ["hostPID", "hostIPC", "hostNetwork"]
            .into_iter()
            .filter(|f| flag(spec, f))
        {
            out.forbidden(&path.field(field), "when `hostUsers` is false");
        }
    }
}

fn ids(context: &Value, fields: &[&str], path: &Path<'_>, out: &mut Vec<FieldError>) {
    for field in fields {
        id(&context[*field], &path.field(field), out);
    }
}

fn id(value: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(number) = value.as_i64() {
        for fault in names::user_id(number) {
            out.invalid(path, number, fault);
        }
    }
}

fn sysctls(context: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = super::Seen::default();
    for (index, sysctl) in list(context, "sysctls").iter().enumerate() {
        let here = path.index(index);
        let name = text(sysctl, "name");
        let is_part = |part: &str| {
            let inner = part.trim_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
            !part.is_empty()
                && part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && inner
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
        };
        if name.is_empty() {
            out.required(&here.field("name"), "");
        } else if name.len() > 253 || !name.split(['.', '/']).all(is_part) {
            let detail = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            out.invalid(&here.field("name"), name, detail);
        } else if seen.twice(name) {
            out.duplicate(&here.field("name"), name);
        }
    }
}

fn profiles(context: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(profile) = at(context, "seccompProfile") {
        let here = path.field("seccompProfile");
        let sort = text(profile, "type");
        let local = at(profile, "localhostProfile").and_then(Value::as_str);
        if sort.is_empty() {
            out.required(
                &here.field("type"),
                "type is required when seccompProfile is set",
            );
        } else {
            out.one_of(
                &here.field("type"),
                sort,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            );
        }
        let place = here.field("localhostProfile");
        match (sort, local) {
            ("Localhost", None) => {
                out.required(&place, "must be set when seccomp type is Localhost")
            }
            ("Localhost", Some(local)) => descending(local, &place, out),
            (_, Some(_)) => out.invalid(
                &place,
                profile.clone(),
                "can only be set when seccomp type is Localhost",
            ),
            _ => {}
        }
    }
    if let Some(profile) = at(context, "appArmorProfile") {
        app_armor(profile, &path.field("appArmorProfile"), out);
    }
}

fn app_armor(profile: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let place = path.field("localhostProfile");
    let local = at(profile, "localhostProfile").and_then(Value::as_str);
    match (text(profile, "type"), local) {
        ("Localhost", None | Some("")) => {
            out.required(&place, "must be set when AppArmor type is Localhost")
        }
        ("Localhost", Some(local)) if local.trim() != local => {
            out.invalid(&place, local, "must not be padded with whitespace");
        }
        ("Localhost", _) | ("RuntimeDefault" | "Unconfined", None) => {}
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            out.invalid(
                &place,
                local,
                "can only be set when AppArmor type is Localhost",
            );
        }
        ("", _) => out.required(
            &path.field("type"),
            "type is required when appArmorProfile is set",
        ),
        (other, _) => {
            out.not_supported(
                &path.field("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            );
        }
    }
}

fn host_network(spec: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let containers = path.field("containers");
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let here = containers.index(index);
        let ports = here.field("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let host = int(port, "hostPort").unwrap_or_default();
            if host != 0 && Some(host) != int(port, "containerPort") {
                let place = ports.index(index);
                let detail = "must match `containerPort` when `hostNetwork` is true";
                out.invalid(&place.field("hostPort"), host, detail);
            }
        }
    }
}

pub(super) fn container(
    container: &Value,
    spec: &Value,
    path: &Path<'_>,
    out: &mut Vec<FieldError>,
) {
    let Some(context) = at(container, "securityContext") else {
        return;
    };
    ids(context, &["runAsUser", "runAsGroup"], path, out);
    let place = path.field("procMount");
    out.optional_one_of(&place, &context["procMount"], &["Default", "Unmasked"]);
    if context["procMount"] == "Unmasked" && spec["hostUsers"] != false {
        out.invalid(
            &place,
            "Unmasked",
            "`hostUsers` must be false to use `Unmasked`",
        );
    }
    if context["allowPrivilegeEscalation"] == false {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            out.invalid(path, context.clone(), detail);
        }
        if list(context, "capabilities.add")
            .iter()
            .any(|c| c == "CAP_SYS_ADMIN")
        {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            out.invalid(path, context.clone(), detail);
        }
    }
    profiles(context, path, out);
}
