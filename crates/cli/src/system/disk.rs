//! `system df`.

use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;
use crate::show::table::{Layout, short_id};
use crate::template::value::{Row, Value};
use crate::wire::Request;
use crate::{container, image, units, volume};

const LAYOUT: Layout = Layout {
    table: r"{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    raw: "{{.Type}}",
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

/// `system df`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let reply = session.client()?.call(Request::get("/system/df"))?;
    let usage = Value::parse_json(&reply.body).map_err(Failure::Said)?;
    if matches.on("verbose") {
        session.out(verbose(&usage)?.as_bytes())?;
        return Ok(0);
    }
    let rows = [
        images(&usage),
        containers(&usage),
        volumes(&usage),
        cache(&usage),
    ];
    let format = LAYOUT.format(matches.text("format"), false);
    session.out(LAYOUT.render(&format, &rows)?.as_bytes())?;
    Ok(0)
}

fn row(
    kind: &str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    percent: bool,
) -> Value {
    let mut text = units::human_size(reclaimable as f64);
    if percent && size > 0 {
        text.push_str(&format!(" ({}%)", reclaimable * 100 / size));
    }
    Row::new("*formatter.diskUsageContext")
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", units::human_size(size as f64))
        .with("Reclaimable", text)
        .done()
}

fn images(usage: &Value) -> Value {
    let images = usage.items_at("Images");
    let size = usage.int_at("LayersSize");
    let active = images
        .iter()
        .filter(|image| image.int_at("Containers") > 0)
        .count();
    let used: i64 = images
        .iter()
        .filter(|image| image.int_at("Containers") > 0)
        .filter(|image| image.int_at("Size") != -1 && image.int_at("SharedSize") != -1)
        .map(|image| image.int_at("Size") - image.int_at("SharedSize"))
        .sum();
    row(
        "Images",
        images.len(),
        active,
        size,
        (size - used).max(0),
        true,
    )
}

fn containers(usage: &Value) -> Value {
    let containers = usage.items_at("Containers");
    let is_active = |c: &&Value| {
        ["running", "paused", "restarting"]
            .iter()
            .any(|s| c.str_at("State").contains(s))
    };
    let size: i64 = containers.iter().map(|c| c.int_at("SizeRw")).sum();
    let active = containers.iter().filter(is_active).count();
    let idle: i64 = containers
        .iter()
        .filter(|c| !is_active(c))
        .map(|c| c.int_at("SizeRw"))
        .sum();
    row("Containers", containers.len(), active, size, idle, true)
}

fn volume_usage(volume: &Value) -> (i64, i64) {
    let usage = volume.get("UsageData").cloned().unwrap_or_default();
    (usage.int_at("RefCount"), usage.int_at("Size"))
}

fn volumes(usage: &Value) -> Value {
    let volumes = usage.items_at("Volumes");
    let known = || {
        volumes
            .iter()
            .map(volume_usage)
            .filter(|(_, size)| *size != -1)
    };
    let size: i64 = known().map(|(_, size)| size).sum();
    let idle: i64 = known()
        .filter(|(links, _)| *links == 0)
        .map(|(_, size)| size)
        .sum();
    let active = volumes
        .iter()
        .filter(|volume| volume_usage(volume).0 > 0)
        .count();
    row("Local Volumes", volumes.len(), active, size, idle, true)
}

fn cache(usage: &Value) -> Value {
    let entries = usage.items_at("BuildCache");
    let own = || entries.iter().filter(|entry| !entry.bool_at("Shared"));
    let size: i64 = own().map(|entry| entry.int_at("Size")).sum();
    let used: i64 = own()
        .filter(|entry| entry.bool_at("InUse"))
        .map(|entry| entry.int_at("Size"))
        .sum();
    let active = entries
        .iter()
        .filter(|entry| entry.bool_at("InUse"))
        .count();
    row(
        "Build Cache",
        entries.len(),
        active,
        size,
        size - used,
        false,
    )
}

const IMAGES: Layout = Layout {
    table: r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    quiet: "",
    raw: "",
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
};

const CONTAINERS: Layout = Layout {
    table: r"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    ..container::list::LAYOUT
};

const VOLUMES: Layout = Layout {
    table: r"{{.Name}}\t{{.Links}}\t{{.Size}}",
    ..volume::LAYOUT
};

const CACHE: Layout = Layout {
    table: r"{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    quiet: "",
    raw: "",
    headings: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
};

fn verbose(usage: &Value) -> Result<String, Failure> {
    let show = |layout: &Layout, rows: Vec<Value>| layout.render(&layout.format("", false), &rows);
    let images: Vec<Value> = usage
        .items_at("Images")
        .iter()
        .map(|image| {
            let name = image::list::names(image, false).swap_remove(0);
            image::list::row(image, &name, false)
        })
        .collect();
    let images_table = show(&IMAGES, images)?;
    let containers: Vec<Value> = usage
        .items_at("Containers")
        .iter()
        .map(|c| container::list::row(&without_root_size(c), false))
        .collect();
    let volumes: Vec<Value> = usage.items_at("Volumes").iter().map(volume::row).collect();
    let entries = usage.items_at("BuildCache");
    let total: i64 = entries
        .iter()
        .filter(|e| !e.bool_at("Shared"))
        .map(|e| e.int_at("Size"))
        .sum();
    Ok(format!(
        "Images space usage:\n\n{images_table}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        show(&CONTAINERS, containers)?,
        show(&VOLUMES, volumes)?,
        units::human_size(total as f64),
        show(&CACHE, entries.iter().map(cache_row).collect())?,
    ))
}

fn without_root_size(container: &Value) -> Value {
    Value::map(
        container
            .pairs()
            .iter()
            .filter(|(key, _)| key != "SizeRootFs")
            .cloned()
            .collect(),
    )
}

fn cache_row(entry: &Value) -> Value {
    let since = |key: &str| {
        units::parse_rfc3339(entry.str_at(key))
            .map_or(String::new(), |time| units::ago(time.as_second()))
    };
    Row::new("*formatter.buildCacheContext")
        .with("ID", short_id(entry.str_at("ID"), false))
        .with("CacheType", entry.str_at("Type"))
        .with("Size", units::human_size(entry.int_at("Size") as f64))
        .with("CreatedSince", since("CreatedAt"))
        .with("LastUsedSince", since("LastUsedAt"))
        .with("UsageCount", entry.int_at("UsageCount").to_string())
        .with("Shared", entry.bool_at("Shared").to_string())
        .done()
}
