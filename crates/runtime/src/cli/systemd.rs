//! `--systemd-cgroup`: the container's control group is a scope that systemd makes and removes.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use oci_spec::runtime::Spec;
use wharf_cgroup::systemd::{self, Unit};
use wharf_sys::process::{Cloned, clone_process, exit_now};

use super::{Failure, Global, Outcome, cgroup_failed, failed};
use crate::{create, device_rules};

const PROPERTY: &str = "org.systemd.property.";

/// A scope that goes again unless it is kept. A scope lives as long as a process is in it: until the container's is,
/// it has one that waits.
#[derive(Debug)]
pub struct Scope {
    unit: Unit,
    group: String,
    placeholder: Placeholder,
    keep: bool,
}

impl Scope {
    /// Asks systemd for the scope that the configuration names, with its limits.
    pub fn start(global: &Global, spec: &Spec, id: &str) -> Outcome<Scope> {
        let linux = spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref());
        let path = path.and_then(|path| path.to_str()).unwrap_or_default();
        let unit = Unit::parse(path, id).map_err(cgroup_failed("name the scope"))?;
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let resources = resources.map(device_rules::enforceable);
        let annotations: Vec<(&str, &str)> = spec
            .annotations()
            .iter()
            .flatten()
            .filter_map(|(name, text)| Some((name.strip_prefix(PROPERTY)?, text.as_str())))
            .collect();
        let placeholder = Placeholder::start()?;
        let group = unit
            .start(placeholder.pid, resources.as_ref(), &annotations)
            .map_err(cgroup_failed("have a scope made"))?;
        global.log.debug(&format!(
            "systemd made {} with the control group {group}",
            unit.name()
        ));
        Ok(Scope {
            unit,
            group,
            placeholder,
            keep: false,
        })
    }

    /// The scope's control group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The container's process is in the scope, which now lives by that. Returns the unit's name.
    pub fn keep(mut self) -> String {
        self.keep = true;
        self.unit.name().to_owned()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.placeholder.end();
        if !self.keep {
            // The failure that led here is told already.
            let _ = systemd::stop(self.unit.name());
        }
    }
}

/// A process that does nothing but be there, until it is ended or we are.
#[derive(Debug)]
struct Placeholder {
    pid: i32,
    pidfd: Option<OwnedFd>,
    /// Its closing is the end.
    _lifeline: UnixStream,
}

impl Placeholder {
    fn start() -> Outcome<Placeholder> {
        let what = "start a process for the scope";
        let (near, mut far) = UnixStream::pair().map_err(failed(what))?;
        match clone_process(0, None).map_err(failed(what))? {
            Cloned::Child => {
                drop(near);
                let _ = far.read(&mut [0]);
                exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => Ok(Placeholder {
                pid,
                pidfd: Some(pidfd),
                _lifeline: near,
            }),
        }
    }

    fn end(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            create::kill_and_reap(pidfd.as_fd());
        }
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        self.end();
    }
}

/// Puts the path of a scope's group in the place of its name.
pub fn place(text: &[u8], group: &str) -> Outcome<Vec<u8>> {
    let failed = |e: serde_json::Error| Failure::new(format!("read config.json: {e}"));
    let mut value: serde_json::Value = serde_json::from_slice(text).map_err(failed)?;
    value["linux"]["cgroupsPath"] = group.into();
    serde_json::to_vec(&value).map_err(failed)
}
