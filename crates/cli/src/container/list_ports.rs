//! The ports column of `ps`: neighbours drawn together to ranges.

use crate::template::value::Value;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    private: i64,
    ip: String,
    public: i64,
    kind: String,
}

/// Ports as one text.
pub fn show(ports: &[Value]) -> String {
    let mut ports: Vec<Port> = ports
        .iter()
        .map(|port| Port {
            private: port.int_at("PrivatePort"),
            ip: port.str_at("IP").to_owned(),
            public: port.int_at("PublicPort"),
            kind: port.str_at("Type").to_owned(),
        })
        .collect();
    ports.sort();
    let mut groups: Vec<(String, String, i64, i64)> = Vec::new();
    let (mut closed, mut mapped) = (Vec::new(), Vec::new());
    for port in ports {
        if !port.ip.is_empty() && port.public != port.private {
            mapped.push(format!(
                "{}->{}/{}",
                address(&port.ip, &port.public.to_string()),
                port.private,
                port.kind
            ));
            continue;
        }
        match groups
            .iter_mut()
            .find(|(ip, kind, _, _)| *ip == port.ip && *kind == port.kind)
        {
            None => groups.push((port.ip, port.kind, port.private, port.private)),
            Some((_, _, _, last)) if port.private == *last + 1 => *last = port.private,
            Some((ip, kind, first, last)) => {
                closed.push(group(ip, kind, *first, *last));
                (*first, *last) = (port.private, port.private);
            }
        }
    }
    closed.extend(
        groups
            .iter()
            .map(|(ip, kind, first, last)| group(ip, kind, *first, *last)),
    );
    closed.extend(mapped);
    closed.join(", ")
}

fn group(ip: &str, kind: &str, first: i64, last: i64) -> String {
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    if ip.is_empty() {
        format!("{range}/{kind}")
    } else {
        format!("{}->{range}/{kind}", address(ip, &range))
    }
}

fn address(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        show(Value::parse_json(json.as_bytes()).unwrap().items())
    }

    #[test]
    fn ranges_and_mappings() {
        assert_eq!(
            text(r#"[{"PrivatePort":80,"Type":"tcp"},{"PrivatePort":443,"Type":"tcp"}]"#),
            "80/tcp, 443/tcp"
        );
        assert_eq!(
            text(
                r#"[{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"0.0.0.0","PrivatePort":9001,"PublicPort":9001,"Type":"udp"},{"IP":"0.0.0.0","PrivatePort":9000,"PublicPort":9000,"Type":"udp"}]"#
            ),
            "0.0.0.0:9000-9001->9000-9001/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
    }
}
