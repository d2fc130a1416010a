//! Version 2: one folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

use crate::{Cgroup, Error, IoStat, OomWatch, Result, Stats, devices, file};

/// A group.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    fd: OwnedFd,
}

/// Controllers that the root offers.
pub fn controllers(root: &Path) -> Result<Vec<String>> {
    Ok(file::read(root, "cgroup.controllers")?
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

impl Group {
    /// Makes the folder, and has every folder above it pass the controllers on.
    pub fn create(root: &Path, path: &str) -> Result<Group> {
        let made = file::make_folders(root, path)?;
        let opened = enable_controllers(root, path).and_then(|()| Group::open(root, path));
        if opened.is_err() {
            file::remove_made(&made);
        }
        opened
    }

    /// Opens an existing group.
    pub fn open(root: &Path, path: &str) -> Result<Group> {
        let folder = root.join(path.trim_start_matches('/'));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&folder, flags, Mode::empty()).map_err(|e| Error::File {
            operation: "open".into(),
            path: folder.clone(),
            source: e.into(),
        })?;
        Ok(Group { folder, fd })
    }

    fn write(&self, name: &str, value: impl std::fmt::Display) -> Result<()> {
        file::write(&self.folder, name, value)
    }

    /// Waits until `cgroup.events` says what is wanted: the kernel reports changes of it.
    fn await_event(&self, line: &str) -> Result<()> {
        let path = self.folder.join("cgroup.events");
        let fail = |source: io::Error| Error::File {
            operation: "watch".into(),
            path: path.clone(),
            source,
        };
        let events = fs::File::open(&path).map_err(fail)?;
        loop {
            // Read first, through the same descriptor: that arms the notification.
            let mut buffer = [0; 256];
            let read = rustix::io::pread(&events, &mut buffer, 0).map_err(|e| fail(e.into()))?;
            if String::from_utf8_lossy(&buffer[..read])
                .lines()
                .any(|l| l == line)
            {
                return Ok(());
            }
            match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail(error.into())),
            }
        }
    }
}

/// A folder has the controllers that its parent's `cgroup.subtree_control` names.
fn enable_controllers(root: &Path, path: &str) -> Result<()> {
    let mut folder = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let offered = file::read(&folder, "cgroup.controllers")?;
        let enabled = file::read(&folder, "cgroup.subtree_control")?;
        let missing: Vec<String> = offered
            .split_whitespace()
            .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
            .map(|c| format!("+{c}"))
            .collect();
        if !missing.is_empty()
            && file::write(&folder, "cgroup.subtree_control", missing.join(" ")).is_err()
        {
            // One that can't be passed on (a realtime scheduler's cpu) must not take the others with it.
            for controller in &missing {
                let _ = file::write(&folder, "cgroup.subtree_control", controller);
            }
        }
        folder.push(part);
    }
    Ok(())
}

impl Cgroup for Group {
    fn apply(&self, resources: &LinuxResources) -> Result<()> {
        if let Some(rules) = resources.devices() {
            devices::apply_v2(self.fd.as_fd(), &self.folder, rules)?;
        }
        if let Some(memory) = resources.memory() {
            self.apply_memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.apply_cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            self.write(
                "pids.max",
                if pids.limit() > 0 {
                    pids.limit().to_string()
                } else {
                    "max".into()
                },
            )?;
        }
        if let Some(block) = resources.block_io() {
            self.apply_block_io(block)?;
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            self.write(&format!("hugetlb.{}.max", limit.page_size()), limit.limit())?;
        }
        for (name, value) in resources.unified().iter().flatten() {
            // The name comes from the configuration: it must stay a file of this folder.
            if name.contains('/') || !name.contains('.') {
                return Err(Error::Unsupported(format!(
                    "{name:?} is not a file of a control group"
                )));
            }
            self.write(name, value)?;
        }
        Ok(())
    }

    fn add_process(&self, pid: i32) -> Result<()> {
        self.write("cgroup.procs", pid)
    }

    fn join_self(&self) -> Result<()> {
        self.write("cgroup.procs", 0)
    }

    fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn processes(&self) -> Result<Vec<i32>> {
        file::processes(&self.folder)
    }

    fn freeze(&self) -> Result<()> {
        self.write("cgroup.freeze", 1)?;
        self.await_event("frozen 1")
    }

    fn thaw(&self) -> Result<()> {
        self.write("cgroup.freeze", 0)
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(file::read(&self.folder, "cgroup.events")?
            .lines()
            .any(|line| line == "frozen 1"))
    }

    fn kill_all(&self) -> Result<()> {
        if self.folder.join("cgroup.kill").exists() {
            return self.write("cgroup.kill", 1);
        }
        self.freeze()?;
        for pid in self
            .processes()?
            .into_iter()
            .filter_map(rustix::process::Pid::from_raw)
        {
            // Ended by itself meanwhile: as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        self.thaw()
    }

    fn stats(&self) -> Result<Stats> {
        let pairs = file::read_pairs(&self.folder, "cpu.stat");
        let nanoseconds = |key: &str| pairs.get(key).copied().unwrap_or(0).saturating_mul(1000);
        let number = |name: &str| file::read_number(&self.folder, name);
        Ok(Stats {
            cpu_usage_ns: nanoseconds("usage_usec"),
            cpu_user_ns: nanoseconds("user_usec"),
            cpu_system_ns: nanoseconds("system_usec"),
            cpu_per_core_ns: Vec::new(),
            cpu_periods: pairs.get("nr_periods").copied().unwrap_or(0),
            cpu_throttled_periods: pairs.get("nr_throttled").copied().unwrap_or(0),
            cpu_throttled_ns: nanoseconds("throttled_usec"),
            memory_usage_bytes: number("memory.current").unwrap_or(0),
            memory_max_usage_bytes: number("memory.peak").unwrap_or(0),
            memory_limit_bytes: number("memory.max").unwrap_or(u64::MAX),
            memory_failcnt: file::read_pairs(&self.folder, "memory.events")
                .get("max")
                .copied()
                .unwrap_or(0),
            memory_oom_kills: crate::oom::kills(&self.folder, "memory.events"),
            swap_usage_bytes: number("memory.swap.current").unwrap_or(0),
            memory_stat: file::read_pairs(&self.folder, "memory.stat"),
            pids_current: number("pids.current").unwrap_or(0),
            pids_limit: number("pids.max").unwrap_or(u64::MAX),
            io: read_io(&self.folder),
        })
    }

    fn oom_watch(&self) -> Result<OomWatch> {
        OomWatch::v2(&self.folder)
    }

    fn delete(&self) -> Result<()> {
        file::remove_tree(&self.folder)
    }

    fn paths(&self) -> BTreeMap<String, PathBuf> {
        BTreeMap::from([(String::new(), self.folder.clone())])
    }
}

impl Group {
    fn apply_memory(&self, memory: &LinuxMemory) -> Result<()> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
            self.write("memory.swap.max", swap_alone(limit, swap)?)?;
        }
        if let Some(limit) = limit {
            if memory.check_before_update() == Some(true) {
                let usage = file::read_number(&self.folder, "memory.current").unwrap_or(0);
                if limit > 0 && usage > limit as u64 {
                    return Err(Error::Unsupported(format!(
                        "unable to set memory limit to {limit} (current usage: {usage})"
                    )));
                }
            }
            self.write("memory.max", or_max(limit))?;
        }
        match memory.reservation().filter(|reservation| *reservation != 0) {
            Some(reservation) => self.write("memory.low", or_max(reservation)),
            None => Ok(()),
        }
    }

    fn apply_cpu(&self, cpu: &LinuxCpu) -> Result<()> {
        file::write_some(&self.folder, "cpu.idle", cpu.idle())?;
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            self.write("cpu.weight", weight_of_shares(shares))?;
        }
        let (quota, period) = (
            cpu.quota().filter(|q| *q != 0),
            cpu.period().filter(|p| *p > 0),
        );
        if quota.is_some() || period.is_some() {
            let quota = quota
                .filter(|q| *q > 0)
                .map_or("max".into(), |q| q.to_string());
            let line = period.map_or(quota.clone(), |period| format!("{quota} {period}"));
            self.write("cpu.max", line)?;
        }
        file::write_some(&self.folder, "cpu.max.burst", cpu.burst())?;
        for (name, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            file::write_some(
                &self.folder,
                name,
                value.as_ref().filter(|value| !value.is_empty()),
            )?;
        }
        Ok(())
    }

    fn apply_block_io(&self, block: &LinuxBlockIo) -> Result<()> {
        if let Some(weight) = block.weight().filter(|weight| *weight > 0) {
            if self.folder.join("io.bfq.weight").exists() {
                self.write("io.bfq.weight", weight)?;
            } else {
                self.write("io.weight", io_weight(weight))?;
            }
        }
        self.throttle("rbps", block.throttle_read_bps_device().as_deref())?;
        self.throttle("wbps", block.throttle_write_bps_device().as_deref())?;
        self.throttle("riops", block.throttle_read_iops_device().as_deref())?;
        self.throttle("wiops", block.throttle_write_iops_device().as_deref())
    }

    fn throttle(&self, kind: &str, devices: Option<&[LinuxThrottleDevice]>) -> Result<()> {
        devices.unwrap_or_default().iter().try_for_each(|device| {
            let rate = if device.rate() == 0 {
                "max".into()
            } else {
                device.rate().to_string()
            };
            self.write(
                "io.max",
                format!("{}:{} {kind}={rate}", device.major(), device.minor()),
            )
        })
    }
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".into()
    } else {
        value.to_string()
    }
}

/// The specification counts memory and swap together; version 2 counts swap alone.
pub(crate) fn swap_alone(limit: Option<i64>, sum: i64) -> Result<String> {
    match limit {
        _ if sum < 0 => Ok("max".into()),
        Some(limit) if limit > 0 && sum >= limit => Ok((sum - limit).to_string()),
        Some(limit) if limit > 0 => Err(Error::Unsupported(format!(
            "memory and swap together ({sum}) are less than the memory limit ({limit})"
        ))),
        _ => Err(Error::Unsupported(
            "a limit of swap needs a limit of memory".into(),
        )),
    }
}

/// Shares of 2 to 262144 → weight of 1 to 10000, the middle (1024 → 39) as everywhere.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Weight of 10 to 1000 → 1 to 10000.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// Lines `MAJOR:MINOR rbytes=… wbytes=… rios=… wios=…`.
fn read_io(folder: &Path) -> Vec<IoStat> {
    let mut list = Vec::new();
    for line in fs::read_to_string(folder.join("io.stat"))
        .unwrap_or_default()
        .lines()
    {
        let mut words = line.split(' ');
        let Some(entry) = words
            .next()
            .and_then(|device| IoStat::of(&mut list, device))
        else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => entry.read_bytes = value,
                "wbytes" => entry.write_bytes = value,
                "rios" => entry.read_ops = value,
                "wios" => entry.write_ops = value,
                _ => {}
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_from_version_1() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 39, 10_000]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
        assert_eq!(swap_alone(Some(100), 300).unwrap(), "200");
        assert_eq!(swap_alone(Some(100), -1).unwrap(), "max");
        assert!(swap_alone(Some(100), 50).is_err());
        assert!(swap_alone(None, 50).is_err());
    }
}
