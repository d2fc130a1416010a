//! `start`: lets a created container go.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::args::Parsed;
use super::state::{self, Container, Status};
use super::{Command, Failure, Global, Outcome, failed};
use crate::create::await_exec;
use crate::hooks;
use crate::message::Channel;

pub const COMMAND: Command = Command {
    name: "start",
    usage: "<container-id>",
    about: "executes the user defined process in a created container",
    flags: &[],
    words: (1, 1),
    in_order: false,
    run: start,
};

fn start(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    let _lock = container.lock()?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => {
            return Err(Failure::new("cannot start a container that has stopped"));
        }
        Status::Running => {
            return Err(Failure::new("cannot start an already running container"));
        }
        Status::Paused => {
            return Err(Failure::new("cannot start a container in the paused state"));
        }
    }
    let what = "reach the container's process";
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed(what))?;
    let (_folder, path) = state::short_path(&container.folder, "start.sock")?;
    let address = SocketAddrUnix::new(path).map_err(failed(what))?;
    rustix::net::connect(&socket, &address).map_err(failed(what))?;
    // The container's process holds the other end until its exec.
    let started = await_exec(&Channel::from(socket));
    state::remove_gate(&container);
    started?;
    poststart_hooks(&container)?;
    Ok(0)
}

/// Runs the hooks after the start; the first that fails stops the container (runtime-spec, "Lifecycle" 9).
pub fn poststart_hooks(container: &Container) -> Outcome<()> {
    let listed = container.spec.hooks().as_ref();
    let list = listed.and_then(|listed| listed.poststart().as_ref());
    let Some(list) = list else { return Ok(()) };
    let state = container.hook_state(Status::Running);
    let done = hooks::run_all("poststart", list.iter(), &state, None);
    if done.is_err() {
        // The hook's failure is what is told.
        let _ = super::delete::end(container);
    }
    Ok(done?)
}

/// Runs the hooks after the end; one that fails is reported and changes nothing.
pub fn poststop_hooks(global: &Global, container: &Container) {
    let listed = container.spec.hooks().as_ref();
    let list = listed.and_then(|listed| listed.poststop().as_ref());
    run_reported(global, list, &container.hook_state(Status::Stopped));
}

/// Runs hooks whose failure is reported and changes nothing.
pub fn run_reported(global: &Global, list: Option<&Vec<oci_spec::runtime::Hook>>, state: &str) {
    for hook in list.into_iter().flatten() {
        if let Err(error) = hooks::run(hook, state, None) {
            global.log.warn(&error.chain());
        }
    }
}
