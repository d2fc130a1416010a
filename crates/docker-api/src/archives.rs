//! Files of a container as archives.

use axum::http::{HeaderValue, Method, StatusCode};
use base64::Engine as _;
use serde_json::json;
use wharf_engine::{PathStat, PutOptions};

use crate::answer::{Outcome, Refusal, empty, stream};
use crate::route::{Call, page_not_found};
use crate::upload::reader;

const STAT_HEADER: &str = "x-docker-container-path-stat";

pub async fn route(method: &Method, call: Call, id: &str) -> Outcome {
    let path = call
        .query
        .get("path")
        .ok_or_else(|| Refusal::bad("bad parameter: path cannot be empty"))?
        .to_owned();
    let engine = call.api.engine.clone();
    match *method {
        Method::HEAD => {
            let stat = engine.archive_stat(id, &path).await?;
            let mut response = empty(StatusCode::OK);
            response
                .headers_mut()
                .insert(STAT_HEADER, stat_header(&stat)?);
            Ok(response)
        }
        Method::GET => {
            let (stat, blocks) = engine.archive_get(id, &path).await?;
            let mut response = stream("application/x-tar", blocks);
            response
                .headers_mut()
                .insert(STAT_HEADER, stat_header(&stat)?);
            Ok(response)
        }
        Method::PUT => {
            let options = PutOptions {
                no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
                copy_uid_gid: call.query.flag("copyUIDGID"),
            };
            engine
                .archive_put(id, &path, options, reader(call.body))
                .await?;
            Ok(empty(StatusCode::OK))
        }
        _ => Err(page_not_found()),
    }
}

fn stat_header(stat: &PathStat) -> Outcome<HeaderValue> {
    let value = json!({"name": stat.name, "size": stat.size_bytes, "mode": stat.go_mode, "mtime": stat.mtime.to_string(), "linkTarget": stat.link_target});
    let text = base64::engine::general_purpose::STANDARD.encode(value.to_string());
    HeaderValue::from_str(&text)
        .map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

pub async fn export(call: Call, id: &str) -> Outcome {
    let blocks = call.api.engine.export(id).await?;
    Ok(stream("application/octet-stream", blocks))
}
