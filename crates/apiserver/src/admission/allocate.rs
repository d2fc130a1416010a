//! Addresses and node ports of services: given from their ranges, never twice.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_kube_types::{FieldError, Path, Status, object};

use super::{Attributes, Operation};
use crate::call::Call;
use crate::object::Record;
use crate::verbs::write;

/// The range of service addresses.
pub const SERVICE_RANGE: &str = "10.96.0.0/12";
const FIRST: u32 = 0x0a60_0000;
const COUNT: u32 = 1 << 20;
/// Addresses for services that ask for theirs by hand.
const LOW: u32 = 256;
const PORT_FIRST: u16 = 30_000;
const PORT_LAST: u16 = 32_767;
/// How long something is taken by a service that is not stored yet.
const PENDING: Duration = Duration::from_secs(90);
const TRIES: usize = 10_000;

/// The address of the service `kubernetes`.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// What is given to services that are being made.
#[derive(Debug, Default)]
pub struct Allocator(Mutex<HashMap<String, Instant>>);

impl Allocator {
    /// Takes something unless someone else is just taking it.
    fn take(&self, what: &str) -> bool {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, since| since.elapsed() < PENDING);
        if pending.contains_key(what) {
            return false;
        }
        pending.insert(what.to_owned(), Instant::now());
        true
    }

    fn release(&self, what: &str) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(what);
    }
}

/// What all stored services but one have.
fn used(call: &Call, uid: &str) -> HashSet<String> {
    let mut out = HashSet::new();
    for object in call.kind.cache.all(&call.kind.range("")) {
        let service = object.record.to_value();
        if object::text(&service, "metadata.uid") == uid {
            continue;
        }
        let spec = &service["spec"];
        for address in object::list(spec, "clusterIPs") {
            out.extend(address.as_str().map(str::to_owned));
        }
        out.extend(
            object::int(spec, "healthCheckNodePort")
                .filter(|p| *p != 0)
                .map(|p| p.to_string()),
        );
        for port in object::list(spec, "ports") {
            out.extend(
                object::int(port, "nodePort")
                    .filter(|p| *p != 0)
                    .map(|p| p.to_string()),
            );
        }
    }
    out
}

/// Gives a service what it needs and lacks, and checks what it asks for.
///
/// # Errors
/// What it asks for is taken or out of range.
pub fn fill(call: &Call, what: &mut Attributes<'_>) -> Result<(), Status> {
    if !call.kind.resource.is("", "services") || !call.subresource.is_empty() {
        return Ok(());
    }
    let old = what.old;
    let (Some(service), true) = (
        what.object.as_deref_mut(),
        what.operation != Operation::Delete,
    ) else {
        return Ok(());
    };
    let kind = object::text(service, "spec.type").to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let uid = object::text(service, "metadata.uid").to_owned();
    let needs = Needs::of(service, old, &kind);
    if !needs.any() {
        return Ok(());
    }
    let used = used(call, &uid);
    if needs.address {
        let address = address(call, service, &used)?;
        let spec = object::object_mut(service, "spec");
        spec.insert("clusterIP".to_owned(), address.clone().into());
        spec.insert("clusterIPs".to_owned(), json!([address]));
    }
    if needs.ports {
        ports(call, service, old, &used)?;
    }
    families(service);
    Ok(())
}

struct Needs {
    address: bool,
    ports: bool,
}

impl Needs {
    fn of(service: &Value, old: Option<&Value>, kind: &str) -> Self {
        let address = object::text(service, "spec.clusterIP");
        let same = old.is_some_and(|old| {
            object::text(old, "spec.clusterIP") == address && !address.is_empty()
        });
        Self {
            address: address != "None" && !same,
            ports: matches!(kind, "NodePort" | "LoadBalancer")
                && service["spec"]["allocateLoadBalancerNodePorts"] != false,
        }
    }

    fn any(&self) -> bool {
        self.address || self.ports
    }
}

fn refuse(call: &Call, field: &str, value: Value, why: &str) -> Status {
    let path = Path::new("spec");
    let path = path.field(field);
    write::invalid(call, &call.name, &[FieldError::invalid(&path, value, why)])
}

fn address(call: &Call, service: &Value, used: &HashSet<String>) -> Result<String, Status> {
    let allocator = &call.api.allocator;
    let asked = object::text(service, "spec.clusterIP");
    if !asked.is_empty() {
        let number = asked.parse::<Ipv4Addr>().map(u32::from);
        let within = number.is_ok_and(|n| n > FIRST && n < FIRST + COUNT - 1);
        if !within {
            let why = "failed to allocate IP: the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/12";
            return Err(refuse(call, "clusterIPs", json!([asked]), why));
        }
        if used.contains(asked) || !call.dry_run && !allocator.take(asked) {
            let why = format!("failed to allocate IP {asked}: provided IP is already allocated");
            return Err(refuse(call, "clusterIPs", json!([asked]), &why));
        }
        return Ok(asked.to_owned());
    }
    for _ in 0..TRIES {
        let number = FIRST + LOW + crate::random::number() % (COUNT - LOW - 1);
        let text = Ipv4Addr::from(number).to_string();
        if !used.contains(&text) && (call.dry_run || allocator.take(&text)) {
            return Ok(text);
        }
    }
    Err(Status::internal(
        "failed to allocate a serviceIP: range is full",
    ))
}

fn ports(
    call: &Call,
    service: &mut Value,
    old: Option<&Value>,
    used: &HashSet<String>,
) -> Result<(), Status> {
    let before: Vec<i64> = old
        .map(|old| object::list(old, "spec.ports"))
        .unwrap_or_default()
        .iter()
        .filter_map(|port| object::int(port, "nodePort"))
        .collect();
    let Some(list) = service["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    let mut own: HashSet<i64> = before.into_iter().collect();
    for port in list {
        let asked = object::int(port, "nodePort").unwrap_or_default();
        if own.contains(&asked) {
            continue;
        }
        let given = node_port(call, asked, used)?;
        own.insert(given);
        port["nodePort"] = given.into();
    }
    Ok(())
}

fn node_port(call: &Call, asked: i64, used: &HashSet<String>) -> Result<i64, Status> {
    let allocator = &call.api.allocator;
    let free = |port: i64| {
        let text = port.to_string();
        !used.contains(&text) && (call.dry_run || allocator.take(&text))
    };
    if asked != 0 {
        if !(i64::from(PORT_FIRST)..=i64::from(PORT_LAST)).contains(&asked) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {PORT_FIRST}-{PORT_LAST}"
            );
            return Err(refuse(call, "ports[0].nodePort", asked.into(), &why));
        }
        if !free(asked) {
            let why = "provided port is already allocated";
            return Err(refuse(call, "ports[0].nodePort", asked.into(), why));
        }
        return Ok(asked);
    }
    for _ in 0..TRIES {
        let spread = u32::from(PORT_LAST - PORT_FIRST) + 1;
        let port = i64::from(PORT_FIRST) + i64::from(crate::random::number() % spread);
        if free(port) {
            return Ok(port);
        }
    }
    Err(Status::internal(
        "failed to allocate a nodePort: range is full",
    ))
}

fn families(service: &mut Value) {
    let spec = object::object_mut(service, "spec");
    object::fill(spec, "ipFamilies", json!(["IPv4"]));
    object::fill(spec, "ipFamilyPolicy", "SingleStack");
}

/// Ends what [`fill`] holds for a service whose write is over: stored, it is in the cache; refused, it is free again.
pub async fn settle(call: &Call, record: &Record, revision: Option<u64>) {
    if !call.kind.resource.is("", "services") {
        return;
    }
    if let Some(revision) = revision {
        call.api.caches.reach(revision).await;
    }
    let service = record.to_bare();
    for address in object::list(&service, "spec.clusterIPs") {
        call.api
            .allocator
            .release(address.as_str().unwrap_or_default());
    }
    for port in object::list(&service, "spec.ports") {
        if let Some(port) = object::int(port, "nodePort") {
            call.api.allocator.release(&port.to_string());
        }
    }
}
