//! Paths that are about no resource: health, version, metrics, discovery, OpenAPI, keys of service account tokens.

use std::sync::Arc;

use http::header::ACCEPT;
use serde_json::{Value, json};
use wharf_kube_types::{Status, openapi};

use crate::aggregation::discovery as aggregation;
use crate::api::Api;
use crate::discovery;
use crate::handle::Request;
use crate::info::Info;
use crate::output::Reply;

const CHECKS: [&str; 4] = ["ping", "log", "store", "informer-sync"];

/// The Kubernetes version whose API this is.
pub const VERSION: (&str, &str) = ("1", "37");

/// Answers a request about no resource.
///
/// # Errors
/// 404 and 405.
pub fn answer(api: &Arc<Api>, request: &Request<'_>, info: &Info) -> Result<Reply, Status> {
    if !matches!(info.verb, "get" | "head") {
        return Err(Status::method_not_allowed_here());
    }
    let path = request.path.trim_matches('/');
    let steps: Vec<&str> = path.split('/').collect();
    match steps.as_slice() {
        [""] => Ok(Reply::json(200, &root())),
        ["version"] => Ok(Reply::json(200, &version())),
        ["healthz" | "livez" | "readyz", rest @ ..] => health(steps[0], rest, request.query),
        ["metrics"] => Ok(Reply::bytes(
            200,
            "text/plain; version=0.0.4; charset=utf-8",
            api.metrics.page(api),
        )),
        [".well-known", "openid-configuration"] => {
            let issuer = &api.authenticator.issuer;
            let host = request.header(http::header::HOST);
            Ok(Reply::json(
                200,
                &issuer.discovery(&format!("https://{host}")),
            ))
        }
        ["openid", "v1", "jwks"] => {
            let keys = json!({"keys": [api.authenticator.issuer.key.jwk()]}).to_string();
            Ok(Reply::bytes(200, "application/jwk-set+json", keys))
        }
        ["openapi", "v2"] => openapi_v2(api, request),
        ["openapi", "v3", rest @ ..] => openapi_v3(api, rest),
        ["api" | "apis", ..] => discover(api, request, &steps),
        _ => Err(Status::no_such_path()),
    }
}

fn root() -> Value {
    json!({"paths": ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/healthz", "/livez",
        "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]})
}

fn version() -> Value {
    let (major, minor) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0+wharf{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The server answers only after its caches are loaded: then all is well.
fn health(kind: &str, rest: &[&str], query: &str) -> Result<Reply, Status> {
    match rest {
        [] if query.contains("verbose") => {
            let mut text: String = CHECKS
                .iter()
                .map(|check| format!("[+]{check} ok\n"))
                .collect();
            text.push_str(&format!("{kind} check passed\n"));
            Ok(Reply::text(200, text))
        }
        [] => Ok(Reply::text(200, "ok")),
        [check] if CHECKS.contains(check) => Ok(Reply::text(200, "ok")),
        _ => Err(Status::no_such_path()),
    }
}

fn openapi_v2(api: &Api, request: &Request<'_>) -> Result<Reply, Status> {
    let accept = request.header(ACCEPT);
    if accept.contains("proto-openapi.spec.v2") && !accept.contains("application/json") {
        let make = || openapi::v2_protobuf(&whole_openapi_v2(api));
        let bytes = api
            .documents
            .get_bytes(api.edition(), "openapi/v2/protobuf", make);
        return Ok(Reply::bytes(200, openapi::MEDIA_TYPE, bytes));
    }
    let make = || whole_openapi_v2(api);
    let bytes = api.documents.get(api.edition(), "openapi/v2", make);
    Ok(Reply::bytes(200, "application/json", bytes))
}

fn whole_openapi_v2(api: &Api) -> Value {
    let mut document = discovery::openapi_v2(&api.registry());
    aggregation::into_openapi_v2(&mut document, &api.aggregated.all());
    document
}

fn openapi_v3(api: &Api, rest: &[&str]) -> Result<Reply, Status> {
    let registry = api.registry();
    let (group, version) = match rest {
        [] => {
            let mut index = discovery::openapi_v3_index(&registry);
            let changes = api.aggregated.changes();
            aggregation::into_openapi_index(&mut index, &api.aggregated.all(), changes);
            return Ok(Reply::json(200, &index));
        }
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return Err(Status::no_such_path()),
    };
    if registry.of(group, version).is_empty() {
        return Err(Status::no_such_path());
    }
    let name = format!("openapi/v3/{group}/{version}");
    let make = || discovery::openapi_v3(&registry, group, version).unwrap_or_default();
    let bytes = api.documents.get(api.edition(), &name, make);
    Ok(Reply::bytes(200, "application/json", bytes))
}

/// The version of aggregated discovery that is asked for, with its media type.
fn aggregated(accept: &str) -> Option<(&'static str, &'static str)> {
    accept.split(',').find_map(|part| {
        if !part.contains("as=APIGroupDiscoveryList") || !part.contains("g=apidiscovery.k8s.io") {
            return None;
        }
        if part.contains("v=v2beta1") {
            return Some((
                "v2beta1",
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            ));
        }
        part.contains("v=v2").then_some((
            "v2",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ))
    })
}

fn discover(api: &Api, request: &Request<'_>, steps: &[&str]) -> Result<Reply, Status> {
    let registry = api.registry();
    let address = request.header(http::header::HOST);
    let wants = aggregated(request.header(ACCEPT));
    let remotes = api.aggregated.all();
    let value = match (steps, wants) {
        ([top], Some((version, media_type))) => {
            let core = *top == "api";
            let name = format!("{top} {version}");
            let make = || {
                let mut list = discovery::aggregated(&registry, core, version);
                if !core {
                    aggregation::into_aggregated(&mut list, &remotes);
                }
                list
            };
            let bytes = api.documents.get(api.edition(), &name, make);
            return Ok(Reply::bytes(200, media_type, bytes));
        }
        (["api"], None) => Some(discovery::core_versions(address)),
        (["apis"], None) => {
            let mut list = discovery::groups(&registry);
            aggregation::into_groups(&mut list, &remotes);
            Some(list)
        }
        (["api", version], _) => discovery::resources(&registry, "", version),
        (["apis", group], _) if !group.is_empty() => {
            aggregation::into_group(discovery::group(&registry, group), group, &remotes)
        }
        (["apis", group, version], _) => discovery::resources(&registry, group, version),
        _ => None,
    };
    let value = value.ok_or_else(Status::no_such_path)?;
    Ok(Reply::json(200, &value))
}
