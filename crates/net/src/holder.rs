//! Who holds a port: from the kernel's socket tables to an inode, from the inode to a process. Looked for only
//! when a port could not be had.

use std::fs;

use crate::Protocol;

/// `0A` in /proc/net/tcp
const LISTENING: &str = "0A";

/// `name (pid N)` of the process that holds the port, as far as /proc tells.
pub(crate) fn of_port(port: u16, protocol: Protocol) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        inode_of(&text, port, protocol == Protocol::Tcp)
    })?;
    process_with(&format!("socket:[{inode}]"))
}

/// Columns: number, local address:port, remote, state, queues, timer, retransmits, user, timeout, inode.
fn inode_of(table: &str, port: u16, only_listening: bool) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let matches = columns.get(1)?.ends_with(&suffix)
            && (!only_listening || *columns.get(3)? == LISTENING);
        let inode = columns.get(9)?.parse().ok()?;
        (matches && inode != 0).then_some(inode)
    })
}

fn process_with(target: &str) -> Option<String> {
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let held = descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == target)
        });
        if held {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim_end()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = of_port(port, Protocol::Tcp).unwrap();
        assert!(
            holder.ends_with(&format!("(pid {})", std::process::id())),
            "{holder}"
        );
        drop(listener);
        assert_eq!(of_port(port, Protocol::Tcp), None);
    }

    #[test]
    fn lines_that_are_not_what_they_should_be() {
        for table in [
            "",
            "head\n",
            "head\n 0:",
            "head\n 0: 0100007F:1F90 0:0 0A",
            "h\n0: 0:1F90 0:0 0A 0 0 0 0 0 x",
        ] {
            assert_eq!(inode_of(table, 8080, true), None);
        }
        assert_eq!(
            inode_of("h\n0: 0:1F90 0:0 0A 0 0 0 0 0 7", 8080, true),
            Some(7)
        );
        assert_eq!(
            inode_of("h\n0: 0:1F90 0:0 01 0 0 0 0 0 7", 8080, true),
            None
        );
    }
}
