//! Cloning into a user namespace that exists, or out of namespaces that belong to another one. The rights over a new
//! namespace go to the user namespace of whoever makes it: so a helper joins first, and clones the container as a child
//! of its own parent.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions};
use wharf_sys::process::{
    CLONE_PARENT, Cloned, clone_process, exit_now, join_namespaces, namespace,
};

use crate::error::{Error, Result};
use crate::init::child::become_root_of_namespace;
use crate::message::{Channel, Message};
use crate::namespaces::Plan;

impl Plan {
    /// Whether a plain clone would give namespaces to the wrong owner.
    pub fn needs_helper(&self) -> bool {
        let joins_users = self.join.iter().any(|(bit, _)| *bit == namespace::USER);
        let makes_users = self.create & namespace::USER != 0;
        joins_users || (makes_users && !self.join.is_empty())
    }
}

/// Clones by a helper. In the child, `plan` lists only what is still to be joined.
pub fn clone_by_helper(plan: &mut Plan) -> Result<Cloned> {
    let what = "clone a process into a user namespace";
    let (near, far) = Channel::pair().map_err(Error::system(what))?;
    match clone_process(0, None).map_err(Error::system(what))? {
        Cloned::Child => {
            drop(near);
            match help(plan) {
                Ok(Cloned::Child) => Ok(Cloned::Child),
                Ok(Cloned::Parent { pid, pidfd }) => {
                    // Where this can't be told, the parent sees the end of the channel, and the container that of its own.
                    let _ = far.send(&Message::Cloned { pid }, &[pidfd.as_fd()]);
                    exit_now(0)
                }
                Err(error) => {
                    let message = error.chain();
                    let exit_code = error.exit_code();
                    let _ = far.send(&Message::Failed { message, exit_code }, &[]);
                    exit_now(1)
                }
            }
        }
        Cloned::Parent { pidfd: helper, .. } => {
            drop(far);
            let told = near.receive().map_err(Error::system(what));
            let _ = rustix::process::waitid(WaitId::PidFd(helper.as_fd()), WaitIdOptions::EXITED);
            match told? {
                Some((Message::Cloned { pid }, descriptors)) => {
                    let pidfd: OwnedFd = descriptors.into_iter().next().ok_or(Error::Vanished)?;
                    Ok(Cloned::Parent { pid, pidfd })
                }
                Some((Message::Failed { message, exit_code }, _)) => {
                    Err(Error::Init { message, exit_code })
                }
                _ => Err(Error::Vanished),
            }
        }
    }
}

/// The helper's side: namespaces that this user may join, then the user namespace, then the rest.
fn help(plan: &mut Plan) -> Result<Cloned> {
    let what = "join the namespaces";
    let users = plan
        .join
        .iter()
        .position(|(bit, _)| *bit == namespace::USER);
    let users = users.map(|at| plan.join.remove(at));
    // Some belong to the user namespace to come: their turn is after it.
    let joined = &mut plan.joined;
    plan.join.retain(|(bit, file)| {
        let done = join_namespaces(file.as_fd(), *bit).is_ok();
        *joined |= if done { *bit } else { 0 };
        !done
    });
    if let Some((bit, file)) = users {
        join_namespaces(file.as_fd(), bit).map_err(Error::system(what))?;
        become_root_of_namespace().map_err(|failure| Error::Init {
            message: failure.message,
            exit_code: failure.exit_code,
        })?;
        plan.in_joined_users = true;
        plan.joined |= bit;
    }
    if let Some(pids) = &plan.join_pid {
        join_namespaces(pids.as_fd(), namespace::PID).map_err(Error::system(what))?;
    }
    clone_process(plan.create | CLONE_PARENT, None).map_err(Error::system(what))
}
