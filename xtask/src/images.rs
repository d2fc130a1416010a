//! The test images: archives made from Debian packages, then pushed to a registry of Wharf's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wharf_testkit::images;
use wharf_testkit::sandbox::{REGISTRY, Sandbox};

use crate::{Result, build, run};

/// Makes archives, examples and registry, as far as they are not there; `wharf` builds the binary that fills the
/// registry.
pub fn make(wharf: fn() -> Result<PathBuf>) -> Result {
    build::examples()?;
    images::make_all();
    let registry = images::registry_location();
    if registry.exists() {
        return Ok(());
    }
    fill(&wharf()?, &registry)
}

/// Pushes every image to a registry whose folder then becomes the one that tests copy.
fn fill(wharf: &Path, registry: &Path) -> Result {
    let sandbox = Sandbox::new(wharf);
    let data = sandbox.folder().join("registry");
    fs::create_dir_all(&data).map_err(|e| format!("make {}: {e}", data.display()))?;
    let _server = sandbox.start_registry(&[]);
    let _daemon = sandbox.start_daemon(&["--hub", &format!("http://{REGISTRY}")]);
    for name in images::NAMES {
        let loaded = sandbox.wharf(&["load", "-i", &images::path(name).display().to_string()]);
        for reference in loaded
            .ok()
            .lines()
            .filter_map(|line| line.strip_prefix("Loaded image: "))
        {
            let (path, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
            let target = match path.contains('/') {
                true => format!("{REGISTRY}/{path}:{tag}"),
                false => format!("{REGISTRY}/library/{path}:{tag}"),
            };
            sandbox.wharf(&["tag", reference, &target]).ok();
            sandbox.wharf(&["push", "-q", &target]).ok();
        }
    }
    let temporary = registry.with_extension("new");
    let _ = fs::remove_dir_all(&temporary);
    run(Command::new("cp").arg("-a").arg(&data).arg(&temporary))?;
    fs::rename(&temporary, registry).map_err(|e| format!("rename to {}: {e}", registry.display()))
}
