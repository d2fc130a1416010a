//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container: files of its own, bound into it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::Result;
use crate::error_from::io;

/// The embedded name server of networks of the user's own.
pub(crate) const EMBEDDED_DNS: &str = "127.0.0.11";
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where a resolver of the host itself is no use to a container.
const PUBLIC_DNS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// One line of /etc/hosts: address and names.
pub(crate) type HostLine = (String, Vec<String>);

/// Writes /etc/hosts: what every machine has, then the given lines.
pub(crate) fn write_hosts(path: &Path, lines: &[HostLine]) -> Result<()> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (address, names) in lines {
        text.push_str(&format!("{address}\t{}\n", names.join(" ")));
    }
    // Written in place: the file is bound into running containers, which would keep an old one that was renamed over.
    fs::write(path, text).map_err(io(format!("write {}", path.display())))
}

/// Writes /etc/hostname.
pub(crate) fn write_hostname(path: &Path, name: &str) -> Result<()> {
    fs::write(path, format!("{name}\n")).map_err(io(format!("write {}", path.display())))
}

/// What goes into /etc/resolv.conf.
#[derive(Debug, Default)]
pub(crate) struct Resolver<'a> {
    pub servers: &'a [IpAddr],
    pub search: &'a [String],
    pub options: &'a [String],
    /// The container asks the embedded server.
    pub embedded: bool,
    /// The container shares the host's network and may use servers on its loopback.
    pub host_network: bool,
}

/// Writes /etc/resolv.conf: as configured, else as the host has it.
pub(crate) fn write_resolv_conf(path: &Path, resolver: &Resolver<'_>) -> Result<()> {
    let host = fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
    fs::write(path, resolv_conf(&host, resolver)).map_err(io(format!("write {}", path.display())))
}

fn resolv_conf(host: &str, resolver: &Resolver<'_>) -> String {
    let of_host = |keyword: &str| -> Vec<String> {
        host.lines()
            .filter_map(|line| {
                line.split_whitespace()
                    .next()
                    .filter(|w| *w == keyword)
                    .map(|_| line.to_owned())
            })
            .collect()
    };
    let mut lines = Vec::new();
    if resolver.embedded {
        lines.push(format!("nameserver {EMBEDDED_DNS}"));
    } else if resolver.servers.is_empty() {
        lines.extend(
            of_host("nameserver")
                .into_iter()
                .filter(|line| resolver.host_network || !is_loopback(line)),
        );
        if lines.is_empty() {
            lines.extend(PUBLIC_DNS.map(|address| format!("nameserver {address}")));
        }
    } else {
        lines.extend(
            resolver
                .servers
                .iter()
                .map(|address| format!("nameserver {address}")),
        );
    }
    match resolver.search {
        [] => lines.extend(of_host("search")),
        [dot] if dot == "." => {}
        domains => lines.push(format!("search {}", domains.join(" "))),
    }
    match (resolver.options, resolver.embedded) {
        ([], true) => lines.push("options ndots:0".into()),
        ([], false) => lines.extend(of_host("options")),
        (options, _) => lines.push(format!("options {}", options.join(" "))),
    }
    lines.join("\n") + "\n"
}

fn is_loopback(line: &str) -> bool {
    let address = line
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<IpAddr>().ok());
    address.is_none_or(|address| address.is_loopback())
}

/// Name servers that questions about other names go to.
pub(crate) fn upstreams(configured: &[IpAddr], of_daemon: &[IpAddr]) -> Vec<std::net::SocketAddr> {
    let own = [configured, of_daemon]
        .into_iter()
        .find(|list| !list.is_empty())
        .map(<[IpAddr]>::to_vec);
    let addresses = own.unwrap_or_else(|| {
        let host = fs::read_to_string(HOST_RESOLV_CONF).unwrap_or_default();
        host.lines()
            .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
            .collect()
    });
    addresses
        .into_iter()
        .map(|address| (address, 53).into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# a comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch example.org\noptions edns0\n";

    #[test]
    fn a_container_takes_over_what_helps_it() {
        let text = resolv_conf(HOST, &Resolver::default());
        assert_eq!(
            text,
            "nameserver 10.0.0.2\nsearch example.org\noptions edns0\n"
        );
        let text = resolv_conf("nameserver 127.0.0.53\n", &Resolver::default());
        assert_eq!(text, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        let text = resolv_conf(
            HOST,
            &Resolver {
                host_network: true,
                ..Resolver::default()
            },
        );
        assert!(text.contains("127.0.0.53"));
    }

    #[test]
    fn configured_values_and_the_embedded_server_come_first() {
        let servers = ["1.2.3.4".parse().unwrap()];
        let search = [".".to_owned()];
        let text = resolv_conf(
            HOST,
            &Resolver {
                servers: &servers,
                search: &search,
                ..Resolver::default()
            },
        );
        assert_eq!(text, "nameserver 1.2.3.4\noptions edns0\n");
        let text = resolv_conf(
            HOST,
            &Resolver {
                embedded: true,
                ..Resolver::default()
            },
        );
        assert_eq!(
            text,
            "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n"
        );
    }
}
