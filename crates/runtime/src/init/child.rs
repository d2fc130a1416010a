//! The sequence from the clone to the exec.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use wharf_sys::process::namespace;

use super::console::Console;
use super::mounts::Context;
use super::program::Program;
use super::{
    Failure, Step, console, devices, failed, identity, kernel_settings, labels, masks, mounts,
    processors, program, rootfs,
};
use crate::message::{Channel, Message};
use crate::namespaces::Plan;
use crate::net_devices::Devices;
use crate::sources::Sources;
use crate::{CreateRequest, Gate, Stdio, hooks};

/// All that the child of a creation knows; it was gathered before the clone.
#[derive(Debug)]
pub struct Child<'a> {
    pub request: &'a CreateRequest<'a>,
    pub process: &'a Process,
    pub plan: &'a Plan,
    pub channel: &'a Channel,
    pub cgroup: &'a dyn wharf_cgroup::Cgroup,
    /// The group is made by the parent while this process makes its mounts; it is joined after those.
    pub overlap: bool,
    /// The parent has said that it is made.
    pub prepared: Cell<bool>,
    pub sources: &'a Sources,
    pub devices: &'a Devices,
}

/// Becomes the container. The parent learns of every failure by a message.
pub fn run(child: &Child<'_>) -> ! {
    end(child.channel, child.become_container())
}

/// Tells the parent why this process ends, and ends it.
pub fn end(channel: &Channel, failure: Failure) -> ! {
    let Failure { message, exit_code } = failure;
    // Where the parent is gone too, nobody is left to be told.
    let _ = channel.send(&Message::Failed { message, exit_code }, &[]);
    wharf_sys::process::exit_now(exit_code)
}

impl Child<'_> {
    /// Returns only on failure.
    fn become_container(&self) -> Failure {
        match self.prepare() {
            Err(failure) => failure,
            Ok(ready) => {
                let env = ready.program.env();
                ready.wait_and_exec(self.channel, &self.request.gate, || self.start_hooks(&env))
            }
        }
    }

    fn prepare(&self) -> Step<ReadyToExec> {
        rustix::process::umask(rustix::fs::Mode::empty());
        self.enter_namespaces()?;
        processors::reset()?;
        kernel_settings::set_oom_score(self.process)?;
        if !self.request.no_new_keyring {
            join_keyring(self.request.id)?;
        }
        rustix::process::setsid().map_err(failed("begin a session"))?;
        kernel_settings::set_names(self.spec())?;
        let console = self.build_root()?;
        kernel_settings::set_sysctls(self.spec())?;
        finish(
            self.process,
            self.spec(),
            &self.request.stdio,
            console,
            self.request.preserve_fds,
            self.channel,
            match &self.request.gate {
                Gate::Socket(socket) => Some(socket.as_fd()),
                Gate::Channel => None,
            },
        )
    }

    fn spec(&self) -> &Spec {
        self.request.spec
    }

    /// Namespaces, mappings and control group, in the one order that works: the cgroup namespace takes the group this
    /// process is in as its root; time offsets are set before anything runs in the new namespace.
    fn enter_namespaces(&self) -> Step {
        let new_user = self.plan.create & namespace::USER != 0;
        if new_user || self.plan.in_joined_users {
            // The parent writes the mappings and moves us into the control group: we have no rights outside any more.
            self.expect_prepared()?;
            become_root_of_namespace()?;
        } else if !self.overlap {
            self.join_group()?;
        }
        self.plan
            .join_all()
            .map_err(failed("join the namespaces"))?;
        if !self.overlap {
            self.make_cgroup_namespace()?;
        }
        if self.plan.new_time {
            wharf_sys::process::leave_namespaces(namespace::TIME)
                .map_err(failed("make a time namespace"))?;
            if crate::clocks::has_offsets(self.spec()) {
                self.ask(&Message::AtClocks, "set the clocks' offsets")?;
            }
        }
        if self.plan.create & namespace::NETWORK != 0 {
            wharf_sys::netns::bring_loopback_up().map_err(failed("bring lo up"))?;
        }
        if !self.devices.is_empty() {
            self.ask(&Message::AtDevices, "move network devices")?;
            self.devices
                .set_up()
                .map_err(failed("set up network devices"))?;
        }
        Ok(())
    }

    fn join_group(&self) -> Step {
        self.cgroup
            .join_self()
            .map_err(|e| Failure::new(crate::cgroup_words(&e)))
    }

    /// The control group, once the parent has made it, and the namespace that takes it as its root.
    fn join_late(&self) -> Step {
        self.expect_prepared()?;
        self.join_group()?;
        self.make_cgroup_namespace()
    }

    fn make_cgroup_namespace(&self) -> Step {
        if !self.plan.new_cgroup {
            return Ok(());
        }
        wharf_sys::process::leave_namespaces(namespace::CGROUP)
            .map_err(failed("make a cgroup namespace"))
    }

    /// Asks the creator to do something, and waits until it is done.
    fn ask(&self, message: &Message, what: &str) -> Step {
        self.channel
            .send(message, &[])
            .map_err(failed("report to the runtime"))?;
        loop {
            match self.channel.receive().map_err(failed(what))? {
                Some((Message::HooksDone | Message::ClocksSet | Message::DevicesMoved, _)) => {
                    return Ok(());
                }
                // The control group was made meanwhile.
                Some((Message::Prepared, _)) => self.prepared.set(true),
                _ => {
                    return Err(Failure::new(format!(
                        "{what}: the runtime ended before that was done"
                    )));
                }
            }
        }
    }

    fn expect_prepared(&self) -> Step {
        if self.prepared.get() {
            return Ok(());
        }
        match self
            .channel
            .receive()
            .map_err(failed("wait for the runtime"))?
        {
            Some((Message::Prepared, _)) => Ok(()),
            _ => Err(Failure::new(
                "the runtime ended before the container was prepared",
            )),
        }
    }

    /// Root file system with all mounts, up to the change of root.
    fn build_root(&self) -> Step<Option<console::Console>> {
        let (spec, bundle) = (self.spec(), self.request.bundle);
        let private = self.plan.is_private(namespace::MOUNT);
        let root = rootfs::attach(spec, bundle, self.request.rootfs, private)?;
        let cgroup_paths: Vec<_> = self.cgroup.paths().into_iter().collect();
        let root_path = rootfs::root_path(spec, bundle);
        let context = Context {
            root: root.as_fd(),
            root_path: &root_path,
            bundle,
            cgroup_paths: &cgroup_paths,
            cgroup_private: self.plan.is_private(namespace::CGROUP),
            label: spec
                .linux()
                .as_ref()
                .and_then(|linux| linux.mount_label().as_deref())
                .filter(|label| !label.is_empty()),
        };
        let mut read_only = Vec::new();
        let mut outside = self.overlap;
        for (index, mount) in spec.mounts().iter().flatten().enumerate() {
            let groups = matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
            if groups && std::mem::take(&mut outside) {
                self.join_late()?;
            }
            let source = self.sources.get(index);
            read_only.extend(mounts::mount(&context, mount, source)?);
        }
        if outside {
            self.join_late()?;
        }
        if devices::wanted(spec) {
            let foreign = self.plan.create & namespace::USER != 0 || self.plan.in_joined_users;
            devices::make(root.as_fd(), spec, foreign)?;
        }
        let console = match self.request.stdio {
            Stdio::Pty => Some(self.make_console(root.as_fd())?),
            _ => None,
        };
        self.run_hooks(root.as_fd())?;
        masks::apply(root.as_fd(), spec)?;
        if !private {
            rootfs::change_root(root.as_fd())?;
        } else if self.request.no_pivot {
            rootfs::move_root(root.as_fd())?;
        } else {
            rootfs::pivot(root.as_fd())?;
        }
        rootfs::finish(spec, root.as_fd(), &read_only)?;
        Ok(console)
    }

    fn make_console(&self, root: BorrowedFd<'_>) -> Step<console::Console> {
        let size = self.process.console_size().map(|size| {
            (
                u16::try_from(size.height()).unwrap_or(u16::MAX),
                u16::try_from(size.width()).unwrap_or(u16::MAX),
            )
        });
        let console = console::open(root, size)?;
        console::bind_console(root, console.slave.as_fd())?;
        Ok(console)
    }

    /// The hooks between the mounts and the change of root: the runtime's own first, then the container's.
    fn run_hooks(&self, root: BorrowedFd<'_>) -> Step {
        let Some(listed) = self.spec().hooks() else {
            return Ok(());
        };
        if hooks::has_runtime_hooks(listed) {
            self.ask(&Message::AtHooks, "run the hooks")?;
        }
        if listed.create_container().is_some() {
            // Hooks name the container's files from here; the root is changed only later.
            rustix::process::fchdir(root).map_err(failed("enter the root file system"))?;
        }
        let state = self
            .request
            .state("creating", std::process::id() as i32, self.spec());
        hooks::run_all(
            "createContainer",
            listed.create_container().iter().flatten(),
            &state,
            None,
        )
        .map_err(|e| Failure::new(e.chain()))
    }

    fn start_hooks(&self, env: &[String]) -> Step {
        let Some(listed) = self.spec().hooks() else {
            return Ok(());
        };
        let state = self
            .request
            .state("created", std::process::id() as i32, self.spec());
        hooks::run_all(
            "startContainer",
            listed.start_container().iter().flatten(),
            &state,
            Some(env),
        )
        .map_err(|e| Failure::new(e.chain()))
    }
}

/// A session keyring of the container's own: the keys of whoever runs this are not for it.
pub fn join_keyring(id: &str) -> Step {
    let name = std::ffi::CString::new(format!("_ses.{id}"))
        .map_err(|_| Failure::new("the container's name holds a zero byte"))?;
    match wharf_sys::keyring::join_session(&name) {
        Ok(()) => Ok(()),
        // A kernel without keyrings, or a filter of the host's that hides them.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(failed("make a session keyring")(error)),
    }
}

/// All IDs become those of the namespace's root.
pub fn become_root_of_namespace() -> Step {
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .map_err(failed("become group 0"))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .map_err(failed("become user 0"))
}

/// A process that lacks only the signal and the exec.
#[derive(Debug)]
pub struct ReadyToExec {
    program: Program,
    pty: Option<OwnedFd>,
}

/// What init and exec have in common: streams, limits, rights, program.
pub fn finish(
    process: &Process,
    spec: &Spec,
    stdio: &Stdio<'_>,
    console: Option<console::Console>,
    preserve_fds: u32,
    channel: &Channel,
    gate: Option<BorrowedFd<'_>>,
) -> Step<ReadyToExec> {
    kernel_settings::set_limits(process.rlimits().as_deref().unwrap_or_default())?;
    kernel_settings::set_priorities(process)?;
    kernel_settings::set_personality(spec)?;
    processors::set_memory_policy(spec)?;
    place_streams(stdio, console.as_ref())?;
    own_streams(process.user().uid())?;
    wharf_sys::process::close_on_exec_from(3 + preserve_fds)
        .map_err(failed("close descriptors of the host"))?;
    let pty = console.map(Console::into_master);
    close_host_descriptors(
        3 + preserve_fds,
        [Some(channel.as_fd()), gate, pty.as_ref().map(AsFd::as_fd)],
    )?;
    let may_set_groups = may_set_groups();
    // As the user the program will have: a folder only root may enter is no working folder for another user.
    let seccomp = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    labels::set(process)?;
    identity::forbid_new_privileges(process)?;
    program::enter_working_folder(process)?;
    // Before the filter, which may forbid getcwd; nothing after this changes the folder.
    program::verify_working_folder()?;
    if !no_new_privileges && let Some(seccomp) = seccomp {
        // Loading needs CAP_SYS_ADMIN, which the next step drops: the profile must allow what comes after.
        load_filter(seccomp, channel)?;
    }
    identity::become_user(process, may_set_groups)?;
    let mut program = Program::find(process)?;
    if preserve_fds > 0 && std::env::var_os("LISTEN_FDS").is_some() {
        program.add_env(&format!("LISTEN_FDS={preserve_fds}"))?;
        program.add_env("LISTEN_PID=1")?;
    }
    if no_new_privileges && let Some(seccomp) = seccomp {
        load_filter(seccomp, channel)?;
    }
    Ok(ReadyToExec { program, pty })
}

/// While this process waits for its start it is a process of the container: nothing of the host's may be found in it
/// (CVE-2024-21626). Before the filter, which may forbid it. Whatever owns one of them in this process is never dropped:
/// from here on there is only the exec or the end.
fn close_host_descriptors(first: u32, keep: [Option<BorrowedFd<'_>>; 3]) -> Step {
    let keep: Vec<BorrowedFd<'_>> = keep.into_iter().flatten().collect();
    wharf_sys::descriptors::close_others(first, &keep)
        .map_err(failed("close descriptors of the host"))
}

/// Puts the filter on this process. One that asks an agent is waited for until the agent is there: the very next system
/// call may be one that it asks about.
fn load_filter(seccomp: &LinuxSeccomp, channel: &Channel) -> Step {
    let Some(listener) = crate::seccomp::load(seccomp)? else {
        return Ok(());
    };
    let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
    channel
        .write(&Message::Listener { number })
        .map_err(failed("report the seccomp listener"))?;
    match channel
        .receive()
        .map_err(failed("wait for the seccomp agent"))?
    {
        Some((Message::ListenerTaken, _)) => Ok(()),
        _ => Err(Failure::new(
            "the runtime ended before the seccomp agent was there",
        )),
    }
}

/// In a user namespace whose setgroups file says `deny` the groups stay as they are.
fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

fn place_streams(stdio: &Stdio<'_>, console: Option<&console::Console>) -> Step {
    let what = "set up the standard streams";
    if let Some(console) = console {
        console::take_control(console.slave.as_fd())?;
        for number in 0..3 {
            wharf_sys::process::place_descriptor(console.slave.as_fd(), number)
                .map_err(failed(what))?;
        }
        return Ok(());
    }
    if let Stdio::Pipes {
        stdin,
        stdout,
        stderr,
    } = stdio
    {
        for (number, stream) in (0..).zip([stdin, stdout, stderr]) {
            match stream {
                Some(stream) => {
                    wharf_sys::process::place_descriptor(*stream, number).map_err(failed(what))?
                }
                None => {
                    let null = std::fs::File::options()
                        .read(true)
                        .write(true)
                        .open("/dev/null");
                    let null = null.map_err(failed(what))?;
                    wharf_sys::process::place_descriptor(null.as_fd(), number)
                        .map_err(failed(what))?;
                }
            }
        }
    }
    Ok(())
}

/// The user of the process may open its streams again, as `/dev/stdout`. Not so what belongs to nobody alone.
fn own_streams(uid: u32) -> Step {
    const NULL: (u32, u32) = (1, 3);
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let Ok(stat) = rustix::fs::fstat(stream) else {
            // Closed by the caller.
            continue;
        };
        let number = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let device = FileType::from_raw_mode(stat.st_mode).is_char_device();
        if stat.st_uid == uid || (device && number == NULL) {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Not ours to give, an ID outside the user namespace, or a file system without owners.
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => {}
            Err(error) => return Err(failed("give the streams to the user")(error)),
        }
    }
    Ok(())
}

impl ReadyToExec {
    /// Reports, waits to be let go, and execs. Returns only on failure.
    pub fn wait_and_exec(
        mut self,
        channel: &Channel,
        gate: &Gate,
        before: impl FnOnce() -> Step,
    ) -> Failure {
        let descriptors: Vec<BorrowedFd<'_>> = self.pty.iter().map(AsFd::as_fd).collect();
        let ready = Message::Ready {
            pty: self.pty.is_some(),
        };
        if let Err(error) = channel.send(&ready, &descriptors) {
            return failed("report to the runtime")(error);
        }
        // The creator has it now.
        drop(self.pty.take());
        if matches!(gate, Gate::Socket(_)) {
            // As init of its namespace it would ignore what is meant to end it. The exec takes this away again.
            wharf_sys::signal::exit_on_requests_to_end();
        }
        match gate {
            Gate::Channel => match channel.receive() {
                Ok(Some((Message::Start, _))) => {}
                Ok(_) => return Failure::new("the runtime ended before the container was started"),
                Err(error) => return failed("wait for the start")(error),
            },
            Gate::Socket(socket) => match accept_start(socket.as_fd()) {
                // From now on whoever started the container is told, by this connection.
                Ok(starter) => return self.start(&starter, before),
                Err(error) => return failed("wait for the start")(error),
            },
        }
        self.exec(before)
    }

    fn start(self, starter: &Channel, before: impl FnOnce() -> Step) -> Failure {
        let failure = self.exec(before);
        end(starter, failure)
    }

    fn exec(&self, before: impl FnOnce() -> Step) -> Failure {
        match before() {
            Ok(()) => self.program.exec(),
            Err(failure) => failure,
        }
    }
}

fn accept_start(socket: BorrowedFd<'_>) -> std::io::Result<Channel> {
    loop {
        match rustix::net::accept_with(socket, rustix::net::SocketFlags::CLOEXEC) {
            Ok(connection) => return Ok(Channel::from(connection)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
