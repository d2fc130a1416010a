//! `--mount`, `--volume` and `--tmpfs`.

use serde_json::{Map, Value, json};

use crate::units;

/// One `--mount` as the API's `Mount`. The error is Docker's.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut mount = Map::new();
    let mut options: Vec<(&'static str, String, Value)> = Vec::new();
    mount.insert("Type".into(), "volume".into());
    for field in fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.to_lowercase();
        let bare_allowed =
            ["readonly", "ro", "volume-nocopy", "bind-nonrecursive"].contains(&key.as_str());
        if value.is_none() && !bare_allowed {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        set_field(
            &mut mount,
            &mut options,
            &key,
            value.unwrap_or("true"),
            &field,
        )?;
    }
    finish(mount, options)
}

fn set_field(
    mount: &mut Map<String, Value>,
    options: &mut Vec<(&'static str, String, Value)>,
    key: &str,
    value: &str,
    field: &str,
) -> Result<(), String> {
    let truth = || {
        crate::line::flag::parse_bool(value)
            .map(Value::from)
            .ok_or_else(|| format!("invalid value for {key}: {value}"))
    };
    match key {
        "type" => drop(mount.insert("Type".into(), value.to_lowercase().into())),
        "source" | "src" => drop(mount.insert("Source".into(), absolute(value).into())),
        "target" | "dst" | "destination" => drop(mount.insert("Target".into(), value.into())),
        "readonly" | "ro" => drop(mount.insert("ReadOnly".into(), truth()?)),
        "consistency" => drop(mount.insert("Consistency".into(), value.to_lowercase().into())),
        "bind-propagation" => options.push((
            "BindOptions",
            "Propagation".into(),
            value.to_lowercase().into(),
        )),
        "bind-nonrecursive" => options.push(("BindOptions", "NonRecursive".into(), truth()?)),
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => options.push(("BindOptions", "NonRecursive".into(), true.into())),
            "writable" => options.push(("BindOptions", "ReadOnlyNonRecursive".into(), true.into())),
            "readonly" => {
                options.push(("BindOptions", "ReadOnlyForceRecursive".into(), true.into()))
            }
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "bind-create-src" => options.push(("BindOptions", "CreateMountpoint".into(), truth()?)),
        "volume-subpath" => options.push(("VolumeOptions", "Subpath".into(), value.into())),
        "volume-nocopy" => options.push(("VolumeOptions", "NoCopy".into(), truth()?)),
        "volume-label" => options.push(("VolumeOptions", "Labels".into(), pair(value))),
        "volume-driver" => {
            options.push(("VolumeOptions", "DriverConfig.Name".into(), value.into()))
        }
        "volume-opt" => options.push(("VolumeOptions", "DriverConfig.Options".into(), pair(value))),
        "image-subpath" => options.push(("ImageOptions", "Subpath".into(), value.into())),
        "tmpfs-size" => {
            let size = units::ram_bytes(value)
                .ok_or_else(|| format!("invalid value for {key}: {value}"))?;
            options.push(("TmpfsOptions", "SizeBytes".into(), size.into()));
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8)
                .map_err(|_| format!("invalid value for {key}: {value}"))?;
            options.push(("TmpfsOptions", "Mode".into(), mode.into()));
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn finish(
    mut mount: Map<String, Value>,
    options: Vec<(&'static str, String, Value)>,
) -> Result<Value, String> {
    let kind = mount
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if mount
        .get("Target")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
    {
        return Err("target is required".into());
    }
    for (group, prefix, fits) in [
        ("VolumeOptions", "volume-*", "volume"),
        ("BindOptions", "bind-*", "bind"),
        ("TmpfsOptions", "tmpfs-*", "tmpfs"),
        ("ImageOptions", "image-*", "image"),
    ] {
        if kind != fits && options.iter().any(|(g, _, _)| *g == group) {
            return Err(format!(
                "cannot mix '{prefix}' options with mount type '{kind}'"
            ));
        }
    }
    for (group, path, value) in options {
        let mut at = mount.entry(group).or_insert(json!({}));
        let names: Vec<&str> = path.split('.').collect();
        for name in &names[..names.len() - 1] {
            at = &mut at[*name];
            if at.is_null() {
                *at = json!({});
            }
        }
        let slot = &mut at[names[names.len() - 1]];
        match (slot.as_object_mut(), value) {
            (Some(map), Value::Object(more)) => map.extend(more),
            (_, value) => *slot = value,
        }
    }
    Ok(Value::Object(mount))
}

fn pair(text: &str) -> Value {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    json!({name: value})
}

/// `.` and `./x` are seen from the current folder.
fn absolute(path: &str) -> String {
    if path != "." && !path.starts_with("./") {
        return path.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let rest = path.trim_start_matches('.').trim_start_matches('/');
    let whole = if rest.is_empty() {
        here
    } else {
        here.join(rest)
    };
    whole.to_string_lossy().into_owned()
}

/// Fields separated by commas, where a field in double quotes may hold commas.
pub fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => {
                if let Some(last) = fields.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    fields
}

/// What `-v` adds: binds and named volumes, and unnamed volumes.
#[derive(Debug, Default)]
pub struct Volumes {
    /// `HostConfig.Binds`.
    pub binds: Vec<String>,
    /// `Config.Volumes`.
    pub unnamed: Map<String, Value>,
}

/// Every `-v`. The error is Docker's.
pub fn volumes(given: &[&str]) -> Result<Volumes, String> {
    let mut volumes = Volumes::default();
    for text in given {
        if text.is_empty() {
            return Err("invalid empty volume spec".into());
        }
        match text.split_once(':') {
            None => drop(volumes.unnamed.insert((*text).to_owned(), json!({}))),
            Some(("", _)) => {
                return Err(format!(
                    "invalid spec: {text}: empty section between colons"
                ));
            }
            Some((source, rest)) => volumes.binds.push(format!("{}:{rest}", absolute(source))),
        }
    }
    Ok(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        assert_eq!(
            parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap(),
            json!({"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave"}})
        );
        assert_eq!(
            parse("target=/b,volume-opt=a=1,volume-opt=b=2,volume-label=x").unwrap(),
            json!({"Type":"volume","Target":"/b","VolumeOptions":{"DriverConfig":{"Options":{"a":"1","b":"2"}},"Labels":{"x":""}}})
        );
        assert_eq!(
            parse("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1777").unwrap(),
            json!({"Type":"tmpfs","Target":"/b","TmpfsOptions":{"SizeBytes":1048576,"Mode":0o1777}})
        );
    }

    #[test]
    fn mistakes_in_dockers_words() {
        for (text, said) in [
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=tmpfs", "target is required"),
            ("src=x,foo=bar,dst=/x", "unexpected key 'foo' in 'foo=bar'"),
            ("dst=/v,readonly=foo", "invalid value for readonly: foo"),
            (
                "type=tmpfs,dst=/x,volume-nocopy=1",
                "cannot mix 'volume-*' options with mount type 'tmpfs'",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), said);
        }
    }

    #[test]
    fn volumes_by_source() {
        let volumes = volumes(&["/a:/b:ro", "data:/c", "/d"]).unwrap();
        assert_eq!(volumes.binds, ["/a:/b:ro", "data:/c"]);
        assert!(volumes.unnamed.contains_key("/d"));
    }
}
