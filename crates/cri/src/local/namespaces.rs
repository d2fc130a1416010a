//! A sandbox's namespaces and files in its run folder. Namespaces are held by binding them to files: no process needs
//! to stay for them, and they outlive this program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tonic::Status;

use super::io;
use crate::v1;

/// Size of a pod's shared memory, as every runtime of the interface gives it.
const SHM_OPTIONS: &std::ffi::CStr = c"mode=1777,size=65536k";
/// Magic number of the file system that namespaces are files of.
const NAMESPACE_MAGIC: i64 = 0x6e73_6673;
/// What every pod with a network of its own has: any port, and pings, without rights.
const SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];
/// Files that [`hold`] binds something to.
const MOUNTED: [&str; 5] = ["net", "ipc", "uts", "pid", "shm"];

/// What is to be made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub folder: PathBuf,
    pub hostname: String,
    pub network: Option<OwnedFd>,
    pub host_network: bool,
    pub host_ipc: bool,
    pub sysctls: BTreeMap<String, String>,
    pub dns: Option<v1::DnsConfig>,
}

/// Makes folder, files and namespaces.
pub(super) fn hold(plan: Plan) -> Result<(), Status> {
    let folder = plan.folder.clone();
    fs::create_dir_all(&folder).map_err(io(format!("make {}", folder.display())))?;
    write_files(&plan)?;
    if !plan.host_ipc {
        let shm = folder.join("shm");
        fs::create_dir_all(&shm).map_err(io(format!("make {}", shm.display())))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("shm", &shm, "tmpfs", flags, SHM_OPTIONS)
            .map_err(io(format!("mount {}", shm.display())))?;
    }
    // A thread of its own: it ends in the namespaces it made.
    let maker = std::thread::Builder::new().name("sandbox".into());
    let thread = maker
        .spawn(move || within_new(&plan))
        .map_err(io("start a thread"))?;
    match thread.join() {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::internal("the thread that makes namespaces ended")),
    }
}

fn within_new(plan: &Plan) -> Result<(), Status> {
    let folder = &plan.folder;
    // The host's name goes with its network.
    wharf_sys::netns::unshare_ipc_and_name(!plan.host_ipc, !plan.host_network)
        .map_err(io("make a sandbox's namespaces"))?;
    if let Some(network) = &plan.network {
        bind(network, &folder.join("net"))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(io("enter a sandbox's network namespace"))?;
    }
    if !plan.host_network {
        rustix::system::sethostname(plan.hostname.as_bytes()).map_err(io("set a host name"))?;
        bind(&own("uts")?, &folder.join("uts"))?;
    }
    if !plan.host_ipc {
        bind(&own("ipc")?, &folder.join("ipc"))?;
    }
    for (name, value) in &plan.sysctls {
        set_sysctl(name, value, plan)?;
    }
    let defaults = SYSCTLS.iter().filter(|_| !plan.host_network);
    for (name, value) in defaults.filter(|(name, _)| !plan.sysctls.contains_key(*name)) {
        set_sysctl(name, value, plan)?;
    }
    Ok(())
}

/// Moves the calling thread into the network that is held at a path.
pub(super) fn enter_network(path: &Path) -> Result<(), Status> {
    let network = File::open(path).map_err(io(format!("open {}", path.display())))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(io("enter a sandbox's network namespace"))
}

fn own(kind: &str) -> Result<OwnedFd, Status> {
    let path = format!("/proc/thread-self/ns/{kind}");
    File::open(&path)
        .map(OwnedFd::from)
        .map_err(io(format!("open {path}")))
}

/// Binds a namespace to a file that did not exist.
fn bind(namespace: &OwnedFd, file: &Path) -> Result<(), Status> {
    use std::os::fd::AsRawFd;
    let options = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file);
    options.map_err(io(format!("make {}", file.display())))?;
    let source = format!("/proc/thread-self/fd/{}", namespace.as_raw_fd());
    rustix::mount::mount_bind(source, file).map_err(io(format!("bind {}", file.display())))
}

/// Only what belongs to the sandbox's own namespaces.
pub(super) fn check_sysctl(name: &str, host_network: bool, host_ipc: bool) -> Result<(), Status> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':'));
    let parts = name.split(['.', '/']);
    let well_formed = plain && parts.clone().count() > 1 && parts.clone().all(|p| !p.is_empty());
    let of_ipc = name.starts_with("kernel.shm")
        || name.starts_with("kernel.msg")
        || name == "kernel.sem"
        || name.starts_with("fs.mqueue.");
    let allowed = (name.starts_with("net.") && !host_network) || (of_ipc && !host_ipc);
    match well_formed && allowed {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "sysctl {name:?} is not one of the sandbox's own namespaces"
        ))),
    }
}

fn set_sysctl(name: &str, value: &str, plan: &Plan) -> Result<(), Status> {
    check_sysctl(name, plan.host_network, plan.host_ipc)?;
    // With slashes between the parts, dots are part of a name.
    let path = match name.contains('/') {
        true => format!("/proc/sys/{name}"),
        false => format!("/proc/sys/{}", name.replace('.', "/")),
    };
    fs::write(&path, value).map_err(|error| {
        Status::invalid_argument(format!("set sysctl {name} to {value:?}: {error}"))
    })
}

fn write_files(plan: &Plan) -> Result<(), Status> {
    let write = |name: &str, text: String| {
        let path = plan.folder.join(name);
        fs::write(&path, text).map_err(io(format!("write {}", path.display())))
    };
    let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    write("hostname", format!("{}\n", plan.hostname))?;
    write("hosts", host("/etc/hosts"))?;
    let resolver = match &plan.dns {
        Some(dns) => resolv_conf(dns)?,
        None => host("/etc/resolv.conf"),
    };
    write("resolv.conf", resolver)
}

fn resolv_conf(dns: &v1::DnsConfig) -> Result<String, Status> {
    let mut text = String::new();
    let words = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    for word in words {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Status::invalid_argument(format!(
                "{word:?} can't stand in resolv.conf"
            )));
        }
    }
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    Ok(text)
}

/// Whether the namespaces are there: after a start of the machine they are not.
pub(super) fn is_held(folder: &Path, host_network: bool) -> bool {
    let name = if host_network { "resolv.conf" } else { "net" };
    let found = rustix::fs::statfs(folder.join(name));
    found.is_ok_and(|stat| host_network || stat.f_type == NAMESPACE_MAGIC)
}

/// Lets go of everything and removes the folder; what is not there is fine.
pub(super) fn release(folder: &Path) -> Result<(), Status> {
    let images = fs::read_dir(folder.join("images")).into_iter().flatten();
    let images = images.flatten().map(|found| found.path());
    for path in MOUNTED
        .map(|name| folder.join(name))
        .into_iter()
        .chain(images)
    {
        // Until nothing is mounted there any more; never along a link.
        while rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io(format!("remove {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_of_the_host_are_refused() {
        for (name, host_network, host_ipc, fine) in [
            ("net.core.somaxconn", false, false, true),
            ("net.core.somaxconn", true, false, false),
            ("kernel.shmmax", false, false, true),
            ("kernel.shmmax", false, true, false),
            ("kernel.core_pattern", false, false, false),
            ("vm.swappiness", false, false, false),
            ("net..x", false, false, false),
            ("net./../../kernel/core_pattern", false, false, false),
            ("net.", false, false, false),
        ] {
            let checked = check_sysctl(name, host_network, host_ipc);
            assert_eq!(checked.is_ok(), fine, "{name}");
        }
    }

    #[test]
    fn resolver_lines_can_not_be_smuggled_in() {
        let dns = |server: &str| v1::DnsConfig {
            servers: vec![server.into()],
            searches: vec!["a.svc".into(), "svc".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns("10.43.0.10")).unwrap(),
            "search a.svc svc\nnameserver 10.43.0.10\noptions ndots:5\n"
        );
        assert!(resolv_conf(&dns("1.1.1.1\nnameserver 6.6.6.6")).is_err());
    }
}
