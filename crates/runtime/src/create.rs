//! The parent's side of a creation.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use wharf_cgroup::Cgroup;
use wharf_sys::process::{Cloned, clone_process, namespace};

use crate::error::{Error, Result};
use crate::init::child::{self, Child};
use crate::message::{Channel, Message};
use crate::namespaces::Plan;
use crate::net_devices::Devices;
use crate::sources::Sources;
use crate::userns_clone::clone_by_helper;
use crate::{CreateRequest, Created, agent, device_rules, hooks};

/// Clones, mounts, pivots and drops privileges up to the point before exec (runtime-spec "create").
/// A failed step leaves no mount, cgroup, file or process.
pub fn create(request: CreateRequest<'_>) -> Result<Created> {
    let process = request
        .spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::Config("process is missing".into()))?;
    refuse_absent(request.spec)?;
    let mut plan = Plan::new(request.spec, request.netns)?;
    let mounts = HostMounts::of(&request, &plan)?;
    let sources = Sources::open(request.spec, request.bundle, &plan)?;
    let devices = Devices::find(request.spec, &plan)?;
    let overlap = crate::has_root() && plan.keeps_view();
    let cgroup = OwnedCgroup::begin(request.spec, request.id, overlap)?;
    let (channel, theirs) = Channel::pair().map_err(Error::system("make a socket pair"))?;
    // Before the helper changes its copy of the plan.
    let foreign = plan.is_private(namespace::USER);
    let cloned = clone_init(&mut plan, cgroup.group())?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            // The parent's end: its closing must be seen when the parent dies.
            drop(channel);
            child::run(&Child {
                request: &request,
                process,
                plan: &plan,
                channel: &theirs,
                cgroup: cgroup.group(),
                overlap,
                prepared: false.into(),
                sources: &sources,
                devices: &devices,
            })
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let mut init = Init(Some(pidfd));
    if foreign || overlap {
        match foreign {
            true => prepare_foreign(&request, &plan, cgroup.group(), pid)?,
            false => cgroup.complete(request.spec, request.id)?,
        }
        tell(&channel, &Message::Prepared)?;
    }
    let pty = wait_until_ready(&channel, &mut |moment| match moment {
        Moment::Hooks => match request.spec.hooks() {
            Some(listed) => {
                hooks::run_runtime_hooks(listed, &request.state("creating", pid, request.spec))
            }
            None => Ok(()),
        },
        Moment::Devices => devices.hand_over(pid),
        Moment::Clocks => crate::clocks::set_offsets(request.spec, pid),
        Moment::Listener(listener) => {
            let state = request.state("creating", pid, request.spec);
            let process = init.0.as_ref().ok_or(Error::Vanished)?;
            agent::hand_over(request.spec, pid, &state, process.as_fd(), listener)
        }
    })?;
    let pidfd = init.0.take().ok_or(Error::Vanished)?;
    mounts.keep();
    Ok(Created {
        pid,
        pidfd,
        pty,
        cgroup: cgroup.into_group(),
        channel: Some(channel),
        started: false,
    })
}

fn clone_init(plan: &mut Plan, cgroup: &dyn Cgroup) -> Result<Cloned> {
    match plan.needs_helper() {
        true => clone_by_helper(plan),
        false => clone_into(plan, cgroup.clone_target()),
    }
}

/// What a process in another user namespace may not see to itself: mappings and membership in the control group.
fn prepare_foreign(
    request: &CreateRequest<'_>,
    plan: &Plan,
    cgroup: &dyn Cgroup,
    pid: i32,
) -> Result<()> {
    if plan.create & namespace::USER != 0 {
        let linux = request.spec.linux().as_ref();
        let uids = linux.and_then(|linux| linux.uid_mappings().as_deref());
        let gids = linux.and_then(|linux| linux.gid_mappings().as_deref());
        crate::id_mappings::write(pid, uids.unwrap_or_default(), gids.unwrap_or_default())?;
    }
    cgroup.add_process(pid).map_err(|source| Error::Cgroup {
        path: cgroup_path(request.spec, request.id),
        source,
    })
}

/// What is asked for and can't be had is said before anything is made.
fn refuse_absent(spec: &Spec) -> Result<()> {
    let linux = spec.linux().as_ref();
    if linux.is_some_and(|linux| linux.intel_rdt().is_some()) {
        return Err(Error::Config(
            "intelRdt is not supported: neither by this runtime nor, most likely, by this machine"
                .into(),
        ));
    }
    Ok(())
}

/// Clones with the plan's new namespaces, inside the PID namespace to be joined, if there is one.
pub(crate) fn clone_into(plan: &Plan, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let Some(target) = &plan.join_pid else {
        return clone_process(plan.create, cgroup)
            .map_err(Error::system("clone a process into new namespaces"));
    };
    // Our own children-to-be change their namespace, not we; afterwards they are to be born here again.
    let own = rustix::fs::open(
        "/proc/self/ns/pid",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(Error::system("open our PID namespace"))?;
    wharf_sys::process::join_namespaces(target.as_fd(), namespace::PID)
        .map_err(Error::system("join the PID namespace"))?;
    let cloned = clone_process(plan.create, cgroup)
        .map_err(Error::system("clone a process into new namespaces"));
    if !matches!(cloned, Ok(Cloned::Child)) {
        wharf_sys::process::join_namespaces(own.as_fd(), namespace::PID)
            .map_err(Error::system("return to our PID namespace"))?;
    }
    cloned
}

fn tell(channel: &Channel, message: &Message) -> Result<()> {
    channel
        .tell(message)
        .map_err(Error::system("talk to the container"))
}

/// What the child waits for on the way.
pub(crate) enum Moment {
    /// The hooks between the mounts and the change of root.
    Hooks,
    /// Offsets of the clocks.
    Clocks,
    /// Network devices that are to be moved to the child.
    Devices,
    /// The seccomp agent is to get this descriptor of the child.
    Listener(i32),
}

/// Takes messages until the child is ready, and does what it asks for; returns the terminal's master.
pub(crate) fn wait_until_ready(
    channel: &Channel,
    act: &mut dyn FnMut(Moment) -> Result<()>,
) -> Result<Option<OwnedFd>> {
    loop {
        let received = channel
            .receive()
            .map_err(Error::system("listen to the container"))?;
        let (message, descriptors) = received.ok_or(Error::Vanished)?;
        match message {
            Message::Ready { pty } => {
                return Ok(descriptors.into_iter().next().filter(|_| pty));
            }
            Message::AtHooks => {
                act(Moment::Hooks)?;
                tell(channel, &Message::HooksDone)?;
            }
            Message::AtDevices => {
                act(Moment::Devices)?;
                tell(channel, &Message::DevicesMoved)?;
            }
            Message::AtClocks => {
                act(Moment::Clocks)?;
                tell(channel, &Message::ClocksSet)?;
            }
            Message::Listener { number } => {
                act(Moment::Listener(number))?;
                tell(channel, &Message::ListenerTaken)?;
            }
            Message::Failed { message, exit_code } => {
                return Err(Error::Init { message, exit_code });
            }
            _ => {}
        }
    }
}

/// A child that is killed and reaped unless it was taken over.
struct Init(Option<OwnedFd>);

impl Drop for Init {
    fn drop(&mut self) {
        if let Some(pidfd) = self.0.take() {
            kill_and_reap(pidfd.as_fd());
        }
    }
}

/// SIGKILL, and waits for the end.
pub(crate) fn kill_and_reap(pidfd: BorrowedFd<'_>) {
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
}

/// Mounts of a container without a mount namespace: they go again unless the creation succeeds.
struct HostMounts(Option<(PathBuf, u64)>);

impl HostMounts {
    fn of(request: &CreateRequest<'_>, plan: &Plan) -> Result<HostMounts> {
        if plan.is_private(namespace::MOUNT) {
            return Ok(HostMounts(None));
        }
        let linux = request.spec.linux().as_ref();
        let hidden = linux.and_then(|linux| linux.masked_paths().as_ref());
        let protected = linux.and_then(|linux| linux.readonly_paths().as_ref());
        if [hidden, protected]
            .into_iter()
            .flatten()
            .any(|list| !list.is_empty())
        {
            return Err(Error::Config(
                "unable to restrict sys entries without a private MNT namespace".into(),
            ));
        }
        if request.rootfs.is_some() || request.no_pivot {
            return Err(Error::Config(
                "a mount namespace of the container's own is required".into(),
            ));
        }
        let root = crate::init::rootfs::root_path(request.spec, request.bundle);
        // What the caller has mounted there is not ours to take away.
        let before = mount_id(&root).map_err(Error::system(format!("stat {}", root.display())))?;
        Ok(HostMounts(Some((root, before))))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for HostMounts {
    fn drop(&mut self) {
        if let Some((root, before)) = &self.0
            && mount_id(root).is_ok_and(|now| now != *before)
        {
            remove_host_mounts(root);
        }
    }
}

fn mount_id(path: &Path) -> rustix::io::Result<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    Ok(statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// Takes away what a container without a mount namespace left at its root.
fn remove_host_mounts(root: &Path) {
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    // Where nothing is mounted, nothing is left to do.
    let _ = rustix::mount::unmount(root, flags);
}

/// Takes away the mounts that a container has made in the host's namespace, if its configuration gave it none of its own.
pub(crate) fn remove_shared_mounts(spec: &Spec, bundle: &Path) {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let private = listed
        .into_iter()
        .flatten()
        .any(|entry| entry.typ() == LinuxNamespaceType::Mount);
    if !private {
        remove_host_mounts(&crate::init::rootfs::root_path(spec, bundle));
    }
}

/// A control group that goes again unless the creation succeeds.
struct OwnedCgroup(Option<Box<dyn Cgroup>>);

impl OwnedCgroup {
    fn begin(spec: &Spec, id: &str, overlap: bool) -> Result<OwnedCgroup> {
        match overlap {
            true => OwnedCgroup::prepare(spec, id),
            false => OwnedCgroup::create(spec, id),
        }
    }

    /// The whole group, limits included.
    fn create(spec: &Spec, id: &str) -> Result<OwnedCgroup> {
        let path = cgroup_path(spec, id);
        let group = match wharf_cgroup::create(&path) {
            // An ordinary user to whom no group was given does without, unless limits are asked for.
            Err(error) if !crate::has_root() && error.is_denied() && !limits(resources(spec)) => {
                return Ok(OwnedCgroup(Some(wharf_cgroup::absent())));
            }
            other => other.map_err(|source| Error::Cgroup { path, source })?,
        };
        let owned = OwnedCgroup(Some(group));
        owned.limit(spec, id)?;
        Ok(owned)
    }

    /// What the clone needs of it; [`OwnedCgroup::complete`] does the rest while the child makes its mounts.
    fn prepare(spec: &Spec, id: &str) -> Result<OwnedCgroup> {
        let path = cgroup_path(spec, id);
        match wharf_cgroup::prepare(&path) {
            Ok(group) => Ok(OwnedCgroup(Some(group))),
            Err(source) => Err(Error::Cgroup { path, source }),
        }
    }

    fn complete(&self, spec: &Spec, id: &str) -> Result<()> {
        self.group().complete().map_err(|source| Error::Cgroup {
            path: cgroup_path(spec, id),
            source,
        })?;
        self.limit(spec, id)
    }

    fn limit(&self, spec: &Spec, id: &str) -> Result<()> {
        let Some(resources) = resources(spec) else {
            return Ok(());
        };
        self.group()
            .apply(&device_rules::enforceable(resources))
            .map_err(|source| Error::Cgroup {
                path: cgroup_path(spec, id),
                source,
            })
    }

    fn group(&self) -> &dyn Cgroup {
        match &self.0 {
            Some(group) => group.as_ref(),
            None => unreachable!("the group is taken out only when this value is consumed"),
        }
    }

    fn into_group(mut self) -> Box<dyn Cgroup> {
        match self.0.take() {
            Some(group) => group,
            None => unreachable!("the group is taken out only here"),
        }
    }
}

fn resources(spec: &Spec) -> Option<&LinuxResources> {
    spec.linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref())
}

/// Whether anything but devices is limited.
fn limits(resources: Option<&LinuxResources>) -> bool {
    resources.is_some_and(|resources| {
        resources.memory().is_some()
            || resources.cpu().is_some()
            || resources.pids().is_some()
            || resources.block_io().is_some()
            || resources.unified().as_ref().is_some_and(|u| !u.is_empty())
    })
}

impl Drop for OwnedCgroup {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // The processes are gone by now: the child is dropped first.
            let _ = group.delete();
        }
    }
}

/// Where the container's group is: as configured, else a folder of its own below the root.
pub fn cgroup_path(spec: &Spec, id: &str) -> String {
    let configured = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref());
    match configured
        .and_then(|path| path.to_str())
        .filter(|path| !path.is_empty())
    {
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
        None => format!("/{id}"),
    }
}

impl Created {
    /// Lets init exec. Returns once exec has succeeded, or with the reason why it could not (command not
    /// found: exit code 127, not executable: 126, as [`Error`] says through [`Error::exit_code`]).
    pub fn start(&mut self) -> Result<()> {
        let channel = self
            .channel
            .take()
            .ok_or_else(|| Error::State("the container was started already".into()))?;
        channel
            .send(&Message::Start, &[])
            .map_err(Error::system("talk to the container"))?;
        await_exec(&channel)?;
        self.started = true;
        Ok(())
    }

    /// Leaves the container to whoever holds the other end of its gate: dropping this value does it no harm.
    pub fn leave(mut self) {
        self.started = true;
    }
}

/// Waits for the exec, which closes the child's end, or for the reason why it failed.
pub(crate) fn await_exec(channel: &Channel) -> Result<()> {
    match channel
        .receive()
        .map_err(Error::system("listen to the container"))?
    {
        None => Ok(()),
        Some((Message::Failed { message, exit_code }, _)) => {
            Err(Error::Init { message, exit_code })
        }
        Some(_) => Err(Error::Vanished),
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if !self.started {
            kill_and_reap(self.pidfd.as_fd());
            let _ = self.cgroup.delete();
        }
    }
}
