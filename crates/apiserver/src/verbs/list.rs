//! LIST: selections, pages, and the meanings of resourceVersion and resourceVersionMatch.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wharf_kube_types::selector::{FieldSelector, LabelSelector};
use wharf_kube_types::{FieldError, Path, Status};
use wharf_store::{Error, Range, Revision};

use crate::api::{Api, store_status};
use crate::call::Call;
use crate::info::Query;
use crate::object::{Object, Record, Selection};
use crate::present;
use crate::registry::Kind;

/// How long a list waits for a revision that this server has not seen yet.
const FRESH_LIMIT: Duration = Duration::from_secs(3);

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The revision that it shows.
    pub revision: Revision,
    /// The objects.
    pub objects: Vec<Arc<Object>>,
    /// How to get the next page.
    pub next: Option<String>,
    /// Objects after this page, where that is known.
    pub remaining: Option<usize>,
}

/// Where a page starts.
struct Start {
    after: Option<String>,
    /// As of this revision; the newest otherwise.
    at: Option<Revision>,
}

/// Reads the selectors of a list, watch or deletion.
///
/// # Errors
/// A selector that is none, or names a field that the resource doesn't offer.
pub fn selection(kind: &Kind, query: &Query) -> Result<Selection, Status> {
    let labels = LabelSelector::parse(query.get("labelSelector"))
        .map_err(|e| Status::bad_request(format!("unable to parse requirement: {e}")))?;
    let fields = FieldSelector::parse(query.get("fieldSelector"))
        .map_err(|e| Status::bad_request(e.to_string()))?;
    fields
        .check(&kind.resource)
        .map_err(|e| Status::bad_request(e.to_string()))?;
    Ok(Selection { labels, fields })
}

/// Reads a resource version.
///
/// # Errors
/// It is no number.
pub fn parse_version(text: &str) -> Result<Revision, Status> {
    text.parse().map_err(|_| {
        let path = Path::new("resourceVersion");
        let error = FieldError::invalid(
            &path,
            text,
            format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
        );
        Status::invalid("meta.k8s.io", "ListOptions", "", &[error])
    })
}

/// Waits until the caches show a revision.
///
/// # Errors
/// That revision is too far in the future.
pub async fn reach(api: &Api, revision: Revision) -> Result<(), Status> {
    match tokio::time::timeout(FRESH_LIMIT, api.caches.reach(revision)).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Status::too_large_resource_version(
            revision,
            api.caches.applied(),
        )),
    }
}

/// One page of the objects that a call selects.
///
/// # Errors
/// 400 for options that make no sense, 410 for a page of a list that is too old.
pub async fn list(call: &Call) -> Result<Page, Status> {
    let query = &call.query;
    let selection = selection(&call.kind, query)?;
    let limit: usize = match query.get("limit") {
        "" => 0,
        text => text
            .parse::<i64>()
            .map_err(|_| Status::bad_request(format!("limit: Invalid value: {text:?}")))
            .map(|limit| usize::try_from(limit).unwrap_or_default())?,
    };
    let prefix = call.kind.range(&call.namespace);
    let start = start(call, &prefix).await?;
    let mut page = match start.at {
        Some(at) if call.kind.cache.newest() > at => {
            past(call, &prefix, &start, at, limit, &selection).await?
        }
        _ => newest(call, &prefix, &start, limit, &selection),
    };
    page.objects = present::objects(&call.api, &call.kind, page.objects).await?;
    Ok(page)
}

fn newest(call: &Call, prefix: &str, start: &Start, limit: usize, selection: &Selection) -> Page {
    let caches = &call.api.caches;
    let cache = &call.kind.cache;
    let listing = cache.list(prefix, start.after.as_deref(), limit, selection, || {
        caches.applied()
    });
    let revision = start.at.unwrap_or(listing.revision);
    let more = listing.remaining > 0;
    let last = listing.objects.last().filter(|_| more);
    Page {
        revision,
        next: last.map(|object| token(revision, prefix, &object.key)),
        remaining: (more && selection.is_everything()).then_some(listing.remaining),
        objects: listing.objects,
    }
}

/// A page as of an older revision, from the store's history.
async fn past(
    call: &Call,
    prefix: &str,
    start: &Start,
    at: Revision,
    limit: usize,
    selection: &Selection,
) -> Result<Page, Status> {
    let fields = call.kind.cache.fields();
    let mut after = start.after.clone();
    let mut objects = Vec::new();
    loop {
        let range = Range {
            prefix: prefix.to_owned(),
            after: after.clone(),
            limit,
            at: Some(at),
        };
        let page = match call.api.store.list(range).await {
            Ok(page) => page,
            Err(Error::Compacted { .. }) => return Err(too_old(start)),
            Err(error) => return Err(store_status(&error)),
        };
        after = page.entries.last().map(|entry| entry.key.to_string());
        for entry in &page.entries {
            let record = Record::open(&entry.key, entry.value.clone(), entry.revision);
            let Some(record) = record else { continue };
            let object = Object::read(
                entry.key.clone(),
                record,
                Some(&call.kind.resource),
                &fields,
            );
            if selection.matches(&object, &fields) {
                objects.push(Arc::new(object));
            }
        }
        if page.remaining == 0 || limit != 0 && objects.len() >= limit {
            let more = page.remaining > 0;
            return Ok(Page {
                revision: at,
                objects,
                next: after.filter(|_| more).map(|key| token(at, prefix, &key)),
                remaining: (more && selection.is_everything()).then_some(page.remaining),
            });
        }
    }
}

async fn start(call: &Call, prefix: &str) -> Result<Start, Status> {
    let query = &call.query;
    let (version, matching) = (
        query.get("resourceVersion"),
        query.get("resourceVersionMatch"),
    );
    check_match(query, version, matching)?;
    let api = &call.api;
    if query.has("continue") && !query.get("continue").is_empty() {
        if !matches!(version, "" | "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return continued(api, query.get("continue"), prefix).await;
    }
    let whole = |at| Start { after: None, at };
    match version {
        "" => {
            // A consistent read: what was committed before this request is in it.
            reach(api, api.revision().await?).await?;
            Ok(whole(None))
        }
        "0" if matching != "Exact" => Ok(whole(None)),
        text => {
            let asked = parse_version(text)?;
            reach(api, asked).await?;
            Ok(whole((matching == "Exact").then_some(asked)))
        }
    }
}

fn check_match(query: &Query, version: &str, matching: &str) -> Result<(), Status> {
    let path = Path::new("resourceVersionMatch");
    let error = match matching {
        "" => return Ok(()),
        "Exact" if version == "0" => FieldError::forbidden(
            &path,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        "Exact" | "NotOlderThan" if version.is_empty() && !query.flag("sendInitialEvents") => {
            FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )
        }
        "Exact" | "NotOlderThan" if query.has("continue") && !query.get("continue").is_empty() => {
            FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            )
        }
        "Exact" | "NotOlderThan" => return Ok(()),
        other => FieldError::not_supported(&path, other, &["Exact", "NotOlderThan", ""]),
    };
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
}

/// What a client gives back to get the next page.
fn token(revision: Revision, prefix: &str, last: &str) -> String {
    let start = last.strip_prefix(prefix).unwrap_or(last);
    let value = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
    URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn continued(api: &Api, text: &str, prefix: &str) -> Result<Start, Status> {
    let bad = || {
        Status::bad_request("continue key is not valid: encoded continue token is not understood")
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let start = value["start"].as_str().ok_or_else(bad)?;
    if start.contains("..") {
        return Err(bad());
    }
    let at = match value["rv"].as_i64().ok_or_else(bad)? {
        // A list that goes on with whatever is there now.
        -1 => {
            reach(api, api.revision().await?).await?;
            None
        }
        revision => {
            let revision = u64::try_from(revision).map_err(|_| bad())?;
            reach(api, revision).await?;
            Some(revision)
        }
    };
    Ok(Start {
        after: Some(format!("{prefix}{start}")),
        at,
    })
}

fn too_old(start: &Start) -> Status {
    if start.after.is_none() {
        return Status::expired("The resourceVersion for the provided list is too old.");
    }
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
}
