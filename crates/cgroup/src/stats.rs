//! Usage figures.

use std::collections::BTreeMap;

/// Usage of a group. Absent controllers leave their part at its default.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct Stats {
    pub cpu_usage_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub cpu_per_core_ns: Vec<u64>,
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_ns: u64,
    pub memory_usage_bytes: u64,
    pub memory_max_usage_bytes: u64,
    /// `u64::MAX` when there is no limit.
    pub memory_limit_bytes: u64,
    pub memory_failcnt: u64,
    pub memory_oom_kills: u64,
    pub swap_usage_bytes: u64,
    /// The lines of `memory.stat`.
    pub memory_stat: BTreeMap<String, u64>,
    pub pids_current: u64,
    /// `u64::MAX` when there is no limit.
    pub pids_limit: u64,
    pub io: Vec<IoStat>,
}

/// I/O of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct IoStat {
    pub major: u64,
    pub minor: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub read_ops: u64,
    pub write_ops: u64,
}

impl IoStat {
    /// The entry of a device, made where it is missing.
    pub(crate) fn of<'a>(list: &'a mut Vec<IoStat>, device: &str) -> Option<&'a mut IoStat> {
        let (major, minor) = device.split_once(':')?;
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        let at = list
            .iter()
            .position(|entry| (entry.major, entry.minor) == (major, minor))
            .unwrap_or_else(|| {
                list.push(IoStat {
                    major,
                    minor,
                    ..IoStat::default()
                });
                list.len() - 1
            });
        list.get_mut(at)
    }
}
