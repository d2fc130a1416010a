//! `stop`, `kill`, `restart`, `pause`, `unpause`, `rm`, `rename`, `update`, `prune`.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::opts::resources;
use crate::session::{Session, each};
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters, segment};

fn post_each(
    session: &mut Session<'_>,
    names: &[String],
    verb: &str,
    query: &Query,
) -> Result<i32, Failure> {
    each(session, names, |session, name| {
        let path = query.to_path(&format!("/containers/{}/{verb}", segment(name)));
        session.client()?.call(Request::post(path))?;
        Ok(Some(name.to_owned()))
    })
}

fn stop_query(matches: &Matches) -> Query {
    let timeout = matches
        .given("timeout")
        .or(matches.given("time"))
        .unwrap_or_default();
    Query::new()
        .some("signal", matches.text("signal"))
        .some("t", timeout)
}

/// `stop`.
pub fn stop(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    post_each(session, &matches.args, "stop", &stop_query(matches))
}

/// `restart`.
pub fn restart(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    post_each(session, &matches.args, "restart", &stop_query(matches))
}

/// `kill`.
pub fn kill(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    post_each(
        session,
        &matches.args,
        "kill",
        &Query::new().some("signal", matches.text("signal")),
    )
}

/// `pause`.
pub fn pause(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    post_each(session, &matches.args, "pause", &Query::new())
}

/// `unpause`.
pub fn unpause(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    post_each(session, &matches.args, "unpause", &Query::new())
}

/// `rm`.
pub fn remove(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let query = Query::new()
        .on("v", matches.on("volumes"))
        .on("link", matches.on("link"))
        .on("force", matches.on("force"));
    let force = matches.on("force");
    each(session, &matches.args, |session, name| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(Failure::said("container name cannot be empty"));
        }
        let path = query.to_path(&format!("/containers/{}", segment(name)));
        match session.client()?.call(Request::delete(path)) {
            Ok(_) => Ok(Some(name.to_owned())),
            Err(failure) if force && failure.not_found() => {
                session.warn(&failure.to_string());
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    })
}

/// `rename`.
pub fn rename(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (old, new) = (matches.args[0].trim(), matches.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::said(
            "Error: Neither old nor new names may be empty",
        ));
    }
    let path = Query::new()
        .add("name", new)
        .to_path(&format!("/containers/{}/rename", segment(old)));
    session
        .client()?
        .call(Request::post(path))
        .map_err(|failure| match failure {
            Failure::Daemon { .. } => {
                let said = failure.to_string();
                Failure::said(format!(
                    "{said}\nError: failed to rename container named {old}"
                ))
            }
            other => other,
        })?;
    Ok(0)
}

/// `update`.
pub fn update(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    if !matches.any_given() {
        return Err(Failure::said(
            "you must provide one or more flags when using this command",
        ));
    }
    let mut body = resources::collect(matches).map_err(Failure::Said)?;
    // 0 means "as it is" to the daemon, except for the number of processes.
    if !matches.changed("pids-limit") {
        body.remove("PidsLimit");
    }
    let policy = match matches.given("restart") {
        Some(text) => resources::restart_policy(text).map_err(Failure::Said)?,
        None => json!({"Name": "", "MaximumRetryCount": 0}),
    };
    body.insert("RestartPolicy".into(), policy);
    let mut warnings: Vec<String> = Vec::new();
    let code = each(session, &matches.args, |session, name| {
        let path = format!("/containers/{}/update", segment(name));
        let answer: Value = session.client()?.json(Request::post(path).json(&body))?;
        let more = answer["Warnings"].as_array().into_iter().flatten();
        warnings.extend(more.filter_map(Value::as_str).map(str::to_owned));
        Ok(Some(name.to_owned()))
    })?;
    for warning in warnings {
        session.warn(&warning);
    }
    Ok(code)
}

/// `container prune`.
pub fn prune(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let question =
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !matches.on("force") && !session.confirm(question)? {
        return Ok(0);
    }
    let (text, space) = prune_now(session, &matches.list("filter"))?;
    session.out(
        format!(
            "{text}Total reclaimed space: {}\n",
            units::human_size(space)
        )
        .as_bytes(),
    )?;
    Ok(0)
}

/// Removes stopped containers; the text says which, the number how many bytes.
pub fn prune_now(session: &mut Session<'_>, filter: &[&str]) -> Result<(String, f64), Failure> {
    let path = Query::new()
        .some("filters", &filters(filter))
        .to_path("/containers/prune");
    let answer: Value = session.client()?.json(Request::post(path))?;
    let removed: Vec<&str> = answer["ContainersDeleted"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let text = match removed.is_empty() {
        true => String::new(),
        false => format!("Deleted Containers:\n{}\n\n", removed.join("\n")),
    };
    Ok((text, answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}
