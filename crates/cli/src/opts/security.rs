//! `--security-opt`, `--storage-opt`, `--log-opt`.

use serde_json::{Value, json};

use crate::failure::os_words;

/// Security options, with the seccomp profile's file read in; then masked and read-only paths when everything is to
/// be visible. The error is Docker's.
#[derive(Debug, Default)]
pub struct Security {
    /// `SecurityOpt`.
    pub options: Vec<String>,
    /// `systempaths=unconfined`.
    pub all_paths: bool,
}

/// Every `--security-opt`.
pub fn security(given: &[&str]) -> Result<Security, String> {
    let mut security = Security::default();
    for text in given {
        if *text == "systempaths=unconfined" {
            security.all_paths = true;
            continue;
        }
        let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some(pair) => pair,
            None if *text == "no-new-privileges" => {
                security.options.push((*text).to_owned());
                continue;
            }
            None => return Err(format!("Invalid --security-opt: {text:?}")),
        };
        if key != "seccomp" || value == "unconfined" || value == "builtin" {
            security.options.push((*text).to_owned());
            continue;
        }
        let profile = std::fs::read_to_string(value).map_err(|error| {
            format!(
                "opening seccomp profile ({value}) failed: open {value}: {}",
                os_words(&error)
            )
        })?;
        let profile: Value = serde_json::from_str(&profile).map_err(|error| {
            format!("compacting json for seccomp profile ({value}) failed: {error}")
        })?;
        security.options.push(format!("seccomp={profile}"));
    }
    Ok(security)
}

/// `name=value` pairs of the storage driver.
pub fn storage(given: &[&str]) -> Result<Value, String> {
    let mut map = serde_json::Map::new();
    for text in given {
        let (name, value) = text.split_once('=').ok_or("invalid storage option")?;
        map.insert(name.to_owned(), value.into());
    }
    Ok(if map.is_empty() {
        Value::Null
    } else {
        Value::Object(map)
    })
}

/// `LogConfig`.
pub fn logging(driver: &str, options: &[&str]) -> Result<Value, String> {
    if driver == "none" && !options.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(json!({"Type": driver, "Config": super::env::pairs(options)}))
}
