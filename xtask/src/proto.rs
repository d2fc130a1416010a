//! The table of protobuf fields in `crates/kube-types/src/table`: JSON names, numbers and types of the generally
//! available kinds, from the definitions of the Kubernetes API.
//!
//! Facts only, from two places: `generated.proto` has numbers and types, the tags in the Go files have JSON names and
//! which fields keep their zero.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Result;

/// What a Go tag says of a field: its JSON name (empty if its fields are its holder's) and whether zero is a value.
struct Tag {
    json: String,
    keeps_zero: bool,
}

/// Reads the tree under `root` (the folder `k8s.io` of the sources) and gives the table.
pub fn fields(root: &str) -> std::result::Result<String, String> {
    let mut files = Vec::new();
    find(Path::new(root), &mut files)?;
    let mut out = String::new();
    for file in files {
        let text = read(&file)?;
        let Some(package) = text.lines().find_map(|l| l.strip_prefix("package ")) else {
            continue;
        };
        let package = package.trim_end_matches(';').to_owned();
        let mut tags = BTreeMap::new();
        let folder = file.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(folder)
            .map_err(|e| e.to_string())?
            .flatten()
        {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".go") && !name.contains("generated") && !name.contains("_test") {
                go_tags(&read(&path)?, &mut tags);
            }
        }
        messages(&text, &package, &tags, &mut out);
    }
    Ok(out)
}

/// Writes the table beside the others.
pub fn generate(root: Option<&str>, folder: &Path) -> Result {
    let Some(root) = root else {
        return Ok(());
    };
    std::fs::write(folder.join("fields.tsv"), fields(root)?)
        .map_err(|e| format!("write fields.tsv: {e}"))
}

fn read(path: &Path) -> std::result::Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> std::result::Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut entries: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let text = path.to_string_lossy().into_owned();
        if path.is_dir() {
            if !text.contains("alpha") && !text.contains("beta") && !text.contains("example") {
                find(&path, found)?;
            }
        } else if text.ends_with("/generated.proto") && wanted(&text) {
            found.push(path);
        }
    }
    Ok(())
}

fn wanted(path: &str) -> bool {
    [
        "/api/",
        "/apimachinery/pkg/",
        "/apiextensions-apiserver/",
        "/kube-aggregator/",
    ]
    .iter()
    .any(|p| path.contains(p))
        && !path.contains("testapigroup")
}

/// `field Type `json:"name,omitempty" protobuf:"bytes,1,opt,name=field"``, by struct and number.
fn go_tags(text: &str, tags: &mut BTreeMap<(String, String), Tag>) {
    let mut holder = String::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("type ")
            .and_then(|l| l.strip_suffix(" struct {"))
        {
            name.clone_into(&mut holder);
        }
        let part = |key: &str| {
            line.split_once(&format!("{key}:\""))?
                .1
                .split_once('"')
                .map(|(v, _)| v)
        };
        let (Some(json), Some(protobuf)) = (part("json"), part("protobuf")) else {
            continue;
        };
        let Some(number) = protobuf.split(',').nth(1) else {
            continue;
        };
        let (name, options) = json.split_once(',').unwrap_or((json, ""));
        let field_type = line.split_whitespace().nth(1).unwrap_or_default();
        let inline = options.contains("inline") || name.is_empty();
        tags.insert(
            (holder.clone(), number.to_owned()),
            Tag {
                json: if inline {
                    String::new()
                } else {
                    name.to_owned()
                },
                keeps_zero: field_type.starts_with('*') || !options.contains("omitempty"),
            },
        );
    }
}

fn messages(text: &str, package: &str, tags: &BTreeMap<(String, String), Tag>, out: &mut String) {
    let mut holder = String::new();
    let mut fields = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ") {
            name.trim_end_matches(['{', ' ']).clone_into(&mut holder);
            fields.clear();
        } else if line == "}" && !holder.is_empty() {
            let _ = writeln!(out, "{}\t{}", full(package, &holder), fields.join(";"));
            holder.clear();
        } else if let Some(field) = line.strip_suffix(';').filter(|_| !holder.is_empty()) {
            fields.extend(field_fact(field, package, &holder, tags));
        }
    }
}

/// `name=number type`, with a mark before the number where zero is a value.
fn field_fact(
    line: &str,
    package: &str,
    holder: &str,
    tags: &BTreeMap<(String, String), Tag>,
) -> Option<String> {
    let (left, number) = line.split_once(" = ")?;
    let (kind, name) = left.rsplit_once(' ')?;
    let number = number.trim();
    let tag = tags.get(&(holder.to_owned(), number.to_owned()));
    // Not in JSON at all: bytes that are something else there.
    let json = tag.map_or(name, |t| if t.json == "-" { name } else { t.json.as_str() });
    let mark = if tag.is_none_or(|t| t.keeps_zero) {
        "!"
    } else {
        ""
    };
    let kind = if let Some(inner) = kind.strip_prefix("map<string, ") {
        format!("%{}", short(inner.trim_end_matches('>'), package))
    } else if let Some(inner) = kind.strip_prefix("repeated ") {
        format!("*{}", short(inner, package))
    } else {
        short(kind.strip_prefix("optional ").unwrap_or(kind), package)
    };
    Some(format!("{json}={mark}{number} {kind}"))
}

fn short(kind: &str, package: &str) -> String {
    match kind {
        "string" | "bytes" | "bool" | "int32" | "int64" | "double" => kind.to_owned(),
        absolute if absolute.starts_with(".k8s.io.") => renamed(&absolute[1..]),
        absolute if absolute.starts_with("k8s.io.") => renamed(absolute),
        local => full(package, local),
    }
}

fn full(package: &str, name: &str) -> String {
    renamed(&format!("{package}.{name}"))
}

/// The name as the OpenAPI definitions have it.
fn renamed(name: &str) -> String {
    let name = name.strip_prefix("k8s.io.").unwrap_or(name);
    let name = name.replace("apiextensions_apiserver", "apiextensions-apiserver");
    format!(
        "io.k8s.{}",
        name.replace("kube_aggregator", "kube-aggregator")
    )
}
