//! `commit` and `export`.

use serde_json::Value;

use crate::failure::Failure;
use crate::image::reference::Reference;
use crate::image::transfer;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::wire::Request;
use crate::wire::query::{Query, segment};

/// `commit`.
pub fn commit(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let mut query = Query::new().add("container", &matches.args[0]);
    if let Some(name) = matches.args.get(1).filter(|name| !name.is_empty()) {
        let reference = Reference::parse(name).map_err(Failure::Said)?;
        if reference.digest.is_some() {
            return Err(Failure::said(
                "refusing to create a tag with a digest reference",
            ));
        }
        let reference = reference.tagged();
        query = query
            .add("repo", &reference.familiar_name())
            .add("tag", reference.tag.as_deref().unwrap_or_default());
    }
    query = query
        .some("comment", matches.text("message"))
        .some("author", matches.text("author"));
    for change in matches.list("change") {
        query = query.add("changes", change);
    }
    if !matches.on("pause") {
        query = query.add("pause", "0");
    }
    let answer: Value = session
        .client()?
        .json(Request::post(query.to_path("/commit")))?;
    session.line(answer["Id"].as_str().unwrap_or_default())?;
    Ok(0)
}

/// `export`.
pub fn export(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let path = format!("/containers/{}/export", segment(&matches.args[0]));
    transfer::download(session, "export container", matches.text("output"), &path)
}
