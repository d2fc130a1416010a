//! `search`.

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::table::{Layout, ellipsis};
use crate::template::value::{Row, Value};
use crate::wire::Request;
use crate::wire::query::{Query, filters};

const LAYOUT: Layout = Layout {
    table: r"{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
    raw: "{{.Name}}",
    headings: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
};

/// `search`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let auth = super::credentials::header(&session.config, super::credentials::HUB)?;
    let query = Query::new()
        .add("term", &matches.args[0])
        .some(
            "limit",
            if matches.number("limit") > 0 {
                matches.text("limit")
            } else {
                ""
            },
        )
        .some("filters", &filters(&matches.list("filter")));
    let request = Request::get(query.to_path("/images/search")).header("X-Registry-Auth", auth);
    let reply = session.client()?.call(request)?;
    let list = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let whole = matches.on("no-trunc");
    let mut found: Vec<&Value> = list.items().iter().collect();
    found.sort_by_key(|result| std::cmp::Reverse(result.int_at("star_count")));
    let rows: Vec<Value> = found.into_iter().map(|result| row(result, whole)).collect();
    let format = LAYOUT.format(matches.text("format"), false);
    session.out(LAYOUT.render(&format, &rows)?.as_bytes())?;
    Ok(0)
}

fn row(result: &Value, whole: bool) -> Value {
    let description = result.str_at("description").replace(['\n', '\r'], " ");
    let mark = |key: &str| if result.bool_at(key) { "[OK]" } else { "" };
    Row::new("*registry.searchContext")
        .with("Name", result.str_at("name"))
        .with(
            "Description",
            if whole {
                description
            } else {
                ellipsis(&description, 45)
            },
        )
        .with("StarCount", result.int_at("star_count").to_string())
        .with("IsOfficial", mark("is_official"))
        .with("IsAutomated", mark("is_automated"))
        .done()
}
