//! Where the controllers are mounted.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{Error, Result, Version};

/// One mounted hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub mountpoint: PathBuf,
    /// `memory`, `cpu`, `name=systemd` …
    pub controllers: Vec<String>,
}

/// What this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// The hierarchies, and the mount of version 2 without controllers that may sit beside them.
    V1(Vec<Hierarchy>, Option<PathBuf>),
    V2(PathBuf),
}

impl Layout {
    /// Version by name.
    pub fn version(&self) -> Version {
        match self {
            Layout::V1(..) => Version::V1,
            Layout::V2(_) => Version::V2,
        }
    }
}

/// Every controller of version 1 by the name its mount option has.
const CONTROLLERS: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// Of a usual list of mounts.
const MOUNTS_BYTES: usize = 16 * 1024;

/// Reads the mounts once: a machine does not change its layout while it runs.
pub fn layout() -> Result<&'static Layout> {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    if let Some(layout) = LAYOUT.get() {
        return Ok(layout);
    }
    let path = Path::new("/proc/self/mountinfo");
    // The kernel does not say how long it is: a buffer that grows from nothing takes ten times the calls.
    let mut text = String::with_capacity(MOUNTS_BYTES);
    fs::File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|source| Error::File {
            operation: "read".into(),
            path: path.into(),
            source,
        })?;
    let layout = parse(&text).ok_or_else(|| {
        Error::Unsupported("no control groups are mounted; mount cgroup2 at /sys/fs/cgroup".into())
    })?;
    Ok(LAYOUT.get_or_init(|| layout))
}

/// Version 1 where any of its controllers is mounted: a version 2 mount beside it has none then.
pub fn parse(mountinfo: &str) -> Option<Layout> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut unified = None;
    for line in mountinfo.lines() {
        let (front, back) = line.split_once(" - ")?;
        let mountpoint = PathBuf::from(unescape(front.split(' ').nth(4)?));
        let mut back = back.split(' ');
        let (kind, options) = (back.next()?, back.nth(1)?);
        match kind {
            "cgroup2" => {
                unified.get_or_insert(mountpoint);
            }
            "cgroup" => {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|o| CONTROLLERS.contains(o) || o.starts_with("name="))
                    .map(str::to_owned)
                    .collect();
                // The same hierarchy mounted twice is used once.
                if !controllers.is_empty()
                    && !hierarchies.iter().any(|h| h.controllers == controllers)
                {
                    hierarchies.push(Hierarchy {
                        mountpoint,
                        controllers,
                    });
                }
            }
            _ => {}
        }
    }
    let has_controller = hierarchies
        .iter()
        .flat_map(|h| &h.controllers)
        .any(|c| !c.starts_with("name="));
    if has_controller {
        Some(Layout::V1(hierarchies, unified))
    } else {
        unified.map(Layout::V2)
    }
}

/// Blanks and backslashes in mountinfo are written as octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
20 1 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
21 20 0:2 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
22 20 0:3 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
23 20 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
24 20 0:2 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn a_hybrid_machine_is_version_1() {
        let Some(Layout::V1(hierarchies, unified)) = parse(HYBRID) else {
            panic!("not version 1")
        };
        assert_eq!(hierarchies.len(), 2);
        assert_eq!(unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(hierarchies[1].controllers, ["name=systemd"]);
    }

    #[test]
    fn a_unified_machine_is_version_2() {
        let text = "25 1 0:5 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(parse(text), Some(Layout::V2("/sys/fs/cgroup".into())));
        assert_eq!(parse("20 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
