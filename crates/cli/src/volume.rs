//! Commands on volumes.

use serde_json::{Value as Json, json};

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::opts::env;
use crate::session::{Session, each};
use crate::show::inspect::{self, Object};
use crate::show::table::{Layout, label_method, labels_text};
use crate::template::value::{Row, Value};
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters, segment};

/// How volumes are listed.
pub const LAYOUT: Layout = Layout {
    table: r"{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
    headings: &[
        ("ID", "ID"),
        ("Name", "VOLUME NAME"),
        ("Group", "GROUP"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
};

/// `volume create`.
pub fn create(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let mut name = matches.text("name").to_owned();
    if let Some(given) = matches.args.first() {
        if matches.changed("name") {
            return Err(Failure::said(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        name = given.clone();
    }
    let body = json!({
        "Name": name, "Driver": matches.text("driver"), "DriverOpts": env::pairs(&matches.list("opt")),
        "Labels": env::labels(&[], &matches.list("label"))?,
    });
    let answer: Json = session
        .client()?
        .json(Request::post("/volumes/create").json(&body))?;
    session.line(answer["Name"].as_str().unwrap_or_default())?;
    Ok(0)
}

/// `volume ls`.
pub fn list(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let path = Query::new()
        .some("filters", &filters(&matches.list("filter")))
        .to_path("/volumes");
    let reply = session.client()?.call(Request::get(path))?;
    let answer = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let mut volumes: Vec<&Value> = answer.items_at("Volumes").iter().collect();
    volumes.sort_by(|a, b| a.str_at("Name").cmp(b.str_at("Name")));
    let rows: Vec<Value> = volumes.into_iter().map(row).collect();
    let quiet = matches.on("quiet");
    let wanted = match matches.text("format") {
        "" if !quiet => session.config.text("volumesFormat"),
        given => given,
    };
    session.out(
        LAYOUT
            .render(&LAYOUT.format(wanted, quiet), &rows)?
            .as_bytes(),
    )?;
    Ok(0)
}

/// A volume as a row.
pub fn row(volume: &Value) -> Value {
    let usage = volume
        .get("UsageData")
        .filter(|usage| !matches!(usage, Value::Nil));
    let links = usage.map_or("N/A".to_owned(), |usage| {
        usage.int_at("RefCount").to_string()
    });
    let size = usage.map_or("N/A".to_owned(), |usage| {
        units::human_size(usage.int_at("Size") as f64)
    });
    let labels = volume.get("Labels").cloned().unwrap_or_default();
    Row::new("*formatter.volumeContext")
        .with("Name", volume.str_at("Name"))
        .with("Driver", volume.str_at("Driver"))
        .with("Scope", volume.str_at("Scope"))
        .with("Mountpoint", volume.str_at("Mountpoint"))
        .with("Labels", labels_text(Some(&labels)))
        .with("Links", links)
        .with("Size", size)
        .with("Group", "N/A")
        .with("Availability", "N/A")
        .with("Status", "N/A")
        .method("Label", label_method(&labels))
        .done()
}

/// `volume inspect`.
pub fn inspect(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    inspect::run(session, &matches.args, matches.text("format"), object)
}

/// A volume as `inspect` shows it.
pub fn object(session: &mut Session<'_>, name: &str) -> Result<Object, Failure> {
    let reply = session
        .client()?
        .call(Request::get(format!("/volumes/{}", segment(name))))?;
    Ok(Object {
        raw: reply.body,
        kind: "Volume",
        raw_fallback: false,
    })
}

/// `volume rm`.
pub fn remove(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let query = Query::new().on("force", matches.on("force"));
    each(session, &matches.args, |session, name| {
        let path = query.to_path(&format!("/volumes/{}", segment(name)));
        session.client()?.call(Request::delete(path))?;
        Ok(Some(name.to_owned()))
    })
}

/// `volume prune`.
pub fn prune(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let all = matches.on("all");
    let what = if all {
        "all local volumes"
    } else {
        "anonymous local volumes"
    };
    let question = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue?"
    );
    if !matches.on("force") && !session.confirm(&question)? {
        return Ok(0);
    }
    let (text, space) = prune_now(session, all, &matches.list("filter"))?;
    session.out(
        format!(
            "{text}Total reclaimed space: {}\n",
            units::human_size(space)
        )
        .as_bytes(),
    )?;
    Ok(0)
}

/// Removes volumes that no container uses; the text says which, the number how many bytes.
pub fn prune_now(
    session: &mut Session<'_>,
    all: bool,
    filter: &[&str],
) -> Result<(String, f64), Failure> {
    let mut filter = filter.to_vec();
    if all {
        filter.push("all=true");
    }
    let path = Query::new()
        .some("filters", &filters(&filter))
        .to_path("/volumes/prune");
    let answer: Json = session.client()?.json(Request::post(path))?;
    let removed: Vec<&str> = answer["VolumesDeleted"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    let text = match removed.is_empty() {
        true => String::new(),
        false => format!("Deleted Volumes:\n{}\n\n", removed.join("\n")),
    };
    Ok((text, answer["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}
