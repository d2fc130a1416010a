//! Which handler a request goes to. The version in front of the path is taken off first.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;

use crate::answer::{Outcome, Refusal};
use crate::request::Query;
use crate::{
    Api, VERSION, VERSION_MIN, archives, builds, containers, execs, images, networks, streams,
    system, volumes,
};

/// A request taken apart.
pub struct Call {
    pub api: Arc<Api>,
    pub parts: Parts,
    pub query: Query,
    pub version: (u32, u32),
    pub body: Body,
}

/// Answers a request, with the headers every answer has.
pub async fn answer(api: Arc<Api>, request: Request<Body>) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let server = format!("Wharf/{} (linux)", api.server_version);
    let mut response = match dispatch(api, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(%method, %uri, status = refusal.status.as_u16(), message = refusal.message, "refused");
            refusal.into_response()
        }
    };
    let headers = response.headers_mut();
    let version = format!("{}.{}", VERSION.0, VERSION.1);
    for (name, value) in [
        ("api-version", version),
        ("docker-experimental", "false".into()),
        ("ostype", "linux".into()),
        ("server", server),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

async fn dispatch(api: Arc<Api>, request: Request<Body>) -> Outcome {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let (version, path) = split_version(&path)?;
    let segments: Vec<String> = path
        .split('/')
        .filter(|s| !s.is_empty())
        .map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned())
        .collect();
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = Query::of(&parts.uri);
    let method = parts.method.clone();
    let call = Call {
        api,
        parts,
        query,
        version,
        body,
    };
    match words.split_first() {
        Some((&"containers", rest)) => containers_route(&method, rest, call).await,
        Some((&"exec", rest)) => execs::route(&method, rest, call).await,
        Some((&"images", rest)) => images::route(&method, rest, call).await,
        Some((&"networks", rest)) => networks::route(&method, rest, call).await,
        Some((&"volumes", rest)) => volumes::route(&method, rest, call).await,
        Some((&"build", rest)) => builds::route(&method, rest, call).await,
        Some((&"distribution", [name @ .., "json"])) if method == Method::GET => {
            images::distribution(call, &name.join("/")).await
        }
        Some((&"commit", [])) if method == Method::POST => images::commit(call).await,
        _ => system::route(&method, &words, call).await,
    }
}

async fn containers_route(method: &Method, words: &[&str], call: Call) -> Outcome {
    match (method, words) {
        (&Method::GET, ["json"]) => containers::list(call).await,
        (&Method::POST, ["create"]) => containers::create(call).await,
        (&Method::POST, ["prune"]) => containers::prune(call).await,
        (&Method::GET, [id, "json"]) => containers::inspect(call, id).await,
        (&Method::DELETE, [id]) => containers::remove(call, id).await,
        (&Method::DELETE, [id, link]) => containers::remove(call, &format!("{id}/{link}")).await,
        (&Method::GET, [id, "logs"]) => streams::logs(call, id).await,
        (&Method::POST, [id, "attach"]) => streams::attach(call, id).await,
        (&Method::POST, [id, "wait"]) => streams::wait(call, id).await,
        (&Method::GET, [id, "stats"]) => streams::stats(call, id).await,
        (&Method::POST, [id, "exec"]) => execs::create(call, id).await,
        (&Method::GET | &Method::HEAD | &Method::PUT, [id, "archive"]) => {
            archives::route(method, call, id).await
        }
        (&Method::GET, [id, "export"]) => archives::export(call, id).await,
        (&Method::GET, [id, "top"]) => containers::top(call, id).await,
        (&Method::GET, [id, "changes"]) => containers::changes(call, id).await,
        (&Method::GET, [id, "wharf", "trace"]) => containers::trace(call, id).await,
        (&Method::POST, [id, verb]) => containers::act(call, id, verb).await,
        _ => Err(page_not_found()),
    }
}

/// The reference's word for an address that means nothing.
pub fn page_not_found() -> Refusal {
    Refusal::missing("page not found")
}

/// `/v1.41/containers/json` → version and the rest.
fn split_version(path: &str) -> Outcome<((u32, u32), &str)> {
    let Some(rest) = path.strip_prefix("/v") else {
        return Ok((VERSION, path));
    };
    let (version, rest) = rest.split_once('/').map_or((rest, ""), |(v, r)| (v, r));
    let Some((major, minor)) = version
        .split_once('.')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
    else {
        return Ok((VERSION, path));
    };
    let asked: (u32, u32) = (major, minor);
    if asked < VERSION_MIN {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!(
                "client version {version} is too old. Minimum supported API version is {}.{}, please upgrade your client to a newer version",
                VERSION_MIN.0, VERSION_MIN.1
            ),
        ));
    }
    if asked > VERSION {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!(
                "client version {version} is too new. Maximum supported API version is {}.{}",
                VERSION.0, VERSION.1
            ),
        ));
    }
    Ok((asked, &path[path.len() - rest.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            split_version("/v1.41/containers/json").unwrap(),
            ((1, 41), "containers/json")
        );
        assert_eq!(split_version("/_ping").unwrap(), (VERSION, "/_ping"));
        assert_eq!(split_version("/volumes").unwrap(), (VERSION, "/volumes"));
        assert!(
            split_version("/v1.10/info")
                .unwrap_err()
                .message
                .contains("too old")
        );
        assert!(
            split_version("/v9.0/info")
                .unwrap_err()
                .message
                .contains("too new")
        );
    }
}
