//! Whether an extension server is there: its service, its endpoints, and its answer.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use wharf_kube_types::object;

use super::{Remote, at};
use crate::api::Api;
use crate::authn::{MASTERS, User};
use crate::relay::dial::{Believe, Destination, tls};
use crate::relay::forward::{self, Passing, Redirects};
use crate::relay::places;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// Why it is not available: a reason for programs and a sentence for people.
#[derive(Debug)]
pub struct Fault {
    /// The condition's reason.
    pub reason: &'static str,
    /// The condition's message.
    pub message: String,
}

fn fault(reason: &'static str, message: String) -> Fault {
    Fault { reason, message }
}

/// Where the server of an APIService can be reached now.
///
/// # Errors
/// What of its service is missing.
pub fn destination(api: &Api, spec: &Value) -> Result<Destination, Fault> {
    let (namespace, name) = (
        object::text(spec, "service.namespace"),
        object::text(spec, "service.name"),
    );
    let port = object::int(spec, "service.port").unwrap_or(443);
    let service = places::find(api, "services", namespace, name).map_err(|_| {
        let text = format!("service/{name} in {namespace:?} is not present");
        fault("ServiceNotFound", text)
    })?;
    let (host, target) = if object::text(&service, "spec.type") == "ExternalName" {
        let host = object::text(&service, "spec.externalName").to_owned();
        (host, u16::try_from(port).unwrap_or(443))
    } else {
        endpoint(api, &service, port)?
    };
    let bad = |why: String| fault("FailedDiscoveryCheck", why);
    let pem = STANDARD
        .decode(object::text(spec, "caBundle"))
        .map_err(|e| bad(format!("caBundle: {e}")))?;
    let pem = String::from_utf8_lossy(&pem).into_owned();
    let believe = if object::flag(spec, "insecureSkipTLSVerify") {
        Believe::Anyone
    } else {
        Believe::Authorities(&pem)
    };
    let front = api.relay.front();
    Ok(Destination {
        host,
        port: target,
        name: Some(format!("{name}.{namespace}.svc")),
        tls: Some(tls(believe, Some(&front)).map_err(bad)?),
        path: String::new(),
    })
}

fn endpoint(api: &Api, service: &Value, port: i64) -> Result<(String, u16), Fault> {
    let (namespace, name) = (object::namespace(service), object::name(service));
    let mut ports = object::list(service, "spec.ports").iter();
    let found = ports.find(|p| object::int(p, "port") == Some(port));
    let found = found.ok_or_else(|| {
        let text = format!("service/{name} in {namespace:?} is not listening on port {port}");
        fault("ServicePortError", text)
    })?;
    let port_name = object::text(found, "name");
    let missing = |reason, what: &str| {
        let text = format!("{what} for service/{name} in {namespace:?}");
        fault(reason, text)
    };
    let slices = api.builtin("discovery.k8s.io", "endpointslices");
    let slices = slices.map_err(|s| fault("EndpointsAccessError", s.message))?;
    let all = slices.cache.all(&slices.range(namespace));
    let known = |slice: &Arc<crate::object::Object>| {
        slice.label("kubernetes.io/service-name") == Some(name)
    };
    if !all.iter().any(known) {
        return Err(missing("EndpointsNotFound", "cannot find endpointslices"));
    }
    let ready = places::endpoints(api, namespace, name, port_name).unwrap_or_default();
    let [dice] = crate::random::bytes::<1>();
    let index = usize::from(dice) % ready.len().max(1);
    let chosen = ready.get(index).ok_or_else(|| {
        let text = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        fault("MissingEndpoints", text)
    })?;
    Ok((chosen.address.ip().to_string(), chosen.address.port()))
}

/// Reads a document of the server, as this server itself.
async fn fetch(api: &Api, destination: &Destination) -> Result<Value, String> {
    let user = User {
        name: "system:kube-aggregator".to_owned(),
        groups: vec![MASTERS.to_owned()],
        ..User::default()
    };
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let passing = Passing {
        method: http::Method::GET,
        headers,
        body: forward::empty(),
        upgrade: None,
        redirects: Redirects::Refuse,
        user: Some(Arc::new(user)),
        place: api.relay.place().map_err(|s| s.message)?,
    };
    let read = async {
        let answer = forward::forward(destination, api.relay.guard(false), passing).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!(
                "bad status from {}: {}",
                destination.url(),
                status.as_u16()
            ));
        }
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX);
        let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        wharf_kube_types::schema::parse(&bytes).map_err(|e| e.to_string())
    };
    tokio::time::timeout(ANSWER_LIMIT, read)
        .await
        .map_err(|_| "context deadline exceeded".to_owned())?
}

/// Looks at a server: what it serves, or why it is not available.
///
/// # Errors
/// As a condition says it.
pub async fn look(api: &Api, spec: &Value) -> Result<Remote, Fault> {
    let (group, version) = (object::text(spec, "group"), object::text(spec, "version"));
    let destination = destination(api, spec)?;
    let place = at(&destination, &format!("/apis/{group}/{version}"));
    let list = fetch(api, &place).await.map_err(|why| {
        let text = format!("failing or missing response from {}: {why}", place.url());
        fault("FailedDiscoveryCheck", text)
    })?;
    let index = fetch(api, &at(&destination, "/openapi/v3")).await;
    let own = format!("apis/{group}/{version}");
    let has_openapi = index.is_ok_and(|index| index["paths"].get(&own).is_some());
    let document = fetch(api, &at(&destination, "/openapi/v2")).await;
    Ok(Remote {
        group: group.to_owned(),
        version: version.to_owned(),
        spec: spec.clone(),
        available: true,
        resources: object::list(&list, "resources").to_vec(),
        has_openapi,
        openapi_v2: Arc::new(own_part(document.unwrap_or_default(), &own)),
    })
}

/// What of a document is about a group and version, without what no path of it needs being guarded against.
fn own_part(mut document: Value, own: &str) -> Value {
    let below = format!("/{own}/");
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|path, _| path.starts_with(&below));
    }
    serde_json::json!({"paths": document["paths"].take(), "definitions": document["definitions"].take()})
}
