//! `inspect`: objects as indented JSON or through a template, with errors gathered for the end.

use super::schema::Schema;
use crate::failure::Failure;
use crate::session::Session;
use crate::template::Template;
use crate::template::json;
use crate::template::value::Value;

/// One object as the daemon described it.
#[derive(Debug)]
pub struct Object {
    /// JSON text.
    pub raw: Vec<u8>,
    /// Its type in [`Schema`].
    pub kind: &'static str,
    /// Whether a template that fails on the struct is tried on the raw JSON.
    pub raw_fallback: bool,
}

/// Shows the objects called `names`.
pub fn run(
    session: &mut Session<'_>,
    names: &[String],
    format: &str,
    mut get: impl FnMut(&mut Session<'_>, &str) -> Result<Object, Failure>,
) -> Result<i32, Failure> {
    let template = parse(format)?;
    let mut errors: Vec<String> = Vec::new();
    let mut raws: Vec<Vec<u8>> = Vec::new();
    let mut text = String::new();
    for name in names {
        match get(session, name) {
            Ok(object) => match &template {
                None => raws.push(object.raw),
                Some(template) => match render(template, &object) {
                    Ok(out) => {
                        text.push_str(&out);
                        text.push('\n');
                    }
                    Err(error) => errors.push(format!("template parsing error: {error}")),
                },
            },
            Err(failure @ (Failure::Connect { .. } | Failure::Denied { .. })) => {
                return Err(failure);
            }
            Err(failure) => errors.push(failure.to_string()),
        }
    }
    let out = match (template.is_some(), text.is_empty()) {
        (true, true) => "\n".to_owned(),
        (true, false) => text,
        (false, _) => listing(&raws, format),
    };
    session.out(out.as_bytes())?;
    if errors.is_empty() {
        return Ok(0);
    }
    Err(Failure::Exit {
        code: 1,
        text: errors.join("\n"),
    })
}

/// The template of `--format`; none for JSON.
fn parse(format: &str) -> Result<Option<Template>, Failure> {
    if format.is_empty() || format == "json" {
        return Ok(None);
    }
    Template::parse(format)
        .map(Some)
        .map_err(|why| Failure::Exit {
            code: 64,
            text: format!("template parsing error: {why}"),
        })
}

fn listing(raws: &[Vec<u8>], format: &str) -> String {
    let texts: Vec<String> = raws
        .iter()
        .map(|raw| String::from_utf8_lossy(raw).trim().to_owned())
        .collect();
    let joined = format!("[{}]", texts.join(","));
    if format == "json" {
        return format!("{joined}\n");
    }
    format!("{}\n", json::indent(&joined))
}

/// First on the struct, then on the raw JSON, where a missing key is an error.
fn render(template: &Template, object: &Object) -> Result<String, String> {
    let raw = Value::parse_json(&object.raw)?;
    match template.render(&Schema::new().typed(object.kind, &raw)) {
        Ok(out) => Ok(out),
        Err(error) if !object.raw_fallback => Err(error),
        Err(_) => template.render_strict(&raw),
    }
}
