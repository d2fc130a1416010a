//! OCI runtimes: a bundle run to its end by Wharf, runc, crun and a program that does nothing but start it; each step alone;
//! many containers; a large seccomp profile.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;
use wharf_testkit::process::run;
use wharf_testkit::sandbox::Sandbox;

use crate::contest::Report;

const RUNS: usize = 30;
/// How many containers there are when the last ones are timed.
const MANY: usize = 1000;
/// Those that are timed, at the beginning and at the end.
const SAMPLE: usize = 20;
const PROFILE_ENTRIES_MIN: usize = 350;

pub fn measure(report: &mut Report, wharf: &Path) {
    if !report.wants("runtime: ") {
        return;
    }
    let sandbox = Sandbox::new(wharf);
    // crun takes a machine with both hierarchies for one with the second alone, and fails.
    let _ = sandbox.sh("umount /sys/fs/cgroup/unified");
    let bench = Bench {
        bundle: bundle(&sandbox),
        number: Cell::new(0),
        wharf: wharf.display().to_string(),
        sandbox,
    };
    bench.runs(report);
    bench.steps(report);
    bench.many(report);
    bench.profile(report);
}

struct Bench {
    sandbox: Sandbox,
    bundle: PathBuf,
    number: Cell<usize>,
    wharf: String,
}

impl Bench {
    fn name(&self) -> String {
        self.number.set(self.number.get() + 1);
        format!("bench-{}", self.number.get())
    }

    fn ours(&self) -> [&str; 2] {
        [&self.wharf, "runtime"]
    }

    /// A command of a runtime.
    fn call(&self, program: &[&str], words: &[&str]) {
        let root = self.sandbox.folder().join(program[program.len() - 1]);
        let mut command = self.sandbox.command(program[0]);
        command.args(&program[1..]).arg("--root").arg(root);
        // A container that waits holds the streams of its creation: not pipes that somebody reads to the end.
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = command.status().expect("run a runtime");
        assert!(status.success(), "{program:?} {words:?}");
    }

    fn at_bundle(&self, program: &[&str], command: &str, bundle: &Path) -> String {
        let name = self.name();
        let bundle = bundle.display().to_string();
        self.call(program, &[command, "--bundle", &bundle, &name]);
        name
    }

    fn run(&self, program: &[&str]) {
        self.at_bundle(program, "run", &self.bundle);
    }

    fn runs(&self, report: &mut Report) {
        for (peer, goal) in [("runc", 0.25), ("crun", 0.5)] {
            report.race(
                &format!("runtime: run /bin/true, {peer}"),
                RUNS,
                Some(goal),
                &mut || self.run(&self.ours()),
                &mut || self.run(&[peer]),
            );
        }
        let Some(bare) = std::env::var_os("WHARF_BARE_START") else {
            return;
        };
        let root = self.bundle.join("rootfs");
        let mut bare_run = || {
            let mut command = self.sandbox.command(&bare);
            run(command.arg(&root).arg("/bin/true")).ok();
        };
        report.race(
            "runtime: run /bin/true, the bare program",
            RUNS,
            Some(1.5),
            &mut || self.run(&self.ours()),
            &mut bare_run,
        );
    }

    /// Each command alone, the others out of the clock.
    fn steps(&self, report: &mut Report) {
        let waiting = with_args(
            &self.sandbox,
            &self.bundle,
            "waiting",
            &["/bin/sleep", "1000"],
        );
        for step in ["create", "start", "exec", "delete"] {
            let measure = format!("runtime: {step}, crun");
            if !report.wants(&measure) {
                continue;
            }
            let ours: Vec<f64> = (0..RUNS)
                .map(|_| self.step(&self.ours(), &waiting, step))
                .collect();
            let peer: Vec<f64> = (0..RUNS)
                .map(|_| self.step(&["crun"], &waiting, step))
                .collect();
            report.add(&measure, "ms", median(ours), median(peer), None);
        }
    }

    /// One container's life, of which one step is timed (milliseconds).
    fn step(&self, program: &[&str], bundle: &Path, timed: &str) -> f64 {
        let name = self.name();
        let bundle = bundle.display().to_string();
        let mut took = 0.0;
        let mut turn = |step: &str, words: &[&str]| {
            let begin = Instant::now();
            self.call(program, words);
            if step == timed {
                took = begin.elapsed().as_secs_f64() * 1000.0;
            }
        };
        turn("create", &["create", "--bundle", &bundle, &name]);
        turn("start", &["start", &name]);
        turn("exec", &["exec", &name, "/bin/true"]);
        turn("delete", &["delete", "--force", &name]);
        took
    }

    /// Starting the thousandth container against starting the tenth, both ours.
    fn many(&self, report: &mut Report) {
        let measure = format!("runtime: create of the {MANY}th container, of the tenth");
        if !report.wants(&measure) {
            return;
        }
        let mut names = Vec::new();
        let mut times = Vec::new();
        for _ in 0..MANY {
            let begin = Instant::now();
            names.push(self.at_bundle(&self.ours(), "create", &self.bundle));
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        let last = times.split_off(MANY - SAMPLE);
        times.truncate(SAMPLE);
        report.add(&measure, "ms", median(last), median(times), Some(1.1));
        for name in names {
            self.call(&self.ours(), &["delete", "--force", &name]);
        }
    }

    /// What a large profile adds.
    fn profile(&self, report: &mut Report) {
        let filtered = with_profile(&self.sandbox, &self.bundle);
        report.race(
            "runtime: run with a profile of all calls, without",
            RUNS,
            None,
            &mut || drop(self.at_bundle(&self.ours(), "run", &filtered)),
            &mut || self.run(&self.ours()),
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The bundle with another configuration.
fn changed(
    sandbox: &Sandbox,
    bundle: &Path,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> PathBuf {
    let other = sandbox.folder().join(name);
    fs::create_dir_all(&other).expect("make a bundle");
    let text = fs::read(bundle.join("config.json")).expect("read the specification");
    let mut spec = serde_json::from_slice(&text).expect("it is JSON");
    spec_root(&mut spec, bundle);
    change(&mut spec);
    fs::write(other.join("config.json"), spec.to_string()).expect("write the specification");
    other
}

fn spec_root(spec: &mut serde_json::Value, bundle: &Path) {
    spec["root"]["path"] = json!(bundle.join("rootfs"));
}

fn with_args(sandbox: &Sandbox, bundle: &Path, name: &str, args: &[&str]) -> PathBuf {
    changed(sandbox, bundle, name, |spec| {
        spec["process"]["args"] = json!(args)
    })
}

/// As Docker's profile, each call by an entry of its own.
fn with_profile(sandbox: &Sandbox, bundle: &Path) -> PathBuf {
    let profile = json!(wharf_runtime::default_seccomp(&[]));
    let groups = profile["syscalls"].as_array().expect("it lists calls");
    let names = groups.iter().flat_map(|group| group["names"].as_array());
    let entries: Vec<_> = names
        .flatten()
        .map(|name| json!({"names": [name], "action": "SCMP_ACT_ALLOW"}))
        .collect();
    assert!(entries.len() > PROFILE_ENTRIES_MIN, "{}", entries.len());
    changed(sandbox, bundle, "filtered", |spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries});
    })
}

/// The default specification, a static program as root file system.
fn bundle(sandbox: &Sandbox) -> PathBuf {
    let bundle = sandbox.folder().join("bundle");
    let bin = bundle.join("rootfs/bin");
    fs::create_dir_all(&bin).expect("make the bundle");
    for name in ["true", "sleep"] {
        fs::copy("/bin/busybox", bin.join(name)).expect("copy busybox (package busybox-static)");
    }
    run(Command::new("runc").arg("spec").current_dir(&bundle)).ok();
    let path = bundle.join("config.json");
    let text = fs::read(&path).expect("read the specification");
    let mut spec: serde_json::Value = serde_json::from_slice(&text).expect("runc writes JSON");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/true"]);
    fs::write(&path, spec.to_string()).expect("write the specification");
    bundle
}
