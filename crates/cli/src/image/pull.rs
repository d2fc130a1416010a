//! `pull` and `push`.

use std::io::Write;

use serde_json::Value;

use super::reference::Reference;
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::progress::Display;
use crate::system::credentials;
use crate::terminal;
use crate::wire::Request;
use crate::wire::query::{Query, segment};

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere; errors still count.
    Nothing,
}

/// `pull`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let given = Reference::parse(&matches.args[0]).map_err(Failure::Said)?;
    let all = matches.on("all-tags");
    if all && (given.tag.is_some() || given.digest.is_some()) {
        return Err(Failure::said("tag can't be used with --all-tags/-a"));
    }
    let quiet = matches.on("quiet");
    let mut reference = given.clone();
    if !all {
        reference = given.clone().tagged();
        if given.tag.is_none() && given.digest.is_none() && !quiet {
            session.line("Using default tag: latest")?;
        }
    }
    let to = if quiet { To::Nothing } else { To::Stdout };
    pull(session, &reference, all, matches.text("platform"), to)?;
    session.line(&reference.full())?;
    Ok(0)
}

/// Pulls the image.
pub fn pull(
    session: &mut Session<'_>,
    reference: &Reference,
    all: bool,
    platform: &str,
    to: To,
) -> Result<(), Failure> {
    let auth = credentials::header(&session.config, reference.server())?;
    let tag = match (&reference.digest, &reference.tag) {
        _ if all => "",
        (Some(digest), _) => digest,
        (None, Some(tag)) => tag,
        (None, None) => "latest",
    };
    let query = Query::new()
        .add("fromImage", &reference.familiar_name())
        .some("tag", tag)
        .some("platform", &platform.to_lowercase());
    let request = Request::post(query.to_path("/images/create")).header("X-Registry-Auth", auth);
    let streaming = session.client()?.stream(request)?;
    match to {
        To::Stdout => {
            Display::new(std::io::stdout(), terminal::output()).run(streaming.body, |_, _| {})
        }
        To::Stderr => {
            Display::new(std::io::stderr(), terminal::error()).run(streaming.body, |_, _| {})
        }
        To::Nothing => Display::new(std::io::sink(), false).run(streaming.body, |_, _| {}),
    }
}

/// `push`.
pub fn push(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let given = Reference::parse(&matches.args[0]).map_err(Failure::Said)?;
    let (all, quiet) = (matches.on("all-tags"), matches.on("quiet"));
    if all && given.tag.is_some() {
        return Err(Failure::said("tag can't be used with --all-tags/-a"));
    }
    let mut reference = given.clone();
    if !all {
        reference = given.clone().tagged();
        if given.tag.is_none() && !quiet {
            session.line("Using default tag: latest")?;
        }
    }
    let auth = credentials::header(&session.config, reference.server())?;
    let tag = if all {
        ""
    } else {
        reference.tag.as_deref().unwrap_or_default()
    };
    let path = format!("/images/{}/push", segment(&reference.familiar_name()));
    let request =
        Request::post(Query::new().some("tag", tag).to_path(&path)).header("X-Registry-Auth", auth);
    let streaming = session.client()?.stream(request)?;
    let aux = |_: &mut dyn Write, _: &Value| {};
    if quiet {
        Display::new(std::io::sink(), false).run(streaming.body, |out, value| aux(out, value))?;
        session.line(&reference.full())?;
    } else {
        Display::new(std::io::stdout(), terminal::output())
            .run(streaming.body, |out, value| aux(out, value))?;
    }
    Ok(0)
}
