//! What the machine has.

use std::path::Path;

/// Read once at the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub cpus: usize,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub machine_id: String,
    pub boot_id: String,
    pub kernel: String,
    pub system: String,
}

impl Machine {
    /// Looks; what can't be read stays empty.
    pub fn look(root: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let disk = rustix::fs::statvfs(root).map(|stat| stat.f_blocks * stat.f_frsize);
        let machine_id = read("/etc/machine-id").trim().to_owned();
        let boot_id = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            disk_bytes: disk.unwrap_or_default(),
            machine_id,
            boot_id,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: pretty_name(&read("/etc/os-release")),
        }
    }
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn pretty_name(release: &str) -> String {
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_read() {
        assert_eq!(
            memory_bytes("MemTotal:       16 kB\nMemFree: 1 kB\n"),
            16384
        );
        assert_eq!(
            pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
        assert_eq!(pretty_name(""), "Linux");
    }
}
