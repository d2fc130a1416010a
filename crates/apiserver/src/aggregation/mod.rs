//! APIs that other servers serve as part of this one: APIServices, which of them are there, and requests for them.

pub mod availability;
pub mod discovery;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::Response;
use serde_json::Value;
use wharf_kube_types::Status;

use crate::api::Api;
use crate::authn::User;
use crate::relay::dial::Destination;
use crate::relay::forward::{self, Body, Passing, Redirects};

/// A group and version that another server serves.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The APIService's `spec`.
    pub spec: Value,
    /// Whether the last look found it well.
    pub available: bool,
    /// Its resources, as its own discovery lists them.
    pub resources: Vec<Value>,
    /// Whether it publishes an OpenAPI document of version 3.
    pub has_openapi: bool,
    /// What it publishes in version 2 of OpenAPI.
    pub openapi_v2: Arc<Value>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Aggregated {
    all: RwLock<Arc<Vec<Remote>>>,
    changes: AtomicU64,
}

/// Group and version in a path that another server might answer.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let rest = path.trim_start_matches('/');
    let rest = rest.strip_prefix("openapi/v3/").unwrap_or(rest);
    let mut steps = rest.strip_prefix("apis/")?.split('/');
    let (group, version) = (steps.next()?, steps.next()?);
    (!group.is_empty() && !version.is_empty()).then_some((group, version))
}

impl Aggregated {
    /// All of them, by falling priority of their groups and versions.
    pub fn all(&self) -> Arc<Vec<Remote>> {
        let all = self.all.read();
        all.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the changes of what clients see of them.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The one that answers for a path.
    pub fn of_path(&self, path: &str) -> Option<Remote> {
        let (group, version) = group_version(path)?;
        let all = self.all();
        let found = all
            .iter()
            .find(|r| r.group == group && r.version == version)?;
        (path.starts_with("/apis/") || found.has_openapi).then(|| found.clone())
    }

    /// Whether one answers for a path.
    pub fn concerns(&self, path: &str) -> bool {
        if !path.starts_with("/apis/") && !path.starts_with("/openapi/v3/apis/") {
            return false;
        }
        let none = self
            .all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        !none && self.of_path(path).is_some()
    }

    /// Adds or replaces one, or takes it away.
    pub fn set(&self, group: &str, version: &str, remote: Option<Remote>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<Remote> = all
            .iter()
            .filter(|r| r.group != group || r.version != version)
            .cloned()
            .collect();
        if new.len() == all.len() && remote.is_none() {
            return;
        }
        new.extend(remote);
        let priority = |r: &Remote, field: &str| -r.spec[field].as_i64().unwrap_or_default();
        new.sort_by(|a, b| {
            let group = |r| priority(r, "groupPriorityMinimum");
            let version = |r| priority(r, "versionPriority");
            (group(a), &a.group, version(a), &a.version).cmp(&(
                group(b),
                &b.group,
                version(b),
                &b.version,
            ))
        });
        *all = Arc::new(new);
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// A step of a path that means its own or the upper place, however it is written.
fn leads_back(path: &str) -> bool {
    path.split('/').any(|step| {
        let step = step.to_ascii_lowercase().replace("%2e", ".");
        step == "." || step == ".."
    })
}

/// Passes a request on to the server of its group and version, which is told who asks.
///
/// # Errors
/// 503: it can't be reached.
pub async fn pass_on(
    api: &Api,
    remote: &Remote,
    user: Arc<User>,
    path_and_query: &str,
    mut passing: Passing,
) -> Result<Response<Body>, Status> {
    if leads_back(path_and_query.split('?').next().unwrap_or_default()) {
        return Err(Status::bad_request("the path leads back"));
    }
    if !remote.available {
        return Ok(plain(503, "service unavailable\n"));
    }
    let unreachable =
        |why: String| Status::unavailable(format!("error trying to reach service: {why}"));
    let mut destination =
        availability::destination(api, &remote.spec).map_err(|fault| unreachable(fault.message))?;
    destination.path = path_and_query.to_owned();
    passing.headers.remove(http::header::HOST);
    passing.user = Some(user);
    // The client's credentials must not follow it to a place that this server's neighbour chose.
    passing.redirects = Redirects::Refuse;
    let guard = api.relay.guard(false);
    forward::forward(&destination, guard, passing)
        .await
        .map_err(unreachable)
}

fn plain(code: u16, text: &'static str) -> Response<Body> {
    let mut response = Response::new(forward::full(text));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Where a request of this server's own goes.
fn at(destination: &Destination, path: &str) -> Destination {
    Destination {
        path: path.to_owned(),
        ..destination.clone()
    }
}
