//! Version 1: a folder in each hierarchy.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use rustix::fs::{Mode, OFlags};

use crate::hierarchy::Hierarchy;
use crate::{Below, Cgroup, Error, IoStat, OomWatch, Result, Stats, devices, file};

/// What the kernel shows for "no limit": the largest number of whole pages.
const NO_LIMIT_BYTES: u64 = 0x7fff_ffff_ffff_f000;
const FREEZE_TRIES: u32 = 2_000;

/// A group: its folder in each hierarchy.
#[derive(Debug)]
pub struct Group {
    folders: Vec<(&'static Hierarchy, PathBuf)>,
    /// Folder in the mount of version 2 beside them; it limits nothing, but tells whose a process is.
    unified: Option<(PathBuf, OwnedFd)>,
}

/// Controllers that are mounted.
pub fn controllers(hierarchies: &[Hierarchy]) -> Vec<String> {
    hierarchies
        .iter()
        .flat_map(|h| &h.controllers)
        .filter(|c| !c.starts_with("name="))
        .cloned()
        .collect()
}

impl Group {
    /// Makes the folder of version 2, if that is mounted; those of the hierarchies are left to [`Cgroup::complete`].
    pub fn prepare(
        hierarchies: &'static [Hierarchy],
        unified: Option<&Path>,
        path: &str,
    ) -> Result<Group> {
        if let Some(root) = unified {
            file::make_folders(root, path)?;
        }
        Ok(Group::at(hierarchies, unified, path))
    }

    /// Opens a group that must exist in at least one hierarchy.
    pub fn open(
        hierarchies: &'static [Hierarchy],
        unified: Option<&Path>,
        path: &str,
    ) -> Result<Group> {
        let group = Group::at(hierarchies, unified, path);
        if group.folders.iter().any(|(_, folder)| folder.exists()) {
            return Ok(group);
        }
        let path = group
            .folders
            .first()
            .map(|(_, folder)| folder.clone())
            .unwrap_or_default();
        Err(Error::File {
            operation: "open".into(),
            path,
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn at(hierarchies: &'static [Hierarchy], unified: Option<&Path>, path: &str) -> Group {
        let inside = path.trim_start_matches('/');
        let open = |root: &Path| {
            let folder = root.join(inside);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&folder, flags, Mode::empty()).ok()?;
            Some((folder, fd))
        };
        Group {
            unified: unified.and_then(open),
            folders: hierarchies
                .iter()
                .map(|h| (h, h.mountpoint.join(inside)))
                .collect(),
        }
    }

    /// The same with other folders for what is joined.
    pub fn below(mut self, below: &[Below]) -> Result<Group> {
        for one in below {
            let known = |name: &String| {
                let mut all = self.folders.iter().flat_map(|(h, _)| &h.controllers);
                all.any(|c| c == name)
            };
            if let Some(unknown) = one.controllers.iter().find(|name| !known(name)) {
                return Err(Error::Unsupported(format!(
                    "unknown controller {unknown} in sub cgroup"
                )));
            }
            for (hierarchy, folder) in &mut self.folders {
                let named = one
                    .controllers
                    .iter()
                    .any(|name| hierarchy.controllers.contains(name));
                if !(one.controllers.is_empty() || named) {
                    continue;
                }
                let inside = one.path.trim_matches('/');
                if inside.is_empty() {
                    continue;
                }
                folder.push(inside);
                if !folder.exists() {
                    return Err(Error::Unsupported(format!(
                        "adding pid 0 to cgroups: open {}/cgroup.procs: no such file or directory",
                        folder.display()
                    )));
                }
            }
        }
        Ok(self)
    }

    fn folder(&self, controller: &str) -> Option<&Path> {
        let of = |(hierarchy, _): &&(&'static Hierarchy, PathBuf)| {
            hierarchy.controllers.iter().any(|c| c == controller)
        };
        self.folders
            .iter()
            .find(of)
            .map(|(_, folder)| folder.as_path())
    }

    fn need(&self, controller: &str, what: &str) -> Result<&Path> {
        self.folder(controller).ok_or_else(|| {
            Error::Unsupported(format!(
                "{what}: this machine has no {controller} controller mounted"
            ))
        })
    }

    fn each(&self, work: impl Fn(&Path) -> Result<()>) -> Result<()> {
        self.folders.iter().try_for_each(|(_, folder)| work(folder))
    }
}

/// Makes the folder of one hierarchy; gives those that were not there before.
fn make_folder(hierarchy: &Hierarchy, folder: &Path) -> Result<Vec<PathBuf>> {
    let inside = folder
        .strip_prefix(&hierarchy.mountpoint)
        .unwrap_or(folder)
        .to_string_lossy();
    let made = file::make_folders(&hierarchy.mountpoint, &inside)?;
    // A cpuset without CPUs and memory nodes takes no process.
    if hierarchy.controllers.iter().any(|c| c == "cpuset")
        && let Some(last) = made.last()
    {
        inherit_cpuset(last, &hierarchy.mountpoint).inspect_err(|_| file::remove_made(&made))?;
    }
    Ok(made)
}

/// New cpusets are empty; they take over what their parent has, which may have to take it over itself: somebody else may
/// have made it and left it empty.
fn inherit_cpuset(folder: &Path, root: &Path) -> Result<()> {
    let parent = folder.parent().unwrap_or(root);
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let mut value = file::read(parent, name)?;
        if value.trim().is_empty() && parent != root {
            inherit_cpuset(parent, root)?;
            value = file::read(parent, name)?;
        }
        // Only what is empty: a folder above may be limited on purpose.
        if file::read(folder, name)?.trim().is_empty() {
            file::write(folder, name, value.trim())?;
        }
    }
    Ok(())
}

impl Cgroup for Group {
    fn complete(&self) -> Result<()> {
        let mut all_made = Vec::new();
        for (hierarchy, folder) in &self.folders {
            match make_folder(hierarchy, folder) {
                Ok(made) => all_made.extend(made),
                Err(error) => {
                    file::remove_made(&all_made);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn apply(&self, resources: &LinuxResources) -> Result<()> {
        if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
            return Err(Error::Unsupported(
                "invalid configuration: unified resources need control groups of version 2 alone"
                    .into(),
            ));
        }
        if let Some(rules) = resources.devices() {
            let folder = self.need("devices", "limit devices")?;
            devices::apply_v1(folder, rules)?;
        }
        if let Some(memory) = resources.memory() {
            apply_memory(self.need("memory", "limit memory")?, memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.apply_cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            let limit = if pids.limit() > 0 {
                pids.limit().to_string()
            } else {
                "max".into()
            };
            file::write(self.need("pids", "limit processes")?, "pids.max", limit)?;
        }
        if let Some(block) = resources.block_io() {
            self.apply_block_io(block)?;
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            let folder = self.need("hugetlb", "limit huge pages")?;
            file::write(
                folder,
                &format!("hugetlb.{}.limit_in_bytes", limit.page_size()),
                limit.limit(),
            )?;
        }
        if let Some(network) = resources.network() {
            if let Some(class) = network.class_id() {
                file::write(
                    self.need("net_cls", "set the network class")?,
                    "net_cls.classid",
                    class,
                )?;
            }
            for priority in network.priorities().iter().flatten() {
                let folder = self.need("net_prio", "set network priorities")?;
                file::write(
                    folder,
                    "net_prio.ifpriomap",
                    format!("{} {}", priority.name(), priority.priority()),
                )?;
            }
        }
        Ok(())
    }

    fn add_process(&self, pid: i32) -> Result<()> {
        if let Some((folder, _)) = &self.unified {
            file::write(folder, "cgroup.procs", pid)?;
        }
        self.each(|folder| file::write(folder, "cgroup.procs", pid))
    }

    fn join_self(&self) -> Result<()> {
        // `tasks`, not `cgroup.procs`: a thread that moves only itself does not stop all forks of the machine meanwhile.
        self.each(|folder| file::write(folder, "tasks", 0))
    }

    fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(_, fd)| fd.as_fd())
    }

    fn processes(&self) -> Result<Vec<i32>> {
        // Every member is in every hierarchy; any of them tells.
        let folder = self
            .folder("pids")
            .or_else(|| self.folder("freezer"))
            .or(self.folders.first().map(|(_, f)| f.as_path()));
        folder.map_or_else(|| Ok(Vec::new()), file::processes)
    }

    fn freeze(&self) -> Result<()> {
        let folder = self.need("freezer", "freeze")?;
        // A fork under way can keep the state at FREEZING; version 1 has no notification, and writing FROZEN again lets
        // the kernel look again.
        for _ in 0..FREEZE_TRIES {
            file::write(folder, "freezer.state", "FROZEN")?;
            if file::read(folder, "freezer.state")?.trim() == "FROZEN" {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        file::write(folder, "freezer.state", "THAWED")?;
        Err(Error::Unsupported(format!(
            "{} could not be frozen: a process does not stop",
            folder.display()
        )))
    }

    fn thaw(&self) -> Result<()> {
        file::write(self.need("freezer", "thaw")?, "freezer.state", "THAWED")
    }

    fn is_frozen(&self) -> Result<bool> {
        match self.folder("freezer") {
            Some(folder) => Ok(file::read(folder, "freezer.state")?.trim() != "THAWED"),
            None => Ok(false),
        }
    }

    fn kill_all(&self) -> Result<()> {
        // Frozen, nobody forks while the list is read; without a freezer it is read until it is empty.
        let frozen = self.folder("freezer").is_some() && self.freeze().is_ok();
        for pid in self.processes()? {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // Ended by itself meanwhile: as good.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if frozen { self.thaw() } else { Ok(()) }
    }

    fn stats(&self) -> Result<Stats> {
        let mut stats = Stats {
            memory_limit_bytes: u64::MAX,
            pids_limit: u64::MAX,
            ..Stats::default()
        };
        if let Some(folder) = self.folder("cpuacct") {
            read_cpuacct(folder, &mut stats);
        }
        if let Some(folder) = self.folder("cpu") {
            let pairs = file::read_pairs(folder, "cpu.stat");
            let value = |key: &str| pairs.get(key).copied().unwrap_or(0);
            stats.cpu_periods = value("nr_periods");
            stats.cpu_throttled_periods = value("nr_throttled");
            stats.cpu_throttled_ns = value("throttled_time");
        }
        if let Some(folder) = self.folder("memory") {
            read_memory(folder, &mut stats);
        }
        if let Some(folder) = self.folder("pids") {
            stats.pids_current = file::read_number(folder, "pids.current").unwrap_or(0);
            stats.pids_limit = file::read_number(folder, "pids.max").unwrap_or(u64::MAX);
        }
        if let Some(folder) = self.folder("blkio") {
            stats.io = read_block_io(folder);
        }
        Ok(stats)
    }

    fn oom_watch(&self) -> Result<OomWatch> {
        OomWatch::v1(self.need("memory", "watch for want of memory")?)
    }

    fn delete(&self) -> Result<()> {
        if let Some((folder, _)) = &self.unified {
            file::remove_tree(folder)?;
        }
        self.each(file::remove_tree)
    }

    fn paths(&self) -> BTreeMap<String, PathBuf> {
        let named = |(hierarchy, folder): &(&'static Hierarchy, PathBuf)| {
            hierarchy
                .controllers
                .iter()
                .map(|c| (c.clone(), folder.clone()))
                .collect::<Vec<_>>()
        };
        self.folders.iter().flat_map(named).collect()
    }
}

impl Group {
    fn apply_cpu(&self, cpu: &LinuxCpu) -> Result<()> {
        let quota = cpu.shares().is_some() || cpu.quota().is_some() || cpu.period().is_some();
        let realtime = cpu.realtime_period().is_some() || cpu.realtime_runtime().is_some();
        if quota || realtime || cpu.burst().is_some() || cpu.idle().is_some() {
            let folder = self.need("cpu", "limit CPU time")?;
            file::write_some(
                folder,
                "cpu.shares",
                cpu.shares().filter(|shares| *shares > 0),
            )?;
            // The kernel checks quota against period at each write: where one order is refused, the other is right.
            let period =
                || file::write_some(folder, "cpu.cfs_period_us", cpu.period().filter(|p| *p > 0));
            let limit =
                || file::write_some(folder, "cpu.cfs_quota_us", cpu.quota().filter(|q| *q != 0));
            if period().is_err() {
                limit()?;
                period()?;
            } else {
                limit()?;
            }
            file::write_some(folder, "cpu.cfs_burst_us", cpu.burst())?;
            // Here too the part may not exceed the whole at any moment.
            let (whole, part) = (cpu.realtime_period(), cpu.realtime_runtime());
            let period = || file::write_some(folder, "cpu.rt_period_us", whole.filter(|p| *p > 0));
            let runtime =
                || file::write_some(folder, "cpu.rt_runtime_us", part.filter(|r| *r != 0));
            if period().is_err() {
                runtime()?;
                period()?;
            } else {
                runtime()?;
            }
            file::write_some(folder, "cpu.idle", cpu.idle())?;
        }
        for (name, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                file::write(self.need("cpuset", "bind to CPUs")?, name, value)?;
            }
        }
        Ok(())
    }

    fn apply_block_io(&self, block: &LinuxBlockIo) -> Result<()> {
        let folder = self.need("blkio", "limit block I/O")?;
        // The name depends on the I/O scheduler that the kernel was built with.
        let weight_file = ["blkio.weight", "blkio.bfq.weight"]
            .into_iter()
            .find(|name| folder.join(name).exists());
        if let Some(weight) = block.weight().filter(|weight| *weight > 0) {
            let name = weight_file.ok_or_else(|| {
                Error::Unsupported("this kernel has no weights of block I/O".into())
            })?;
            file::write(folder, name, weight)?;
        }
        for device in block.weight_device().iter().flatten() {
            let name = format!("{}_device", weight_file.unwrap_or("blkio.weight"));
            let line = format!(
                "{}:{} {}",
                device.major(),
                device.minor(),
                device.weight().unwrap_or(0)
            );
            file::write(folder, &name, line)?;
        }
        throttle(
            folder,
            "read_bps",
            block.throttle_read_bps_device().as_deref(),
        )?;
        throttle(
            folder,
            "write_bps",
            block.throttle_write_bps_device().as_deref(),
        )?;
        throttle(
            folder,
            "read_iops",
            block.throttle_read_iops_device().as_deref(),
        )?;
        throttle(
            folder,
            "write_iops",
            block.throttle_write_iops_device().as_deref(),
        )
    }
}

fn throttle(folder: &Path, kind: &str, devices: Option<&[LinuxThrottleDevice]>) -> Result<()> {
    devices.unwrap_or_default().iter().try_for_each(|device| {
        let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
        file::write(folder, &format!("blkio.throttle.{kind}_device"), line)
    })
}

fn apply_memory(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = memory.limit().filter(|limit| *limit != 0);
    // No limit of memory means none of both together, unless that is said.
    let unlimited = limit.filter(|limit| *limit == -1);
    let swap = memory.swap().filter(|swap| *swap != 0).or(unlimited);
    if swap.is_some_and(|swap| swap > 0) && !folder.join(WITH_SWAP).exists() {
        return Err(Error::Unsupported(
            "this kernel does not account for swap; boot it with swapaccount=1".into(),
        ));
    }
    let set_swap = || match swap {
        Some(swap) if folder.join(WITH_SWAP).exists() => file::write(folder, WITH_SWAP, swap),
        _ => Ok(()),
    };
    // Memory may never exceed memory and swap together: raising begins with the sum, lowering with the part.
    let current_sum = file::read_number(folder, WITH_SWAP).unwrap_or(u64::MAX);
    let raising = limit.is_some_and(|limit| limit < 0 || limit as u64 > current_sum);
    if raising {
        set_swap()?;
    }
    if let Some(limit) = limit {
        file::write(folder, LIMIT, limit).map_err(|error| explain_busy(folder, limit, error))?;
    }
    if !raising {
        set_swap()?;
    }
    file::write_some(
        folder,
        "memory.soft_limit_in_bytes",
        memory.reservation().filter(|r| *r != 0),
    )?;
    file::write_some(
        folder,
        "memory.kmem.tcp.limit_in_bytes",
        memory.kernel_tcp().filter(|k| *k != 0),
    )?;
    file::write_some(
        folder,
        "memory.swappiness",
        memory.swappiness().filter(|s| *s <= 100),
    )?;
    if memory.disable_oom_killer() == Some(true) {
        file::write(folder, "memory.oom_control", 1)?;
    }
    Ok(())
}

/// A limit below what is in use is refused as "busy", which says nothing to a person.
fn explain_busy(folder: &Path, limit: i64, error: Error) -> Error {
    match error {
        Error::File { source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
            let usage = file::read_number(folder, "memory.usage_in_bytes").unwrap_or(0);
            let peak = file::read_number(folder, "memory.max_usage_in_bytes").unwrap_or(0);
            Error::Unsupported(format!(
                "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
            ))
        }
        other => other,
    }
}

fn read_cpuacct(folder: &Path, stats: &mut Stats) {
    stats.cpu_usage_ns = file::read_number(folder, "cpuacct.usage").unwrap_or(0);
    stats.cpu_user_ns = file::read_number(folder, "cpuacct.usage_user").unwrap_or(0);
    stats.cpu_system_ns = file::read_number(folder, "cpuacct.usage_sys").unwrap_or(0);
    let per_core = fs::read_to_string(folder.join("cpuacct.usage_percpu")).unwrap_or_default();
    stats.cpu_per_core_ns = per_core
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
}

fn read_memory(folder: &Path, stats: &mut Stats) {
    let number = |name: &str| file::read_number(folder, name).unwrap_or(0);
    stats.memory_usage_bytes = number("memory.usage_in_bytes");
    stats.memory_max_usage_bytes = number("memory.max_usage_in_bytes");
    let limit = number("memory.limit_in_bytes");
    stats.memory_limit_bytes = if limit >= NO_LIMIT_BYTES {
        u64::MAX
    } else {
        limit
    };
    stats.memory_failcnt = number("memory.failcnt");
    stats.memory_oom_kills = crate::oom::kills(folder, "memory.oom_control");
    stats.swap_usage_bytes =
        number("memory.memsw.usage_in_bytes").saturating_sub(stats.memory_usage_bytes);
    stats.memory_stat = file::read_pairs(folder, "memory.stat");
}

/// Lines `MAJOR:MINOR Read BYTES`.
fn read_block_io(folder: &Path) -> Vec<IoStat> {
    let mut list = Vec::new();
    for (name, bytes) in [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ] {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(kind), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Ok(value), Some(entry)) = (value.parse::<u64>(), IoStat::of(&mut list, device))
            else {
                continue;
            };
            match (kind, bytes) {
                ("Read", true) => entry.read_bytes = value,
                ("Write", true) => entry.write_bytes = value,
                ("Read", false) => entry.read_ops = value,
                ("Write", false) => entry.write_ops = value,
                _ => {}
            }
        }
    }
    list
}
