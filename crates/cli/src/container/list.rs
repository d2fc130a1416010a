//! `ps`.

use super::list_ports;
use crate::failure::Failure;
use crate::line::flag::quote;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::table::{Layout, ellipsis, label_method, labels_text, short_id};
use crate::template::Template;
use crate::template::value::{Row, Value};
use crate::units;
use crate::wire::Request;
use crate::wire::query::{Query, filters};

/// How containers are listed.
pub const LAYOUT: Layout = Layout {
    table: r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
};

/// `ps`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (quiet, whole) = (matches.on("quiet"), matches.on("no-trunc"));
    let wanted = match matches.text("format") {
        "" if !quiet => session.config.text("psFormat"),
        given => given,
    };
    let mut format = LAYOUT.format(wanted, quiet);
    let mut size = matches.on("size");
    if size && format == format!("table {}", LAYOUT.table) {
        format.push_str(r"\t{{.Size}}");
    }
    if !size && (wanted.contains(".Size") || wanted.contains("json .")) {
        size = true;
    }
    if !matches!(wanted, "" | "table" | "json" | "raw") {
        // A template that can't work is refused before the daemon is asked.
        let template = Template::parse(&wanted.replace("\\t", "\t").replace("\\n", "\n"))
            .map_err(|why| Failure::said(format!("failed to parse template: {why}")))?;
        template
            .render(&row(&Value::Nil, whole))
            .map_err(|why| Failure::said(format!("failed to execute template: {why}")))?;
    }
    let mut limit = matches.number("last");
    if matches.on("latest") && limit == -1 {
        limit = 1;
    }
    let query = Query::new()
        .on("all", matches.on("all"))
        .some(
            "limit",
            &if limit > 0 {
                limit.to_string()
            } else {
                String::new()
            },
        )
        .on("size", size)
        .some("filters", &filters(&matches.list("filter")));
    let reply = session
        .client()?
        .call(Request::get(query.to_path("/containers/json")))?;
    let list = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    let rows: Vec<Value> = list
        .items()
        .iter()
        .map(|container| row(container, whole))
        .collect();
    session.out(LAYOUT.render(&format, &rows)?.as_bytes())?;
    Ok(0)
}

/// A container of the list as a row.
pub fn row(container: &Value, whole: bool) -> Value {
    let created = container.int_at("Created");
    let command = container.str_at("Command");
    let command = if whole {
        command.to_owned()
    } else {
        ellipsis(command, 20)
    };
    let networks = container
        .get("NetworkSettings")
        .and_then(|n| n.get("Networks"))
        .cloned()
        .unwrap_or_default();
    let mut networks: Vec<&str> = networks
        .pairs()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    networks.sort_unstable();
    let labels = container.get("Labels").cloned().unwrap_or_default();
    let mounts = container.items_at("Mounts");
    let local = mounts
        .iter()
        .filter(|mount| mount.str_at("Driver") == "local")
        .count();
    let mount_names: Vec<String> = mounts
        .iter()
        .map(|mount| match mount.str_at("Name") {
            "" => mount.str_at("Source"),
            name => name,
        })
        .map(|name| {
            if whole {
                name.to_owned()
            } else {
                ellipsis(name, 15)
            }
        })
        .collect();
    Row::new("*formatter.ContainerContext")
        .with("ID", short_id(container.str_at("Id"), whole))
        .with("Names", names(container, whole))
        .with("Image", image(container, whole))
        .with("Command", quote(&command))
        .with("CreatedAt", units::local_time(created))
        .with("RunningFor", units::ago(created))
        .with("Ports", list_ports::show(container.items_at("Ports")))
        .with("State", container.str_at("State"))
        .with("Status", container.str_at("Status"))
        .with("Size", size(container))
        .with("Labels", labels_text(Some(&labels)))
        .with("LocalVolumes", local.to_string())
        .with("Mounts", mount_names.join(","))
        .with("Networks", networks.join(","))
        .with("Platform", platform(container))
        .method("Label", label_method(&labels))
        .done()
}

fn names(container: &Value, whole: bool) -> String {
    let names: Vec<&str> = container
        .items_at("Names")
        .iter()
        .filter_map(Value::as_text)
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        // Names under another container are links to this one.
        .filter(|name| whole || !name.contains('/'))
        .collect();
    names.join(",")
}

fn image(container: &Value, whole: bool) -> String {
    let image = container.str_at("Image");
    if image.is_empty() {
        return "<no image>".into();
    }
    if whole {
        return image.to_owned();
    }
    let short = short_id(container.str_at("ImageID"), false);
    if !short.is_empty() && short == short_id(image, false) {
        return short;
    }
    match image.split_once('@') {
        Some((name, _)) if !name.is_empty() => name.to_owned(),
        _ => image.to_owned(),
    }
}

fn size(container: &Value) -> String {
    let written = units::human_size_3(container.int_at("SizeRw") as f64);
    match container.int_at("SizeRootFs") {
        0 => written,
        all => format!("{written} (virtual {})", units::human_size_3(all as f64)),
    }
}

fn platform(container: &Value) -> Value {
    let Some(descriptor) = container
        .get("ImageManifestDescriptor")
        .and_then(|d| d.get("platform"))
    else {
        return Value::Nil;
    };
    let parts = ["os", "architecture", "variant"].map(|key| descriptor.str_at(key));
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("/").into()
}
