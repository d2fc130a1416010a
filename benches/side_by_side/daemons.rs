//! The daemons: containers run, entered, images pulled, by Wharf with its client and Docker with its own.

use std::path::Path;

use wharf_testkit::images;
use wharf_testkit::process::run;
use wharf_testkit::sandbox::{Sandbox, Server};

use crate::contest::Report;
use crate::{builds, memory};

const RUNS: usize = 20;

/// A daemon in a sandbox of its own, and the client that drives it.
pub struct House {
    pub sandbox: Sandbox,
    pub server: Server,
    client: String,
}

impl House {
    fn of_wharf(wharf: &Path) -> House {
        let sandbox = Sandbox::new(wharf);
        let server = sandbox.start_daemon(&[]);
        House {
            sandbox,
            server,
            client: wharf.display().to_string(),
        }
    }

    fn of_docker(wharf: &Path) -> House {
        let sandbox = Sandbox::new(wharf);
        let mut command = sandbox.command("dockerd");
        command.args(["-H", &sandbox.host(), "--data-root"]);
        command.arg(sandbox.data_root()).arg("--exec-root");
        command.arg(sandbox.run_root()).arg("--pidfile");
        command.arg(sandbox.folder().join("docker.pid"));
        let server = sandbox.start(command, "daemon.log");
        House {
            sandbox,
            server,
            client: "docker".into(),
        }
    }

    /// Runs the client, which must succeed.
    pub fn run(&self, args: &[&str]) -> String {
        run(self.sandbox.command(&self.client).args(args))
            .ok()
            .to_owned()
    }
}

pub fn measure(report: &mut Report, wharf: &Path) {
    let (ours, peer) = (House::of_wharf(wharf), House::of_docker(wharf));
    memory::idle(report, &ours, &peer);
    for house in [&ours, &peer] {
        let archive = images::path("busybox").display().to_string();
        house.run(&["load", "-i", &archive]);
    }
    let mut race = |measure: &str, goal: Option<f64>, args: &[&str]| {
        report.race(
            measure,
            RUNS,
            goal,
            &mut || drop(ours.run(args)),
            &mut || drop(peer.run(args)),
        );
    };
    let run = ["run", "--rm", "busybox", "true"];
    race("run --rm busybox true, bridge network", Some(0.06), &run);
    let run = ["run", "--rm", "--net", "none", "busybox", "true"];
    race("run --rm --net none busybox true", Some(0.06), &run);
    for house in [&ours, &peer] {
        house.run(&[
            "run", "-d", "--name", "sleeper", "busybox", "sleep", "100000",
        ]);
    }
    race("exec sleeper true", None, &["exec", "sleeper", "true"]);
    race("ps", None, &["ps"]);
    memory::supervisors(report, &ours, &peer);
    builds::cached(report, &ours, &peer);
    builds::pull(report, &ours, &peer);
    for house in [&ours, &peer] {
        house.run(&["rm", "-f", "sleeper"]);
    }
}
