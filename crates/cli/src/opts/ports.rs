//! `-p` and `--expose`.

use serde_json::{Map, Value, json};

/// Served ports and their bindings, as the API names them.
#[derive(Debug, Default)]
pub struct Ports {
    /// `ExposedPorts`.
    pub exposed: Map<String, Value>,
    /// `PortBindings`.
    pub bindings: Map<String, Value>,
}

/// Ports of `--publish` and `--expose`. The error is Docker's.
pub fn collect(published: &[&str], exposed: &[&str]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for text in published {
        let text = if text.contains('=') {
            long_form(text)?
        } else {
            (*text).to_owned()
        };
        publish(&mut ports, &text)?;
    }
    for text in exposed {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (range, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = parse_range(range)
            .map_err(|why| format!("invalid range format for --expose: {text}, error: {why}"))?;
        for port in first..=last {
            ports
                .exposed
                .entry(format!("{port}/{}", proto.to_lowercase()))
                .or_insert(json!({}));
        }
    }
    Ok(ports)
}

/// `published=8080,target=80,protocol=tcp` as the short form.
fn long_form(text: &str) -> Result<String, String> {
    let (mut published, mut target, mut proto) = ("", "", "tcp");
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field {field}"));
        };
        match key.trim() {
            "published" => published = value,
            "target" => target = value,
            "protocol" => proto = value,
            "mode" => {}
            other => return Err(format!("invalid field key {other}")),
        }
    }
    Ok(if published.is_empty() {
        format!("{target}/{proto}")
    } else {
        format!("{published}:{target}/{proto}")
    })
}

fn publish(ports: &mut Ports, text: &str) -> Result<(), String> {
    let (ip, host, container) = split(text);
    let (container, proto) = container.split_once('/').unwrap_or((container, "tcp"));
    let proto = proto.to_lowercase();
    let ip = ip.trim_matches(['[', ']']);
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (first, last) =
        parse_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let hosts = if host.is_empty() {
        None
    } else {
        Some(parse_range(host).map_err(|_| format!("invalid hostPort: {host}"))?)
    };
    if let Some((host_first, host_last)) = hosts
        && last - first != host_last - host_first
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    if !matches!(proto.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {proto}"));
    }
    for port in first..=last {
        let key = format!("{port}/{proto}");
        let host_port = match hosts {
            None => String::new(),
            // One port inside and a range outside: any free one of the range.
            Some((a, b)) if first == last && a != b => format!("{a}-{b}"),
            Some((a, _)) => (a + (port - first)).to_string(),
        };
        ports.exposed.entry(key.clone()).or_insert(json!({}));
        let list = ports.bindings.entry(key).or_insert(json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!({"HostIp": ip, "HostPort": host_port}));
        }
    }
    Ok(())
}

fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else {
        return ("", "", text);
    };
    match rest.rsplit_once(':') {
        Some((ip, host)) if !rest.ends_with(']') => (ip, host, container),
        _ if rest.ends_with(']') => (rest, "", container),
        _ => ("", rest, container),
    }
}

/// First and last of `80` or `80-90`. The error is Go's.
pub fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let number = |part: &str| {
        part.parse::<u16>().map_err(|error| {
            let what = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            format!("strconv.ParseUint: parsing {part:?}: {what}")
        })
    };
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let Some((first, last)) = text.split_once('-') else {
        return number(text).map(|port| (port, port));
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Result<String, String> {
        collect(&[text], &[]).map(|ports| Value::Object(ports.bindings).to_string())
    }

    #[test]
    fn every_form_of_publish() {
        assert_eq!(
            bound("80").unwrap(),
            r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#
        );
        assert_eq!(
            bound("8080:80").unwrap(),
            r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#
        );
        assert_eq!(
            bound("127.0.0.1:8080:80/udp").unwrap(),
            r#"{"80/udp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}"#
        );
        assert_eq!(
            bound("[::1]:8080:80").unwrap(),
            r#"{"80/tcp":[{"HostIp":"::1","HostPort":"8080"}]}"#
        );
        assert_eq!(
            bound("127.0.0.1::80").unwrap(),
            r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":""}]}"#
        );
        assert_eq!(
            bound("9000-9001:80-81").unwrap(),
            r#"{"80/tcp":[{"HostIp":"","HostPort":"9000"}],"81/tcp":[{"HostIp":"","HostPort":"9001"}]}"#
        );
        assert_eq!(
            bound("9000-9001:80").unwrap(),
            r#"{"80/tcp":[{"HostIp":"","HostPort":"9000-9001"}]}"#
        );
        assert_eq!(
            bound("published=1,target=2,protocol=udp").unwrap(),
            r#"{"2/udp":[{"HostIp":"","HostPort":"1"}]}"#
        );
    }

    #[test]
    fn mistakes_in_dockers_words() {
        assert_eq!(bound("abc").unwrap_err(), "invalid containerPort: abc");
        assert_eq!(bound("99999:80").unwrap_err(), "invalid hostPort: 99999");
        assert_eq!(
            bound("1-2:3-5").unwrap_err(),
            "invalid ranges specified for container and host Ports: 3-5 and 1-2"
        );
        assert_eq!(
            collect(&[], &["foo"]).unwrap_err(),
            "invalid range format for --expose: foo, error: strconv.ParseUint: parsing \"foo\": invalid syntax"
        );
    }
}
