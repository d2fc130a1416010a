//! The environment of a container: its own variables, ConfigMaps and Secrets, fields and resources, Services.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use wharf_cri::v1;

use crate::Node;
use crate::expand::expand;
use crate::objects::Used;
use crate::part;
use crate::resources::{limits, millis, requests, whole};

/// What the fields of a pod can't be asked of the pod's object alone.
pub(crate) struct Facts<'a> {
    pub node: &'a Node,
    pub ips: &'a [String],
}

/// Names and values in their order. The error is why the container can't be made, as the kubelet says it.
pub(crate) async fn make(
    facts: &Facts<'_>,
    used: &mut Used,
    pod: &Pod,
    container: &Container,
) -> Result<Vec<v1::KeyValue>, String> {
    let mut all = Vars::default();
    if pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false) {
        let services = facts.node.objects.services(part::namespace(pod)).await;
        service_links(&services, &mut all);
    } else {
        let services = facts.node.objects.services("default").await;
        let own = services
            .into_iter()
            .filter(|one| one.metadata.name.as_deref() == Some("kubernetes"));
        service_links(&own.collect::<Vec<_>>(), &mut all);
    }
    from_objects(facts, used, pod, container, &mut all).await?;
    for var in container.env.iter().flatten() {
        if let Some(value) = value(facts, used, pod, container, var, &all).await? {
            all.set(&var.name, value);
        }
    }
    Ok(all.into_list())
}

/// Variables in the order in which they were set first.
#[derive(Default)]
struct Vars {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Vars {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn into_list(mut self) -> Vec<v1::KeyValue> {
        let one = |name: String| v1::KeyValue {
            value: self.values.remove(&name).unwrap_or_default().into_bytes(),
            key: name,
        };
        self.order.into_iter().map(one).collect()
    }
}

async fn from_objects(
    facts: &Facts<'_>,
    used: &mut Used,
    pod: &Pod,
    container: &Container,
    all: &mut Vars,
) -> Result<(), String> {
    let (objects, namespace) = (&facts.node.objects, part::namespace(pod));
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(of) = &source.config_map_ref {
            match used.config_map(objects, namespace, &of.name).await {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        all.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if of.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", of.name)),
            }
        }
        if let Some(of) = &source.secret_ref {
            match used.secret(objects, namespace, &of.name).await {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        let value = String::from_utf8_lossy(&value.0).into_owned();
                        all.set(&format!("{prefix}{key}"), value);
                    }
                }
                None if of.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", of.name)),
            }
        }
    }
    Ok(())
}

async fn value(
    facts: &Facts<'_>,
    used: &mut Used,
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    all: &Vars,
) -> Result<Option<String>, String> {
    match &var.value_from {
        None => {
            let text = var.value.as_deref().unwrap_or_default();
            Ok(Some(expand(text, |name| all.values.get(name).cloned())))
        }
        Some(source) => sourced(facts, used, pod, container, source).await,
    }
}

async fn sourced(
    facts: &Facts<'_>,
    used: &mut Used,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let (objects, namespace) = (&facts.node.objects, part::namespace(pod));
    if let Some(of) = &source.field_ref {
        return Ok(Some(field(facts, pod, &of.field_path)?));
    }
    if let Some(of) = &source.resource_field_ref {
        let divisor = of.divisor.as_ref().map(|divisor| divisor.0.as_str());
        let wanted = named(pod, of.container_name.as_deref()).unwrap_or_else(|| container.clone());
        return resource(facts.node, &wanted, &of.resource, divisor).map(Some);
    }
    if let Some(of) = &source.config_map_key_ref {
        let is_optional = of.optional == Some(true);
        let Some(map) = used.config_map(objects, namespace, &of.name).await else {
            return optional(is_optional, format!("configmap {:?} not found", of.name));
        };
        return match map.data.as_ref().and_then(|data| data.get(&of.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => optional(
                is_optional,
                format!(
                    "couldn't find key {} in ConfigMap {namespace}/{}",
                    of.key, of.name
                ),
            ),
        };
    }
    if let Some(of) = &source.secret_key_ref {
        let is_optional = of.optional == Some(true);
        let Some(secret) = used.secret(objects, namespace, &of.name).await else {
            return optional(is_optional, format!("secret {:?} not found", of.name));
        };
        return match secret.data.as_ref().and_then(|data| data.get(&of.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None => optional(
                is_optional,
                format!(
                    "couldn't find key {} in Secret {namespace}/{}",
                    of.key, of.name
                ),
            ),
        };
    }
    Ok(None)
}

fn optional(is_optional: bool, words: String) -> Result<Option<String>, String> {
    if is_optional { Ok(None) } else { Err(words) }
}

fn named(pod: &Pod, name: Option<&str>) -> Option<Container> {
    let name = name.filter(|name| !name.is_empty())?;
    let found = part::parts(pod)
        .into_iter()
        .find(|part| part.name() == name);
    found.map(|part| part.container)
}

/// A field of the pod as text (the downward API).
pub(crate) fn field(facts: &Facts<'_>, pod: &Pod, path: &str) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let options = &facts.node.options;
    Ok(match path {
        "metadata.name" => part::name(pod).to_owned(),
        "metadata.namespace" => part::namespace(pod).to_owned(),
        "metadata.uid" => part::uid(pod).to_owned(),
        "metadata.labels" => lines(meta, |meta| meta.labels.as_ref()),
        "metadata.annotations" => lines(meta, |meta| meta.annotations.as_ref()),
        "spec.nodeName" => options.name.clone(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => options.address(),
        "status.podIP" => facts.ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.ips.join(","),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// `metadata.labels['x']` → (`metadata.labels`, `x`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(
    meta: &ObjectMeta,
    of: impl Fn(&ObjectMeta) -> Option<&BTreeMap<String, String>>,
) -> String {
    let all = of(meta).into_iter().flatten();
    let all: Vec<String> = all.map(|(key, value)| format!("{key}={value:?}")).collect();
    all.join("\n")
}

/// A request or limit as text; without a limit the node's whole.
pub(crate) fn resource(
    node: &Node,
    container: &Container,
    name: &str,
    divisor: Option<&str>,
) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {name}");
    let (kind, of) = name.split_once('.').ok_or_else(unsupported)?;
    let amounts = match kind {
        "limits" => limits(container),
        "requests" => requests(container),
        _ => return Err(unsupported()),
    };
    let divisor = divisor
        .filter(|text| *text != "0" && !text.is_empty())
        .unwrap_or("1");
    let divisor = wharf_kube_types::Quantity::parse(divisor)
        .map_err(|_| format!("divisor {divisor:?} is not a quantity"))?;
    let machine = &node.machine;
    let is_limit = kind == "limits";
    let parts = |amount: i64, by: i64| -> i64 {
        let by = by.max(1);
        amount / by + i64::from(amount % by != 0)
    };
    if of == "cpu" {
        let whole = i64::try_from(machine.cpus).unwrap_or(1) * 1000;
        let amount = millis(amounts, of)
            .filter(|n| *n > 0)
            .or(is_limit.then_some(whole));
        return Ok(parts(amount.unwrap_or(0), divisor.milli_value()).to_string());
    }
    let all = match of {
        "memory" => machine.memory_bytes,
        "ephemeral-storage" => machine.disk_bytes,
        _ => 0,
    };
    let all = i64::try_from(all).unwrap_or(i64::MAX);
    let amount = whole(amounts, of)
        .filter(|n| *n > 0)
        .or(is_limit.then_some(all));
    Ok(parts(amount.unwrap_or(0), divisor.value()).to_string())
}

/// The variables that Docker's links had, for every Service with an address.
fn service_links(services: &[Arc<Service>], all: &mut Vars) {
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let address = spec.cluster_ip.as_deref().unwrap_or_default();
        let ports = spec.ports.as_deref().unwrap_or_default();
        let (Some(first), false) = (ports.first(), matches!(address, "" | "None")) else {
            continue;
        };
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let name = name.to_uppercase().replace('-', "_");
        all.set(&format!("{name}_SERVICE_HOST"), address.to_owned());
        all.set(&format!("{name}_SERVICE_PORT"), first.port.to_string());
        for port in ports {
            if let Some(of) = port.name.as_deref().filter(|of| !of.is_empty()) {
                let of = of.to_uppercase().replace('-', "_");
                all.set(&format!("{name}_SERVICE_PORT_{of}"), port.port.to_string());
            }
        }
        for (at, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{address}:{}", protocol.to_lowercase(), port.port);
            if at == 0 {
                all.set(&format!("{name}_PORT"), url.clone());
            }
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            all.set(&prefix, url);
            all.set(&format!("{prefix}_PROTO"), protocol.to_lowercase());
            all.set(&format!("{prefix}_PORT"), port.port.to_string());
            all.set(&format!("{prefix}_ADDR"), address.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_are_variables() {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "my-db"}, "spec": {
            "clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]}}))
            .unwrap();
        let mut all = Vars::default();
        service_links(&[Arc::new(service)], &mut all);
        assert_eq!(all.values["MY_DB_SERVICE_HOST"], "10.96.0.7");
        assert_eq!(all.values["MY_DB_SERVICE_PORT_SQL"], "5432");
        assert_eq!(all.values["MY_DB_PORT_5432_TCP"], "tcp://10.96.0.7:5432");
    }

    #[test]
    fn maps_are_subscripted() {
        assert_eq!(
            subscript("metadata.labels['a/b']"),
            Some(("metadata.labels", "a/b"))
        );
        assert_eq!(subscript("metadata.labels"), None);
    }
}
