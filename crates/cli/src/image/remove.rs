//! `rmi`, `tag` and `image prune`.

use serde_json::Value;

use super::reference::Reference;
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters, segment};

/// `rmi`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let force = matches.on("force");
    let query = Query::new()
        .on("force", force)
        .on("noprune", matches.on("no-prune"));
    let mut errors = Vec::new();
    let mut fatal = false;
    for name in &matches.args {
        let path = query.to_path(&format!("/images/{}", segment(name)));
        match session.client()?.json::<Vec<Value>>(Request::delete(path)) {
            Ok(removed) => session.out(removals(&removed).as_bytes())?,
            Err(failure @ (Failure::Connect { .. } | Failure::Denied { .. })) => {
                return Err(failure);
            }
            Err(failure) => {
                fatal |= !failure.not_found();
                errors.push(failure.to_string());
            }
        }
    }
    if errors.is_empty() {
        return Ok(0);
    }
    let text = errors.join("\n");
    if force && !fatal {
        session.warn(&text);
        return Ok(0);
    }
    Err(Failure::Said(text))
}

fn removals(removed: &[Value]) -> String {
    let line = |item: &Value| match (item["Deleted"].as_str(), item["Untagged"].as_str()) {
        (Some(id), _) if !id.is_empty() => format!("Deleted: {id}\n"),
        (_, untagged) => format!("Untagged: {}\n", untagged.unwrap_or_default()),
    };
    removed.iter().map(line).collect()
}

/// `tag`.
pub fn tag(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (source, target) = (&matches.args[0], &matches.args[1]);
    let wrong = |name: &str, why: String| {
        Failure::said(format!(
            "Error parsing reference: {name:?} is not a valid repository/tag: {why}"
        ))
    };
    let hex = |text: &str| text.len() >= 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex(source.trim_start_matches("sha256:")) {
        Reference::parse(source).map_err(|why| wrong(source, why))?;
    }
    let reference = Reference::parse(target).map_err(|why| wrong(target, why))?;
    if reference.digest.is_some() {
        return Err(Failure::said(
            "refusing to create a tag with a digest reference",
        ));
    }
    let reference = reference.tagged();
    let query = Query::new()
        .add("repo", &reference.familiar_name())
        .add("tag", reference.tag.as_deref().unwrap_or_default());
    session.client()?.call(Request::post(
        query.to_path(&format!("/images/{}/tag", segment(source))),
    ))?;
    Ok(0)
}

/// `image prune`.
pub fn prune(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let all = matches.on("all");
    let what = if all {
        "all images without at least one container associated to them."
    } else {
        "all dangling images."
    };
    let question = format!("WARNING! This will remove {what}\nAre you sure you want to continue?");
    if !matches.on("force") && !session.confirm(&question)? {
        return Ok(0);
    }
    let (text, space) = prune_now(session, all, &matches.list("filter"))?;
    session.out(
        format!(
            "{text}Total reclaimed space: {}\n",
            units::human_size(space)
        )
        .as_bytes(),
    )?;
    Ok(0)
}

/// Removes images that nothing uses; the text says which, the number how many bytes.
pub fn prune_now(
    session: &mut Session<'_>,
    all: bool,
    filter: &[&str],
) -> Result<(String, f64), Failure> {
    let mut filter = filter.to_vec();
    filter.push(if all {
        "dangling=false"
    } else {
        "dangling=true"
    });
    let path = Query::new()
        .add("filters", &filters(&filter))
        .to_path("/images/prune");
    let answer: Value = session.client()?.json(Request::post(path))?;
    let mut text = String::new();
    let removed = answer["ImagesDeleted"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if !removed.is_empty() {
        text = "Deleted Images:\n".into();
        for item in &removed {
            match item["Untagged"].as_str() {
                Some(name) if !name.is_empty() => text.push_str(&format!("untagged: {name}\n")),
                _ => text.push_str(&format!(
                    "deleted: {}\n",
                    item["Deleted"].as_str().unwrap_or_default()
                )),
            }
        }
        text.push('\n');
    }
    Ok((text, answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}
