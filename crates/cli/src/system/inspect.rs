//! `inspect` for any kind of object.

use crate::container;
use crate::failure::Failure;
use crate::image;
use crate::line::flag::quote;
use crate::line::parse::Matches;
use crate::network;
use crate::session::Session;
use crate::show::inspect::{self, Object};
use crate::volume;

const KINDS: [&str; 9] = [
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
];

/// `inspect`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let kind = matches.text("type").to_owned();
    if matches.changed("type") && kind.is_empty() {
        return Err(Failure::said(
            "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
        ));
    }
    if !kind.is_empty() && !KINDS.contains(&kind.as_str()) && kind != "volume" {
        let kinds: Vec<String> = KINDS
            .iter()
            .chain(&["volume"])
            .map(|kind| quote(kind))
            .collect();
        return Err(Failure::said(format!(
            "unknown type: {}: must be one of {}",
            quote(&kind),
            kinds.join(", ")
        )));
    }
    let size = matches.on("size");
    inspect::run(
        session,
        &matches.args,
        matches.text("format"),
        |session, name| find(session, &kind, name, size),
    )
}

type Attempt = fn(&mut Session<'_>, &str, bool) -> Result<Object, Failure>;

fn find(session: &mut Session<'_>, kind: &str, name: &str, size: bool) -> Result<Object, Failure> {
    match kind {
        "container" => return container::look::object(session, name, size),
        "image" => return image::look::object(session, name),
        "network" => return network::object(session, name, false),
        "volume" => return volume::object(session, name),
        "" => {}
        other => return Err(Failure::said(format!("Error: No such {other}: {name}"))),
    }
    let attempts: [Attempt; 4] = [
        container::look::object,
        |session, name, _| image::look::object(session, name),
        |session, name, _| network::object(session, name, false),
        |session, name, _| volume::object(session, name),
    ];
    for attempt in attempts {
        match attempt(session, name, size) {
            Err(failure) if failure.not_found() => {}
            other => return other,
        }
    }
    Err(Failure::said(format!("Error: No such object: {name}")))
}
