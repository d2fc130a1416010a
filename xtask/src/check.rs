//! What keeps the house in order: the layers of the crates, the sentence on top of each file, the length of functions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Result, cargo};

/// Longest function allowed, in lines from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Edges that the layers alone would allow.
const FORBIDDEN: &[(&str, &str)] = &[
    ("wharf-scheduler", "wharf-apiserver"),
    ("wharf-scheduler", "wharf-store"),
    ("wharf-controllers", "wharf-apiserver"),
    ("wharf-controllers", "wharf-store"),
    ("wharf-proxy", "wharf-apiserver"),
    ("wharf-proxy", "wharf-store"),
    ("wharf-node", "wharf-engine"),
    ("wharf-shim", "tokio"),
    ("wharf-runtime", "tokio"),
    ("wharf-runtime", "hyper"),
];

/// Edges within a layer, each with its decision in docs/adr.
const SIDEWAYS: &[(&str, &str)] = &[("wharf-runtime", "wharf-cgroup")];

/// Runs all checks and reports everything they find.
pub fn check() -> Result {
    let root = wharf_testkit::workspace_dir();
    let mut findings = layers()?;
    let files = rust_files(&root);
    findings.extend(heads(&files));
    findings.extend(lengths(&root, &files)?);
    if findings.is_empty() {
        println!(
            "{} files: layers, heads and function lengths are in order",
            files.len()
        );
        return Ok(());
    }
    Err(findings.join("\n"))
}

/// A crate may depend only on crates of a lower layer, and never along a forbidden edge.
fn layers() -> Result<Vec<String>> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .map_err(|e| format!("run cargo metadata: {e}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|e| {
        format!(
            "read cargo metadata: {e}\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let layers: BTreeMap<&str, i64> = packages
        .iter()
        .filter_map(|p| {
            Some((
                p["name"].as_str()?,
                p["metadata"]["wharf"]["layer"].as_i64()?,
            ))
        })
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(&layer) = layers.get(name) else {
            findings.push(format!(
                "{name}: its manifest lacks [package.metadata.wharf] layer = N"
            ));
            continue;
        };
        for dependency in package["dependencies"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            let target = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if FORBIDDEN.contains(&(name, target)) && !for_tests {
                findings.push(format!("{name} must not know {target}"));
            }
            match layers.get(target) {
                Some(&below)
                    if below >= layer && !for_tests && !SIDEWAYS.contains(&(name, target)) =>
                {
                    findings.push(format!(
                        "{name} (layer {layer}) may not depend on {target} (layer {below})"
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(findings)
}

/// Every file opens with one `//!` sentence.
fn heads(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .filter(|path| {
            !fs::read_to_string(path)
                .unwrap_or_default()
                .starts_with("//! ")
        })
        .map(|path| {
            format!(
                "{}: does not open with a //! sentence on what lives there",
                path.display()
            )
        })
        .collect()
}

/// No function is too long, but for as many as the ratchet still allows; that number only goes down.
fn lengths(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let ratchet_path = root.join("xtask/ratchet.txt");
    let allowed: usize = fs::read_to_string(&ratchet_path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| format!("{} does not hold a number", ratchet_path.display()))?;
    let mut long = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
        for (line, name, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                long.push(format!(
                    "{}:{line}: {name} has {length} lines",
                    path.display()
                ));
            }
        }
    }
    Ok(match long.len() {
        n if n > allowed => {
            long.push(format!(
                "{n} functions are longer than {FUNCTION_LINES_MAX} lines, {allowed} are allowed"
            ));
            long
        }
        n if n < allowed => vec![format!(
            "only {n} long functions are left: lower {} to that",
            ratchet_path.display()
        )],
        _ => Vec::new(),
    })
}

/// First line, name and length of each function. Relies on rustfmt: a body's closing brace stands below its `fn`.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        let Some(name) = function_name(trimmed) else {
            continue;
        };
        let closing = format!("{indent}}}");
        let end = lines[index..].iter().position(|l| *l == closing);
        let body_ends_at_once = trimmed.ends_with(';') || trimmed.ends_with('}');
        if let (Some(end), false) = (end, body_ends_at_once) {
            found.push((index + 1, name.to_owned(), end + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line;
    loop {
        if let Some(after) = rest.strip_prefix("fn ") {
            return after.split(['(', '<']).next();
        }
        let (word, after) = rest.split_once(' ')?;
        let modifier = word == "pub"
            || word.starts_with("pub(")
            || matches!(
                word,
                "async" | "const" | "unsafe" | "extern" | "\"C\"" | "default"
            );
        if !modifier {
            return None;
        }
        rest = after;
    }
}

fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "examples", "xtask", "tests", "benches"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "pub async fn a(\n    b: u8,\n) {\n    x();\n}\n\nimpl T {\n    fn c() -> u8 {\n        1\n    }\n    fn d();\n}\n";
        let found = functions(text);
        assert_eq!(found, [(1, "a".to_owned(), 5), (8, "c".to_owned(), 3)]);
    }

    #[test]
    fn only_functions_are_functions() {
        assert_eq!(function_name("pub(crate) const fn f<T>()"), Some("f"));
        assert_eq!(function_name("let fn_name = 1;"), None);
        assert_eq!(function_name("type F = fn (u8);"), None);
    }
}
