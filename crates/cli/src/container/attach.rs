//! `attach`, `start` and `wait`.

use super::run::{attach, exit_code, keys, wait};
use super::signals;
use super::stream::{self, Ended, Wiring};
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::{Session, each};
use crate::template::value::Value;
use crate::terminal;
use crate::wire::query::segment;
use crate::wire::{Request, Streaming};

fn inspect(session: &mut Session<'_>, name: &str) -> Result<Value, Failure> {
    let reply = session
        .client()?
        .call(Request::get(format!("/containers/{}/json", segment(name))))?;
    Value::parse_json(&reply.body).map_err(Failure::Said)
}

/// `attach`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let about = inspect(session, &matches.args[0])?;
    let state = about.get("State").cloned().unwrap_or_default();
    if !state.bool_at("Running") {
        return Err(Failure::said(
            "You cannot attach to a stopped container, start it first",
        ));
    }
    if state.bool_at("Paused") {
        return Err(Failure::said(
            "You cannot attach to a paused container, unpause it first",
        ));
    }
    if state.bool_at("Restarting") {
        return Err(Failure::said(
            "You cannot attach to a restarting container, wait until it is running",
        ));
    }
    let config = about.get("Config").cloned().unwrap_or_default();
    let tty = config.bool_at("Tty");
    let stdin = config.bool_at("OpenStdin") && !matches.on("no-stdin");
    if stdin && tty && !terminal::input() {
        return Err(Failure::said("the input device is not a TTY"));
    }
    let id = about.str_at("Id").to_owned();
    if matches.on("sig-proxy") && !tty {
        signals::pass_on(session.another_client(), id.clone());
    }
    let waiting = wait(session.client()?, &id, "")?;
    let wiring = Wiring {
        tty,
        stdin,
        detach_keys: keys(session, matches).to_owned(),
    };
    let connection = attach(
        session.client()?,
        &id,
        [stdin, true, true],
        &wiring.detach_keys,
    )?;
    let raw = if tty && stdin { terminal::raw() } else { None };
    if tty && terminal::output() {
        signals::follow_size(session.another_client(), format!("/containers/{id}/resize"));
    }
    let ended = stream::pump(connection, &wiring);
    drop(raw);
    match ended? {
        Ended::Detached => Ok(0),
        Ended::Closed => exit_code(waiting),
    }
}

/// `start`.
pub fn start(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    if matches.on("attach") || matches.on("interactive") {
        if matches.args.len() > 1 {
            return Err(Failure::said(
                "you cannot start and attach multiple containers at once",
            ));
        }
        return start_attached(session, matches);
    }
    let mut failed = Vec::new();
    for name in &matches.args {
        let path = format!("/containers/{}/start", segment(name));
        match session.client()?.call(Request::post(path)) {
            Ok(_) => session.line(name)?,
            Err(failure) => {
                session.warn(&failure.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::said(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

fn start_attached(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let about = inspect(session, &matches.args[0])?;
    let id = about.str_at("Id").to_owned();
    let config = about.get("Config").cloned().unwrap_or_default();
    let tty = config.bool_at("Tty");
    let stdin = matches.on("interactive") && config.bool_at("OpenStdin");
    let removed = about
        .get("HostConfig")
        .is_some_and(|host| host.bool_at("AutoRemove"));
    if !tty {
        signals::pass_on(session.another_client(), id.clone());
    }
    let wiring = Wiring {
        tty,
        stdin,
        detach_keys: keys(session, matches).to_owned(),
    };
    let connection = attach(
        session.client()?,
        &id,
        [stdin, true, true],
        &wiring.detach_keys,
    )?;
    let waiting = wait(
        session.client()?,
        &id,
        if removed { "removed" } else { "next-exit" },
    )?;
    session
        .client()?
        .call(Request::post(format!("/containers/{id}/start")))?;
    let raw = if tty && stdin { terminal::raw() } else { None };
    if tty && terminal::output() {
        signals::follow_size(session.another_client(), format!("/containers/{id}/resize"));
    }
    let ended = stream::pump(connection, &wiring);
    drop(raw);
    match ended? {
        Ended::Detached => Ok(0),
        Ended::Closed => exit_code(waiting),
    }
}

/// `wait`.
pub fn wait_for(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    each(session, &matches.args, |session, name| {
        let waiting: Streaming = wait(session.client()?, &segment(name), "")?;
        Ok(Some(exit_code(waiting)?.to_string()))
    })
}
