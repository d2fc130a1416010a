//! Amounts of resources: what a pod asks for, what a node has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use wharf_kube_types::Quantity;

use crate::symbol::{Symbol, Symbols};

/// What a container without a request is taken to use when nodes are compared; never when they are refused.
const UNASKED_CPU_MILLIS: i64 = 100;
const UNASKED_MEMORY_BYTES: i64 = 200 << 20;

/// An amount of everything. `pods` counts pods; the rest is in the units of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu_millis: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) storage_bytes: i64,
    pub(crate) pods: i64,
    /// Whatever else nodes offer, by name, ordered.
    pub(crate) extended: Vec<(Symbol, i64)>,
}

/// A list of requests by the names of the API.
pub(crate) type List = BTreeMap<String, ApiQuantity>;

fn quantity(text: &ApiQuantity) -> Quantity {
    // The API server validated it; what is no quantity asks for nothing.
    Quantity::parse(&text.0).unwrap_or(Quantity::ZERO)
}

impl Amounts {
    /// Reads a list of the API.
    pub(crate) fn read(list: Option<&List>, symbols: &mut Symbols) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, text) in list.into_iter().flatten() {
            let amount = quantity(text);
            match name.as_str() {
                "cpu" => amounts.cpu_millis = amount.milli_value(),
                "memory" => amounts.memory_bytes = amount.value(),
                "ephemeral-storage" => amounts.storage_bytes = amount.value(),
                "pods" => amounts.pods = amount.value(),
                _ => amounts
                    .extended
                    .push((symbols.intern(name), amount.value())),
            }
        }
        amounts.extended.sort_unstable();
        amounts
    }

    pub(crate) fn extended(&self, name: Symbol) -> i64 {
        let found = self.extended.binary_search_by_key(&name, |(name, _)| *name);
        found.map_or(0, |at| self.extended[at].1)
    }

    pub(crate) fn add(&mut self, other: &Amounts) {
        self.combine(other, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, other: &Amounts) {
        self.combine(other, i64::saturating_sub);
    }

    /// Of each resource the larger amount.
    pub(crate) fn raise(&mut self, other: &Amounts) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Amounts, by: fn(i64, i64) -> i64) {
        self.cpu_millis = by(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = by(self.memory_bytes, other.memory_bytes);
        self.storage_bytes = by(self.storage_bytes, other.storage_bytes);
        self.pods = by(self.pods, other.pods);
        for (name, amount) in &other.extended {
            match self.extended.binary_search_by_key(name, |(name, _)| *name) {
                Ok(at) => self.extended[at].1 = by(self.extended[at].1, *amount),
                Err(at) => self.extended.insert(at, (*name, by(0, *amount))),
            }
        }
    }
}

/// What a pod asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// What is taken from a node.
    pub(crate) amounts: Amounts,
    /// With a guess for containers that don't say; only for comparing nodes.
    pub(crate) guessed_cpu_millis: i64,
    /// As above.
    pub(crate) guessed_memory_bytes: i64,
}

/// The requests of one container, and its guess.
fn container(
    container: &Container,
    resized: Option<&List>,
    symbols: &mut Symbols,
) -> (Amounts, Amounts) {
    let list = container.resources.as_ref();
    let list = list.and_then(|resources| resources.requests.as_ref());
    let mut amounts = Amounts::read(list, symbols);
    if resized.is_some() {
        // A container that is to shrink still holds what it was given.
        amounts.raise(&Amounts::read(resized, symbols));
    }
    let mut guess = amounts.clone();
    let asks = |name: &str| list.is_some_and(|list| list.contains_key(name));
    if !asks("cpu") {
        guess.cpu_millis = UNASKED_CPU_MILLIS;
    }
    if !asks("memory") {
        guess.memory_bytes = UNASKED_MEMORY_BYTES;
    }
    (amounts, guess)
}

/// The most that is used at once: containers and sidecars together, or an init container beside the sidecars that were
/// started before it.
fn most_at_once(spec: &PodSpec, parts: impl Iterator<Item = (bool, Amounts)>) -> Amounts {
    let mut running = Amounts::default();
    let mut sidecars = Amounts::default();
    let mut starting = Amounts::default();
    let containers = spec.containers.len();
    for (at, (is_sidecar, amounts)) in parts.enumerate() {
        if at < containers {
            running.add(&amounts);
        } else if is_sidecar {
            running.add(&amounts);
            sidecars.add(&amounts);
            starting.raise(&sidecars);
        } else {
            let mut alone = amounts;
            alone.add(&sidecars);
            starting.raise(&alone);
        }
    }
    running.raise(&starting);
    running
}

/// What a pod asks of a node: containers, init containers, sidecars, requests of the pod as a whole, overhead.
pub(crate) fn requests(pod: &Pod, spec: &PodSpec, symbols: &mut Symbols) -> Requests {
    let statuses = pod.status.as_ref();
    let given = |name: &str| {
        let statuses = statuses.and_then(|status| status.container_statuses.as_ref());
        let status = statuses.into_iter().flatten().find(|s| s.name == name)?;
        status.allocated_resources.as_ref()
    };
    let own = spec.containers.iter().map(|c| (c, false));
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|c| (c, c.restart_policy.as_deref() == Some("Always")));
    let mut asked = Vec::new();
    let mut guessed = Vec::new();
    for (one, is_sidecar) in own.chain(init) {
        let (amounts, guess) = container(one, given(&one.name), symbols);
        asked.push((is_sidecar, amounts));
        guessed.push((is_sidecar, guess));
    }
    let mut amounts = most_at_once(spec, asked.into_iter());
    let mut guess = most_at_once(spec, guessed.into_iter());
    let whole = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    if let Some(list) = whole {
        let whole = Amounts::read(Some(list), symbols);
        for target in [&mut amounts, &mut guess] {
            if list.contains_key("cpu") {
                target.cpu_millis = whole.cpu_millis;
            }
            if list.contains_key("memory") {
                target.memory_bytes = whole.memory_bytes;
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        let overhead = Amounts::read(Some(overhead), symbols);
        amounts.add(&overhead);
        guess.add(&overhead);
    }
    amounts.pods = 1;
    Requests {
        amounts,
        guessed_cpu_millis: guess.cpu_millis,
        guessed_memory_bytes: guess.memory_bytes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(spec: Value) -> (i64, i64, i64, i64) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let found = requests(&pod, pod.spec.as_ref().unwrap(), &mut Symbols::default());
        (
            found.amounts.cpu_millis,
            found.amounts.memory_bytes,
            found.guessed_cpu_millis,
            found.guessed_memory_bytes >> 20,
        )
    }

    fn asks(cpu: &str, memory: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn containers_add_up_and_the_silent_are_guessed() {
        assert_eq!(
            of(json!({"containers": [asks("1", "1000"), asks("250m", "24")]})),
            (1250, 1024, 1250, 0)
        );
        assert_eq!(
            of(json!({"containers": [{"name": "c"}, {"name": "d"}]})),
            (0, 0, 200, 400)
        );
    }

    #[test]
    fn init_containers_run_alone_and_sidecars_beside_what_follows() {
        let init = |cpu: &str, sidecar: bool| {
            let mut one = asks(cpu, "0");
            if sidecar {
                one["restartPolicy"] = json!("Always");
            }
            one
        };
        let cpu =
            |init: Value| of(json!({"containers": [asks("1", "0")], "initContainers": init})).0;
        assert_eq!(cpu(json!([init("3", false), init("2", false)])), 3000);
        assert_eq!(cpu(json!([init("500m", false)])), 1000);
        assert_eq!(
            cpu(json!([init("1", true), init("3", false)])),
            4000,
            "beside the sidecar"
        );
        assert_eq!(
            cpu(json!([init("3", false), init("1", true)])),
            3000,
            "before the sidecar"
        );
        assert_eq!(cpu(json!([init("1", true), init("1", true)])), 3000);
    }

    #[test]
    fn the_pods_own_requests_go_before_its_containers_and_overhead_is_added() {
        let spec = json!({"containers": [asks("1", "10")], "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "100m", "memory": "5"}});
        assert_eq!((of(spec.clone()).0, of(spec).1), (2100, 15));
    }
}
