//! `wharf daemon`: the engine behind Docker's API, as a process of its own.

mod background;

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use rustix::fs::FlockOperation;
use tracing_subscriber::EnvFilter;
use wharf_cri::Local;

use crate::listen;
use crate::rooms::{EngineArgs, Rooms};

pub use background::{start_detached, start_in_background};

/// Where the daemon listens when nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///run/wharf/wharf.sock";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Run the daemon that owns containers, images, volumes and networks.
///
/// Containers live on when the daemon ends, and are taken over when it starts again.
#[derive(Debug, Parser)]
#[command(name = "wharf daemon")]
struct Command {
    /// Sockets to listen on: unix:///PATH or tcp://ADDRESS:PORT (no authentication: loopback only is wise)
    #[arg(short = 'H', long = "host", value_name = "URL")]
    hosts: Vec<String>,
    /// Socket of the Container Runtime Interface, for a kubelet or crictl: unix:///PATH
    #[arg(long, value_name = "URL")]
    cri_listen: Option<String>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Least severe messages to log: error, warn, info, debug, trace
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Leaves the caller's session, so that closing its terminal does not end the daemon
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs the command line after `wharf daemon`.
pub fn main(args: &[OsString]) -> i32 {
    let name = OsString::from("wharf daemon");
    let command = match Command::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    log_to_stderr(&command.log_level);
    if command.detached {
        // Refused only to a process-group leader, which then has no terminal to lose. The folder it was started in is
        // not kept from being unmounted.
        let _ = rustix::process::setsid();
        let _ = std::env::set_current_dir("/");
    }
    match async_runtime()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(serve(command)))
    {
        Ok(()) => 0,
        Err(error) => {
            report("wharf daemon", error.as_ref());
            1
        }
    }
}

async fn serve(command: Command) -> Result<()> {
    // No provider is installed yet, so this cannot fail in a way that matters.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (data_root, run_root) = folders(&command.engine)?;
    let _lock = lock(&data_root)?;
    let hosts = if command.hosts.is_empty() {
        vec![DEFAULT_HOST.to_owned()]
    } else {
        command.hosts.clone()
    };
    let listeners = listen::bind(&hosts)?;
    let cri_host = command.cri_listen.as_deref();
    let cri_listener = cri_host.map(listen::bind_local).transpose()?;
    let shutdown = termination()?;

    let Rooms { docker, pods } = crate::rooms::open(&command.engine, &data_root, &run_root).await?;
    let cri = match cri_listener {
        Some(listener) => {
            let opened = Local::open(pods, docker.engine.clone()).await;
            let local = opened.map_err(|status| status.message().to_owned())?;
            Some((Arc::new(local), listener))
        }
        None => None,
    };
    for host in hosts.iter().map(String::as_str).chain(cri_host) {
        tracing::info!(%host, data_root = %data_root.display(), "listens");
    }
    crate::notify::ready();
    let cri = async {
        match cri {
            Some((local, listener)) => wharf_cri::serve(local, listener).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = wharf_docker_api::serve(docker, listeners, shutdown) => served?,
        failed = cri => failed?,
    }
    listen::remove(&hosts);
    listen::remove(command.cri_listen.as_slice());
    Ok(())
}

/// Makes the two folders where they are missing, and gives their real paths.
pub fn folders(args: &EngineArgs) -> Result<(PathBuf, PathBuf)> {
    make_private_folder(&args.data_root)?;
    make_private_folder(&args.run_root)?;
    Ok((
        fs::canonicalize(&args.data_root)?,
        fs::canonicalize(&args.run_root)?,
    ))
}

fn make_private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|e| format!("make folder {}: {e}", path.display()).into())
}

/// One daemon for a data root: two would take each other's containers for their own.
pub fn lock(data_root: &Path) -> Result<File> {
    let path = data_root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| format!("open {}: {e}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        format!(
            "another daemon uses {}; stop it, or give this one its own --data-root and --run-root",
            data_root.display()
        )
    })?;
    Ok(file)
}

/// Few threads: work that blocks goes to short-lived ones of the blocking pool.
pub fn async_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(128)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .enable_all()
        .build()
}

/// Ends with the first SIGTERM or SIGINT.
pub fn termination() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Logs to standard error at this level; `RUST_LOG` refines it.
pub fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(rustix::termios::isatty(io::stderr()))
        .init();
}

/// Prints an error with its causes, one line.
pub fn report(program: &str, error: &dyn Error) {
    let mut line = format!("{program}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_root_has_one_daemon() {
        let root = tempfile::tempdir().unwrap();
        let first = lock(root.path()).unwrap();
        assert!(
            lock(root.path())
                .unwrap_err()
                .to_string()
                .contains("another daemon uses")
        );
        drop(first);
        lock(root.path()).unwrap();
    }
}
