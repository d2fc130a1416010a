//! `images`.

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::table::{Layout, short_id};
use crate::template::value::{Row, Value};
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters};

const LAYOUT: Layout = Layout {
    table: r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    quiet: "{{.ID}}",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    headings: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const DIGESTS: &str = r"table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// `images`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (quiet, whole) = (matches.on("quiet"), matches.on("no-trunc"));
    let wanted = match matches.text("format") {
        "" if !quiet => session.config.text("imagesFormat"),
        given => given,
    };
    let mut format = LAYOUT.format(wanted, quiet);
    let digests = matches.on("digests");
    if digests && !quiet && matches!(wanted, "" | "table") {
        format = DIGESTS.to_owned();
    }
    let mut filter: Vec<String> = matches.owned("filter");
    if let Some(name) = matches.args.first() {
        filter.push(format!("reference={name}"));
    }
    let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
    let query = Query::new()
        .on("all", matches.on("all"))
        .some("filters", &filters(&filter));
    let reply = session
        .client()?
        .call(Request::get(query.to_path("/images/json")))?;
    let list = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let need_digest = format.contains(".Digest");
    let rows: Vec<Value> = list
        .items()
        .iter()
        .flat_map(|image| {
            names(image, need_digest)
                .into_iter()
                .map(|name| row(image, &name, whole))
        })
        .collect();
    session.out(LAYOUT.render(&format, &rows)?.as_bytes())?;
    Ok(0)
}

/// Repository, tag and digest of one row.
type Name = (String, String, String);

const NONE: &str = "<none>";

/// The rows an image is shown in: one for each of its names.
pub fn names(image: &Value, need_digest: bool) -> Vec<Name> {
    let texts = |key: &str| -> Vec<String> {
        image
            .items_at(key)
            .iter()
            .filter_map(Value::as_text)
            .map(str::to_owned)
            .collect()
    };
    let tags: Vec<(String, String)> = texts("RepoTags")
        .iter()
        .filter(|t| *t != "<none>:<none>")
        .filter_map(|t| split(t, ':'))
        .collect();
    let digests: Vec<(String, String)> = texts("RepoDigests")
        .iter()
        .filter(|d| *d != "<none>@<none>")
        .filter_map(|d| split(d, '@'))
        .collect();
    let mut rows: Vec<Name> = Vec::new();
    for (repository, tag) in &tags {
        let mine: Vec<&String> = digests
            .iter()
            .filter(|(name, _)| name == repository)
            .map(|(_, d)| d)
            .collect();
        if mine.is_empty() || !need_digest {
            rows.push((repository.clone(), tag.clone(), NONE.into()));
        } else {
            rows.extend(
                mine.into_iter()
                    .map(|digest| (repository.clone(), tag.clone(), digest.clone())),
            );
        }
    }
    for (repository, digest) in digests {
        if !tags.iter().any(|(name, _)| *name == repository) {
            rows.push((repository, NONE.into(), digest));
        }
    }
    if rows.is_empty() {
        rows.push((NONE.into(), NONE.into(), NONE.into()));
    }
    rows
}

fn split(text: &str, at: char) -> Option<(String, String)> {
    text.rsplit_once(at)
        .filter(|(_, b)| !b.contains('/'))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
}

/// One row.
pub fn row(image: &Value, name: &Name, whole: bool) -> Value {
    let size = image.int_at("Size");
    let created = image.int_at("Created");
    let shared = image.int_at("SharedSize");
    let amount = |known: bool, bytes: i64| {
        if known {
            units::human_size(bytes as f64)
        } else {
            "N/A".to_owned()
        }
    };
    let known = image.get("SharedSize").is_some() && shared != -1;
    let containers = match image.get("Containers") {
        Some(Value::Int(-1)) | None => "N/A".to_owned(),
        Some(count) => crate::template::print::show(count),
    };
    let since = if created <= 0 {
        "N/A".to_owned()
    } else {
        units::ago(created)
    };
    Row::new("*formatter.imageContext")
        .with("ID", short_id(image.str_at("Id"), whole))
        .with("Repository", name.0.as_str())
        .with("Tag", name.1.as_str())
        .with("Digest", name.2.as_str())
        .with("CreatedSince", since)
        .with("CreatedAt", units::local_time(created))
        .with("Size", units::human_size_3(size as f64))
        .with("Containers", containers)
        .with("VirtualSize", units::human_size(size as f64))
        .with("SharedSize", amount(known, shared))
        .with("UniqueSize", amount(known, size - shared))
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(json: &str, digest: bool) -> Vec<String> {
        let image = Value::parse_json(json.as_bytes()).unwrap();
        names(&image, digest)
            .into_iter()
            .map(|(a, b, c)| format!("{a} {b} {c}"))
            .collect()
    }

    #[test]
    fn an_image_has_a_row_for_each_name() {
        let json = r#"{"RepoTags":["a:1","h:5000/b:2"],"RepoDigests":["a@sha256:x","c@sha256:y"]}"#;
        assert_eq!(
            rows(json, false),
            ["a 1 <none>", "h:5000/b 2 <none>", "c <none> sha256:y"]
        );
        assert_eq!(
            rows(json, true),
            ["a 1 sha256:x", "h:5000/b 2 <none>", "c <none> sha256:y"]
        );
        assert_eq!(
            rows(
                r#"{"RepoTags":["<none>:<none>"],"RepoDigests":null}"#,
                false
            ),
            ["<none> <none> <none>"]
        );
    }
}
