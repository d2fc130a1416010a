//! Images: list, look at, pull, push, tag, remove, load, save, commit.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use wharf_engine::{CommitOptions, Engine};
use wharf_image::{Image, ProgressSink, Reference, Removed};

use crate::answer::{Outcome, Refusal, chain, created, empty, json_answer, json_lines, stream};
use crate::filters::Filters;
use crate::news::news;
use crate::request::{credentials, json_body};
use crate::route::{Call, page_not_found};
use crate::upload::reader;

pub async fn route(method: &Method, words: &[&str], call: Call) -> Outcome {
    let engine = call.api.engine.clone();
    match (method, words) {
        (&Method::GET, ["json"]) => list(call).await,
        (&Method::POST, ["create"]) => pull_or_import(call).await,
        (&Method::POST, ["load"]) => load(call).await,
        (&Method::POST, ["prune"]) => prune(call).await,
        (&Method::GET, ["get"]) => save(
            &engine,
            call.query
                .all("names")
                .iter()
                .flat_map(|n| n.split(','))
                .map(str::to_owned)
                .collect(),
        ),
        (&Method::GET, ["search"]) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "searching a hub is not supported; ask the registry for its catalogue",
        )),
        (&Method::GET, [name @ .., "get"]) => save(&engine, vec![name.join("/")]),
        (&Method::GET, [name @ .., "json"]) => {
            let image = engine.images().resolve(&name.join("/"))?;
            Ok(json_answer(&inspect(&image)))
        }
        (&Method::GET, [name @ .., "history"]) => history(&engine, &name.join("/")),
        (&Method::POST, [name @ .., "push"]) => push(call, &name.join("/")).await,
        (&Method::POST, [name @ .., "tag"]) => tag(call, &name.join("/")).await,
        (&Method::DELETE, name) if !name.is_empty() => remove(call, &name.join("/")).await,
        _ => Err(page_not_found()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}

/// An entry of the list.
pub fn summary(engine: &Engine, image: &Image) -> Value {
    let created = image
        .config
        .created()
        .as_deref()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok())
        .map_or(0, |t| t.as_second());
    let containers = engine
        .containers()
        .iter()
        .filter(|c| c.image_id == image.id)
        .count();
    let labels = image
        .config
        .config()
        .as_ref()
        .and_then(|c| c.labels().clone());
    json!({
        "Id": image.id, "ParentId": image.parent.clone().unwrap_or_default(), "RepoTags": image.tags, "RepoDigests": image.digests,
        "Created": created, "Size": image.size_bytes, "VirtualSize": image.size_bytes, "SharedSize": -1, "Labels": labels, "Containers": containers,
    })
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query)?;
    filters.check(&[
        "before",
        "dangling",
        "label",
        "label!",
        "reference",
        "since",
        "until",
    ])?;
    let engine = call.api.engine.clone();
    let all = call.query.flag("all");
    let images = {
        let engine = engine.clone();
        blocking(move || Ok(engine.images().list(all)?)).await?
    };
    let dangling = filters.flag("dangling");
    let fits = |pattern: &str, name: &str| {
        let repository = name.rsplit_once(':').map_or(name, |(r, _)| r);
        matches(pattern, name) || matches(pattern, repository)
    };
    let wanted = |image: &&Image| {
        let labels = image
            .config
            .config()
            .as_ref()
            .and_then(|c| c.labels().clone())
            .unwrap_or_default()
            .into_iter()
            .collect();
        dangling.is_none_or(|d| d == image.tags.is_empty())
            && filters.any("reference", |pattern| {
                image.tags.iter().any(|name| fits(pattern, name))
            })
            && filters.labels(&labels)
    };
    let list: Vec<Value> = images
        .iter()
        .filter(wanted)
        .map(|image| summary(&engine, image))
        .collect();
    Ok(json_answer(&json!(list)))
}

/// `*` and `?` as in a shell.
fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], text)
                || text
                    .chars()
                    .next()
                    .is_some_and(|c| c != '/' && matches(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) => matches(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => matches(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

fn inspect(image: &Image) -> Value {
    let whole: Value = serde_json::from_slice(&image.config_bytes).unwrap_or_default();
    let layers = image.config.rootfs().diff_ids().clone();
    json!({
        "Id": image.id, "RepoTags": image.tags, "RepoDigests": image.digests, "Parent": image.parent.clone().unwrap_or_default(),
        "Comment": whole["comment"].as_str().unwrap_or_default(), "Created": whole["created"], "DockerVersion": whole["docker_version"].as_str().unwrap_or_default(),
        "Author": whole["author"].as_str().unwrap_or_default(), "Config": whole["config"], "Architecture": whole["architecture"], "Os": whole["os"],
        "Size": image.size_bytes, "VirtualSize": image.size_bytes, "GraphDriver": {"Data": null, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": layers}, "Metadata": {"LastTagTime": image.last_tagged},
    })
}

fn history(engine: &Engine, name: &str) -> Outcome {
    let image = engine.images().resolve(name)?;
    let steps = image.config.history().clone().unwrap_or_default();
    let mut layers = engine.images().layers(&image).into_iter().rev();
    // Images built here know the image of each step; of others only the last step's is known.
    let mut of_step = Some(image);
    let mut entries: Vec<Value> = Vec::new();
    for step in steps.iter().rev() {
        let created = step
            .created()
            .as_deref()
            .and_then(|t| t.parse::<jiff::Timestamp>().ok())
            .map_or(0, |t| t.as_second());
        let layer = (step.empty_layer() != Some(true))
            .then(|| layers.next())
            .flatten();
        let tags = of_step.as_ref().map(|i| &i.tags).filter(|t| !t.is_empty());
        entries.push(json!({
            "Id": of_step.as_ref().map_or("<missing>", |i| &i.id), "Created": created,
            "CreatedBy": step.created_by().clone().unwrap_or_default(), "Tags": tags,
            "Size": layer.map_or(0, |l| l.size_bytes), "Comment": step.comment().clone().unwrap_or_default(),
        }));
        of_step = of_step
            .and_then(|i| i.parent)
            .and_then(|parent| engine.images().resolve(&parent).ok());
    }
    Ok(json_answer(&json!(entries)))
}

async fn pull_or_import(call: Call) -> Outcome {
    if call.query.get("fromSrc").is_some() {
        return import(call).await;
    }
    let name = call
        .query
        .get("fromImage")
        .ok_or_else(|| Refusal::bad("fromImage is missing"))?;
    let tag = call.query.get("tag");
    let text = match tag {
        Some(tag) if tag.contains(':') => format!("{name}@{tag}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    let reference = Reference::parse(&text)?.or_latest();
    let (credentials, platform) = (
        credentials(&call.parts.headers),
        call.query.get("platform").map(str::to_owned),
    );
    let (news, lines) = news();
    let engine = call.api.engine.clone();
    tokio::spawn(async move {
        match engine
            .images()
            .pull(&reference, platform.as_deref(), credentials, news.sink())
            .await
        {
            Ok((image, _)) => event(&engine, "pull", &reference.familiar(), &image.id),
            Err(error) => news.fail(&error),
        }
    });
    let missing = |message: &str| {
        if message.contains("not found") || message.contains("does not exist") {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    lines.answer_or((), missing).await
}

async fn import(call: Call) -> Outcome {
    let target = match call.query.get("repo") {
        Some(repo) => {
            let text = call
                .query
                .get("tag")
                .map_or_else(|| repo.to_owned(), |tag| format!("{repo}:{tag}"));
            Some(Reference::parse(&text)?.or_latest())
        }
        None => None,
    };
    if call.query.get("fromSrc") != Some("-") {
        return Err(Refusal::bad(
            "only an archive sent with the request can be imported; fetch the URL and send it (fromSrc=-)",
        ));
    }
    let engine = call.api.engine.clone();
    let mut archive = tokio_util::io::SyncIoBridge::new(reader(call.body));
    let changes = call.query.all("changes");
    let image = blocking(move || {
        let defaults = wharf_engine::config_of_changes(&changes)?;
        let config = serde_json::from_value(json!({"architecture": "amd64", "os": "linux", "config": defaults, "rootfs": {"type": "layers", "diff_ids": []}, "created": jiff::Timestamp::now().to_string()}));
        let config = config.map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
        Ok(engine.images().import(&mut archive, config, target.as_ref())?)
    })
    .await?;
    event(&call.api.engine, "import", &image.id, &image.id);
    Ok(json_lines(futures_util::stream::iter([
        json!({"status": image.id}),
    ])))
}

async fn push(call: Call, name: &str) -> Outcome {
    let text = call
        .query
        .get("tag")
        .map_or_else(|| name.to_owned(), |tag| format!("{name}:{tag}"));
    let reference = Reference::parse(&text)?.or_latest();
    let credentials = credentials(&call.parts.headers);
    let (news, lines) = news();
    let engine = call.api.engine.clone();
    tokio::spawn(async move {
        match engine
            .images()
            .push(&reference, credentials, news.sink())
            .await
        {
            Ok(result) => {
                let aux = json!({"progressDetail": {}, "aux": {"Tag": result.tag, "Digest": result.digest, "Size": result.size_bytes}});
                news.tell(&aux);
                event(
                    &engine,
                    "push",
                    &reference.familiar(),
                    &reference.familiar(),
                );
            }
            Err(error) => news.fail(&error),
        }
    });
    Ok(lines.answer(()))
}

/// What a name leads to in its registry, which no image here needs to know of.
pub async fn distribution(call: Call, name: &str) -> Outcome {
    let reference = Reference::parse(name)?;
    let credentials = credentials(&call.parts.headers);
    let images = call.api.engine.images();
    let found = images.remote_image(&reference, credentials).await?;
    let descriptor =
        json!({"mediaType": found.media_type, "digest": found.digest, "size": found.size_bytes});
    Ok(json_answer(
        &json!({"Descriptor": descriptor, "Platforms": found.platforms}),
    ))
}

async fn tag(call: Call, name: &str) -> Outcome {
    let repo = call
        .query
        .get("repo")
        .ok_or_else(|| Refusal::bad("repo is missing"))?;
    let target = call
        .query
        .get("tag")
        .map_or_else(|| repo.to_owned(), |tag| format!("{repo}:{tag}"));
    let (engine, name) = (call.api.engine.clone(), name.to_owned());
    let shown = target.clone();
    let id = blocking(move || {
        engine.images().tag(&name, &target)?;
        Ok(engine.images().resolve(&name)?.id)
    })
    .await?;
    event(&call.api.engine, "tag", &shown, &id);
    Ok(empty(StatusCode::CREATED))
}

async fn remove(call: Call, name: &str) -> Outcome {
    let (engine, name) = (call.api.engine.clone(), name.to_owned());
    let (force, prune) = (call.query.flag("force"), !call.query.flag("noprune"));
    let removed = blocking(move || {
        let users = |id: &str| engine.image_user(id);
        Ok(engine.images().remove(&name, force, prune, &users)?)
    })
    .await?;
    for step in &removed {
        match step {
            Removed::Untagged(name) => event(&call.api.engine, "untag", name, name),
            Removed::Deleted(id) => event(&call.api.engine, "delete", id, id),
        }
    }
    Ok(json_answer(&removed_json(&removed)))
}

fn removed_json(removed: &[Removed]) -> Value {
    let list = removed.iter().map(|step| match step {
        Removed::Untagged(name) => json!({"Untagged": name}),
        Removed::Deleted(id) => json!({"Deleted": id}),
    });
    list.collect()
}

async fn prune(call: Call) -> Outcome {
    let filters = Filters::of(&call.query)?;
    let all = filters.flag("dangling") == Some(false);
    let engine = call.api.engine.clone();
    let (removed, freed) = blocking(move || {
        let used = |id: &str| engine.image_user(id).is_some();
        Ok(engine.images().prune(all, &used)?)
    })
    .await?;
    Ok(json_answer(
        &json!({"ImagesDeleted": removed_json(&removed), "SpaceReclaimed": freed}),
    ))
}

async fn load(call: Call) -> Outcome {
    let quiet = call.query.flag("quiet");
    let engine = call.api.engine.clone();
    let mut archive = tokio_util::io::SyncIoBridge::new(reader(call.body));
    let (news, lines) = news();
    let progress: ProgressSink = if quiet { Arc::new(|_| {}) } else { news.sink() };
    tokio::task::spawn_blocking(move || match engine.images().load(&mut archive, progress) {
        Ok(names) => {
            for name in names {
                let word = if name.starts_with("sha256:") {
                    "Loaded image ID"
                } else {
                    "Loaded image"
                };
                news.tell(&json!({"stream": format!("{word}: {name}\n")}));
                event(&engine, "load", &name, &name);
            }
        }
        Err(error) => news.fail(&error),
    });
    Ok(lines.answer(()))
}

fn save(engine: &Engine, names: Vec<String>) -> Outcome {
    for name in &names {
        engine.images().resolve(name)?;
    }
    let (writer, reader) = tokio::io::duplex(256 * 1024);
    let engine = engine.clone();
    tokio::task::spawn_blocking(move || {
        let mut output = tokio_util::io::SyncIoBridge::new(writer);
        if let Err(error) = engine.images().save(&names, &mut output) {
            tracing::warn!(error = chain(&error), "images could not be saved");
        }
        let _ = output.shutdown();
    });
    Ok(stream(
        "application/x-tar",
        tokio_util::io::ReaderStream::new(reader),
    ))
}

pub async fn commit(call: Call) -> Outcome {
    let container = call.query.get("container").unwrap_or_default().to_owned();
    let target = call.query.get("repo").map(|repo| {
        call.query
            .get("tag")
            .map_or_else(|| repo.to_owned(), |tag| format!("{repo}:{tag}"))
    });
    let options = CommitOptions {
        target,
        author: call.query.get("author").unwrap_or_default().to_owned(),
        comment: call.query.get("comment").unwrap_or_default().to_owned(),
        pause: call.query.flag_or("pause", true),
        changes: call
            .query
            .all("changes")
            .iter()
            .flat_map(|c| c.lines())
            .map(str::to_owned)
            .filter(|c| !c.is_empty())
            .collect(),
        config: None,
    };
    let _ = json_body(call.body).await?;
    let image = call.api.engine.commit(&container, options).await?;
    Ok(created(&json!({"Id": image.id})))
}

fn event(engine: &Engine, action: &str, id: &str, name: &str) {
    engine.publish(wharf_engine::Event {
        kind: "image".into(),
        action: action.into(),
        id: id.into(),
        attributes: [("name".to_owned(), name.to_owned())].into(),
        time_ns: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_patterns() {
        for (pattern, text, expected) in [
            ("bus*", "busybox", true),
            ("*:v?", "a:v1", true),
            ("a/*", "a/b/c", false),
            ("x", "y", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
