//! Capabilities: Docker's default set, and what is added and dropped.

use crate::ContainerSpec;

/// In the order of their numbers.
#[rustfmt::skip]
const ALL: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// What a container has unless told otherwise.
#[rustfmt::skip]
const DEFAULT: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
];

/// Full name of a capability as people write it, or `ALL`.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || upper == "CAP_ALL" {
        return Some("ALL");
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    ALL.iter()
        .copied()
        .find(|full| full.strip_prefix("CAP_") == Some(bare))
}

/// The set of a container.
pub(crate) fn of(spec: &ContainerSpec) -> Vec<String> {
    if spec.privileged {
        return ALL.iter().map(|name| (*name).to_owned()).collect();
    }
    let named = |list: &[String]| -> Vec<&'static str> {
        list.iter().filter_map(|name| known(name)).collect()
    };
    let (added, dropped) = (named(&spec.cap_add), named(&spec.cap_drop));
    let base = if added.contains(&"ALL") { ALL } else { DEFAULT };
    let kept = |name: &&str| {
        !dropped.contains(name) && (!dropped.contains(&"ALL") || added.contains(name))
    };
    let mut set: Vec<&str> = base.iter().copied().filter(kept).collect();
    set.extend(
        added
            .iter()
            .filter(|name| **name != "ALL" && !base.contains(name)),
    );
    set.dedup();
    set.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Vec<String> {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        of(&ContainerSpec {
            cap_add: list(add),
            cap_drop: list(drop),
            ..ContainerSpec::default()
        })
    }

    #[test]
    fn added_and_dropped() {
        assert_eq!(set(&[], &[]).len(), DEFAULT.len());
        assert!(set(&["net_admin"], &[]).contains(&"CAP_NET_ADMIN".to_owned()));
        assert!(!set(&[], &["CAP_KILL"]).contains(&"CAP_KILL".to_owned()));
        assert_eq!(set(&["CHOWN"], &["ALL"]), ["CAP_CHOWN"]);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).len(), ALL.len() - 1);
        assert!(known("nonsense").is_none());
    }
}
