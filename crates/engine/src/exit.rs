//! The end of a container: noticed by its supervisor, written down, told, and followed by what the policy says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use wharf_shim::client::{Notice, Supervisor};
use wharf_shim::protocol::ExitRecord;

use crate::index::{Entry, lock};
use crate::{Engine, Exit, RemoveOptions, RestartPolicy, Status};

/// Stack of the thread that listens to a supervisor: it reads messages and hands them on.
const LISTENER_STACK_BYTES: usize = 128 * 1024;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A container that ran this long begins again with the shortest pause.
const RUN_LONG_ENOUGH: Duration = Duration::from_secs(10);

impl Engine {
    /// Listens to a container's supervisor until it is gone.
    pub(crate) fn watch(&self, entry: Arc<Entry>, supervisor: Arc<Supervisor>) {
        let engine = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let listener = std::thread::Builder::new()
            .name("supervisor".into())
            .stack_size(LISTENER_STACK_BYTES);
        let id = entry.id.clone();
        let spawned = listener.spawn(move || {
            let ended = loop {
                match supervisor.next_notice() {
                    Ok(Some(Notice::Exit(record))) => break Some(record),
                    Ok(Some(notice)) => engine.notice(&entry, notice),
                    Ok(None) => break None,
                    Err(error) => {
                        tracing::warn!(
                            container = entry.id,
                            error = crate::error_from::chain(&error),
                            "supervisor lost"
                        );
                        break None;
                    }
                }
            };
            runtime.spawn(async move { engine.ended(entry, ended).await });
        });
        if let Err(error) = spawned {
            tracing::error!(container = id, %error, "nobody listens to the supervisor; its end is seen at the next start of the daemon");
        }
    }

    fn notice(&self, entry: &Entry, notice: Notice) {
        match notice {
            Notice::Oom => {
                entry.record().state.oom_killed = true;
                self.container_event(entry, "oom", &[]);
            }
            Notice::ExecExit { exec_id, exit_code } => self.exec_ended(entry, &exec_id, exit_code),
            Notice::Exit(_) => {}
        }
    }

    /// The container's process is gone. Without a record of it the supervisor was killed too.
    async fn ended(&self, entry: Arc<Entry>, exit: Option<ExitRecord>) {
        let gate = entry.gate.lock().await;
        let exit = match exit {
            Some(exit) => exit,
            None => self.exit_of(&entry).await,
        };
        lock(&entry.supervisor).take();
        self.disconnect(&entry).await;
        self.execs_ended(&entry);
        let was_removing = self.write_exit(&entry, &exit);
        let _ = std::fs::remove_dir_all(self.run_folder(&entry.id));
        self.finished(&entry, exit.exit_code, None);
        let code = exit.exit_code.to_string();
        self.container_event(&entry, "die", &[("exitCode", code)]);
        drop(gate);
        if !was_removing {
            self.follow_policy(entry, exit.exit_code).await;
        }
    }

    /// What a supervisor that is gone left; the engine's own finding where it was killed.
    pub(crate) async fn exit_of(&self, entry: &Entry) -> ExitRecord {
        let run_folder = self.run_folder(&entry.id);
        let found = crate::error_from::blocking(move || {
            // Without a record nobody supervises what may still run in there: it goes with its supervisor.
            Ok(match wharf_shim::client::exit_record(&run_folder)? {
                Some(record) => Some(record),
                None => wharf_shim::client::bury(&run_folder)?,
            })
        })
        .await;
        match found {
            Ok(Some(record)) => record,
            _ => {
                let started_at = entry
                    .record()
                    .state
                    .started_at
                    .unwrap_or_else(Timestamp::now);
                ExitRecord {
                    exit_code: 255,
                    oom_killed: false,
                    started_at: started_at.to_string(),
                    finished_at: Timestamp::now().to_string(),
                }
            }
        }
    }

    /// Returns whether the container is being removed: then nothing follows.
    pub(crate) fn write_exit(&self, entry: &Entry, exit: &ExitRecord) -> bool {
        let mut record = entry.record();
        let removing = record.state.status == Status::Removing;
        if !removing {
            record.state.status = Status::Exited;
        }
        record.state.pid = 0;
        record.state.exit_code = exit.exit_code;
        record.state.oom_killed |= exit.oom_killed;
        record.state.finished_at = Some(
            exit.finished_at
                .parse()
                .unwrap_or_else(|_| Timestamp::now()),
        );
        // What is removed next need not outlive the machine.
        let durable = !record.spec.auto_remove;
        if let Err(error) = record.save(&self.folder(&entry.id), durable) {
            tracing::error!(container = entry.id, %error, "the exit could not be written down");
        }
        removing
    }

    /// Wakes who waits.
    pub(crate) fn finished(&self, entry: &Entry, exit_code: i32, error: Option<String>) {
        entry.progress.send_modify(|progress| {
            progress.exits += 1;
            progress.last = Some(Exit {
                exit_code,
                error: error.clone(),
            });
        });
    }

    /// Restarts or removes, as the policy says.
    async fn follow_policy(&self, entry: Arc<Entry>, exit_code: i32) {
        let (auto_remove, restart) = {
            let record = entry.record();
            (
                record.spec.auto_remove,
                wants_restart(
                    &record.spec.restart,
                    exit_code,
                    record.restart_count,
                    record.stopped_by_user,
                ),
            )
        };
        if auto_remove {
            self.remove_ended(&entry).await;
        } else if restart {
            self.restart_later(entry);
        }
    }

    /// Removes a container that was to go with its end, its anonymous volumes too.
    pub(crate) async fn remove_ended(&self, entry: &Entry) {
        let options = RemoveOptions {
            force: false,
            volumes: true,
            link: false,
        };
        if let Err(error) = self.remove(&entry.id, options).await {
            tracing::warn!(container = entry.id, %error, "the ended container could not be removed");
        }
    }

    /// Waits the policy's pause, then starts again unless somebody decided otherwise meanwhile.
    pub(crate) fn restart_later(&self, entry: Arc<Entry>) {
        let ran = lock(&entry.started).map_or(Duration::ZERO, |started: Instant| started.elapsed());
        let attempt = {
            let mut record = entry.record();
            record.state.status = Status::Restarting;
            record.restart_count += 1;
            if let Err(error) = record.save(&self.folder(&entry.id), false) {
                tracing::warn!(container = entry.id, %error, "the restart could not be written down");
            }
            record.restart_count
        };
        let pause = backoff(attempt, ran);
        let engine = self.clone();
        tokio::spawn(async move {
            let mut progress = entry.progress.subscribe();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = progress.wait_for(|p| p.removed) => return,
            }
            let _gate = entry.gate.lock().await;
            if entry.record().state.status != Status::Restarting {
                return;
            }
            if let Err(error) = engine.start_locked(&entry).await {
                tracing::warn!(container = entry.id, %error, "restart failed");
                let again = {
                    let record = entry.record();
                    wants_restart(
                        &record.spec.restart,
                        1,
                        record.restart_count,
                        record.stopped_by_user,
                    )
                };
                if again {
                    engine.restart_later(entry.clone());
                }
            }
        });
    }
}

/// Whether the policy starts a container again that ended by itself.
pub(crate) fn wants_restart(
    policy: &RestartPolicy,
    exit_code: i32,
    restarts: u32,
    stopped_by_user: bool,
) -> bool {
    match policy {
        _ if stopped_by_user => false,
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            exit_code != 0 && (*max_retries == 0 || restarts < *max_retries)
        }
    }
}

/// The pause doubles with each restart in a row.
fn backoff(attempt: u32, ran: Duration) -> Duration {
    if ran >= RUN_LONG_ENOUGH {
        return BACKOFF_FIRST;
    }
    let doublings = attempt.saturating_sub(1).min(16);
    (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let failure = RestartPolicy::OnFailure { max_retries: 2 };
        assert!(!wants_restart(&RestartPolicy::No, 1, 0, false));
        assert!(wants_restart(&RestartPolicy::Always, 0, 99, false));
        assert!(!wants_restart(&RestartPolicy::Always, 0, 0, true));
        assert!(!wants_restart(&failure, 0, 0, false));
        assert!(wants_restart(&failure, 1, 1, false));
        assert!(!wants_restart(&failure, 1, 2, false));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let millis = |attempt| backoff(attempt, Duration::ZERO).as_millis();
        assert_eq!([1, 2, 3, 4].map(millis), [100, 200, 400, 800]);
        assert_eq!(millis(30), 60_000);
        assert_eq!(backoff(30, Duration::from_secs(11)).as_millis(), 100);
    }
}
