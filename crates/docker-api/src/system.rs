//! The daemon itself: ping, version, info, login, events, disk usage.

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};
use wharf_engine::Event;

use crate::answer::{Outcome, Refusal, json_answer, json_lines};
use crate::filters::Filters;
use crate::request::{credentials_of, json_body};
use crate::route::{Call, page_not_found};
use crate::{VERSION, VERSION_MIN, container_json, images};

pub async fn route(method: &Method, words: &[&str], call: Call) -> Outcome {
    match (method, words) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => ping(method),
        (&Method::GET, ["version"]) => Ok(json_answer(&version(&call.api).await)),
        (&Method::GET, ["info"]) => Ok(json_answer(&info(&call.api).await)),
        (&Method::POST, ["auth"]) => auth(call).await,
        (&Method::GET, ["events"]) => events(call),
        (&Method::GET, ["system", "df"]) => disk_usage(call).await,
        (&Method::GET, ["plugins"]) => Ok(json_answer(&json!([]))),
        (
            _,
            [
                "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs",
                ..,
            ],
        ) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        )),
        (&Method::POST, ["session"]) => Err(Refusal::missing(
            "this daemon builds with the classic builder: set DOCKER_BUILDKIT=0",
        )),
        _ => Err(page_not_found()),
    }
}

fn ping(method: &Method) -> Outcome {
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from("OK")
    };
    let mut response = axum::http::Response::new(body);
    let headers = response.headers_mut();
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

async fn version(api: &crate::Api) -> Value {
    let info = api.engine.info().await;
    let dotted = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    let details = json!({
        "ApiVersion": dotted(VERSION), "MinAPIVersion": dotted(VERSION_MIN), "Arch": "amd64", "Os": "linux",
        "KernelVersion": info.kernel_version, "Experimental": "false", "GitCommit": "", "GoVersion": "", "BuildTime": "",
    });
    json!({
        "Platform": {"Name": "Wharf"},
        "Components": [{"Name": "Engine", "Version": api.server_version, "Details": details}],
        "Version": api.server_version, "ApiVersion": dotted(VERSION), "MinAPIVersion": dotted(VERSION_MIN),
        "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": "amd64", "KernelVersion": info.kernel_version, "BuildTime": "",
    })
}

async fn info(api: &crate::Api) -> Value {
    let info = api.engine.info().await;
    let has = |controller: &str| info.controllers.iter().any(|c| c == controller);
    json!({
        "ID": info.id, "Containers": info.running + info.paused + info.stopped, "ContainersRunning": info.running,
        "ContainersPaused": info.paused, "ContainersStopped": info.stopped, "Images": info.images,
        "Driver": "overlay2", "DriverStatus": [["Backing Filesystem", info.backing_filesystem], ["Supports d_type", "true"]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "none"]},
        "MemoryLimit": has("memory"), "SwapLimit": info.swap_limit, "CpuCfsPeriod": has("cpu"), "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"), "CPUSet": has("cpuset"), "PidsLimit": has("pids"), "OomKillDisable": info.cgroup_version == "1",
        "IPv4Forwarding": info.ipv4_forwarding, "BridgeNfIptables": info.bridge_nf_iptables, "BridgeNfIp6tables": info.bridge_nf_ip6tables,
        "Debug": false, "NFd": 0, "NGoroutines": 0, "SystemTime": jiff::Timestamp::now().to_string(), "LoggingDriver": "json-file",
        "CgroupDriver": info.cgroup_driver, "CgroupVersion": info.cgroup_version, "NEventsListener": 0,
        "KernelVersion": info.kernel_version, "OperatingSystem": info.operating_system, "OSVersion": info.os_version,
        "OSType": "linux", "Architecture": info.architecture, "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": {}, "Mirrors": []},
        "NCPU": info.cpus, "MemTotal": info.memory_bytes, "GenericResources": null, "DockerRootDir": info.data_root,
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "Name": info.hostname, "Labels": [], "ExperimentalBuild": false,
        "ServerVersion": api.server_version, "Runtimes": {"wharf": {"path": "wharf runtime"}}, "DefaultRuntime": "wharf",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "", "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""}, "SecurityOptions": info.security_options, "Warnings": info.warnings,
    })
}

async fn auth(call: Call) -> Outcome {
    let body = json_body(call.body).await?;
    let credentials = credentials_of(&body).unwrap_or_default();
    let server = body["serveraddress"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    call.api
        .engine
        .images()
        .login(&server, credentials)
        .await
        .map_err(|error| Refusal::new(StatusCode::UNAUTHORIZED, crate::answer::chain(&error)))?;
    Ok(json_answer(
        &json!({"Status": "Login Succeeded", "IdentityToken": ""}),
    ))
}

fn events(call: Call) -> Outcome {
    let time = |key: &str| call.query.get(key).and_then(crate::streams::parse_time_ns);
    let filters = Filters::of(&call.query)?;
    let stream = call.api.engine.events(time("since"), time("until"));
    let lines = stream.filter_map(move |event| {
        let line = filters.accept_event(&event).then(|| event_json(&event));
        futures_util::future::ready(line)
    });
    Ok(json_lines(lines))
}

fn event_json(event: &Event) -> Value {
    let seconds = event.time_ns / 1_000_000_000;
    let mut value = json!({
        "Type": event.kind, "Action": event.action, "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local", "time": seconds, "timeNano": event.time_ns,
    });
    if matches!(event.kind.as_str(), "container" | "image") {
        value["status"] = json!(event.action);
        value["id"] = json!(event.id);
        if let Some(image) = event.attributes.get("image") {
            value["from"] = json!(image);
        }
    }
    value
}

async fn disk_usage(call: Call) -> Outcome {
    let engine = &call.api.engine;
    let layers = engine.images().totals()?.0;
    let mut containers = Vec::new();
    for container in engine.containers() {
        let size = engine.size_rw(&container.id).await.unwrap_or(0);
        let mut summary = container_json::summary(engine, &container);
        summary["SizeRw"] = json!(size);
        containers.push(summary);
    }
    let mut volumes = Vec::new();
    for volume in engine.volumes() {
        let size = engine.volume_size_bytes(&volume).await?;
        let mut value = crate::volumes::volume_json(&volume);
        value["UsageData"] = json!({"RefCount": volume.used_by.len(), "Size": size});
        volumes.push(value);
    }
    let images: Vec<Value> = engine
        .images()
        .list(false)?
        .iter()
        .map(|image| images::summary(engine, image))
        .collect();
    Ok(json_answer(&json!({
        "LayersSize": layers, "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": [], "BuilderSize": 0,
    })))
}
