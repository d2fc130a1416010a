//! `system prune` and `builder prune`.

use serde_json::Value;

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::wire::Request;
use crate::wire::query::{Query, filters};
use crate::{container, image, network, units, volume};

/// `system prune`.
pub fn system(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (all, volumes) = (matches.on("all"), matches.on("volumes"));
    let filter = matches.list("filter");
    if volumes && filter.iter().any(|f| f.starts_with("until=")) {
        return Err(Failure::said(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !matches.on("force") && !session.confirm(&warning(all, volumes, &filter))? {
        return Ok(0);
    }
    let mut space = 0.0;
    let (text, bytes) = container::lifecycle::prune_now(session, &filter)?;
    space += bytes;
    session.out(text.as_bytes())?;
    let text = network::prune_now(session, &filter)?;
    session.out(text.as_bytes())?;
    if volumes {
        let (text, bytes) = volume::prune_now(session, false, &filter)?;
        space += bytes;
        session.out(text.as_bytes())?;
    }
    let (text, bytes) = image::remove::prune_now(session, all, &filter)?;
    space += bytes;
    session.out(text.as_bytes())?;
    let (text, bytes) = builder_now(session, all, &filter, "")?;
    space += bytes;
    session.out(text.as_bytes())?;
    session.line(&format!(
        "Total reclaimed space: {}",
        units::human_size(space)
    ))?;
    Ok(0)
}

fn warning(all: bool, volumes: bool, filter: &[&str]) -> String {
    let mut lines = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all {
        "all build cache"
    } else {
        "unused build cache"
    });
    let mut text = String::from("WARNING! This will remove:\n");
    for line in lines {
        text.push_str(&format!("  - {line}\n"));
    }
    if !filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for item in filter {
            text.push_str(&format!("  - {item}\n"));
        }
    }
    format!("{text}\nAre you sure you want to continue?")
}

/// `builder prune`.
pub fn builder(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let all = matches.on("all");
    let what = if all {
        "WARNING! This will remove all build cache."
    } else {
        "WARNING! This will remove all dangling build cache."
    };
    let question = format!("{what} Are you sure you want to continue?");
    if !matches.on("force") && !session.confirm(&question)? {
        return Ok(0);
    }
    let keep = match crate::opts::resources::bytes(matches, "keep-storage") {
        0 => String::new(),
        bytes => bytes.to_string(),
    };
    let (text, space) = builder_now(session, all, &matches.list("filter"), &keep)?;
    session.out(
        format!(
            "{text}Total reclaimed space: {}\n",
            units::human_size(space)
        )
        .as_bytes(),
    )?;
    Ok(0)
}

fn builder_now(
    session: &mut Session<'_>,
    all: bool,
    filter: &[&str],
    keep: &str,
) -> Result<(String, f64), Failure> {
    let path = Query::new()
        .on("all", all)
        .some("keep-storage", keep)
        .some("filters", &filters(filter))
        .to_path("/build/prune");
    let answer: Value = session.client()?.json(Request::post(path))?;
    let removed: Vec<&str> = answer["CachesDeleted"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let text = match removed.is_empty() {
        true => String::new(),
        false => format!("Deleted build cache objects:\n{}\n\n", removed.join("\n")),
    };
    Ok((text, answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}
