//! Health checks: a probe run in the container at its interval; what it says becomes the container's health.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncReadExt;

use crate::index::Entry;
use crate::{Engine, ExecSpec, Health, Healthcheck, ProbeResult};

const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const START_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const RETRIES_DEFAULT: u32 = 3;
const PROBES_KEPT: usize = 5;
const OUTPUT_BYTES_MAX: u64 = 4096;
/// What a probe that was killed for taking too long counts as.
const EXIT_TIMED_OUT: i32 = -1;

/// When probes run and what they mean, with the defaults filled in.
#[derive(Debug, Clone)]
struct Plan {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

impl Plan {
    /// `None`: the container has no check.
    fn of(check: &Healthcheck, shell: Option<&[String]>) -> Option<Plan> {
        let (kind, words) = check.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let shell = shell.map_or_else(
                    || vec!["/bin/sh".to_owned(), "-c".to_owned()],
                    <[String]>::to_vec,
                );
                shell.into_iter().chain(words.iter().cloned()).collect()
            }
            _ => return None,
        };
        let or = |nanoseconds: i64, default| match u64::try_from(nanoseconds) {
            Ok(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds),
            _ => default,
        };
        (!command.is_empty()).then(|| Plan {
            command,
            interval: or(check.interval_ns, INTERVAL_DEFAULT),
            timeout: or(check.timeout_ns, TIMEOUT_DEFAULT),
            start_period: or(check.start_period_ns, Duration::ZERO),
            start_interval: or(check.start_interval_ns, START_INTERVAL_DEFAULT),
            retries: u32::try_from(check.retries)
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(RETRIES_DEFAULT),
        })
    }

    /// Health after a probe. Failures count only once the start period is over, or a probe has succeeded.
    fn judge(&self, health: &mut Health, result: ProbeResult, since_start: Duration) {
        if result.exit_code == 0 {
            health.status = "healthy".into();
            health.failing_streak = 0;
        } else if !(health.status == "starting" && since_start < self.start_period) {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                health.status = "unhealthy".into();
            }
        }
        health.log.push(result);
        let surplus = health.log.len().saturating_sub(PROBES_KEPT);
        health.log.drain(..surplus);
    }

    fn pause(&self, health: &Health, since_start: Duration) -> Duration {
        let starting = health.status == "starting" && since_start < self.start_period;
        if starting {
            self.start_interval
        } else {
            self.interval
        }
    }
}

impl Engine {
    /// Probes a container that just began to run (or was taken over) until it ends.
    pub(crate) fn watch_health(&self, entry: &Arc<Entry>) {
        let plan = {
            let mut record = entry.record();
            let plan = record
                .spec
                .healthcheck
                .as_ref()
                .and_then(|check| Plan::of(check, record.spec.shell.as_deref()));
            if plan.is_some() && record.state.health.is_none() {
                record.state.health = Some(Health {
                    status: "starting".into(),
                    ..Health::default()
                });
            }
            plan
        };
        let Some(plan) = plan else { return };
        let (engine, entry) = (self.clone(), entry.clone());
        tokio::spawn(async move {
            let mut progress = entry.progress.subscribe();
            let exits = progress.borrow().exits;
            let began = tokio::time::Instant::now();
            loop {
                let pause = {
                    let record = entry.record();
                    plan.pause(
                        &record.state.health.clone().unwrap_or_default(),
                        began.elapsed(),
                    )
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = progress.wait_for(|p| p.exits > exits || p.removed) => return,
                }
                engine.probe(&entry, &plan, began.elapsed()).await;
            }
        });
    }

    async fn probe(&self, entry: &Arc<Entry>, plan: &Plan, since_start: Duration) {
        if entry.running().is_err() {
            return;
        }
        let start = Timestamp::now();
        let ran = tokio::time::timeout(plan.timeout, self.run_probe(entry, plan)).await;
        let (exit_code, output) = match ran {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => (EXIT_TIMED_OUT, error.to_string()),
            Err(_) => (
                EXIT_TIMED_OUT,
                format!("Health check exceeded timeout ({:?})", plan.timeout),
            ),
        };
        let result = ProbeResult {
            start,
            end: Timestamp::now(),
            exit_code,
            output,
        };
        let changed = {
            let mut record = entry.record();
            let Some(health) = record.state.health.as_mut() else {
                return;
            };
            let before = health.status.clone();
            plan.judge(health, result, since_start);
            (health.status != before).then(|| health.status.clone())
        };
        if let Some(status) = changed {
            self.container_event(entry, &format!("health_status: {status}"), &[]);
        }
    }

    async fn run_probe(&self, entry: &Entry, plan: &Plan) -> crate::Result<(i32, String)> {
        let spec = ExecSpec {
            cmd: plan.command.clone(),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecSpec::default()
        };
        let id = self.exec_create(&entry.id, spec).await?;
        let attached = self.exec_start(&id, false, None).await?;
        let mut output = String::new();
        if let Some(attached) = attached {
            output = read_frames(attached.output).await;
        }
        Ok((
            self.exec_inspect(&id)?.exit_code.unwrap_or(EXIT_TIMED_OUT),
            output,
        ))
    }
}

/// The beginning of what a probe said, both streams together; the rest is read and thrown away.
async fn read_frames(mut output: crate::Reader) -> String {
    let mut said = Vec::new();
    let mut header = [0; 8];
    while output.read_exact(&mut header).await.is_ok() {
        let length = u64::from(u32::from_be_bytes([
            header[4], header[5], header[6], header[7],
        ]));
        let mut frame = (&mut output).take(length);
        let room = OUTPUT_BYTES_MAX.saturating_sub(said.len() as u64);
        if (&mut frame)
            .take(room)
            .read_to_end(&mut said)
            .await
            .is_err()
        {
            break;
        }
        if tokio::io::copy(&mut frame, &mut tokio::io::sink())
            .await
            .is_err()
        {
            break;
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> ProbeResult {
        ProbeResult {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn failures_count_after_the_start_period() {
        let check = Healthcheck {
            test: vec!["CMD".into(), "x".into()],
            start_period_ns: 10_000_000_000,
            retries: 2,
            ..Healthcheck::default()
        };
        let plan = Plan::of(&check, None).unwrap();
        let mut health = Health {
            status: "starting".into(),
            ..Health::default()
        };
        let mut statuses = Vec::new();
        for (seconds, code) in [(1, 1), (2, 1), (11, 1), (12, 1), (13, 0), (14, 1)] {
            plan.judge(&mut health, result(code), Duration::from_secs(seconds));
            statuses.push(health.status.clone());
        }
        assert_eq!(
            statuses,
            [
                "starting",
                "starting",
                "starting",
                "unhealthy",
                "healthy",
                "healthy"
            ]
        );
        assert_eq!(health.log.len(), PROBES_KEPT);
    }

    #[test]
    fn a_check_may_be_none() {
        for test in [vec![], vec!["NONE".to_owned()], vec!["CMD".to_owned()]] {
            assert!(
                Plan::of(
                    &Healthcheck {
                        test,
                        ..Healthcheck::default()
                    },
                    None
                )
                .is_none()
            );
        }
        let shell = Plan::of(
            &Healthcheck {
                test: vec!["CMD-SHELL".into(), "true".into()],
                ..Healthcheck::default()
            },
            None,
        );
        assert_eq!(shell.unwrap().command, ["/bin/sh", "-c", "true"]);
    }
}
