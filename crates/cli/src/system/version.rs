//! `version`.

use std::rc::Rc;

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::template::Template;
use crate::template::value::{Field, Record, Value};
use crate::units;
use crate::wire::Request;

/// Newest version of the API that this client knows.
pub const API_VERSION: &str = "1.50";

/// `28.2.2, build e6534b4` and the like.
pub fn build() -> &'static str {
    option_env!("WHARF_BUILD").unwrap_or("source")
}

fn record(type_name: &str, fields: Vec<(&str, &str, bool, Value)>) -> Value {
    let fields = fields
        .into_iter()
        .map(|(name, json, omit_empty, value)| Field {
            name: Rc::from(name),
            json: Rc::from(json),
            omit_empty,
            value,
        })
        .collect();
    Value::Record(Rc::new(Record {
        type_name: type_name.to_owned(),
        fields,
        row: false,
    }))
}

/// `version`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let format = match matches.text("format") {
        "json" => "{{json .}}",
        other => other,
    };
    let template = match format {
        "" => None,
        text => Some(Template::parse(text).map_err(|why| Failure::Exit {
            code: 64,
            text: format!("template parsing error: {why}"),
        })?),
    };
    let answer = session
        .client()
        .and_then(|client| client.call(Request::get("/version")));
    let (server, failure) = match answer {
        Ok(reply) => (
            Some(Value::parse_json(&reply.body).map_err(Failure::Said)?),
            None,
        ),
        Err(failure) => (None, Some(failure)),
    };
    let api = server.as_ref().map_or(API_VERSION, |server| {
        lower(server.str_at("ApiVersion"), API_VERSION)
    });
    match template {
        None => {
            let mut text = client_text(api);
            if let Some(server) = &server {
                text.push_str(&server_text(server));
            }
            session.out(text.as_bytes())?;
        }
        Some(template) => {
            let dot = whole(api, server.as_ref());
            let text = template.render(&dot).map_err(|why| {
                let why = why.replacen("template: :", "template: version:", 1);
                Failure::said(why.replacen("executing \"\"", "executing \"version\"", 1))
            })?;
            session.out(format!("{text}\n").as_bytes())?;
        }
    }
    failure.map_or(Ok(0), Err)
}

/// The lower of two versions.
fn lower<'a>(a: &'a str, b: &'a str) -> &'a str {
    let parts = |text: &str| -> Vec<u32> {
        text.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    if parts(a) < parts(b) { a } else { b }
}

fn client_text(api: &str) -> String {
    let api = if api == API_VERSION {
        api.to_owned()
    } else {
        format!("{api} (downgraded from {API_VERSION})")
    };
    let line = |name: &str, value: &str| format!(" {:<18} {value}\n", format!("{name}:"));
    let mut text = String::from("Client:\n");
    text.push_str(&line("Version", env!("CARGO_PKG_VERSION")));
    text.push_str(&line("API version", &api));
    text.push_str(&line("Git commit", build()));
    text.push_str(&line("OS/Arch", &format!("linux/{}", arch())));
    text.push_str(&line("Context", "default"));
    text
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn server_text(server: &Value) -> String {
    let line = |name: &str, value: &str| format!("  {:<17} {value}\n", format!("{name}:"));
    let mut text = String::from("\nServer:");
    match server
        .get("Platform")
        .map(|platform| platform.str_at("Name"))
    {
        Some(name) if !name.is_empty() => text.push_str(&format!(" {name}\n")),
        _ => text.push('\n'),
    }
    let components = server.items_at("Components");
    if components.is_empty() {
        let engine = |key: &str| server.str_at(key);
        text.push_str(" Engine:\n");
        text.push_str(&line("Version", engine("Version")));
        text.push_str(&line(
            "API version",
            &format!(
                "{} (minimum version {})",
                engine("ApiVersion"),
                engine("MinAPIVersion")
            ),
        ));
        text.push_str(&line("Git commit", engine("GitCommit")));
        text.push_str(&line(
            "OS/Arch",
            &format!("{}/{}", engine("Os"), engine("Arch")),
        ));
        return text;
    }
    for component in components {
        let name = component.str_at("Name");
        let details = component.get("Details").cloned().unwrap_or_default();
        text.push_str(&format!(" {name}:\n"));
        text.push_str(&line("Version", component.str_at("Version")));
        if name == "Engine" {
            let detail = |key: &str| details.str_at(key);
            let built = detail("BuildTime");
            let built = units::parse_rfc3339(built).map_or(built.to_owned(), |time| {
                time.strftime("%a %b %e %H:%M:%S %Y").to_string()
            });
            let minimum = format!(
                "{} (minimum version {})",
                detail("ApiVersion"),
                detail("MinAPIVersion")
            );
            text.push_str(&line("API version", &minimum));
            text.push_str(&line("Go version", detail("GoVersion")));
            text.push_str(&line("Git commit", detail("GitCommit")));
            text.push_str(&line("Built", &built));
            text.push_str(&line(
                "OS/Arch",
                &format!("{}/{}", detail("Os"), detail("Arch")),
            ));
            text.push_str(&line("Experimental", detail("Experimental")));
            continue;
        }
        for (key, value) in details.pairs() {
            text.push_str(&line(key, value.as_text().unwrap_or_default()));
        }
    }
    // A daemon that was not built with Go has no version of it to show.
    text.lines()
        .filter(|line| line.trim() != "Go version:")
        .map(|line| format!("{line}\n"))
        .collect()
}

fn whole(api: &str, server: Option<&Value>) -> Value {
    let client = record(
        "*system.clientVersion",
        vec![
            (
                "Version",
                "Version",
                false,
                env!("CARGO_PKG_VERSION").into(),
            ),
            ("APIVersion", "ApiVersion", false, api.into()),
            (
                "DefaultAPIVersion",
                "DefaultAPIVersion",
                true,
                API_VERSION.into(),
            ),
            ("GitCommit", "GitCommit", false, build().into()),
            ("GoVersion", "GoVersion", true, "".into()),
            ("Os", "Os", false, "linux".into()),
            ("Arch", "Arch", false, arch().into()),
            ("BuildTime", "BuildTime", true, "".into()),
            ("Context", "Context", false, "default".into()),
        ],
    );
    let server = match server {
        None => Value::NilPointer,
        Some(server) => {
            let mut fields: Vec<(&str, &str, bool, Value)> = Vec::new();
            for (key, value) in server.pairs() {
                let name = if key == "ApiVersion" {
                    "APIVersion"
                } else {
                    key.as_str()
                };
                fields.push((name, key, false, value.clone()));
            }
            record("*types.Version", fields)
        }
    };
    record(
        "system.versionInfo",
        vec![
            ("Client", "Client", false, client),
            ("Server", "Server", false, server),
        ],
    )
}
