//! Volumes.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use wharf_engine::Volume;

use crate::answer::{Outcome, created, empty, json_answer};
use crate::filters::Filters;
use crate::request::json_body;
use crate::route::{Call, page_not_found};

pub async fn route(method: &Method, words: &[&str], call: Call) -> Outcome {
    let engine = call.api.engine.clone();
    match (method, words) {
        (&Method::GET, []) => {
            let filters = Filters::of(&call.query)?;
            filters.check(&["dangling", "driver", "label", "label!", "name"])?;
            let wanted = |v: &&Volume| {
                filters.any("name", |n| v.name.contains(n))
                    && filters.any("driver", |d| v.driver == d)
                    && filters
                        .flag("dangling")
                        .is_none_or(|d| d == v.used_by.is_empty())
                    && filters.labels(&v.labels)
            };
            let volumes: Vec<Value> = engine
                .volumes()
                .iter()
                .filter(wanted)
                .map(volume_json)
                .collect();
            Ok(json_answer(&json!({"Volumes": volumes, "Warnings": null})))
        }
        (&Method::POST, ["create"]) => {
            let body = json_body(call.body).await?;
            let map = |key: &str| serde_json::from_value(body[key].clone()).unwrap_or_default();
            let text = |key: &str| body[key].as_str().unwrap_or_default();
            let volume = engine
                .volume_create(
                    text("Name"),
                    text("Driver"),
                    map("DriverOpts"),
                    map("Labels"),
                )
                .await?;
            Ok(created(&volume_json(&volume)))
        }
        (&Method::POST, ["prune"]) => {
            let filters = Filters::of(&call.query)?;
            let all = filters.flag("all") == Some(true) || call.version < (1, 42);
            let (removed, freed) = engine
                .prune_volumes(all, &|v| !filters.labels(&v.labels))
                .await?;
            Ok(json_answer(
                &json!({"VolumesDeleted": removed, "SpaceReclaimed": freed}),
            ))
        }
        (&Method::GET, [name]) => Ok(json_answer(&volume_json(&engine.volume(name)?))),
        (&Method::DELETE, [name]) => {
            engine.volume_remove(name, call.query.flag("force")).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => Err(page_not_found()),
    }
}

pub fn volume_json(v: &Volume) -> Value {
    let labels = if v.labels.is_empty() {
        Value::Null
    } else {
        json!(v.labels)
    };
    let options = if v.options.is_empty() {
        Value::Null
    } else {
        json!(v.options)
    };
    json!({
        "CreatedAt": v.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "Driver": v.driver, "Labels": labels, "Mountpoint": v.mountpoint,
        "Name": v.name, "Options": options, "Scope": "local",
    })
}
