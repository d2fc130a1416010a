//! `image inspect` and `history`.

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::inspect::{self, Object};
use crate::show::table::{Layout, ellipsis, short_id};
use crate::template::value::{Row, Value};
use crate::units;
use crate::wire::Request;
use crate::wire::query::segment;

/// `image inspect`.
pub fn inspect(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    inspect::run(session, &matches.args, matches.text("format"), object)
}

/// An image as `inspect` shows it.
pub fn object(session: &mut Session<'_>, name: &str) -> Result<Object, Failure> {
    let path = format!("/images/{}/json", segment(name));
    let reply = session
        .client()?
        .call(Request::get(path))
        .map_err(|failure| match failure {
            Failure::Daemon {
                status: 404,
                message,
            } if !message.starts_with("no such image") => Failure::Daemon {
                status: 404,
                message: format!("no such image: {name}: {message}"),
            },
            other => other,
        })?;
    Ok(Object {
        raw: reply.body,
        kind: "Image",
        raw_fallback: true,
    })
}

const HISTORY: Layout = Layout {
    table: r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    raw: "{{.ID}}",
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

/// `history`.
pub fn history(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (whole, human) = (matches.on("no-trunc"), matches.on("human"));
    let mut format = HISTORY.format(matches.text("format"), matches.on("quiet"));
    if !human && format == format!("table {}", HISTORY.table) {
        format = format.replace(".CreatedSince", ".CreatedAt");
    }
    let path = format!("/images/{}/history", segment(&matches.args[0]));
    let reply = session.client()?.call(Request::get(path))?;
    let list = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let rows: Vec<Value> = list
        .items()
        .iter()
        .map(|layer| history_row(layer, whole, human))
        .collect();
    session.out(HISTORY.render(&format, &rows)?.as_bytes())?;
    Ok(0)
}

fn history_row(layer: &Value, whole: bool, human: bool) -> Value {
    let created = layer.int_at("Created");
    let by = layer.str_at("CreatedBy").replace('\t', " ");
    let at = units::parse_rfc3339("1970-01-01T00:00:00Z")
        .and_then(|epoch| {
            epoch
                .checked_add(jiff::SignedDuration::from_secs(created))
                .ok()
        })
        .map(|time| units::local_rfc3339(&time, false))
        .unwrap_or_default();
    let size = layer.int_at("Size");
    Row::new("*image.historyContext")
        .with("ID", short_id(layer.str_at("Id"), whole))
        .with(
            "CreatedSince",
            if created <= -62_135_596_800 {
                "N/A".to_owned()
            } else {
                units::ago(created)
            },
        )
        .with("CreatedAt", at)
        .with("CreatedBy", if whole { by } else { ellipsis(&by, 45) })
        .with(
            "Size",
            if human {
                units::human_size_3(size as f64)
            } else {
                size.to_string()
            },
        )
        .with("Comment", layer.str_at("Comment"))
        .done()
}
