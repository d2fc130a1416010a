//! `--network` and the settings of a container's end of it.

use serde_json::{Map, Value, json};

use super::mounts::fields;
use crate::line::parse::Matches;

/// One `--network`.
#[derive(Debug, Default, Clone)]
pub struct Attachment {
    /// Network's name or ID.
    pub name: String,
    aliases: Vec<String>,
    driver_opts: Map<String, Value>,
    ipv4: String,
    ipv6: String,
    mac: String,
    link_local: Vec<String>,
    gw_priority: i64,
}

/// Reads a name, or `name=…,alias=…,ip=…`. The error is Docker's.
pub fn parse(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        attachment.name = text.to_owned();
        return Ok(attachment);
    }
    for field in fields(text) {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field {field}"));
        };
        let (key, value) = (key.trim().to_lowercase(), value.trim().to_owned());
        match key.as_str() {
            "name" => attachment.name = value,
            "alias" => attachment.aliases.push(value),
            "ip" => attachment.ipv4 = value,
            "ip6" => attachment.ipv6 = value,
            "mac-address" => attachment.mac = value,
            "link-local-ip" => attachment.link_local.push(value),
            "driver-opt" => {
                let (name, value) = value
                    .split_once('=')
                    .ok_or("invalid key value pair format in driver options")?;
                attachment
                    .driver_opts
                    .insert(name.to_lowercase(), value.to_lowercase().into());
            }
            "gw-priority" => {
                attachment.gw_priority = value
                    .parse()
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.name.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(attachment)
}

/// Whether the mode names a network of the user's own.
fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

/// `NetworkMode` and `EndpointsConfig`. The error is Docker's.
pub fn collect(matches: &Matches) -> Result<(String, Value), String> {
    let mut attachments = Vec::new();
    for text in matches
        .list("network")
        .into_iter()
        .chain(matches.list("net"))
    {
        attachments.push(parse(text)?);
    }
    let several = attachments.len() > 1;
    if let Some(lonely) = attachments
        .iter()
        .find(|a| several && !is_user_defined(&a.name) && a.name != "bridge")
    {
        let mode = lonely.name.split(':').next().unwrap_or_default();
        return Err(format!(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({mode})"
        ));
    }
    if attachments.is_empty() {
        attachments.push(Attachment {
            name: "default".into(),
            ..Attachment::default()
        });
    }
    let mode = attachments[0].name.clone();
    merge_flags(&mut attachments[0], matches)?;
    let mut endpoints = Map::new();
    for (i, attachment) in attachments.iter().enumerate() {
        if endpoints.contains_key(&attachment.name) {
            return Err(format!(
                "network {:?} is specified multiple times",
                attachment.name
            ));
        }
        let links = if i == 0 && is_user_defined(&mode) {
            matches.list("link")
        } else {
            Vec::new()
        };
        endpoints.insert(attachment.name.clone(), endpoint(attachment, &links)?);
    }
    Ok((mode, Value::Object(endpoints)))
}

fn merge_flags(first: &mut Attachment, matches: &Matches) -> Result<(), String> {
    let aliases: Vec<&str> = matches
        .list("network-alias")
        .into_iter()
        .chain(matches.list("net-alias"))
        .collect();
    if !aliases.is_empty() && !is_user_defined(&first.name) {
        return Err("network-scoped aliases are only supported for user-defined networks".into());
    }
    let conflict = |what: &str, given: bool, had: bool| {
        if given && had {
            return Err(format!(
                "conflicting options: cannot specify both --{what} and per-network {what}"
            ));
        }
        Ok(())
    };
    conflict(
        "network-alias",
        !aliases.is_empty(),
        !first.aliases.is_empty(),
    )?;
    conflict("ip", matches.changed("ip"), !first.ipv4.is_empty())?;
    conflict("ip6", matches.changed("ip6"), !first.ipv6.is_empty())?;
    conflict(
        "mac-address",
        matches.changed("mac-address"),
        !first.mac.is_empty(),
    )?;
    first.aliases.extend(aliases.into_iter().map(str::to_owned));
    for (flag, slot) in [
        ("ip", &mut first.ipv4),
        ("ip6", &mut first.ipv6),
        ("mac-address", &mut first.mac),
    ] {
        if let Some(value) = matches.given(flag) {
            *slot = value.to_owned();
        }
    }
    first.link_local.extend(matches.owned("link-local-ip"));
    Ok(())
}

fn endpoint(attachment: &Attachment, links: &[&str]) -> Result<Value, String> {
    if !attachment.mac.is_empty() && !is_mac(&attachment.mac) {
        return Err(format!("{} is not a valid mac address", attachment.mac));
    }
    let list = |items: &[String]| {
        if items.is_empty() {
            Value::Null
        } else {
            json!(items)
        }
    };
    let mut ipam = Value::Null;
    if !attachment.ipv4.is_empty()
        || !attachment.ipv6.is_empty()
        || !attachment.link_local.is_empty()
    {
        let mut map = Map::new();
        for (key, value) in [
            ("IPv4Address", &attachment.ipv4),
            ("IPv6Address", &attachment.ipv6),
        ] {
            if !value.is_empty() {
                map.insert(key.into(), value.as_str().into());
            }
        }
        if !attachment.link_local.is_empty() {
            map.insert("LinkLocalIPs".into(), json!(attachment.link_local));
        }
        ipam = Value::Object(map);
    }
    let links = if links.is_empty() {
        Value::Null
    } else {
        json!(links)
    };
    let options = if attachment.driver_opts.is_empty() {
        Value::Null
    } else {
        json!(attachment.driver_opts)
    };
    Ok(json!({
        "IPAMConfig": ipam, "Links": links, "Aliases": list(&attachment.aliases), "MacAddress": attachment.mac,
        "DriverOpts": options, "GwPriority": attachment.gw_priority,
    }))
}

/// Six pairs of hexadecimal digits.
pub fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}
