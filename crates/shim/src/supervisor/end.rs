//! The end: init has ended, the rest of its group is killed, output is drained into the log, the control group is
//! removed, the exit record is written, everybody is told; then the supervisor ends.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags};

use super::poller::{EventFlags, Numbers, Token};
use super::session::Session;
use super::{INIT, Supervisor, clock};
use crate::client::Notice;
use crate::protocol::{EXIT_FILE, ExitRecord, SOCKET_FILE};

/// How long a process that cannot die (stuck in the kernel) is waited for.
const KILL_MS: u64 = 10_000;
/// How long streams stay open that a process outside the group holds.
const DRAIN_MS: u64 = 2_000;
/// How long a client may take for what it has not read yet.
const DELIVER_MS: u64 = 30_000;
/// Pause between attempts to write the exit record.
const RECORD_MS: u64 = 1_000;
/// A group that forks faster than it is killed.
const ROUNDS_MAX: u32 = 256;

/// Where the supervisor is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    Running,
    Killing {
        stragglers: BTreeMap<u32, OwnedFd>,
        numbers: Numbers,
        rounds: u32,
        deadline_ms: u64,
    },
    Draining {
        deadline_ms: u64,
    },
    Delivering {
        /// When the exit record is tried again.
        retry_ms: Option<u64>,
        deadline_ms: u64,
    },
}

impl Phase {
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self {
            Phase::Running => None,
            Phase::Killing { deadline_ms, .. } | Phase::Draining { deadline_ms } => {
                Some(*deadline_ms)
            }
            Phase::Delivering {
                retry_ms,
                deadline_ms,
            } => Some(retry_ms.unwrap_or(*deadline_ms).min(*deadline_ms)),
        }
    }
}

impl Supervisor {
    pub(super) fn take_oom(&mut self) {
        let Some(watch) = &self.oom else { return };
        if watch.kills() > 0 && !std::mem::replace(&mut self.oom_killed, true) {
            self.control.notify(&self.poller, Notice::Oom);
        }
    }

    fn forget_oom(&mut self) {
        if let Some(watch) = self.oom.take() {
            self.poller.remove(watch.fd());
        }
    }

    /// A process of ours may have ended.
    pub(super) fn process_ended(&mut self, number: u32) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        let Some(exit_code) = session.reap(&self.poller) else {
            return;
        };
        session.drain(&self.poller, &mut self.buffer);
        if number != INIT {
            session.deadline_ms = Some(clock::monotonic_ms() + DRAIN_MS);
            return;
        }
        self.record = Some(ExitRecord {
            exit_code,
            oom_killed: false,
            started_at: self.started_at.clone(),
            finished_at: clock::rfc3339(clock::now()),
        });
        self.ports.close(&self.poller);
        self.phase = Phase::Killing {
            stragglers: BTreeMap::new(),
            numbers: Numbers::default(),
            rounds: 0,
            deadline_ms: clock::monotonic_ms() + KILL_MS,
        };
    }

    pub(super) fn straggler_ended(&mut self, number: u32) {
        if let Phase::Killing { stragglers, .. } = &mut self.phase
            && let Some(pidfd) = stragglers.remove(&number)
        {
            self.poller.remove(pidfd);
        }
    }

    /// Takes every step that can be taken now; whether the supervisor is done.
    pub(super) fn advance(&mut self) -> bool {
        self.finish_executed();
        loop {
            let moved = match &self.phase {
                Phase::Running => return false,
                Phase::Killing { .. } => self.finish_killing(),
                Phase::Draining { deadline_ms } => {
                    let deadline_ms = *deadline_ms;
                    self.finish_draining(deadline_ms)
                }
                Phase::Delivering { .. } => return self.finish_delivering(),
            };
            if !moved {
                return false;
            }
        }
    }

    /// Exec'd processes that have ended: tell once their output is out, let go once their clients have it.
    fn finish_executed(&mut self) {
        let now = clock::monotonic_ms();
        let mut done = Vec::new();
        let mut ended = Vec::new();
        for (number, session) in self
            .sessions
            .iter_mut()
            .filter(|(number, _)| **number != INIT)
        {
            let Some(exit_code) = session.exit_code else {
                continue;
            };
            let late = session.deadline_ms.is_some_and(|deadline| deadline <= now);
            let drained = session.is_drained() || late;
            if let Some(exec_id) = session.exec_id.take_if(|_| drained) {
                session.close_outputs(&self.poller);
                session.deadline_ms = Some(now + DELIVER_MS);
                ended.push(Notice::ExecExit { exec_id, exit_code });
            }
            if session.exec_id.is_none() {
                session.close_idle_clients(&self.poller);
                let late = session.deadline_ms.is_some_and(|deadline| deadline <= now);
                if session.is_delivered() || late {
                    session.close_clients(&self.poller);
                    done.push(*number);
                }
            }
        }
        for notice in ended {
            self.control.notify(&self.poller, notice);
        }
        for number in done {
            self.sessions.remove(&number);
        }
    }

    /// With a PID namespace of its own the group is empty once init is reaped; without one, it has to be emptied.
    fn finish_killing(&mut self) -> bool {
        let now = clock::monotonic_ms();
        let Some(created) = &self.created else {
            return self.begin_draining(now);
        };
        let Phase::Killing {
            stragglers,
            numbers,
            rounds,
            deadline_ms,
        } = &mut self.phase
        else {
            return false;
        };
        if *deadline_ms <= now || *rounds > ROUNDS_MAX {
            return self.begin_draining(now);
        }
        if !stragglers.is_empty() {
            return false;
        }
        let own = std::process::id().cast_signed();
        let mut members = created.cgroup.processes().unwrap_or_default();
        members.retain(|pid| *pid != own);
        let executed = self
            .sessions
            .values()
            .any(|session| session.exit_code.is_none());
        if members.is_empty() {
            // Exec'd processes are ours to reap; their ends are on their way.
            return !executed && self.begin_draining(now);
        }
        *rounds += 1;
        for pid in members.into_iter().filter_map(Pid::from_raw) {
            // Whoever has gone meanwhile needs no waiting.
            let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            let number = numbers.next();
            if self
                .poller
                .add(&pidfd, Token::Straggler(number), EventFlags::IN)
                .is_ok()
            {
                stragglers.insert(number, pidfd);
            }
        }
        let _ = created.cgroup.kill_all();
        // What is frozen dies only after it is thawed.
        let _ = created.cgroup.thaw();
        true
    }

    fn begin_draining(&mut self, now: u64) -> bool {
        self.phase = Phase::Draining {
            deadline_ms: now + DRAIN_MS,
        };
        true
    }

    /// The log is complete before the record says that the container has ended.
    fn finish_draining(&mut self, deadline_ms: u64) -> bool {
        let now = clock::monotonic_ms();
        if let Some(init) = self.sessions.get_mut(&INIT) {
            init.drain(&self.poller, &mut self.buffer);
            if !init.is_drained() && now < deadline_ms {
                return false;
            }
            init.close_outputs(&self.poller);
        }
        self.take_oom();
        self.forget_oom();
        if let Some(created) = self.created.take() {
            let _ = created.cgroup.delete();
        }
        let _ = self.run_dir.remove(SOCKET_FILE);
        self.control.stop_listening();
        let retry_ms = self.write_record().is_err().then_some(now + RECORD_MS);
        self.phase = Phase::Delivering {
            retry_ms,
            deadline_ms: now + DELIVER_MS,
        };
        if let Some(record) = self.record.clone() {
            self.control.notify(&self.poller, Notice::Exit(record));
        }
        true
    }

    fn write_record(&mut self) -> std::io::Result<()> {
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        record.oom_killed = self.oom_killed;
        self.run_dir.write(EXIT_FILE, record, true)
    }

    /// Whether nothing is left to do.
    fn finish_delivering(&mut self) -> bool {
        let now = clock::monotonic_ms();
        let Phase::Delivering {
            retry_ms,
            deadline_ms,
        } = self.phase
        else {
            return false;
        };
        let mut waits = false;
        if let Some(at) = retry_ms {
            let retry_ms =
                (at > now || self.write_record().is_err()).then_some(at.max(now + RECORD_MS));
            waits = retry_ms.is_some();
            self.phase = Phase::Delivering {
                retry_ms,
                deadline_ms,
            };
        }
        for session in self.sessions.values_mut() {
            session.close_idle_clients(&self.poller);
        }
        let delivered =
            self.sessions.values().all(Session::is_delivered) && self.control.is_delivered();
        deadline_ms <= now || (delivered && !waits)
    }
}
