//! Containers of all three sorts.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::faults::{Faults, Seen, backsteps, descending};
use super::super::names;
use super::{environment, probe, resources, security};
use crate::field::{FieldError, Path};
use crate::object::{at, flag, int, list, text};

/// What containers may refer to.
pub(super) struct Context<'a> {
    pub(super) spec: &'a Value,
    pub(super) volumes: HashMap<&'a str, &'a Value>,
    pub(super) claims: HashSet<&'a str>,
}

pub(super) fn main(context: &Context<'_>, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let containers = list(context.spec, "containers");
    if containers.is_empty() {
        return out.required(path, "");
    }
    let mut seen = Seen::default();
    for (index, container) in containers.iter().enumerate() {
        let here = path.index(index);
        common(context, container, &here, out);
        let name = text(container, "name");
        if seen.twice(name) {
            out.duplicate(&here.field("name"), name);
        }
        probe::all(container, &here, out);
        let policies = ["Always", "Never", "OnFailure"];
        out.optional_one_of(
            &here.field("restartPolicy"),
            &container["restartPolicy"],
            &policies,
        );
        if !list(container, "restartPolicyRules").is_empty()
            && at(container, "restartPolicy").is_none()
        {
            let detail = "must specify restartPolicy when restart rules are used";
            out.required(&here.field("restartPolicy"), detail);
        }
    }
    host_ports(containers, path, out);
}

pub(super) fn init(context: &Context<'_>, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = Seen::default();
    for container in list(context.spec, "containers") {
        seen.twice(text(container, "name"));
    }
    for (index, container) in list(context.spec, "initContainers").iter().enumerate() {
        let here = path.index(index);
        common(context, container, &here, out);
        let policies = ["Always", "Never", "OnFailure"];
        out.optional_one_of(
            &here.field("restartPolicy"),
            &container["restartPolicy"],
            &policies,
        );
        let name = text(container, "name");
        if !name.is_empty() && seen.twice(name) {
            out.duplicate(&here.field("name"), name);
        }
        host_ports(std::slice::from_ref(container), path, out);
        if container["restartPolicy"] == "Always" {
            probe::all(container, &here, out);
            continue;
        }
        for field in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            if at(container, field).is_some() {
                let detail = "may not be set for init containers without restartPolicy=Always";
                out.forbidden(&here.field(field), detail);
            }
        }
    }
}

pub(super) fn ephemeral(context: &Context<'_>, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = Seen::default();
    for container in list(context.spec, "containers")
        .iter()
        .chain(list(context.spec, "initContainers"))
    {
        seen.twice(text(container, "name"));
    }
    let others: Vec<&str> = list(context.spec, "containers")
        .iter()
        .chain(list(context.spec, "initContainers"))
        .map(|c| text(c, "name"))
        .collect();
    for (index, container) in list(context.spec, "ephemeralContainers").iter().enumerate() {
        let here = path.index(index);
        common(context, container, &here, out);
        let name = text(container, "name");
        if seen.twice(name) {
            out.duplicate(&here.field("name"), name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            out.not_found(&here.field("targetContainerName"), target);
        }
        let kept_away = [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "restartPolicy",
            "resizePolicy",
        ];
        for field in kept_away.into_iter().filter(|f| at(container, f).is_some()) {
            out.forbidden(
                &here.field(field),
                "cannot be set for an Ephemeral Container",
            );
        }
        if container["resources"]
            .as_object()
            .is_some_and(|r| !r.is_empty())
        {
            out.forbidden(
                &here.field("resources"),
                "cannot be set for an Ephemeral Container",
            );
        }
        let mounts = here.field("volumeMounts");
        for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let place = mounts.index(index);
                    out.forbidden(
                        &place.field(field),
                        "cannot be set for an Ephemeral Container",
                    );
                }
            }
        }
    }
}

/// What is the same for all sorts.
fn common(context: &Context<'_>, container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    out.required_rule(
        &path.field("name"),
        text(container, "name"),
        names::dns1123_label,
    );
    let image = text(container, "image");
    if image.is_empty() {
        out.required(&path.field("image"), "");
    }
    let policies = ["File", "FallbackToLogsOnError"];
    out.one_of(
        &path.field("terminationMessagePolicy"),
        text(container, "terminationMessagePolicy"),
        &policies,
    );
    ports(container, &path.field("ports"), out);
    environment::variables(container, &path.field("env"), out);
    environment::sources(container, &path.field("envFrom"), out);
    mounts(context, container, &path.field("volumeMounts"), out);
    devices(context, container, &path.field("volumeDevices"), out);
    let pulls = ["Always", "IfNotPresent", "Never"];
    out.one_of(
        &path.field("imagePullPolicy"),
        text(container, "imagePullPolicy"),
        &pulls,
    );
    resources::requirements(
        &container["resources"],
        &context.claims,
        &path.field("resources"),
        out,
    );
    resources::resize(container, &path.field("resizePolicy"), out);
    security::container(container, context.spec, &path.field("securityContext"), out);
}

fn ports(container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = Seen::default();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let here = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            if !names::port_name(name).is_empty() {
                out.rule(&here.field("name"), name, names::port_name);
            } else if seen.twice(name) {
                out.duplicate(&here.field("name"), name);
            }
        }
        match int(port, "containerPort").unwrap_or_default() {
            0 => out.required(&here.field("containerPort"), ""),
            number => out.port(&here.field("containerPort"), &number.into()),
        }
        if let Some(number) = int(port, "hostPort").filter(|n| *n != 0) {
            out.port(&here.field("hostPort"), &number.into());
        }
        out.one_of(
            &here.field("protocol"),
            text(port, "protocol"),
            &["SCTP", "TCP", "UDP"],
        );
    }
}

fn host_ports(containers: &[Value], path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (at, container) in containers.iter().enumerate() {
        let here = path.index(at);
        let ports = here.field("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let number = int(port, "hostPort").unwrap_or_default();
            if number == 0 {
                continue;
            }
            let shown = format!(
                "{}/{}/{number}",
                text(port, "protocol"),
                text(port, "hostIP")
            );
            if !seen.insert(shown.clone()) {
                let place = ports.index(index);
                out.duplicate(&place.field("hostPort"), shown);
            }
        }
    }
}

fn mounts(context: &Context<'_>, container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let devices = list(container, "volumeDevices");
    let mut seen = Seen::default();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let here = path.index(index);
        let (name, place) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            out.required(&here.field("name"), "");
        }
        if !context.volumes.contains_key(name) {
            out.not_found(&here.field("name"), name);
        }
        if place.is_empty() {
            out.required(&here.field("mountPath"), "");
        }
        if seen.twice(place) {
            out.invalid(&here.field("mountPath"), place, "must be unique");
        }
        if devices.iter().any(|d| text(d, "name") == name) {
            out.invalid(
                &here.field("name"),
                name,
                "must not already exist in volumeDevices",
            );
        }
        if devices.iter().any(|d| text(d, "devicePath") == place) {
            let detail = "must not already exist as a path in volumeDevices";
            out.invalid(&here.field("mountPath"), place, detail);
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending(sub, &path.field("subPath"), out);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                out.invalid(&here.field("subPathExpr"), expression, detail);
            }
            descending(expression, &path.field("subPathExpr"), out);
        }
        propagation(container, mount, path, out);
    }
}

fn propagation(container: &Value, mount: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let here = path.field("mountPropagation");
    out.optional_one_of(
        &here,
        &mount["mountPropagation"],
        &["Bidirectional", "HostToContainer", "None"],
    );
    if mount["mountPropagation"] == "Bidirectional"
        && !flag(container, "securityContext.privileged")
    {
        out.forbidden(
            &here,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
    let here = path.field("recursiveReadOnly");
    out.optional_one_of(
        &here,
        &mount["recursiveReadOnly"],
        &["Disabled", "Enabled", "IfPossible"],
    );
    let mode = text(mount, "recursiveReadOnly");
    if matches!(mode, "Enabled" | "IfPossible") && !flag(mount, "readOnly") {
        out.forbidden(&here, "may only be specified when readOnly is true");
    }
}

fn devices(context: &Context<'_>, container: &Value, path: &Path<'_>, out: &mut Vec<FieldError>) {
    let mounts = list(container, "volumeMounts");
    let (mut seen, mut places) = (Seen::default(), Seen::default());
    for (index, device) in list(container, "volumeDevices").iter().enumerate() {
        let here = path.index(index);
        let (name, place) = (text(device, "name"), text(device, "devicePath"));
        let volume = context.volumes.get(name);
        if name.is_empty() {
            out.required(&here.field("name"), "");
        }
        if !name.is_empty() && seen.twice(name) {
            out.invalid(&here.field("name"), name, "must be unique");
        }
        match volume {
            None => out.not_found(&here.field("name"), name),
            Some(v) if at(v, "persistentVolumeClaim").is_none() && at(v, "ephemeral").is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                out.invalid(&here.field("name"), name, detail);
            }
            Some(_) => {}
        }
        if place.is_empty() {
            out.required(&here.field("devicePath"), "");
        }
        if places.twice(place) {
            out.invalid(&here.field("devicePath"), place, "must be unique");
        }
        let mut steps = Vec::new();
        backsteps(place, path, &mut steps);
        if !steps.is_empty() {
            out.invalid(
                &here.field("devicePath"),
                place,
                "can not contain backsteps ('..')",
            );
        }
        if mounts.iter().any(|m| text(m, "name") == name) {
            out.invalid(
                &here.field("name"),
                name,
                "must not already exist in volumeMounts",
            );
        }
        if mounts.iter().any(|m| text(m, "mountPath") == place) {
            let detail = "must not already exist as a path in volumeMounts";
            out.invalid(&here.field("devicePath"), place, detail);
        }
    }
}
