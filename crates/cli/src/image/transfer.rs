//! `save`, `load`, `import`, and what they share: files and streams on one side, the daemon on the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::reference::Reference;
use crate::failure::{Failure, os_words};
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::progress::Display;
use crate::terminal;
use crate::wire::Request;
use crate::wire::query::Query;

/// `save`.
pub fn save(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let mut query = Query::new();
    for name in &matches.args {
        query = query.add("names", name);
    }
    download(
        session,
        "save image",
        matches.text("output"),
        &query
            .some("platform", matches.text("platform"))
            .to_path("/images/get"),
    )
}

/// Gets `path` (to do `what`) and writes the body to the file `output`, or to standard output when it is empty.
pub fn download(
    session: &mut Session<'_>,
    what: &str,
    output: &str,
    path: &str,
) -> Result<i32, Failure> {
    if output.is_empty() && terminal::output() {
        return Err(Failure::said(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let target = PathBuf::from(output);
    if !output.is_empty() {
        check_target(&target).map_err(|why| Failure::said(format!("failed to {what}: {why}")))?;
    }
    let mut streaming = session.client()?.stream(Request::get(path))?;
    if output.is_empty() {
        io::copy(&mut streaming.body, &mut io::stdout().lock()).map_err(Failure::Stream)?;
        return Ok(0);
    }
    write_whole(&mut streaming.body, &target)?;
    Ok(0)
}

fn check_target(target: &Path) -> Result<(), String> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::metadata(folder).map_err(|error| {
        format!(
            "invalid output path: stat {}: {}",
            folder.display(),
            os_words(&error)
        )
    })?;
    match std::fs::metadata(target) {
        Ok(about) if about.is_dir() => Err(format!(
            "invalid output path: {:?} must be a regular file",
            target.display().to_string()
        )),
        _ => Ok(()),
    }
}

/// Writes beside the target and renames, so that a broken download leaves no file that looks whole.
fn write_whole(from: &mut impl Read, target: &Path) -> Result<(), Failure> {
    if std::fs::metadata(target).is_ok_and(|about| !about.is_file()) {
        let mut file = File::options()
            .write(true)
            .open(target)
            .map_err(Failure::file("open", target))?;
        return io::copy(from, &mut file)
            .map(drop)
            .map_err(Failure::file("write", target));
    }
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp-{}", std::process::id()));
    let fresh = target.with_file_name(name);
    let result = File::create(&fresh).and_then(|mut file| {
        io::copy(from, &mut file)?;
        file.flush()?;
        std::fs::rename(&fresh, target)
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    result.map_err(Failure::file("write", target))
}

/// `load`.
pub fn load(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let input = matches.text("input");
    let mut from: Box<dyn Read> = if input.is_empty() {
        if terminal::input() {
            return Err(Failure::said(
                "requested load from stdin, but stdin is empty",
            ));
        }
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(input).map_err(Failure::file("open", input))?)
    };
    let quiet = matches.on("quiet") || !terminal::output();
    let path = Query::new()
        .add("quiet", if quiet { "1" } else { "0" })
        .some("platform", matches.text("platform"))
        .to_path("/images/load");
    let streaming = session
        .client()?
        .stream(Request::post(path).body(&mut from, "application/x-tar"))?;
    if streaming
        .head
        .get("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"))
    {
        Display::new(io::stdout(), terminal::output()).run(streaming.body, |_, _| {})?;
    } else {
        let mut body = streaming.body;
        io::copy(&mut body, &mut io::stdout().lock()).map_err(Failure::Stream)?;
    }
    Ok(0)
}

/// `import`.
pub fn import(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let source = matches.args[0].as_str();
    let name = matches.args.get(1).map(String::as_str).unwrap_or_default();
    let mut query = Query::new();
    if !name.is_empty() {
        let reference = Reference::parse(name).map_err(Failure::Said)?;
        query = query.add("repo", &reference.familiar());
    }
    query = query
        .some("message", matches.text("message"))
        .some("platform", &matches.text("platform").to_lowercase());
    for change in matches.list("change") {
        query = query.add("changes", change);
    }
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let mut from: Box<dyn Read> = match source {
        "-" => Box::new(io::stdin().lock()),
        _ if is_url => Box::new(io::empty()),
        path => Box::new(File::open(path).map_err(Failure::file("open", path))?),
    };
    let query = query.add("fromSrc", if is_url { source } else { "-" });
    let request = Request::post(query.to_path("/images/create"));
    let request = if is_url {
        request
    } else {
        request.body(&mut from, "application/x-tar")
    };
    let streaming = session.client()?.stream(request)?;
    Display::new(io::stdout(), terminal::output()).run(streaming.body, |_, _| {})?;
    Ok(0)
}
