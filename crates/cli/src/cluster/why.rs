//! `why`: where a pod stands, and what keeps it there.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use wharf_client::{Api, Http};
use wharf_scheduler::{Explanation, Stand, explain};

use super::kubeconfig;
use crate::failure::Failure;
use crate::line::parse::Matches;
use crate::session::Session;

/// `why`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let path = kubeconfig::find(matches.given("kubeconfig"))?;
    let context = kubeconfig::read(&path)?;
    let given = matches.given("namespace").map(str::to_owned);
    let (namespace, name) = match matches.args[0].trim_start_matches("pod/").split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => {
            let name = matches.args[0].trim_start_matches("pod/").to_owned();
            (given.unwrap_or(context.namespace.clone()), name)
        }
    };
    let told = ask(&path, context, &namespace, &name)?;
    session.out(text(&namespace, &name, &told).as_bytes())?;
    Ok(0)
}

fn ask(
    path: &Path,
    context: kubeconfig::Context,
    namespace: &str,
    name: &str,
) -> Result<Explanation, Failure> {
    let server = context.http.server.clone();
    let said = |error: wharf_client::Error| match error.code() {
        Some(_) => Failure::said(format!("Error from server: {error}")),
        None => {
            let source = std::error::Error::source(&error);
            let cause = source.map(|s| format!(": {s}")).unwrap_or_default();
            let path = path.display();
            Failure::said(format!(
                "the cluster at {server} (from {path}) does not answer: {error}{cause}"
            ))
        }
    };
    // A process installs its cryptography once; whoever was first is right.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::said(format!("start a runtime: {error}")))?;
    runtime.block_on(async {
        let api: Arc<dyn Api> = Arc::new(Http::new(context.http).map_err(said)?);
        explain(&api, namespace, name).await.map_err(said)
    })
}

/// The answer for a person.
fn text(namespace: &str, name: &str, told: &Explanation) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a text does not fail.
        let _ = writeln!(out, "{text}");
    };
    line(format!("Pod {namespace}/{name} {}", headline(told)));
    if let Some(message) = &told.message {
        line(format!("  {message}"));
    }
    if let Some(said) = &told.of_pod {
        line(format!("  on every node: {said}"));
    }
    if let Some(node) = told.nominated.as_deref().filter(|node| !node.is_empty())
        && told.stand == Stand::Unscheduled
    {
        line(format!("  less important pods are leaving {node} for it"));
    }
    if !told.nodes.is_empty() {
        let rows = told.nodes.iter().map(|one| match one.reasons.is_empty() {
            true => (one.node.as_str(), "takes it".to_owned()),
            false => (one.node.as_str(), one.reasons.join(", ")),
        });
        line(String::new());
        table(("NODE", "REASON"), rows.collect(), &mut line);
    }
    if !told.containers.is_empty() {
        let rows = told.containers.iter();
        let rows = rows.map(|(name, state)| (name.as_str(), state.replace('\n', "\n  ")));
        line(String::new());
        table(("CONTAINER", "STATE"), rows.collect(), &mut line);
    }
    if !told.warnings.is_empty() {
        line(String::new());
        line("Latest warnings:".to_owned());
        for warning in &told.warnings {
            line(format!("  {warning}"));
        }
    }
    out
}

fn headline(told: &Explanation) -> String {
    match &told.stand {
        Stand::Gated(gates) => format!(
            "waits for its scheduling gates to be taken away: {}",
            gates.join(", ")
        ),
        Stand::Unscheduled => {
            let taking = told.nodes.iter().filter(|n| n.reasons.is_empty()).count();
            match (told.nodes.len(), taking) {
                _ if told.of_pod.is_some() => "has no node: it can't be placed".to_owned(),
                (0, _) => "has no node: the cluster has none".to_owned(),
                (all, 0) => format!("has no node: none of {all} takes it"),
                (all, taking) => {
                    format!("has no node yet, though {taking} of {all} would take it now")
                }
            }
        }
        Stand::OtherScheduler(name) => format!("waits for the scheduler {name:?}"),
        Stand::OnNode(node) => format!("is on {node}"),
        Stand::Leaving(Some(node)) => format!("is being deleted; {node} still has to end it"),
        Stand::Leaving(None) => "is being deleted".to_owned(),
        Stand::Over(phase) => format!("ran to its end: {phase}"),
    }
}

fn table(heads: (&str, &str), rows: Vec<(&str, String)>, line: &mut impl FnMut(String)) {
    let names = rows.iter().map(|(name, _)| name.chars().count());
    let width = names.max().unwrap_or_default().max(heads.0.len());
    line(format!("{:width$}   {}", heads.0, heads.1));
    for (name, text) in rows {
        line(format!("{name:width$}   {text}"));
    }
}

#[cfg(test)]
mod tests {
    use wharf_scheduler::NodeVerdict;

    use super::*;

    fn told(stand: Stand) -> Explanation {
        Explanation {
            stand,
            of_pod: None,
            nodes: Vec::new(),
            nominated: None,
            containers: Vec::new(),
            message: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn nodes_are_listed_with_their_reasons() {
        let mut waits = told(Stand::Unscheduled);
        let verdict = |node: &str, reasons: &[&str]| NodeVerdict {
            node: node.to_owned(),
            reasons: reasons.iter().map(|r| (*r).to_owned()).collect(),
        };
        waits.nodes = vec![
            verdict("n1", &["Insufficient cpu", "Too many pods"]),
            verdict("node10", &["had untolerated taint {a: b}"]),
        ];
        assert_eq!(
            text("default", "web", &waits),
            "Pod default/web has no node: none of 2 takes it\n\nNODE     REASON\nn1       Insufficient cpu, Too many pods\nnode10   had untolerated taint {a: b}\n"
        );
    }

    #[test]
    fn a_crash_loop_shows_its_last_words() {
        let mut loops = told(Stand::OnNode("n1".to_owned()));
        loops.containers = vec![("c".to_owned(), "waiting, CrashLoopBackOff".to_owned())];
        loops.warnings = vec!["BackOff: Back-off restarting failed container".to_owned()];
        assert_eq!(
            text("a", "b", &loops),
            "Pod a/b is on n1\n\nCONTAINER   STATE\nc           waiting, CrashLoopBackOff\n\nLatest warnings:\n  BackOff: Back-off restarting failed container\n"
        );
        let gated = told(Stand::Gated(vec!["x".to_owned(), "y".to_owned()]));
        assert!(text("a", "b", &gated).ends_with("to be taken away: x, y\n"));
    }
}
