//! What to do for a pod next: pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::backoff::Backoff;
use crate::part::{Part, Role, parts};
use crate::seen::{Attempt, Seen};

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// Nothing of the pod may run any more: it has ended.
    pub is_over: bool,
    /// Containers that have to go, and why.
    pub kill: Vec<(String, String)>,
    /// A sandbox is wanted, with this attempt number.
    pub sandbox: Option<u32>,
    /// Containers to start, with their attempt numbers.
    pub start: Vec<(String, u32)>,
    /// Containers that wait before their next start: until when, and for how long in all.
    pub held: HashMap<String, (Timestamp, Duration)>,
}

/// What probes say of running containers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdicts {
    /// Containers, by id, that have to go, and why.
    pub failed: HashMap<String, String>,
    /// Containers, by id, whose startup probe has not succeeded yet.
    pub starting: HashSet<String>,
}

/// Whether a container that ended is to run again.
pub(crate) fn runs_again(pod: &Pod, part: &Part, attempt: &Attempt) -> bool {
    if part.role == Role::Ephemeral {
        return false;
    }
    if part.role == Role::Sidecar {
        return true;
    }
    if part.role == Role::Init && attempt.succeeded() {
        return false;
    }
    if let Some(answer) = rules(&part.container, attempt.status.exit_code) {
        return answer;
    }
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    let policy = part.container.restart_policy.as_deref().or(of_pod);
    match policy.unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => !attempt.succeeded(),
        _ => true,
    }
}

/// What a container's own rules say of an exit code.
fn rules(container: &Container, exit_code: i32) -> Option<bool> {
    for rule in container.restart_policy_rules.iter().flatten() {
        let codes = rule.exit_codes.as_ref()?;
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        if listed == (codes.operator == "In") && rule.action == "Restart" {
            return Some(true);
        }
    }
    None
}

struct Decider<'a> {
    pod: &'a Pod,
    seen: &'a Seen,
    verdicts: &'a Verdicts,
    backoff: &'a Backoff,
    now: Timestamp,
    decision: Decision,
}

/// Decides. A pod that is being deleted, or whose phase is final, is not asked about.
pub(crate) fn decide(
    pod: &Pod,
    seen: &Seen,
    verdicts: &Verdicts,
    backoff: &Backoff,
    now: Timestamp,
) -> Decision {
    let mut decider = Decider {
        pod,
        seen,
        verdicts,
        backoff,
        now,
        decision: Decision::default(),
    };
    decider.whole(&parts(pod));
    decider.decision
}

impl Decider<'_> {
    fn whole(&mut self, parts: &[Part]) {
        if is_over(self.pod, parts, self.seen) {
            self.decision.is_over = true;
            return;
        }
        if self.seen.ready_sandbox().is_none() {
            let number = |sandbox: &wharf_cri::v1::PodSandbox| {
                let metadata = sandbox.metadata.as_ref();
                metadata.map_or(0, |metadata| metadata.attempt)
            };
            let last = self.seen.sandbox();
            self.decision.sandbox = Some(last.map_or(0, |last| number(last) + 1));
            for attempt in self.seen.running() {
                let reason = "Pod sandbox changed, it will be killed and re-created.";
                self.decision
                    .kill
                    .push((attempt.id().to_owned(), reason.to_owned()));
            }
        }
        let of = |role| parts.iter().filter(move |part| part.role == role);
        let begun = of(Role::Regular).any(|part| self.seen.current(part.name()).is_some());
        let mut initialized = true;
        for part in parts
            .iter()
            .filter(|part| matches!(part.role, Role::Init | Role::Sidecar))
        {
            if begun && part.role == Role::Init {
                continue;
            }
            if !self.step(part) && !begun {
                initialized = false;
                break;
            }
        }
        if initialized {
            for part in of(Role::Regular).chain(of(Role::Ephemeral)) {
                self.step(part);
            }
        }
    }

    /// Does what a container needs; says whether what comes after it may begin.
    fn step(&mut self, part: &Part) -> bool {
        let Some(attempt) = self.seen.current(part.name()) else {
            let number = self
                .seen
                .latest(part.name())
                .map_or(0, |last| last.number() + 1);
            self.start(part, number, self.seen.latest(part.name()));
            return false;
        };
        if attempt.is_running() {
            if let Some(reason) = self.verdicts.failed.get(attempt.id()) {
                self.decision
                    .kill
                    .push((attempt.id().to_owned(), reason.clone()));
                return false;
            }
            return part.role == Role::Sidecar && !self.verdicts.starting.contains(attempt.id());
        }
        if attempt.is_over() && !runs_again(self.pod, part, attempt) {
            return attempt.succeeded();
        }
        // Created and never started, or ended.
        self.start(part, attempt.number() + 1, Some(attempt));
        false
    }

    fn start(&mut self, part: &Part, number: u32, last: Option<&Attempt>) {
        let ended = last.map(|last| match last.status.finished_at {
            0 => last.status.created_at,
            at => at,
        });
        if let Some(ended) = ended.and_then(|at| Timestamp::from_nanosecond(at.into()).ok())
            && let Some((until, wait)) = self.backoff.holds(part.name(), ended, self.now)
        {
            self.decision
                .held
                .insert(part.name().to_owned(), (until, wait));
            return;
        }
        self.decision.start.push((part.name().to_owned(), number));
    }
}

/// Whether all is done: an init container failed for good, or every regular one ended for good.
pub(crate) fn is_over(pod: &Pod, parts: &[Part], seen: &Seen) -> bool {
    let ended = |part: &Part| {
        seen.latest(part.name())
            .filter(|attempt| attempt.is_over() && !runs_again(pod, part, attempt))
    };
    let inits = || parts.iter().filter(|part| part.role == Role::Init);
    let regular = || parts.iter().filter(|part| part.role == Role::Regular);
    let begun = regular().any(|part| seen.latest(part.name()).is_some());
    if !begun && inits().any(|part| ended(part).is_some_and(|attempt| !attempt.succeeded())) {
        return true;
    }
    regular().next().is_some() && regular().all(|part| ended(part).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use wharf_cri::v1;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    /// A ready sandbox with containers `(name, attempt, state)`: `r`unning, or the exit code.
    fn seen(containers: &[(&str, u32, &str)]) -> Seen {
        let sandbox = v1::PodSandbox {
            id: "s".into(),
            ..Default::default()
        };
        let attempt = |(name, number, state): &(&str, u32, &str)| Attempt {
            sandbox: "s".into(),
            status: v1::ContainerStatus {
                id: format!("{name}{number}"),
                metadata: Some(v1::ContainerMetadata {
                    name: (*name).into(),
                    attempt: *number,
                }),
                state: if *state == "r" { 1 } else { 2 },
                exit_code: state.parse().unwrap_or(0),
                finished_at: 1_000_000_000,
                ..Default::default()
            },
        };
        Seen {
            sandboxes: vec![sandbox],
            containers: containers.iter().map(attempt).collect(),
            ips: Vec::new(),
        }
    }

    #[track_caller]
    fn check(spec: Value, containers: &[(&str, u32, &str)], starts: &[(&str, u32)], over: bool) {
        let decision = decide(
            &pod(spec),
            &seen(containers),
            &Verdicts::default(),
            &Backoff::default(),
            Timestamp::from_second(2).unwrap(),
        );
        let starts: Vec<_> = starts
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect();
        assert_eq!(decision.start, starts);
        assert_eq!(decision.is_over, over);
    }

    #[test]
    fn policies() {
        let spec = |policy| json!({"restartPolicy": policy, "containers": [{"name": "a"}]});
        check(spec("Always"), &[], &[("a", 0)], false);
        check(spec("Always"), &[("a", 0, "r")], &[], false);
        check(spec("Always"), &[("a", 0, "0")], &[("a", 1)], false);
        check(spec("OnFailure"), &[("a", 3, "1")], &[("a", 4)], false);
        check(spec("OnFailure"), &[("a", 0, "0")], &[], true);
        check(spec("Never"), &[("a", 0, "1")], &[], true);
    }

    #[test]
    fn init_containers_come_one_after_the_other() {
        let spec = |policy| {
            json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "j"}],
            "containers": [{"name": "a"}, {"name": "b"}]})
        };
        check(spec("Always"), &[], &[("i", 0)], false);
        check(spec("Always"), &[("i", 0, "r")], &[], false);
        check(spec("Always"), &[("i", 0, "0")], &[("j", 0)], false);
        check(spec("Always"), &[("i", 0, "1")], &[("i", 1)], false);
        check(spec("Never"), &[("i", 0, "1")], &[], true);
        check(
            spec("Always"),
            &[("i", 0, "0"), ("j", 0, "0")],
            &[("a", 0), ("b", 0)],
            false,
        );
        check(spec("Always"), &[("a", 0, "r")], &[("b", 0)], false);
    }

    #[test]
    fn sidecars_stay_and_do_not_hold_up_others_later() {
        let spec = json!({"restartPolicy": "Never",
            "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
            "containers": [{"name": "a"}]});
        check(spec.clone(), &[], &[("s", 0)], false);
        check(spec.clone(), &[("s", 0, "r")], &[("i", 0)], false);
        check(
            spec.clone(),
            &[("s", 0, "r"), ("i", 0, "0")],
            &[("a", 0)],
            false,
        );
        check(
            spec.clone(),
            &[("s", 0, "1"), ("i", 0, "0"), ("a", 0, "r")],
            &[("s", 1)],
            false,
        );
        check(
            spec,
            &[("s", 0, "r"), ("i", 0, "0"), ("a", 0, "0")],
            &[],
            true,
        );
    }

    #[test]
    fn a_lost_sandbox_is_made_again_with_its_containers() {
        let pod = pod(json!({"containers": [{"name": "a"}]}));
        let mut seen = seen(&[("a", 0, "0")]);
        seen.sandboxes[0].state = v1::PodSandboxState::SandboxNotready.into();
        let now = Timestamp::from_second(2).unwrap();
        let decision = decide(&pod, &seen, &Verdicts::default(), &Backoff::default(), now);
        assert_eq!(decision.sandbox, Some(1));
        assert_eq!(decision.start, [("a".to_owned(), 1)]);
    }
}
