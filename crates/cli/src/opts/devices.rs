//! `--device`, `--blkio-…` and `--device-…-bps`.

use serde_json::{Value, json};

use crate::units;

/// `path[:path inside[:rwm]]` as the API's `DeviceMapping`; the error is Docker's.
pub fn mapping(text: &str) -> Result<Value, String> {
    let is_mode = |mode: &str| !mode.is_empty() && mode.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source, target, mode] => {
            if !is_mode(mode) {
                return Err(format!("bad mode specified: {mode}"));
            }
            (*source, *target, *mode)
        }
        [source, second] if is_mode(second) => (*source, *source, *second),
        [source, target] => (*source, *target, "rwm"),
        [source] => (*source, *source, "rwm"),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    let target = if target.is_empty() { source } else { target };
    Ok(json!({"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}))
}

/// `path:weight` pairs.
pub fn weights(given: &[&str]) -> Value {
    let items = given.iter().filter_map(|text| {
        let (path, weight) = text.split_once(':')?;
        Some(json!({"Path": path, "Weight": weight.parse::<u16>().ok()?}))
    });
    Value::Array(items.collect())
}

/// `path:rate` pairs.
pub fn rates(given: &[&str]) -> Value {
    let items = given.iter().filter_map(|text| {
        let (path, rate) = text.split_once(':')?;
        Some(json!({"Path": path, "Rate": units::ram_bytes(rate)?}))
    });
    Value::Array(items.collect())
}
