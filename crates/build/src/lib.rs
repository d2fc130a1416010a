//! Dockerfile → graph of steps keyed by digest → solve with cache → image. The solver does not know what a
//! step does; nothing here knows the API that called it.
#![forbid(unsafe_code)]

mod archive;
mod args;
mod build;
mod cache;
mod config;
mod console;
mod copy;
mod dockerfile;
mod duration;
mod expand;
mod instruction;
mod meta;
mod mountpoints;
mod owner;
mod pattern;
mod place;
mod plan;
mod prune;
mod run;
mod solve;
mod squash;
mod step;
#[cfg(test)]
mod tests;
mod tree;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a build is asked to do.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Unpacked context folder (`.dockerignore` not yet applied).
    pub context: PathBuf,
    /// Dockerfile's path inside the context (`Dockerfile`), or its text where it comes from elsewhere (stdin).
    pub dockerfile: String,
    /// Text of a Dockerfile that is not in the context.
    pub dockerfile_text: Option<String>,
    /// Names for the result.
    pub tags: Vec<String>,
    /// `--build-arg`; `None` takes nothing.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Stage to stop at.
    pub target: Option<String>,
    /// Added labels.
    pub labels: BTreeMap<String, String>,
    /// Does not look at the cache.
    pub no_cache: bool,
    /// Takes from the cache only what led to one of these images; empty: whatever is there.
    pub cache_from: Vec<String>,
    /// Fetches base images even when they are here.
    pub pull: bool,
    /// Network of RUN steps.
    pub network_mode: String,
    /// `NAME:ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// `--memory`, `--cpu-shares` … for RUN steps.
    pub resources: wharf_engine::Resources,
    /// `--shm-size`.
    pub shm_size_bytes: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<wharf_engine::Ulimit>,
    /// `--platform`.
    pub platform: Option<String>,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// Merges the new layers into one.
    pub squash: bool,
    /// Credentials by registry for base images.
    pub credentials: BTreeMap<String, wharf_image::Credentials>,
}

/// News of a build.
#[derive(Debug, Clone)]
pub enum BuildEvent {
    /// Text as the classic builder prints it (`Step 1/3 : FROM alpine:3.10`, ` ---> 961769676411`, output of RUN …).
    Output(bytes::Bytes),
    /// Progress of pulling a base image.
    Pull(wharf_image::Progress),
    /// The finished image's ID.
    Built(String),
}

/// Receives events; must not block.
pub type EventSink = Arc<dyn Fn(BuildEvent) + Send + Sync>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is malformed: line and column, both from 1.
    #[error("dockerfile parse error line {line}: {message}{at}", at = if *column > 1 { format!(" (column {column})") } else { String::new() })]
    Dockerfile {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// The request or an instruction asks for something impossible (missing source, escape from the context …).
    #[error("{0}")]
    Invalid(String),
    /// A RUN command ended with another code than 0.
    #[error("The command '{command}' returned a non-zero code: {exit_code}")]
    Run {
        /// Command line.
        command: String,
        /// Exit code.
        exit_code: i32,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] wharf_engine::Error),
    /// The image store failed.
    #[error(transparent)]
    Image(#[from] wharf_image::Error),
    /// A file could not be used.
    #[error("{operation}")]
    Io {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Builds images on an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Builder {
    images: wharf_image::Images,
    cache: cache::Cache,
    runner: Arc<dyn run::Runner>,
    engine: Option<wharf_engine::Engine>,
}

impl Builder {
    /// A builder that keeps its cache records below `root`. Removes what an interrupted build left behind: containers
    /// in the background, where there is an async runtime.
    pub fn open(root: PathBuf, engine: wharf_engine::Engine) -> Result<Builder, Error> {
        run::remove_left_over(&engine);
        let images = engine.images().clone();
        let mut builder = Builder::with(&root, images, Arc::new(engine.clone()))?;
        builder.engine = Some(engine);
        Ok(builder)
    }

    fn with(
        root: &Path,
        images: wharf_image::Images,
        runner: Arc<dyn run::Runner>,
    ) -> Result<Builder, Error> {
        for key in images.snapshots() {
            if key.starts_with(step::SNAPSHOT_PREFIX) {
                images.remove_snapshot(&key)?;
            }
        }
        Ok(Builder {
            images,
            cache: cache::Cache::open(root)?,
            runner,
            engine: None,
        })
    }
}

/// For `map_err`: names the operation.
pub(crate) fn io<E: Into<std::io::Error>>(operation: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        operation: operation.into(),
        source: source.into(),
    }
}

/// For `map_err`: names the operation and the file.
pub(crate) fn io_at(operation: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    io(format!("{operation} {}", path.display()))
}

/// First twelve digits of an ID.
pub(crate) fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

/// Work with files and mounts happens on threads of its own. It runs to its end even if nobody waits any more, and
/// cleans up behind itself.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::Io {
            operation: "a step of the build ended early".to_owned(),
            source: std::io::Error::other(e),
        }),
    }
}
