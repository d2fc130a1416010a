//! Control groups that systemd makes: a scope for each container, asked for over D-Bus.

mod connection;
mod properties;
mod wire;

use oci_spec::runtime::LinuxResources;

use connection::{CallError, Connection};
use properties::Properties;
use wire::Value;

use crate::{Error, Result, version};

/// systemd's word for a unit of that name which is there already.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_BYTES_MAX: usize = 255;

/// A unit and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    slice: String,
    name: String,
}

impl Unit {
    /// Reads `SLICE:PREFIX:NAME`, the form that `cgroupsPath` has for systemd; nothing: a scope for the container `id`
    /// in the slice of the system, or of the user.
    pub fn parse(path: &str, id: &str) -> Result<Unit> {
        let parts: Vec<&str> = match path {
            "" => vec!["", "wharf", id],
            path => path.split(':').collect(),
        };
        let [slice, prefix, name] = parts[..] else {
            return Err(Error::Unsupported(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            )));
        };
        let slice = match slice {
            "" if rustix::process::geteuid().is_root() => "system.slice",
            "" => "user.slice",
            slice => slice,
        };
        let name = match (name.ends_with(".slice"), prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        for unit in [slice, name.as_str()] {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
            if unit.len() > UNIT_BYTES_MAX || !unit.bytes().all(good) {
                return Err(Error::Unsupported(format!(
                    "{unit:?} is not the name of a unit of systemd's"
                )));
            }
        }
        if !slice.ends_with(".slice") {
            return Err(Error::Unsupported(format!(
                "invalid slice name: {slice} does not end with .slice"
            )));
        }
        Ok(Unit {
            slice: slice.to_owned(),
            name,
        })
    }

    /// The unit's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has systemd make the unit around a process, with limits and further properties from annotations. Returns the
    /// path of its control group.
    pub fn start(
        &self,
        pid: i32,
        resources: Option<&LinuxResources>,
        annotations: &[(&str, &str)],
    ) -> Result<String> {
        let what = format!("start the unit {}", self.name);
        let mut list = self.base(pid);
        if let Some(resources) = resources {
            list.extend(properties::of_resources(resources, version()?)?);
            if let Some(rules) = resources.devices() {
                list.extend(properties::of_devices(rules));
            }
        }
        for (name, text) in annotations {
            list.push(properties::of_annotation(name, text).ok_or_else(|| {
                Error::Unsupported(format!(
                    "annotation org.systemd.property.{name}: {text:?} is not a value that systemd takes"
                ))
            })?);
        }
        let mut systemd = Connection::open()?;
        let mut started = systemd.start_transient(&self.name, &list);
        if matches!(&started, Err(CallError::Refused { name, .. }) if name == EXISTS) {
            // One that failed is kept for its reason, and is in the way.
            let _ = systemd.call_unit("ResetFailedUnit", &self.name);
            started = systemd.start_transient(&self.name, &list);
        }
        started.map_err(|error| error.into_error(&what))?;
        let group = systemd.control_group(&self.name);
        let group = group.map_err(|error| error.into_error(&what))?;
        crate::check_path(&group)?;
        Ok(group)
    }

    fn base(&self, pid: i32) -> Properties {
        let flag = |name: &str| (name.to_owned(), Value::Flag(true));
        let mut list = vec![
            (
                "Description".to_owned(),
                Value::Text(format!("container {}", self.name)),
            ),
            ("DefaultDependencies".to_owned(), Value::Flag(false)),
            flag("MemoryAccounting"),
            flag("CPUAccounting"),
            flag("TasksAccounting"),
            flag("IOAccounting"),
        ];
        if self.name.ends_with(".slice") {
            let slice = Value::Texts(vec![self.slice.clone()]);
            list.push(("Wants".to_owned(), slice));
        } else {
            list.push(("Slice".to_owned(), Value::Text(self.slice.clone())));
            // What is below is ours.
            list.push(flag("Delegate"));
            let pid = pid.cast_unsigned();
            list.push(("PIDs".to_owned(), Value::Numbers(vec![pid])));
        }
        list
    }
}

/// Tells systemd of changed limits of a unit.
pub fn update(unit: &str, resources: &LinuxResources) -> Result<()> {
    let list = properties::of_resources(resources, version()?)?;
    if list.is_empty() {
        return Ok(());
    }
    Connection::open()?
        .set_properties(unit, &list)
        .map_err(|error| error.into_error(&format!("change the unit {unit}")))
}

/// Has systemd end a unit; one that is gone is no error.
pub fn stop(unit: &str) -> Result<()> {
    let mut systemd = Connection::open()?;
    let mut body = wire::Writer::default();
    body.text(unit);
    body.text("replace");
    let stopped = systemd.run_job("StopUnit", "ss", body);
    let _ = systemd.call_unit("ResetFailedUnit", unit);
    match stopped {
        Err(CallError::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        other => other.map_err(|error| error.into_error(&format!("stop the unit {unit}"))),
    }
}

/// For the fuzzer's door.
pub(crate) fn read_message(bytes: &[u8]) {
    let _ = bytes.first_chunk().and_then(wire::rest_length);
    let _ = wire::decode(bytes);
}

/// For the fuzzer's door.
pub(crate) fn read_property(name: &str, text: &str) {
    let _ = properties::of_annotation(name, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_runc_names_them() {
        let name = |path| Unit::parse(path, "box").map(|unit| (unit.slice, unit.name));
        let pair = |slice: &str, name: &str| Some((slice.to_owned(), name.to_owned()));
        assert_eq!(
            name("a-b.slice:runc:x").ok(),
            pair("a-b.slice", "runc-x.scope")
        );
        assert_eq!(name("a.slice::x").ok(), pair("a.slice", "x.scope"));
        assert_eq!(name("a.slice:p:x.slice").ok(), pair("a.slice", "x.slice"));
        for bad in [
            "/docker/x",
            "a:b",
            "a:b:c",
            "a.slice:b:../c",
            "a.slice:b:c d",
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
