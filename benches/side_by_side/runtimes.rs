//! OCI runtimes: a bundle run to its end by Wharf, runc and crun.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use wharf_testkit::process::run;
use wharf_testkit::sandbox::Sandbox;

use crate::contest::Report;

const RUNS: usize = 30;

pub fn measure(report: &mut Report, wharf: &Path) {
    let peers = [("runc", 0.25), ("crun", 0.5)];
    let name = |peer: &str| format!("runtime: run /bin/true, {peer}");
    if !peers.iter().any(|(peer, _)| report.wants(&name(peer))) {
        return;
    }
    let sandbox = Sandbox::new(wharf);
    let bundle = bundle(&sandbox);
    // crun takes a machine with both hierarchies for one with the second alone, and fails.
    let _ = sandbox.sh("umount /sys/fs/cgroup/unified");
    let ours = wharf.display().to_string();
    let mut number = 0;
    for (peer, goal) in peers {
        let mut turn = |program: &[&str]| {
            number += 1;
            let root = sandbox.folder().join(program[program.len() - 1]);
            let mut command = sandbox.command(program[0]);
            command.args(&program[1..]).arg("--root").arg(root);
            command.args(["run", "--bundle"]).arg(&bundle);
            run(command.arg(format!("bench-{number}"))).ok();
        };
        let turn = std::cell::RefCell::new(&mut turn);
        report.race(
            &name(peer),
            RUNS,
            Some(goal),
            &mut || turn.borrow_mut()(&[&ours, "runtime"]),
            &mut || turn.borrow_mut()(&[peer]),
        );
    }
}

/// The default specification, a static program as root file system.
fn bundle(sandbox: &Sandbox) -> std::path::PathBuf {
    let bundle = sandbox.folder().join("bundle");
    let bin = bundle.join("rootfs/bin");
    fs::create_dir_all(&bin).expect("make the bundle");
    fs::copy("/bin/busybox", bin.join("true")).expect("copy busybox (package busybox-static)");
    run(Command::new("runc").arg("spec").current_dir(&bundle)).ok();
    let path = bundle.join("config.json");
    let text = fs::read(&path).expect("read the specification");
    let mut spec: serde_json::Value = serde_json::from_slice(&text).expect("runc writes JSON");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/true"]);
    fs::write(&path, spec.to_string()).expect("write the specification");
    bundle
}
