//! `cargo xtask demo`: from a Dockerfile to a page counter that survives its own removal, in one command.

use std::fs;
use std::path::Path;

use wharf_testkit::images;
use wharf_testkit::sandbox::{REGISTRY, Sandbox};

use crate::{Result, build, packages};

/// Builds Wharf, then shows it at work in a sandbox; nothing is left behind.
pub fn demo() -> Result {
    packages::install(packages::FOR_IMAGES)?;
    packages::install(packages::FOR_DEMO)?;
    crate::images::make(build::release)?;
    let show = Show {
        sandbox: Sandbox::new(build::release()?),
    };
    let _registry = show.sandbox.start_registry(&[]);
    let _daemon = show
        .sandbox
        .start_daemon(&["--hub", &format!("http://{REGISTRY}")]);
    show.build_and_push()?;
    show.run_with_redis()?;
    println!("\nThat was Wharf: one binary built, shipped and ran it. Everything is cleaned up.");
    Ok(())
}

struct Show {
    sandbox: Sandbox,
}

impl Show {
    fn build_and_push(&self) -> Result {
        let context = self.sandbox.folder().join("pagecounter");
        prepare_context(&context).map_err(|e| format!("prepare {}: {e}", context.display()))?;
        let image = format!("{REGISTRY}/you/pagecounter:v1");
        self.wharf(&["build", "-t", &image, &context.display().to_string()])?;
        self.wharf(&["push", &image])?;
        self.wharf(&["rmi", &image])?;
        self.wharf(&["pull", &image]).map(drop)
    }

    fn run_with_redis(&self) -> Result {
        let counter = format!("{REGISTRY}/you/pagecounter:v1");
        self.wharf(&["network", "create", "pages"])?;
        self.wharf(&[
            "run",
            "-d",
            "--name",
            "db",
            "--net",
            "pages",
            "-v",
            "count:/data",
            "redis",
        ])?;
        let run = [
            "run",
            "-d",
            "--name",
            "counter",
            "--net",
            "pages",
            "-p",
            "8080:8080",
            "-e",
            "REDIS=db:6379",
            &counter,
        ];
        self.wharf(&run)?;
        for visitor in 1..=3 {
            self.visit(visitor)?;
        }
        println!("\nBoth containers are removed and run again; the volume keeps the count:");
        self.wharf(&["rm", "-f", "counter", "db"])?;
        self.wharf(&[
            "run",
            "-d",
            "--name",
            "db",
            "--net",
            "pages",
            "-v",
            "count:/data",
            "redis",
        ])?;
        self.wharf(&run)?;
        self.visit(4)?;
        self.wharf(&["ps"])?;
        self.wharf(&["rm", "-f", "counter", "db"]).map(drop)
    }

    fn visit(&self, visitor: u32) -> Result {
        let page = self.show(
            "curl",
            &[
                "-sS",
                "--retry",
                "20",
                "--retry-all-errors",
                "--retry-delay",
                "1",
                "localhost:8080",
            ],
        )?;
        let expected = format!("Hello, you're visitor #{visitor}.");
        if page.trim() == expected {
            Ok(())
        } else {
            Err(format!("expected {expected:?}, the counter said {page:?}"))
        }
    }

    fn wharf(&self, args: &[&str]) -> Result<String> {
        println!("\n$ wharf {}", args.join(" "));
        let ran = self.sandbox.wharf(args);
        finish(ran)
    }

    fn show(&self, program: &str, args: &[&str]) -> Result<String> {
        println!("\n$ {program} {}", args.join(" "));
        finish(self.sandbox.run(program, args))
    }
}

fn finish(ran: wharf_testkit::process::Ran) -> Result<String> {
    print!("{}", ran.both());
    if ran.code == 0 {
        Ok(ran.stdout)
    } else {
        Err(format!("{} ended with {}", ran.line, ran.code))
    }
}

fn prepare_context(context: &Path) -> std::io::Result<()> {
    fs::create_dir_all(context)?;
    fs::copy(images::example("pagecounter"), context.join("pagecounter"))?;
    let dockerfile = wharf_testkit::workspace_dir().join("examples/pagecounter/Dockerfile");
    fs::copy(dockerfile, context.join("Dockerfile")).map(drop)
}
