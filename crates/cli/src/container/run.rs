//! `run`: create, connect the streams, start, wait for the end.

use std::io::Read;

use serde::Deserialize;

use super::create::{self, see_help, see_help_with};
use super::signals;
use super::stream::{self, Ended, Wiring};
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::terminal;
use crate::wire::query::Query;
use crate::wire::{Client, Request, Streaming};

/// `run`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let detach = matches.on("detach");
    let mut wanted = create::read_flags(session, matches)?;
    let tty = matches.on("tty");
    if detach {
        if matches.changed("attach") {
            return Err(Failure::said(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        wanted.set_attach([false; 3]);
    } else if wanted.attach[0] && tty && !terminal::input() {
        return Err(Failure::said("the input device is not a TTY"));
    }
    let id = create::create(session, matches, &wanted)?;
    if detach {
        start(session, &id).map_err(|failure| start_failed(session, &failure))?;
        trace(session, matches, &id);
        session.line(&id)?;
        return Ok(0);
    }
    if matches.on("sig-proxy") && !tty {
        signals::pass_on(session.another_client(), id.clone());
    }
    run_attached(session, matches, &id, wanted.attach)
}

/// Connects the streams, starts the container and stays until it ends.
fn run_attached(
    session: &mut Session<'_>,
    matches: &Matches,
    id: &str,
    streams: [bool; 3],
) -> Result<i32, Failure> {
    let tty = matches.on("tty");
    let wiring = Wiring {
        tty,
        stdin: streams[0],
        detach_keys: keys(session, matches).to_owned(),
    };
    let connection = match streams.contains(&true) {
        true => Some(attach(session.client()?, id, streams, &wiring.detach_keys)?),
        false => None,
    };
    let condition = if matches.on("rm") {
        "removed"
    } else {
        "next-exit"
    };
    let waiting = wait(session.client()?, id, condition)?;
    if let Err(failure) = start(session, id) {
        let failure = start_failed(session, &failure);
        if matches.on("rm") {
            // The daemon removes what could not be started; the name is free only after that.
            let _ = exit_code(waiting);
        }
        return Err(failure);
    }
    trace(session, matches, id);
    let Some(connection) = connection else {
        session.line(id)?;
        return Ok(0);
    };
    let raw = if tty && wiring.stdin {
        terminal::raw()
    } else {
        None
    };
    if tty && terminal::output() {
        signals::follow_size(session.another_client(), format!("/containers/{id}/resize"));
    }
    let ended = stream::pump(connection, &wiring);
    drop(raw);
    if ended? == Ended::Detached {
        return Ok(0);
    }
    exit_code(waiting)
}

/// The detach keys of the flag, or of the configuration.
pub fn keys<'a>(session: &'a Session<'_>, matches: &'a Matches) -> &'a str {
    matches
        .given("detach-keys")
        .unwrap_or_else(|| session.config.text("detachKeys"))
}

fn start(session: &mut Session<'_>, id: &str) -> Result<(), Failure> {
    session
        .client()?
        .call(Request::post(format!("/containers/{id}/start")))
        .map(drop)
}

/// 127 for a program that isn't there, 126 for one that can't be run, 125 for the rest.
fn start_failed(session: &Session<'_>, failure: &Failure) -> Failure {
    let text = failure.to_string();
    let any = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let code = if any(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file",
    ]) {
        127
    } else if any(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    see_help_with(session, failure, code)
}

/// Opens the container's streams.
pub fn attach(
    client: &mut Client,
    id: &str,
    streams: [bool; 3],
    detach_keys: &str,
) -> Result<std::io::BufReader<crate::wire::endpoint::Stream>, Failure> {
    let query = Query::new()
        .add("stream", "1")
        .on("stdin", streams[0])
        .on("stdout", streams[1])
        .on("stderr", streams[2])
        .some("detachKeys", detach_keys);
    client.hijack(Request::post(
        query.to_path(&format!("/containers/{id}/attach")),
    ))
}

/// Asks for the container's end. The answer's head says that the daemon is watching, so that no end is missed.
pub fn wait(client: &mut Client, id: &str, condition: &str) -> Result<Streaming, Failure> {
    let path = Query::new()
        .some("condition", condition)
        .to_path(&format!("/containers/{id}/wait"));
    client.stream(Request::post(path))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exit {
    status_code: i64,
    error: Option<ExitError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExitError {
    message: String,
}

/// The exit code once the container has ended.
pub fn exit_code(mut waiting: Streaming) -> Result<i32, Failure> {
    let mut text = Vec::new();
    (&mut waiting.body)
        .take(1 << 20)
        .read_to_end(&mut text)
        .map_err(|error| Failure::Wire {
            during: "wait".into(),
            why: error.to_string(),
        })?;
    let exit: Exit = serde_json::from_slice(&text).map_err(|error| {
        Failure::said(format!(
            "the daemon's answer is not the expected JSON: {error}"
        ))
    })?;
    match exit.error {
        Some(error) if !error.message.is_empty() => Err(Failure::Exit {
            code: 125,
            text: format!("Error waiting for container: {}", error.message),
        }),
        _ => Ok(i32::try_from(exit.status_code).unwrap_or(125)),
    }
}

/// Prints where the time of the start went. A daemon that keeps no account is no reason to fail.
fn trace(session: &mut Session<'_>, matches: &Matches, id: &str) {
    if !matches.on("trace") {
        return;
    }
    let answer = match session.client() {
        Ok(client) => {
            client.json::<Vec<(String, f64)>>(Request::get(format!("/containers/{id}/wharf/trace")))
        }
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(steps) => {
            let rows: String = steps
                .iter()
                .map(|(step, us)| format!("{step}\t{us:.0} µs\n"))
                .collect();
            let total: f64 = steps.iter().map(|(_, us)| us).sum();
            let text = format!("STEP\tTIME\n{rows}sum\t{total:.0} µs\n");
            session.warn(crate::template::tabwriter::layout(&text).trim_end());
        }
        Err(failure) => session.warn(&format!("no trace: {}", see_help(session, failure))),
    }
}
