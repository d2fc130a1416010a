//! A request's way through the server: who asks, what for, may they, and then to its verb.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method};
use wharf_kube_types::Status;

use crate::api::Api;
use crate::authn::User;
use crate::authz::Ask;
use crate::body::Body;
use crate::call::{Call, Validation};
use crate::info::{Info, Query};
use crate::output::{Output, Reply};
use crate::{authn, nonresource, object_request};

/// Requests under way at once; watches that have begun don't count.
const INFLIGHT_MAX: u64 = 4096;

/// A request with its whole body.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// The query, or empty.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
    /// Who the connection's certificate names.
    pub certificate: Option<&'a Arc<User>>,
    /// A part of this process asks: it takes objects as they are.
    pub inside: bool,
}

impl Request<'_> {
    /// The text of a header; empty if absent.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The body with its media type.
    pub fn body(&self) -> Body<'_> {
        Body {
            content_type: self.header(CONTENT_TYPE),
            bytes: self.body,
        }
    }
}

/// Counts a request until it is answered, or given up by its client.
struct UnderWay<'a> {
    count: &'a AtomicU64,
    before: u64,
}

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        let before = count.fetch_add(1, Ordering::Relaxed);
        Self { count, before }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a request.
pub async fn handle(api: &Arc<Api>, request: &Request<'_>) -> Reply {
    let query = Query::parse(request.query);
    let info = Info::read(request.method, request.path, &query);
    let under_way = UnderWay::begin(&api.metrics.inflight);
    let answered = if under_way.before < INFLIGHT_MAX {
        answer(api, request, &info, query).await
    } else {
        Err(Status::too_many_requests(
            "Too many requests, please try again later.",
            1,
        ))
    };
    let reply = match answered {
        Ok(reply) => reply,
        Err(status) => {
            let output = Output::negotiate(request.header(ACCEPT)).unwrap_or(Output::JSON);
            Reply::status(output, &status)
        }
    };
    drop(under_way);
    api.metrics.count(info.verb, &info.resource, reply.code);
    reply
}

async fn answer(
    api: &Arc<Api>,
    request: &Request<'_>,
    info: &Info,
    query: Query,
) -> Result<Reply, Status> {
    let user = identify(api, request, None, info)?;
    if !info.is_resource {
        return nonresource::answer(api, request, info);
    }
    let mut call = call(api, info, query, user, request.header(USER_AGENT))?;
    let output = Output::negotiate(request.header(ACCEPT))?;
    let reply = object_request::answer(&mut call, info, request, output).await?;
    Ok(reply.with_warnings(&call.warnings))
}

/// Who asks, if they may do what they ask for. `token` counts where there is no `Authorization` header.
///
/// # Errors
/// 401 and 403.
pub fn identify(
    api: &Api,
    request: &Request<'_>,
    token: Option<&str>,
    info: &Info,
) -> Result<Arc<User>, Status> {
    let authorization = request.headers.get(AUTHORIZATION);
    let authorization = match authorization.map(|v| v.to_str()) {
        None => token,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return Err(Status::unauthorized()),
    };
    let user = api
        .authenticator
        .request(api, request.certificate, authorization)?;
    let user = authn::impersonate::act_as(api, user, request.headers)?;
    api.authorizer.demand(api, &user, &Ask::of(info))?;
    Ok(user)
}

/// The call that a request about a resource is.
///
/// # Errors
/// There is no such resource, or an option makes no sense.
pub fn call(
    api: &Arc<Api>,
    info: &Info,
    query: Query,
    user: Arc<User>,
    user_agent: &str,
) -> Result<Call, Status> {
    let registry = api.registry();
    let kind = registry.find(&info.group, &info.version, &info.resource);
    let kind = kind.ok_or_else(Status::no_such_path)?.clone();
    if !kind.resource.namespaced && !info.namespace.is_empty() && info.resource != "namespaces" {
        return Err(Status::no_such_path());
    }
    let mut call = Call {
        api: api.clone(),
        subresource: info.subresource.clone(),
        namespace: match kind.resource.namespaced {
            true => info.namespace.clone(),
            false => String::new(),
        },
        name: name_in_path(info),
        user,
        dry_run: false,
        manager: String::new(),
        validation: Validation::Warn,
        query,
        warnings: Vec::new(),
        kind,
    };
    call.read_options(user_agent)?;
    if let Some(warning) = &call.kind.deprecated {
        call.warnings.push(warning.clone());
    }
    Ok(call)
}

/// A name that only a field selector gave is the authoriser's business, not the verb's.
fn name_in_path(info: &Info) -> String {
    match info.verb {
        "list" | "deletecollection" => String::new(),
        "watch"
            if !info
                .path
                .trim_end_matches('/')
                .ends_with(&format!("/{}", info.name)) =>
        {
            String::new()
        }
        _ => info.name.clone(),
    }
}
