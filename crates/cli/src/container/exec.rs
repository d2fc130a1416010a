//! `exec`.

use serde_json::{Value, json};

use super::run::keys;
use super::signals;
use super::stream::{self, Ended, Wiring};
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::opts::env;
use crate::session::Session;
use crate::terminal;
use crate::wire::Request;
use crate::wire::query::segment;

/// `exec`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (tty, detach) = (matches.on("tty"), matches.on("detach"));
    let stdin = matches.on("interactive") && !detach;
    if stdin && tty && !terminal::input() {
        return Err(Failure::said("the input device is not a TTY"));
    }
    let container = segment(&matches.args[0]);
    let environment = env::collect(&matches.list("env-file"), &matches.list("env"))?;
    let detach_keys = keys(session, matches).to_owned();
    let size = if tty { terminal::size() } else { None };
    let size = size.map(|(rows, columns)| json!([rows, columns]));
    let body = json!({
        "User": matches.text("user"), "Privileged": matches.on("privileged"), "Tty": tty,
        "ConsoleSize": size, "AttachStdin": stdin, "AttachStdout": !detach, "AttachStderr": !detach,
        "DetachKeys": detach_keys, "Env": if environment.is_empty() { Value::Null } else { json!(environment) },
        "WorkingDir": matches.text("workdir"), "Cmd": &matches.args[1..],
    });
    let created: Value = session
        .client()?
        .json(Request::post(format!("/containers/{container}/exec")).json(&body))?;
    let id = created["Id"].as_str().unwrap_or_default().to_owned();
    if id.is_empty() {
        return Err(Failure::said("exec ID empty"));
    }
    let start = Request::post(format!("/exec/{id}/start"))
        .json(&json!({"Detach": detach, "Tty": tty, "ConsoleSize": size}));
    if detach {
        session.client()?.call(start)?;
        return Ok(0);
    }
    let connection = session.client()?.hijack(start)?;
    let raw = if tty && stdin { terminal::raw() } else { None };
    if tty && terminal::output() {
        signals::follow_size(session.another_client(), format!("/exec/{id}/resize"));
    }
    let ended = stream::pump(
        connection,
        &Wiring {
            tty,
            stdin,
            detach_keys,
        },
    );
    drop(raw);
    if ended? == Ended::Detached {
        return Ok(0);
    }
    let about: Value = session
        .client()?
        .json(Request::get(format!("/exec/{id}/json")))?;
    Ok(about["ExitCode"]
        .as_i64()
        .and_then(|code| i32::try_from(code).ok())
        .unwrap_or(0))
}
