//! On which CPUs a process runs and from which nodes its memory comes.

use oci_spec::runtime::{
    LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode, Process, Spec,
};
use rustix::io::Errno;
use rustix::thread::CpuSet;

use super::{Failure, Step, failed};

const NODES_MAX: usize = 1024;

/// Before the control group is joined (`execCPUAffinity.initial`).
pub fn set_initial(process: &Process) -> Step {
    match initial(process) {
        Some(list) => set(list),
        None => Ok(()),
    }
}

/// CPUs that a process of `exec` begins on.
pub fn initial(process: &Process) -> Option<&str> {
    let affinity = process.exec_cpu_affinity().as_ref()?;
    affinity
        .initial()
        .as_deref()
        .filter(|list| !list.is_empty())
}

/// Once the control group is joined: as configured, else all that the group has. What the caller was bound to is no
/// business of the container's.
pub fn set_final(process: &Process) -> Step {
    let affinity = process.exec_cpu_affinity().as_ref();
    let last = affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref());
    match last.filter(|list| !list.is_empty()) {
        Some(list) => set(list),
        None if initial(process).is_some() => Ok(()),
        None => reset(),
    }
}

/// All CPUs of the control group.
pub fn reset() -> Step {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    match rustix::thread::sched_setaffinity(None, &all) {
        // A kernel that allows none of them has its reasons; the group binds the process in any case.
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(error) => Err(failed("reset the CPU affinity")(error)),
    }
}

fn set(list: &str) -> Step {
    let numbers = numbers(list, CpuSet::MAX_CPU)?;
    let mut cpus = CpuSet::new();
    numbers.iter().for_each(|cpu| cpus.set(*cpu));
    rustix::thread::sched_setaffinity(None, &cpus)
        .map_err(failed(format!("set the CPU affinity to {list}")))
}

/// `0-3,7` → 0, 1, 2, 3, 7.
pub fn numbers(list: &str, limit: usize) -> Step<Vec<usize>> {
    let mut found = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < limit => found.extend(first..=last),
            _ => {
                return Err(Failure::new(format!(
                    "{list:?} is not a list of numbers below {limit} such as 0-3,7"
                )));
            }
        }
    }
    Ok(found)
}

/// NUMA policy of the container (`linux.memoryPolicy`).
pub fn set_memory_policy(spec: &Spec) -> Step {
    let linux = spec.linux().as_ref();
    let Some(policy) = linux.and_then(|linux| linux.memory_policy().as_ref()) else {
        return Ok(());
    };
    let mut nodes = Vec::new();
    if let Some(list) = policy.nodes().as_deref().filter(|list| !list.is_empty()) {
        nodes = vec![0u64; NODES_MAX / 64];
        let listed = numbers(list, NODES_MAX)
            .map_err(|e| Failure::new(format!("invalid memory policy node: {}", e.message)))?;
        if matches!(policy.mode(), Mode::MpolDefault | Mode::MpolLocal) {
            return Err(Failure::new(format!(
                "invalid memory policy: its mode requires 0 nodes but got {}",
                listed.len()
            )));
        }
        for node in listed {
            nodes[node / 64] |= 1 << (node % 64);
        }
    }
    wharf_sys::memory_policy::set(mode(policy), &nodes)
        .map_err(failed("set_mempolicy: set the memory policy"))
}

/// Numbers of set_mempolicy(2).
fn mode(policy: &LinuxMemoryPolicy) -> u32 {
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    policy.flags().iter().flatten().fold(mode, |bits, flag| {
        bits | match flag {
            Flag::MpolFStaticNodes => 1 << 15,
            Flag::MpolFRelativeNodes => 1 << 14,
            Flag::MpolFNumaBalancing => 1 << 13,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-3,7", 8).unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(numbers("5", 8).unwrap(), [5]);
        for bad in ["", "8", "3-1", "a", "1,", "-1", "0-99999999999999999999"] {
            assert!(numbers(bad, 8).is_err(), "{bad:?}");
        }
    }
}
