//! Where a pod stands and why, for a person: from the objects and events of the API, without a running scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use wharf_client::{Api, Error, ListRequest, Query, Resource, Result, Target};

use crate::core::{Change, Core};
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::write::PODS;

/// Objects asked for at once.
const PAGE_OBJECTS: usize = 500;
/// Warnings that are told, the newest ones.
const WARNINGS_MAX: usize = 5;

/// Where a pod stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It waits for these gates to be taken away.
    Gated(Vec<String>),
    /// No node has taken it yet.
    Unscheduled,
    /// It waits for a scheduler that is not ours.
    OtherScheduler(String),
    /// It is on a node.
    OnNode(String),
    /// It is being deleted.
    Leaving(Option<String>),
    /// It ran to its end: `Succeeded` or `Failed`.
    Over(String),
}

/// What one node says of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The node.
    pub node: String,
    /// Why it does not take the pod; empty: it would.
    pub reasons: Vec<String>,
}

/// Where a pod stands and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where it stands.
    pub stand: Stand,
    /// Why no node can take it, whichever it is.
    pub of_pod: Option<String>,
    /// What the nodes say, by name; empty unless a node is sought.
    pub nodes: Vec<NodeVerdict>,
    /// The node where others were told to leave for it.
    pub nominated: Option<String>,
    /// Of each container, init containers first: its name and how it is.
    pub containers: Vec<(String, String)>,
    /// The pod's own reason and message.
    pub message: Option<String>,
    /// Warnings about it, oldest first.
    pub warnings: Vec<String>,
}

/// Explains a pod.
///
/// # Errors
/// There is no such pod, or the server does not answer.
pub async fn explain(api: &Arc<dyn Api>, namespace: &str, name: &str) -> Result<Explanation> {
    let object = api.get(Target::new(PODS, namespace, name)).await?;
    let pod: api::Pod = serde_json::from_value(object).map_err(|error| Error::Malformed {
        operation: format!("read pod {namespace}/{name}"),
        source: error.into(),
    })?;
    let stand = stand(&pod);
    let status = pod.status.clone().unwrap_or_default();
    let said = [status.reason.clone(), status.message.clone()];
    let said: Vec<String> = said.into_iter().flatten().collect();
    let mut explanation = Explanation {
        of_pod: None,
        nodes: Vec::new(),
        nominated: status.nominated_node_name.clone(),
        containers: containers(&pod),
        message: (!said.is_empty()).then(|| said.join(": ")),
        warnings: warnings(api, namespace, name, &pod).await,
        stand,
    };
    if explanation.stand == Stand::Unscheduled {
        let core = world(api).await?;
        (explanation.of_pod, explanation.nodes) = verdicts(core, pod);
    }
    Ok(explanation)
}

fn stand(pod: &api::Pod) -> Stand {
    let spec = pod.spec.clone().unwrap_or_default();
    let node = spec.node_name.filter(|node| !node.is_empty());
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    if let Some(phase @ ("Succeeded" | "Failed")) = phase.as_deref() {
        return Stand::Over(phase.to_owned());
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Stand::Leaving(node);
    }
    if let Some(node) = node {
        return Stand::OnNode(node);
    }
    let gates = spec.scheduling_gates.unwrap_or_default();
    if !gates.is_empty() {
        return Stand::Gated(gates.into_iter().map(|gate| gate.name).collect());
    }
    match spec.scheduler_name.as_deref() {
        None | Some("" | "default-scheduler") => Stand::Unscheduled,
        Some(other) => Stand::OtherScheduler(other.to_owned()),
    }
}

/// Everything that a decision depends on, as it is now.
async fn world(api: &Arc<dyn Api>) -> Result<Core> {
    let mut core = Core::new(BTreeMap::new(), 1);
    let now = Instant::now();
    let mut put = |change| core.apply(change, now);
    for one in list(api, "", "namespaces").await? {
        put(Change::Namespace(Arc::new(one), true));
    }
    for one in list(api, "", "nodes").await? {
        put(Change::Node(Arc::new(one)));
    }
    for one in list(api, "", "persistentvolumeclaims").await? {
        put(Change::Claim(Arc::new(one), true));
    }
    for one in list(api, "", "persistentvolumes").await? {
        put(Change::Volume(Arc::new(one), true));
    }
    for one in list(api, "storage.k8s.io", "storageclasses").await? {
        put(Change::Class(Arc::new(one), true));
    }
    for one in list(api, "", "pods").await? {
        put(Change::Pod(Arc::new(one)));
    }
    Ok(core)
}

async fn list<K: DeserializeOwned>(
    api: &Arc<dyn Api>,
    group: &'static str,
    plural: &'static str,
) -> Result<Vec<K>> {
    let mut all = Vec::new();
    let mut from = String::new();
    loop {
        let request = ListRequest {
            query: Query::all(Resource::new(group, "v1", plural)),
            limit: PAGE_OBJECTS,
            from,
        };
        let page = api.list(request).await?;
        for item in &page.items {
            all.push(
                serde_json::from_slice(item).map_err(|error| Error::Malformed {
                    operation: format!("list {plural}"),
                    source: error.into(),
                })?,
            );
        }
        if page.next.is_empty() {
            return Ok(all);
        }
        from = page.next;
    }
}

/// What every node says of a pod, by the node's name.
pub(crate) fn verdicts(mut core: Core, pod: api::Pod) -> (Option<String>, Vec<NodeVerdict>) {
    let world = &mut core.world;
    let pod = world.read(Arc::new(pod));
    let plan = Plan::new(world, &pod);
    let mut nodes = Vec::new();
    for node in world.order().to_vec() {
        let is_meant = plan.only.as_ref().is_none_or(|only| only.contains(&node));
        let refusal = match is_meant {
            true => plan.check(world, &pod, node),
            false => Some(Refusal::NotNamed),
        };
        let mut reasons = Vec::new();
        if let Some(refusal) = refusal {
            refusal.words(world, &pod, &mut reasons);
        }
        let reasons = reasons.iter().map(|words| of_one(words)).collect();
        nodes.push(NodeVerdict {
            node: world.node_name(node).to_owned(),
            reasons,
        });
    }
    nodes.sort_by(|one, other| one.node.cmp(&other.node));
    (plan.refused, nodes)
}

/// The event counts nodes; a line of a table is about one.
fn of_one(words: &str) -> String {
    words.strip_prefix("node(s) ").unwrap_or(words).to_owned()
}

fn containers(pod: &api::Pod) -> Vec<(String, String)> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let all = lists.into_iter().flatten().flatten();
    all.map(|one| (one.name.clone(), container(one))).collect()
}

fn container(one: &api::ContainerStatus) -> String {
    let mut text = match &one.state {
        None => "nothing is known of it yet".to_owned(),
        Some(state) => self::state(state),
    };
    if state_of(one).is_some_and(|s| s.running.is_some()) && !one.ready {
        text.push_str(", not ready");
    }
    if one.restart_count > 0 {
        text.push_str(&format!(", restarted {} times", one.restart_count));
        let last = one.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        if let Some(last) = last {
            text.push_str(&format!("; last time it {}", ended(last)));
        }
    }
    text
}

fn state_of(one: &api::ContainerStatus) -> Option<&api::ContainerState> {
    one.state.as_ref()
}

fn state(state: &api::ContainerState) -> String {
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("it is prepared");
        let message = waiting.message.as_deref().filter(|text| !text.is_empty());
        return match message {
            Some(message) => format!("waiting, {reason}: {message}"),
            None => format!("waiting, {reason}"),
        };
    }
    if let Some(running) = &state.running {
        let since = running.started_at.as_ref();
        return since.map_or("running".to_owned(), |at| format!("running since {}", at.0));
    }
    match &state.terminated {
        Some(last) => ended(last),
        None => "waiting".to_owned(),
    }
}

fn ended(last: &api::ContainerStateTerminated) -> String {
    let reason = last.reason.as_deref().unwrap_or("ended");
    let mut text = format!("ended with exit code {} ({reason})", last.exit_code);
    let message = last.message.as_deref().map(str::trim).unwrap_or_default();
    if !message.is_empty() {
        text.push_str(&format!(": {message}"));
    }
    text
}

/// The newest warnings about a pod. Events are a help: without them the rest is still worth saying.
async fn warnings(api: &Arc<dyn Api>, namespace: &str, name: &str, pod: &api::Pod) -> Vec<String> {
    let mut query = Query::all(Resource::new("", "v1", "events"));
    query.namespace = namespace.to_owned();
    query.field_selector = format!("involvedObject.name={name}");
    let request = ListRequest {
        query,
        limit: 0,
        from: String::new(),
    };
    let Ok(page) = api.list(request).await else {
        return Vec::new();
    };
    let events = page.items.iter();
    let mut events: Vec<api::Event> = events
        .filter_map(|item| serde_json::from_slice(item).ok())
        .filter(|event: &api::Event| {
            event.type_.as_deref() == Some("Warning")
                && event.involved_object.uid == pod.metadata.uid
        })
        .collect();
    let at = |event: &api::Event| event.last_timestamp.as_ref().map(|time| time.0);
    events.sort_by_key(at);
    let from = events.len().saturating_sub(WARNINGS_MAX);
    let told = events[from..].iter().map(|event| {
        let reason = event.reason.as_deref().unwrap_or_default();
        let message = event.message.as_deref().unwrap_or_default();
        format!("{reason}: {message}")
    });
    told.collect()
}
