//! `--init`: a process 1 that passes signals on, reaps, and ends as its child ends.
#![allow(clippy::unwrap_used)]

use wharf_testkit::images;
use wharf_testkit::sandbox::{Sandbox, Server};

fn house() -> (Sandbox, Server) {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
    let daemon = sandbox.start_daemon(&[]);
    let busybox = images::path("busybox").display().to_string();
    sandbox.wharf(&["load", "-i", &busybox]).ok();
    (sandbox, daemon)
}

#[test]
fn it_is_process_1_and_ends_as_the_child_ends() {
    let (sandbox, _daemon) = house();
    let run =
        |words: &[&str]| sandbox.wharf(&[&["run", "--rm", "--init", "busybox"], words].concat());
    let processes = run(&["ps", "-o", "pid,args"]);
    assert!(
        processes.ok().contains("1 /sbin/docker-init -- ps"),
        "{processes:?}"
    );
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).code, 137);
    let missing = run(&["nowhere"]);
    assert_eq!(missing.code, 127);
    assert!(missing.stderr.contains("exec nowhere"), "{missing:?}");
    assert_eq!(run(&["/etc"]).code, 126);
}

#[test]
fn signals_reach_the_child_and_orphans_are_reaped() {
    let (sandbox, _daemon) = house();
    // The orphan ends while the child waits for a line; a second one would tell of a zombie.
    let script = "trap 'echo told; exit 3' TERM; (sh -c 'exit 0' &); echo ready; while :; do sleep 1 & wait $!; done";
    sandbox
        .wharf(&[
            "run", "-d", "--name", "held", "--init", "busybox", "sh", "-c", script,
        ])
        .ok();
    let ready = "until [ \"$(wharf logs held)\" = ready ]; do :; done";
    let wharf = sandbox
        .program(wharf_testkit::sandbox::Client::Wharf)
        .display()
        .to_string();
    sandbox
        .sh(&format!("{{ wharf() {{ {wharf} \"$@\"; }}; {ready}; }}"))
        .ok();
    let zombies = "until ! grep -l '^State:.Z' /proc/[0-9]*/status; do :; done";
    sandbox.wharf(&["exec", "held", "sh", "-c", zombies]).ok();
    sandbox.wharf(&["stop", "held"]).ok();
    let state = sandbox.wharf(&["inspect", "-f", "{{.State.ExitCode}}", "held"]);
    assert_eq!(state.ok().trim(), "3");
    assert!(sandbox.wharf(&["logs", "held"]).ok().contains("told"));
}

#[test]
fn a_container_knows_that_it_is_one() {
    let (sandbox, _daemon) = house();
    sandbox
        .wharf(&[
            "run",
            "--name",
            "marked",
            "busybox",
            "test",
            "-f",
            "/.dockerenv",
        ])
        .ok();
    let changes = sandbox.wharf(&["diff", "marked"]);
    assert_eq!(changes.ok(), "", "the mark is nobody's change");
}
