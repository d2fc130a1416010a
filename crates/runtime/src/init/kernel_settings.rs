//! Settings of the kernel for this process and its namespaces: names, sysctls, limits, priorities.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxIOPriority, LinuxSchedulerPolicy, PosixRlimit, PosixRlimitType, Process, Scheduler, Spec,
};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::{Resource, Rlimit};
use wharf_sys::process::Scheduling;

use super::{Step, failed};

/// A procfs of our own, attached nowhere: what is written through it can't be led astray by anything that the image or
/// another container mounted over /proc (CVE-2019-16884, CVE-2025-52881).
pub fn private_proc() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?)
}

/// Host and domain name of a new UTS namespace.
pub fn set_names(spec: &Spec) -> Step {
    if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes())
            .map_err(failed(format!("set host name {name:?}")))?;
    }
    if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(failed(format!("set domain name {name:?}")))?;
    }
    Ok(())
}

/// Kernel parameters of the container's namespaces.
pub fn set_sysctls(spec: &Spec) -> Step {
    let Some(sysctls) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.sysctl().as_ref())
    else {
        return Ok(());
    };
    if sysctls.is_empty() {
        return Ok(());
    }
    let proc = private_proc().map_err(failed("open a procfs for kernel parameters"))?;
    for (key, value) in sysctls {
        let what = || format!("set kernel parameter {key}={value}");
        let path = PathBuf::from("sys").join(sysctl_path(key));
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = rustix::fs::openat2(
            &proc,
            &path,
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
        .map_err(failed(what()))?;
        File::from(file)
            .write_all(value.as_bytes())
            .map_err(failed(what()))?;
    }
    Ok(())
}

/// `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` name the same file.
fn sysctl_path(key: &str) -> String {
    let first_separator = key.find(['.', '/']).map(|at| key.as_bytes()[at]);
    if first_separator == Some(b'/') {
        return key.to_owned();
    }
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// Resource limits of the process.
pub fn set_limits(limits: &[PosixRlimit]) -> Step {
    for limit in limits {
        let kind = limit.typ();
        let value = |number: u64| (number != u64::MAX).then_some(number);
        let rlimit = Rlimit {
            current: value(limit.soft()),
            maximum: value(limit.hard()),
        };
        rustix::process::setrlimit(resource(kind), rlimit).map_err(failed(format!(
            "set limit {kind} to {}:{}",
            limit.soft(),
            limit.hard()
        )))?;
    }
    Ok(())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
    }
}

/// How willingly the kernel ends this process when memory runs out. Needs the host's /proc: before the pivot.
pub fn set_oom_score(process: &Process) -> Step {
    let Some(score) = process.oom_score_adj() else {
        return Ok(());
    };
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(failed(format!("set oom_score_adj to {score}")))
}

/// Scheduling and I/O priority.
pub fn set_priorities(process: &Process) -> Step {
    if let Some(priority) = process.io_priority() {
        let (class, level) = io_class(priority);
        wharf_sys::process::set_io_priority(class, level)
            .map_err(failed("set the I/O priority"))?;
    }
    match process.scheduler() {
        Some(scheduler) => {
            wharf_sys::process::set_scheduling(&scheduling(scheduler)).map_err(|error| {
                let refused = error.kind() == io::ErrorKind::PermissionDenied;
                let hint = if refused {
                    " (process scheduler can't be used together with AllowedCPUs)"
                } else {
                    ""
                };
                failed(format!("set the scheduling policy{hint}"))(error)
            })
        }
        None => Ok(()),
    }
}

fn io_class(priority: &LinuxIOPriority) -> (u32, u32) {
    use oci_spec::runtime::IOPriorityClass as Class;
    let class = match priority.class() {
        Class::IoprioClassRt => 1,
        Class::IoprioClassBe => 2,
        Class::IoprioClassIdle => 3,
    };
    (class, u32::try_from(priority.priority()).unwrap_or(0))
}

fn scheduling(scheduler: &Scheduler) -> Scheduling {
    use oci_spec::runtime::LinuxSchedulerFlag as Flag;
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            Flag::SchedResetOnFork => 0x1,
            Flag::SchedFlagReclaim => 0x2,
            Flag::SchedFlagDLOverrun => 0x4,
            Flag::SchedFlagKeepPolicy => 0x8,
            Flag::SchedFlagKeepParams => 0x10,
            Flag::SchedFlagUtilClampMin => 0x20,
            Flag::SchedFlagUtilClampMax => 0x40,
        }
    });
    Scheduling {
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler
            .priority()
            .and_then(|p| u32::try_from(p).ok())
            .unwrap_or(0),
        runtime_ns: scheduler.runtime().unwrap_or(0),
        deadline_ns: scheduler.deadline().unwrap_or(0),
        period_ns: scheduler.period().unwrap_or(0),
    }
}

/// Execution domain.
pub fn set_personality(spec: &Spec) -> Step {
    use oci_spec::runtime::LinuxPersonalityDomain as Domain;
    let Some(personality) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.personality().as_ref())
    else {
        return Ok(());
    };
    let domain = match personality.domain() {
        Domain::PerLinux => 0,
        Domain::PerLinux32 => 8,
    };
    wharf_sys::process::set_personality(domain).map_err(failed("set the execution domain"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_parameter() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
    }
}
