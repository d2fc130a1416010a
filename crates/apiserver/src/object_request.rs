//! Requests about resources: from the verb and subresource to what does it.

use serde_json::{Value, json};
use wharf_kube_types::{Status, object};

use crate::authn;
use crate::authz;
use crate::call::Call;
use crate::handle::Request;
use crate::info::Info;
use crate::object::Record;
use crate::output::{self, ACCEPTED, Output, Payload, Reply, Shape, list_meta};
use crate::verbs::{create, delete, get, list, patch, subresource, update, watch};

/// Answers a request about a resource.
///
/// # Errors
/// What the client did wrong, or the server.
pub async fn answer(
    call: &mut Call,
    info: &Info,
    request: &Request<'_>,
    output: Output,
) -> Result<Reply, Status> {
    if !call.kind.is_stored() {
        return review(call, info, request, output).await;
    }
    if !info.subresource.is_empty() {
        return on_subresource(call, info, request, output).await;
    }
    if !call.kind.resource.allows(info.verb) {
        return Err(not_allowed(call, info));
    }
    if call.kind.resource.namespaced
        && call.namespace.is_empty()
        && !matches!(info.verb, "list" | "watch" | "deletecollection")
    {
        return Err(Status::no_such_path());
    }
    match info.verb {
        "get" => one(call, output, 200, &get::get(call).await?),
        "list" => listed(call, output, request.inside).await,
        "watch" => watched(call, output).await,
        "create" => {
            let value = call.read_object(request.body())?;
            let record = create::create(call, value).await?;
            one(call, output, 201, &record)
        }
        "update" => {
            let value = call.read_object(request.body())?;
            let record = update::update(call, value).await?;
            one(call, output, 200, &record)
        }
        "patch" => {
            let (record, made) = patch::patch(call, request.body()).await?;
            one(call, output, if made { 201 } else { 200 }, &record)
        }
        "delete" => {
            let options = delete::Options::read(call, request.body())?;
            let deleted = delete::delete(call, &options).await?;
            deletion(call, output, deleted)
        }
        "deletecollection" => {
            let options = delete::Options::read(call, request.body())?;
            let page = delete::delete_collection(call, &options).await?;
            Ok(page_reply(call, output, &page))
        }
        _ => Err(not_allowed(call, info)),
    }
}

fn not_allowed(_call: &Call, _info: &Info) -> Status {
    Status::method_not_allowed_here()
}

fn one(call: &Call, output: Output, code: u16, record: &Record) -> Result<Reply, Status> {
    let include = call.query.get("includeObject");
    Ok(output::object(&call.kind, output, code, record, include))
}

fn page_reply(call: &Call, output: Output, page: &list::Page) -> Reply {
    let meta = list_meta(page.revision, page.next.clone(), page.remaining);
    let include = call.query.get("includeObject");
    output::list(&call.kind, output, meta, &page.objects, include)
}

async fn listed(call: &Call, output: Output, inside: bool) -> Result<Reply, Status> {
    let page = list::list(call).await?;
    if inside && output.is_plain() && call.kind.is_plain() {
        return Ok(Reply {
            code: 200,
            content_type: "application/json",
            headers: Vec::new(),
            body: Payload::Objects(page),
        });
    }
    let narrows = ["limit", "continue", "labelSelector", "fieldSelector"];
    let whole = !narrows.iter().any(|option| call.query.has(option));
    if whole && output.is_plain() && call.kind.is_plain() {
        let make = || {
            let meta = list_meta(page.revision, None, None);
            output::list_bytes(&call.kind.resource, &meta, &page.objects).into()
        };
        let prefix = call.kind.range(&call.namespace);
        let bytes = call.kind.cache.whole(&prefix, page.revision, make);
        return Ok(Reply::bytes(200, "application/json", bytes));
    }
    Ok(page_reply(call, output, &page))
}

async fn watched(call: &mut Call, output: Output) -> Result<Reply, Status> {
    if !call.name.is_empty() {
        // A watch of one object by its path is one by its name.
        let query = format!("fieldSelector=metadata.name%3D{}", call.name);
        let selection = crate::info::Query::parse(&query);
        let mut narrowed = call.clone();
        narrowed.query = call.query.clone().or(&selection);
        return watch::watch(&narrowed, output).await;
    }
    watch::watch(call, output).await
}

fn deletion(call: &Call, output: Output, deleted: delete::Deleted) -> Result<Reply, Status> {
    match deleted {
        delete::Deleted::Pending(record) => one(call, output, 200, &record),
        delete::Deleted::Gone(record) if delete::answers_object(call) => {
            one(call, output, 200, &record)
        }
        delete::Deleted::Gone(record) => {
            let value = record.to_value();
            let uid = object::text(&value, "metadata.uid");
            let status = Status::success(&call.kind.resource, &call.name, uid);
            Ok(Reply::value(output, 200, &status))
        }
    }
}

/// Requests whose answer is computed from their body.
async fn review(
    call: &mut Call,
    info: &Info,
    request: &Request<'_>,
    output: Output,
) -> Result<Reply, Status> {
    let plural = call.kind.resource.plural.clone();
    if plural == "componentstatuses" {
        return component_statuses(call, info, output);
    }
    if info.verb != "create" {
        return Err(not_allowed(call, info));
    }
    if output.shape != Shape::Whole {
        // Without metadata there is nothing that another shape could show.
        return Err(Status::not_acceptable(&ACCEPTED));
    }
    let value = call.read_object(request.body())?;
    let api = call.api.clone();
    let answer = match plural.as_str() {
        "tokenreviews" => authn::review::token(&api, value),
        "selfsubjectreviews" => authn::review::own(&call.user, value),
        "selfsubjectaccessreviews" => authz::review::access(&api, &call.user, value, true),
        "selfsubjectrulesreviews" => authz::review::rules(&api, &call.user, value),
        "subjectaccessreviews" => authz::review::access(&api, &call.user, value, false),
        "localsubjectaccessreviews" => {
            let asked = object::text(&value, "spec.resourceAttributes.namespace");
            if asked != call.namespace {
                return Err(Status::bad_request(
                    "spec.resourceAttributes.namespace: must match metadata.namespace",
                ));
            }
            authz::review::access(&api, &call.user, value, false)
        }
        "bindings" => {
            let pods = api.builtin("", "pods")?;
            let mut bound = call.clone();
            bound.kind = pods;
            bound.name = object::name(&value).to_owned();
            bound.subresource = "binding".to_owned();
            subresource::bind(&mut bound, &value).await?;
            success()
        }
        _ => return Err(Status::no_such_path()),
    };
    Ok(Reply::value(output, 201, &answer))
}

fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn component_statuses(call: &Call, info: &Info, output: Output) -> Result<Reply, Status> {
    let one = |name: &str| {
        json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": null},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
    };
    let all: Vec<Value> = ["etcd-0", "controller-manager", "scheduler"]
        .map(one)
        .into();
    if info.verb == "get" {
        let found = all
            .iter()
            .find(|c| c["metadata"]["name"] == call.name.as_str());
        let found = found.ok_or_else(|| call.not_found())?;
        let record = Record::encode(found, 0);
        return self::one(call, output, 200, &record);
    }
    let objects: Vec<_> = all
        .iter()
        .map(|value| {
            let key = format!("core/componentstatuses/{}", object::name(value));
            let record = Record::encode(value, 0);
            std::sync::Arc::new(crate::object::Object::read(key.into(), record, None, &[]))
        })
        .collect();
    let meta = json!({});
    Ok(output::list(
        &call.kind,
        output,
        meta,
        &objects,
        call.query.get("includeObject"),
    ))
}

async fn on_subresource(
    call: &mut Call,
    info: &Info,
    request: &Request<'_>,
    output: Output,
) -> Result<Reply, Status> {
    let known = call.kind.resource.subresource(&info.subresource);
    let known = known.ok_or_else(Status::no_such_path)?;
    if !known.verbs.iter().any(|verb| verb == info.verb) {
        return Err(not_allowed(call, info));
    }
    match (info.subresource.as_str(), info.verb) {
        ("scale", "get") => Ok(Reply::value(
            output,
            200,
            &subresource::get_scale(call).await?,
        )),
        ("scale", "update") => {
            let scale = call.read_object(request.body())?;
            Ok(Reply::value(
                output,
                200,
                &subresource::put_scale(call, &scale).await?,
            ))
        }
        ("scale", "patch") => {
            let scale = subresource::patch_scale(call, request.body()).await?;
            Ok(Reply::value(output, 200, &scale))
        }
        ("binding", "create") => {
            let value = call.read_object(request.body())?;
            subresource::bind(call, &value).await?;
            Ok(Reply::value(output, 201, &success()))
        }
        ("eviction", "create") => {
            let value = call.read_object(request.body())?;
            subresource::evict(call, &value).await?;
            Ok(Reply::value(output, 201, &success()))
        }
        ("token", "create") => {
            let value = call.read_object(request.body())?;
            let answer = authn::service_account::request(call, &value).await?;
            Ok(Reply::value(output, 201, &answer))
        }
        (_, "get") => one(call, output, 200, &get::get(call).await?),
        (_, "update") => {
            let mut value = call.read_object(request.body())?;
            subresource::check_names(call, &mut value)?;
            let record = update::update(call, value).await?;
            one(call, output, 200, &record)
        }
        (_, "patch") => {
            let (record, _) = patch::patch(call, request.body()).await?;
            one(call, output, 200, &record)
        }
        _ => Err(not_allowed(call, info)),
    }
}
