//! `events`.

use std::io::{BufRead, BufReader};

use jiff::Timestamp;

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::schema::Schema;
use crate::template::Template;
use crate::template::value::Value;
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters};

/// `events`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let wrong = |why: String| Failure::Exit {
        code: 64,
        text: format!("Error parsing format: {why}"),
    };
    let template = match matches.text("format") {
        "" => None,
        "json" => Some(Template::parse("{{json .}}").map_err(wrong)?),
        text => Some(Template::parse(text).map_err(wrong)?),
    };
    let schema = Schema::new();
    if let Some(template) = &template {
        // A template that can't work is refused before the first event.
        template
            .render(&schema.typed("EventMessage", &Value::Nil))
            .map_err(wrong)?;
    }
    let query = Query::new()
        .some(
            "since",
            &units::point_in_time(matches.text("since")).map_err(Failure::Said)?,
        )
        .some(
            "until",
            &units::point_in_time(matches.text("until")).map_err(Failure::Said)?,
        )
        .some("filters", &filters(&matches.list("filter")));
    let streaming = session
        .client()?
        .stream(Request::get(query.to_path("/events")))?;
    for line in BufReader::new(streaming.body).split(b'\n') {
        let line = line.map_err(|error| Failure::said(error.to_string()))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let event = Value::parse_json(&line).map_err(Failure::Said)?;
        let text = match &template {
            None => describe(&event),
            Some(template) => template
                .render(&schema.typed("EventMessage", &event))
                .map_err(Failure::Said)?,
        };
        session.line(&text)?;
    }
    Ok(0)
}

/// One event as a line.
pub fn describe(event: &Value) -> String {
    let nanoseconds = match event.int_at("timeNano") {
        0 => i128::from(event.int_at("time")) * 1_000_000_000,
        nanoseconds => i128::from(nanoseconds),
    };
    let mut text = String::new();
    if nanoseconds != 0
        && let Ok(time) = Timestamp::from_nanosecond(nanoseconds)
    {
        text = format!("{} ", units::local_rfc3339(&time, true));
    }
    let actor = event.get("Actor").cloned().unwrap_or_default();
    text.push_str(&format!(
        "{} {} {}",
        event.str_at("Type"),
        event.str_at("Action"),
        actor.str_at("ID")
    ));
    let attributes = actor.get("Attributes").cloned().unwrap_or_default();
    let mut pairs: Vec<String> = attributes
        .pairs()
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_text().unwrap_or_default()))
        .collect();
    pairs.sort();
    if !pairs.is_empty() {
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_as_docker_shows_it() {
        let event = Value::parse_json(
            br#"{"Type":"container","Action":"die","Actor":{"ID":"x","Attributes":{"image":"b","exitCode":"3"}},"timeNano":1795424766633598006}"#,
        )
        .unwrap();
        assert!(
            describe(&event).ends_with(".633598006Z container die x (exitCode=3, image=b)"),
            "{}",
            describe(&event)
        );
    }
}
