//! Which namespaces a container gets: new ones at the clone, joined ones by file, and those that must wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags};
use wharf_sys::process::namespace;

use crate::error::{Error, Result};

/// The plan for one process.
#[derive(Debug, Default)]
pub struct Plan {
    /// Made by the clone itself.
    pub create: u64,
    /// Joined by the child, in order.
    pub join: Vec<(u64, OwnedFd)>,
    /// Joined by the parent around the clone: a PID namespace takes effect on children only.
    pub join_pid: Option<OwnedFd>,
    /// The process is in a user namespace that it has joined.
    pub in_joined_users: bool,
    /// Joined already, by whoever cloned the process.
    pub joined: u64,
    /// Entered by the child once it is in its control group, whose root it then becomes.
    pub new_cgroup: bool,
    /// Entered by the child, since its offsets are set before anything runs in it.
    pub new_time: bool,
}

/// Bit of a namespace type.
pub fn flag(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => namespace::MOUNT,
        LinuxNamespaceType::Cgroup => namespace::CGROUP,
        LinuxNamespaceType::Uts => namespace::UTS,
        LinuxNamespaceType::Ipc => namespace::IPC,
        LinuxNamespaceType::User => namespace::USER,
        LinuxNamespaceType::Pid => namespace::PID,
        LinuxNamespaceType::Network => namespace::NETWORK,
        LinuxNamespaceType::Time => namespace::TIME,
    }
}

impl Plan {
    /// Reads the plan from the configuration; `netns` replaces what it says about the network.
    pub fn new(spec: &Spec, netns: Option<BorrowedFd<'_>>) -> Result<Plan> {
        let mut plan = Plan::default();
        let listed = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.namespaces().as_ref());
        let mut seen = 0;
        for entry in listed.into_iter().flatten() {
            let bit = flag(entry.typ());
            if seen & bit != 0 {
                return Err(Error::Config(format!(
                    "namespace {} is listed twice",
                    entry.typ()
                )));
            }
            seen |= bit;
            if bit == namespace::NETWORK && netns.is_some() {
                continue;
            }
            match entry
                .path()
                .as_ref()
                .filter(|path| !path.as_os_str().is_empty())
            {
                Some(path) => {
                    let file = open(path)?;
                    plan.add_join(bit, file);
                }
                None => plan.add_new(bit),
            }
        }
        if let Some(netns) = netns {
            let copy = netns
                .try_clone_to_owned()
                .map_err(Error::system("keep the network namespace"))?;
            plan.add_join(namespace::NETWORK, copy);
        }
        // A user namespace first: the rights over the others come with it.
        plan.join.sort_by_key(|(bit, _)| *bit != namespace::USER);
        Ok(plan)
    }

    fn add_new(&mut self, bit: u64) {
        match bit {
            namespace::CGROUP => self.new_cgroup = true,
            namespace::TIME => self.new_time = true,
            _ => self.create |= bit,
        }
    }

    fn add_join(&mut self, bit: u64, file: OwnedFd) {
        match bit {
            namespace::PID => self.join_pid = Some(file),
            _ => self.join.push((bit, file)),
        }
    }

    /// Whether the container has a namespace of this kind that is not the caller's.
    pub fn is_private(&self, bit: u64) -> bool {
        (self.create | self.joined) & bit != 0
            || self.join.iter().any(|(joined, _)| *joined == bit)
            || (bit == namespace::PID && self.join_pid.is_some())
            || (bit == namespace::CGROUP && self.new_cgroup)
            || (bit == namespace::TIME && self.new_time)
    }

    /// Whether the child sees users, mounts and control groups as its parent does until it changes that itself: then it
    /// can join its control group at any time.
    pub fn keeps_view(&self) -> bool {
        let harmless = namespace::NETWORK | namespace::IPC | namespace::UTS;
        self.create & namespace::USER == 0
            && !self.needs_helper()
            && self.joined == 0
            && self.join.iter().all(|(bit, _)| *bit & harmless != 0)
    }

    /// Joins what is to be joined; called in the child.
    pub fn join_all(&self) -> std::io::Result<()> {
        for (bit, file) in &self.join {
            wharf_sys::process::join_namespaces(file.as_fd(), *bit)?;
        }
        Ok(())
    }
}

fn open(path: &std::path::Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
        Error::File {
            operation: "open namespace",
            path: path.to_owned(),
            source: e.into(),
        }
    })
}
