//! Further processes in the container.

use oci_spec::runtime::{Process as OciProcess, Spec};
use wharf_runtime::{ExecRequest, Stdio};

use super::end::Phase;
use super::launch::{Refusal, context, set_console_size};
use super::session::{Process, Session};
use super::streams::{Ends, Pipes};
use super::{INIT, Supervisor};
use crate::message::Message;
use crate::protocol::ExecHead;

/// Bounds what one container's daemon can open.
const SESSIONS_MAX: usize = 4096;

impl Supervisor {
    /// Runs a further process; its host PID.
    pub(super) fn execute(&mut self, head: ExecHead, mut message: Message) -> Result<i32, Refusal> {
        self.may_execute(&head.exec_id)?;
        self.executed = true;
        let number = self.session_numbers.next();
        let mut session = Session::new(number, Some(head.exec_id.clone()), true);
        if let Some(streams) = head.attached {
            let socket = message
                .fds
                .pop_front()
                .ok_or_else(|| refusal("the request lacks its descriptor"))?;
            session
                .attach(&self.poller, socket, streams)
                .map_err(context("attach the client"))?;
        }
        match self.begin(&mut session, &head, &message.blob) {
            Ok(pid) => {
                self.sessions.insert(number, session);
                Ok(pid)
            }
            Err(refusal) => {
                session.close_clients(&self.poller);
                Err(refusal)
            }
        }
    }

    fn may_execute(&self, exec_id: &str) -> Result<(), Refusal> {
        if !matches!(self.phase, Phase::Running) {
            return Err(refusal("the container is not running"));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(refusal("the container runs too many processes"));
        }
        let taken = |session: &Session| session.exec_id.as_deref() == Some(exec_id);
        if self.sessions.values().any(taken) {
            return Err(refusal("this exec was started already"));
        }
        Ok(())
    }

    fn begin(
        &self,
        session: &mut Session,
        head: &ExecHead,
        process: &[u8],
    ) -> Result<i32, Refusal> {
        let spec: Spec = serde_json::from_slice(&self.spec)
            .map_err(|error| refusal(&format!("read the configuration: {error}")))?;
        let mut process: OciProcess = serde_json::from_slice(process)
            .map_err(|error| refusal(&format!("read the process: {error}")))?;
        set_console_size(&mut process, head.console_size);
        let terminal = process.terminal().unwrap_or(false);
        // Without a client there is nobody to send input, or to read output.
        let watched = head.attached.is_some();
        let (pipes, mut ends) = if terminal {
            (Pipes::none(), Ends::default())
        } else {
            Pipes::new(head.open_stdin && watched, watched).map_err(context("make pipes"))?
        };
        pipes.give_to(&spec, process.user());
        let bundle = self.run_dir.place();
        let request = ExecRequest {
            id: &self.id,
            init: self.sessions.get(&INIT).map_or(0, Session::pid),
            bundle: &bundle,
            spec: &spec,
            process: &process,
            stdio: if terminal { Stdio::Pty } else { pipes.stdio() },
            preserve_fds: 0,
            no_new_keyring: false,
            groups_below: &[],
        };
        let mut executed = self
            .ports
            .with_original_limit(|| wharf_runtime::exec(request))?;
        drop(pipes);
        if let Some(pty) = executed.pty.take() {
            ends = Ends::of_terminal(pty, head.open_stdin)
                .map_err(context("duplicate the terminal"))?;
        }
        let process = Process {
            pid: executed.pid,
            pidfd: executed.pidfd,
        };
        session
            .begin(&self.poller, process, ends)
            .map_err(context("watch the process"))?;
        Ok(executed.pid)
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal {
        message: message.to_owned(),
        exit_code: 125,
    }
}
