//! `inspect`, `logs`, `top`, `port`, `diff`.

use serde_json::Value as Json;

use super::stream::copy_output;
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::inspect::{self, Object};
use crate::template::tabwriter;
use crate::template::value::Value;
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, segment};

/// `container inspect`.
pub fn inspect(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let size = matches.on("size");
    inspect::run(
        session,
        &matches.args,
        matches.text("format"),
        |session, name| object(session, name, size),
    )
}

/// A container as `inspect` shows it.
pub fn object(session: &mut Session<'_>, name: &str, size: bool) -> Result<Object, Failure> {
    let path = Query::new()
        .on("size", size)
        .to_path(&format!("/containers/{}/json", segment(name)));
    let reply = session.client()?.call(Request::get(path))?;
    Ok(Object {
        raw: reply.body,
        kind: "Container",
        raw_fallback: true,
    })
}

/// `logs`.
pub fn logs(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let path = format!("/containers/{}/json", segment(&matches.args[0]));
    let about: Json = session.client()?.json(Request::get(path))?;
    let id = about["Id"].as_str().unwrap_or_default();
    let moment = |name: &str| {
        units::point_in_time(matches.text(name))
            .map_err(|why| Failure::said(format!("invalid value for \"{name}\": {why}")))
    };
    let query = Query::new()
        .add("stdout", "1")
        .add("stderr", "1")
        .some("since", &moment("since")?)
        .some("until", &moment("until")?)
        .on("timestamps", matches.on("timestamps"))
        .on("details", matches.on("details"))
        .on("follow", matches.on("follow"))
        .add("tail", matches.text("tail"));
    let streaming = session.client()?.stream(Request::get(
        query.to_path(&format!("/containers/{id}/logs")),
    ))?;
    copy_output(
        streaming.body,
        about["Config"]["Tty"].as_bool().unwrap_or(false),
    )
    .map_err(Failure::Stream)?;
    Ok(0)
}

/// `top`.
pub fn top(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let options = matches.args[1..].join(" ");
    let path = Query::new()
        .some("ps_args", &options)
        .to_path(&format!("/containers/{}/top", segment(&matches.args[0])));
    let answer: Json = session.client()?.json(Request::get(path))?;
    let line = |row: &Json| {
        let cells: Vec<&str> = row
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        cells.join("\t")
    };
    let mut text = format!("{}\n", line(&answer["Titles"]));
    for row in answer["Processes"].as_array().into_iter().flatten() {
        text.push_str(&format!("{}\n", line(row)));
    }
    session.out(tabwriter::layout_with(&text, 20, 3).as_bytes())?;
    Ok(0)
}

/// `port`.
pub fn port(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let name = &matches.args[0];
    let reply = session
        .client()?
        .call(Request::get(format!("/containers/{}/json", segment(name))))?;
    let about = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let ports = about
        .get("NetworkSettings")
        .and_then(|n| n.get("Ports"))
        .cloned()
        .unwrap_or_default();
    let mut lines: Vec<((u32, String), String)> = Vec::new();
    let wanted = matches.args.get(1).map(|port| match port.split_once('/') {
        Some((port, proto)) => format!("{port}/{}", proto.to_lowercase()),
        None => format!("{port}/tcp"),
    });
    for (key, bindings) in ports.pairs() {
        if wanted.as_ref().is_some_and(|wanted| wanted != key) {
            continue;
        }
        for binding in bindings.items() {
            let ip = binding.str_at("HostIp");
            let ip = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            let address = format!("{ip}:{}", binding.str_at("HostPort"));
            let number = key
                .split('/')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            let text = if wanted.is_some() {
                address
            } else {
                format!("{key} -> {address}")
            };
            lines.push(((number, key.clone()), text));
        }
    }
    if lines.is_empty()
        && let Some(port) = matches.args.get(1)
    {
        return Err(Failure::said(format!(
            "Error: No public port '{port}' published for {name}"
        )));
    }
    lines.sort();
    for (_, line) in lines {
        session.line(&line)?;
    }
    Ok(0)
}

/// `diff`.
pub fn diff(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    if matches.args[0].is_empty() {
        return Err(Failure::said("Container name cannot be empty"));
    }
    let path = format!("/containers/{}/changes", segment(&matches.args[0]));
    let changes: Option<Vec<Json>> = session.client()?.json(Request::get(path))?;
    for change in changes.into_iter().flatten() {
        let kind = match change["Kind"].as_i64() {
            Some(0) => 'C',
            Some(1) => 'A',
            _ => 'D',
        };
        session.line(&format!(
            "{kind} {}",
            change["Path"].as_str().unwrap_or_default()
        ))?;
    }
    Ok(0)
}
