//! Who the process is: users, groups, capabilities, no_new_privs.

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Step, failed};

/// Capabilities in the order of their numbers (capabilities(7)).
pub const NAMES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Bits of a set; names that the kernel does not know are left out.
fn bits(names: Option<&Capabilities>) -> CapabilitySet {
    let mut set = 0u64;
    for capability in names.into_iter().flatten() {
        let name = capability.to_string();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if let Some(number) = NAMES
            .iter()
            .position(|known| known.strip_prefix("CAP_") == Some(name))
        {
            set |= 1 << number;
        }
    }
    CapabilitySet::from_bits_retain(set)
}

/// The five sets of a process, cut to what this process itself may give.
#[derive(Debug, Clone, Copy)]
pub struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// Reads the sets; `None` for a process that keeps what it has.
    pub fn of(capabilities: &LinuxCapabilities) -> Step<Sets> {
        let ours = rustix::thread::capabilities(None)
            .map_err(failed("read our capabilities"))?
            .permitted;
        let permitted = bits(capabilities.permitted().as_ref()) & ours;
        let inheritable = bits(capabilities.inheritable().as_ref()) & ours;
        Ok(Sets {
            bounding: bits(capabilities.bounding().as_ref()),
            effective: bits(capabilities.effective().as_ref()) & ours,
            permitted,
            inheritable,
            // The kernel takes none that is not in both; runc's own default configuration asks for some that are not.
            ambient: bits(capabilities.ambient().as_ref()) & permitted & inheritable,
        })
    }

    /// Drops what is not in the bounding set; needs `CAP_SETPCAP`, so before anything else goes.
    fn bound(&self) -> Step {
        for (number, name) in NAMES.iter().enumerate() {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            // A capability that this kernel does not know can't be dropped, and need not be.
            if !self.bounding.contains(capability)
                && rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false)
            {
                rustix::thread::remove_capability_from_bounding_set(capability)
                    .map_err(failed(format!("drop {name}")))?;
            }
        }
        Ok(())
    }

    fn apply(&self) -> Step {
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        rustix::thread::set_capabilities(None, sets).map_err(failed("set the capabilities"))?;
        rustix::thread::clear_ambient_capability_set()
            .map_err(failed("clear the ambient capabilities"))?;
        for (number, name) in NAMES.iter().enumerate() {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.ambient.contains(capability) {
                rustix::thread::configure_capability_in_ambient_set(capability, true)
                    .map_err(failed(format!("make {name} ambient")))?;
            }
        }
        Ok(())
    }
}

/// Becomes the user of the process with its groups and capabilities. Rights only go from here on.
pub fn become_user(process: &Process, may_set_groups: bool) -> Step {
    let user = process.user();
    let sets = process.capabilities().as_ref().map(Sets::of).transpose()?;
    if let Some(sets) = &sets {
        sets.bound()?;
    }
    rustix::thread::set_keep_capabilities(true)
        .map_err(failed("keep capabilities over the change of user"))?;
    if may_set_groups {
        let groups: Vec<Gid> = user
            .additional_gids()
            .iter()
            .flatten()
            .map(|gid| Gid::from_raw(*gid))
            .collect();
        rustix::thread::set_thread_groups(&groups).map_err(failed("set the additional groups"))?;
    }
    let gid = Gid::from_raw(user.gid());
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(failed(format!("become group {}", user.gid())))?;
    let uid = Uid::from_raw(user.uid());
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(failed(format!("become user {}", user.uid())))?;
    rustix::thread::set_keep_capabilities(false).map_err(failed("end keeping capabilities"))?;
    if let Some(sets) = &sets {
        sets.apply()?;
    }
    // The default of the specification's reference; this process has had none so far, for the sake of device nodes.
    let mask = user.umask().unwrap_or(0o022);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    wharf_sys::signal::reset_all();
    Ok(())
}

/// From here on no exec gives rights that this process does not have.
pub fn forbid_new_privileges(process: &Process) -> Step {
    match process.no_new_privileges() {
        Some(true) => rustix::thread::set_no_new_privs(true).map_err(failed("set no_new_privs")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let at = |name: &str| NAMES.iter().position(|n| *n == name).unwrap();
        assert_eq!(1u64 << at("CAP_SYS_ADMIN"), CapabilitySet::SYS_ADMIN.bits());
        assert_eq!(
            1u64 << at("CAP_CHECKPOINT_RESTORE"),
            CapabilitySet::CHECKPOINT_RESTORE.bits()
        );
        let set = Capabilities::from([
            oci_spec::runtime::Capability::Chown,
            oci_spec::runtime::Capability::Bpf,
        ]);
        assert_eq!(bits(Some(&set)), CapabilitySet::CHOWN | CapabilitySet::BPF);
    }
}
