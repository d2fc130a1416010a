//! Containers: create, list, look at, act on, remove.

use axum::http::StatusCode;
use serde_json::{Value, json};
use wharf_engine::{Container, RemoveOptions, Update};

use crate::answer::{Outcome, Refusal, created, empty, json_answer};
use crate::filters::Filters;
use crate::request::json_body;
use crate::route::{Call, page_not_found};
use crate::{container_json, container_request};

pub async fn create(call: Call) -> Outcome {
    let body = json_body(call.body).await?;
    if body.is_null() {
        return Err(Refusal::bad(
            "Config cannot be empty in order to create a container",
        ));
    }
    let mut spec = container_request::spec(body)?;
    spec.platform = call.query.get("platform").map(str::to_owned);
    let made = call
        .api
        .engine
        .create(call.query.get("name"), spec)
        .await
        .map_err(|error| {
            let mut refusal = Refusal::from(error);
            // An unknown image is the one mistake that clients mend by pulling.
            if refusal.message.starts_with("No such image") {
                refusal.status = StatusCode::NOT_FOUND;
            }
            refusal
        })?;
    Ok(created(&json!({"Id": made.id, "Warnings": made.warnings})))
}

pub async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query)?;
    filters.check(&[
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "label!",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    ])?;
    let engine = &call.api.engine;
    let limit = call.query.number::<i64>("limit")?.filter(|n| *n > 0);
    let all = call.query.flag("all")
        || limit.is_some()
        || !filters.values("status").is_empty()
        || !filters.values("exited").is_empty();
    let everything = engine.containers();
    let created_of = |key: &str| -> Outcome<Option<jiff::Timestamp>> {
        filters
            .values(key)
            .first()
            .map(|id| Ok(engine.container(id)?.created))
            .transpose()
    };
    let (before, since) = (created_of("before")?, created_of("since")?);
    let images = ancestors(&call, &filters)?;
    let wanted = |c: &&Container| {
        (all || matches!(c.state.status.as_str(), "running" | "paused" | "restarting"))
            && before.is_none_or(|t| c.created < t)
            && since.is_none_or(|t| c.created > t)
            && images.as_ref().is_none_or(|ids| ids.contains(&c.image_id))
            && accepts(&filters, c)
    };
    let mut list = Vec::new();
    for container in everything
        .iter()
        .filter(wanted)
        .take(limit.map_or(usize::MAX, |n| n as usize))
    {
        let mut summary = container_json::summary(engine, container);
        if call.query.flag("size") {
            summary["SizeRw"] = json!(engine.size_rw(&container.id).await?);
            summary["SizeRootFs"] = json!(
                engine
                    .images()
                    .resolve(&container.image_id)
                    .map_or(0, |i| i.size_bytes)
            );
        }
        list.push(summary);
    }
    Ok(json_answer(&Value::Array(list)))
}

fn ancestors(call: &Call, filters: &Filters) -> Outcome<Option<Vec<String>>> {
    let names = filters.values("ancestor");
    if names.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        names
            .iter()
            .filter_map(|name| call.api.engine.images().resolve(name).ok())
            .map(|i| i.id)
            .collect(),
    ))
}

fn accepts(filters: &Filters, c: &Container) -> bool {
    let health = c
        .state
        .health
        .as_ref()
        .map_or("none", |h| h.status.as_str());
    let in_name = |v: &str| {
        c.name.contains(
            v.trim_start_matches('/')
                .trim_start_matches('^')
                .trim_end_matches('$'),
        )
    };
    let exact = |v: &str| {
        !(v.starts_with('^') && v.ends_with('$')) || c.name == v.trim_matches(['^', '$', '/'])
    };
    filters.any("id", |v| c.id.starts_with(v))
        && filters.any("name", |v| in_name(v) && exact(v))
        && filters.any("status", |v| v == c.state.status.as_str())
        && filters.any("health", |v| v == health)
        && filters.any("exited", |v| {
            c.state.status.as_str() == "exited" && v.parse() == Ok(c.state.exit_code)
        })
        && filters.any("network", |v| {
            c.networks
                .iter()
                .any(|(name, a)| name == v || a.network_id.starts_with(v))
        })
        && filters.any("volume", |v| {
            c.mounts
                .iter()
                .any(|m| m.name == v || m.destination == v || m.source.as_os_str() == v)
        })
        && filters.any("publish", |v| {
            c.ports
                .iter()
                .any(|p| v.split('/').next() == Some(&p.host_port.to_string()))
        })
        && filters.any("expose", |v| {
            c.spec
                .exposed_ports
                .iter()
                .any(|(p, _)| v.split('/').next() == Some(&p.to_string()))
        })
        && filters.labels(&c.spec.labels)
}

pub async fn inspect(call: Call, id: &str) -> Outcome {
    let engine = &call.api.engine;
    let container = engine.container(id)?;
    let mut value = container_json::inspect(engine, &container);
    if call.query.flag("size") {
        value["SizeRw"] = json!(engine.size_rw(&container.id).await?);
        value["SizeRootFs"] = json!(
            engine
                .images()
                .resolve(&container.image_id)
                .map_or(0, |i| i.size_bytes)
        );
    }
    Ok(json_answer(&value))
}

pub async fn remove(call: Call, id: &str) -> Outcome {
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    call.api.engine.remove(id, options).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What is done to a container by one word.
pub async fn act(call: Call, id: &str, verb: &str) -> Outcome {
    let engine = call.api.engine.clone();
    let query = &call.query;
    let (signal, timeout) = (query.get("signal"), query.number::<i64>("t")?);
    match verb {
        "start" => engine.start(id).await?,
        "stop" => engine.stop(id, signal, timeout).await?,
        "restart" => engine.restart(id, signal, timeout).await?,
        "kill" => engine.kill(id, signal.unwrap_or("KILL")).await?,
        "pause" => engine.pause(id).await?,
        "unpause" => engine.unpause(id).await?,
        "rename" => {
            engine
                .rename(id, query.get("name").unwrap_or_default())
                .await?
        }
        "resize" => {
            let (height, width) = size(&call)?;
            engine.resize(id, height, width).await?;
            return Ok(empty(StatusCode::OK));
        }
        "update" => return update(call, id).await,
        _ => return Err(page_not_found()),
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Height and width of a terminal.
pub fn size(call: &Call) -> Outcome<(u16, u16)> {
    let number = |key: &str| -> Outcome<u16> {
        call.query
            .number(key)?
            .ok_or_else(|| Refusal::bad(format!("the terminal's size lacks {key}")))
    };
    Ok((number("h")?, number("w")?))
}

async fn update(call: Call, id: &str) -> Outcome {
    let body = json_body(call.body).await?;
    let policy = &body["RestartPolicy"];
    let restart = match policy["Name"].as_str() {
        Some(name) if !name.is_empty() => Some(container_request::restart(
            name,
            policy["MaximumRetryCount"].as_i64().unwrap_or(0),
        )?),
        _ => None,
    };
    let update = Update {
        resources: container_request::resources(&body)?,
        restart,
    };
    let warnings = call.api.engine.update(id, update).await?;
    Ok(json_answer(&json!({"Warnings": warnings})))
}

pub async fn top(call: Call, id: &str) -> Outcome {
    let top = call
        .api
        .engine
        .top(id, call.query.get("ps_args").unwrap_or_default())
        .await?;
    Ok(json_answer(
        &json!({"Titles": top.titles, "Processes": top.processes}),
    ))
}

pub async fn changes(call: Call, id: &str) -> Outcome {
    use wharf_image::ChangeKind;
    let changes = call.api.engine.changes(id).await?;
    let list: Vec<Value> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            };
            json!({"Path": change.path, "Kind": kind})
        })
        .collect();
    Ok(json_answer(&json!(list)))
}

pub async fn trace(call: Call, id: &str) -> Outcome {
    Ok(json_answer(&json!(call.api.engine.start_trace(id)?)))
}

pub async fn prune(call: Call) -> Outcome {
    let filters = Filters::of(&call.query)?;
    let keep = |c: &Container| !filters.labels(&c.spec.labels);
    let (removed, freed) = call.api.engine.prune_containers(&keep).await?;
    Ok(json_answer(
        &json!({"ContainersDeleted": removed, "SpaceReclaimed": freed}),
    ))
}
