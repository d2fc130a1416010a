//! Devices that a container may use without being told so: those every container has, and making nodes of any.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

const ANY: Option<i64> = None;

/// Major, minor and access. A node may be made of anything: using it is what the rules guard.
const ALLOWED: &[(LinuxDeviceType, Option<i64>, Option<i64>, &str)] = &[
    (LinuxDeviceType::C, ANY, ANY, "m"),
    (LinuxDeviceType::B, ANY, ANY, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), ANY, "rwm"),
];

/// The resources as they can be put on a control group by this user. Rules for devices are root's to make; an ordinary
/// user's container has no devices but those that it had before, for it can make no nodes.
pub fn enforceable(resources: &LinuxResources) -> LinuxResources {
    if crate::has_root() {
        return with_defaults(resources);
    }
    let mut resources = resources.clone();
    resources.set_devices(None);
    resources
}

/// The resources with these rules behind the configured ones, which they are exceptions from. Without any configured
/// rule, everything but these devices is forbidden.
pub fn with_defaults(resources: &LinuxResources) -> LinuxResources {
    let mut rules: Vec<LinuxDeviceCgroup> = resources.devices().clone().unwrap_or_default();
    if rules.is_empty() {
        rules.push(rule(false, LinuxDeviceType::A, ANY, ANY, "rwm"));
    }
    rules.extend(
        ALLOWED
            .iter()
            .map(|&(kind, major, minor, access)| rule(true, kind, major, minor, access)),
    );
    let mut resources = resources.clone();
    resources.set_devices(Some(rules));
    resources
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_of_every_container_follow_the_configured_rules() {
        let rules = with_defaults(&LinuxResources::default());
        let rules = rules.devices().as_ref().unwrap();
        assert!(!rules[0].allow());
        assert_eq!(
            rules.iter().filter(|rule| rule.allow()).count(),
            ALLOWED.len()
        );
        let null = rules.iter().find(|rule| rule.minor() == Some(3)).unwrap();
        assert_eq!(
            (null.major(), null.access().as_deref()),
            (Some(1), Some("rwm"))
        );
    }
}
