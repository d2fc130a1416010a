//! `POST /build`: the context comes as a tar, the news go back line by line.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine as _;
use serde_json::{Value, json};
use wharf_build::{BuildEvent, BuildRequest, EventSink};
use wharf_engine::Resources;
use wharf_image::Credentials;

use crate::answer::{Outcome, Refusal, chain, json_answer};
use crate::news::{error_json, news, progress_json};
use crate::request::{Query, credentials_of};
use crate::route::{Call, page_not_found};
use crate::upload::reader;

pub async fn route(method: &Method, words: &[&str], call: Call) -> Outcome {
    match (method, words) {
        (&Method::POST, []) => build(call).await,
        (&Method::POST, ["prune"]) => {
            let freed = call.api.builder.prune(call.query.flag("all")).await;
            let freed =
                freed.map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, chain(&e)))?;
            Ok(json_answer(
                &json!({"CachesDeleted": [], "SpaceReclaimed": freed}),
            ))
        }
        _ => Err(page_not_found()),
    }
}

async fn build(call: Call) -> Outcome {
    if call.query.get("version") == Some("2") {
        return Err(Refusal::bad(
            "this daemon builds with the classic builder: set DOCKER_BUILDKIT=0",
        ));
    }
    if call.query.get("remote").is_some() {
        return Err(Refusal::bad(
            "a context at a URL is not supported: fetch it and send it with the request",
        ));
    }
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}: {e}"))
    };
    let context = tempfile::Builder::new()
        .prefix("build-")
        .tempdir_in(call.api.engine.scratch())
        .map_err(|e| failed("make a folder for the context", &e))?;
    let mut request = request(&call.query, &call.parts.headers)?;
    request.context = context.path().to_owned();
    let mut archive = tokio_util::io::SyncIoBridge::new(reader(call.body));
    let folder = context.path().to_owned();
    let unpacked = tokio::task::spawn_blocking(move || -> Result<(), String> {
        use rustix::fs::{Mode, OFlags};
        let root = rustix::fs::open(
            &folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| e.to_string())?;
        wharf_image::extract(&mut archive, root.as_fd(), Path::new(""))
            .map(drop)
            .map_err(|e| chain(&e))
    });
    unpacked
        .await
        .map_err(|e| failed("unpack the context", &e))?
        .map_err(|message| {
            Refusal::bad(format!("the build context can't be unpacked: {message}"))
        })?;
    run(call.api, request, context, call.query.flag("q")).await
}

/// Runs the build; the client's going away ends it. What fails before there is any news is a plain error.
async fn run(
    api: Arc<crate::Api>,
    request: BuildRequest,
    context: tempfile::TempDir,
    quiet: bool,
) -> Outcome {
    let (news, lines) = news();
    let teller = news.clone();
    let sink: EventSink = Arc::new(move |event| match event {
        BuildEvent::Output(text) if !quiet => {
            teller.mention(&json!({"stream": String::from_utf8_lossy(&text)}));
        }
        BuildEvent::Pull(progress) if !quiet => teller.mention(&progress_json(&progress)),
        BuildEvent::Built(id) => teller.tell(&json!({"aux": {"ID": id}})),
        _ => {}
    });
    let task = tokio::spawn(async move {
        let outcome = api.builder.build(request, sink).await;
        match outcome {
            Ok(id) if quiet => news.tell(&json!({"stream": format!("{id}\n")})),
            Ok(_) => {}
            Err(error) => {
                let mut line = error_json(&chain(&error));
                if let wharf_build::Error::Run { exit_code, .. } = &error {
                    line["errorDetail"]["code"] = json!(exit_code);
                }
                news.tell(&line);
            }
        }
        drop(context);
    });
    let refused = |_: &str| StatusCode::BAD_REQUEST;
    lines.answer_or(AbortOnDrop(task), refused).await
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn request(query: &Query, headers: &HeaderMap) -> Outcome<BuildRequest> {
    // A JSON list, or words; the parameter may come several times.
    let list = |key: &str| -> Vec<String> {
        let words = |text: String| {
            serde_json::from_str(&text)
                .unwrap_or_else(|_| text.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let all = query.all(key).into_iter().flat_map(words);
        all.filter(|word| !word.is_empty()).collect()
    };
    let labels = query
        .map("labels")?
        .into_iter()
        .map(|(k, v)| (k, v.unwrap_or_default()))
        .collect();
    Ok(BuildRequest {
        dockerfile: query.get("dockerfile").unwrap_or("Dockerfile").to_owned(),
        tags: query
            .all("t")
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect(),
        build_args: query.map("buildargs")?,
        target: query.get("target").map(str::to_owned),
        labels,
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        network_mode: query.get("networkmode").unwrap_or_default().to_owned(),
        extra_hosts: list("extrahosts"),
        cache_from: list("cachefrom"),
        resources: Resources {
            memory_bytes: query.number("memory")?.filter(|n| *n != 0),
            memory_swap_bytes: query.number("memswap")?.filter(|n| *n != 0),
            cpu_shares: query.number("cpushares")?.filter(|n| *n != 0),
            cpu_period_us: query.number("cpuperiod")?.filter(|n| *n != 0),
            cpu_quota_us: query.number("cpuquota")?.filter(|n| *n != 0),
            cpuset_cpus: query.get("cpusetcpus").unwrap_or_default().to_owned(),
            cpuset_mems: query.get("cpusetmems").unwrap_or_default().to_owned(),
            ..Resources::default()
        },
        shm_size_bytes: query.number("shmsize")?.filter(|n| *n != 0),
        platform: query.get("platform").map(str::to_owned),
        cgroup_parent: query.get("cgroupparent").unwrap_or_default().to_owned(),
        squash: query.flag("squash"),
        credentials: registry_config(headers),
        ..BuildRequest::default()
    })
}

/// `X-Registry-Config`: credentials by registry.
fn registry_config(headers: &HeaderMap) -> BTreeMap<String, Credentials> {
    let text = headers
        .get("x-registry-config")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let bytes = base64::engine::general_purpose::URL_SAFE
        .decode(text)
        .unwrap_or_default();
    let all: BTreeMap<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    all.into_iter()
        .filter_map(|(server, value)| Some((server, credentials_of(&value)?)))
        .collect()
}
