//! `wharf daemon`: puts image store, network, engine, builder and API together and serves them.

mod background;
mod listen;

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::Parser;
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use tracing_subscriber::EnvFilter;
use wharf_net::{Net, Subnet};

pub use background::start_in_background;

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
    /// Folder of everything that lasts: images, containers, volumes
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf")]
    data_root: PathBuf,
    /// Folder of what belongs to this boot: sockets, bundles, exit records
    #[arg(long, value_name = "DIR", default_value = "/run/wharf")]
    run_root: PathBuf,
    /// Registry asked first for images of docker.io
    #[arg(long, value_name = "URL")]
    registry_mirror: Vec<String>,
    /// Registry (HOST:PORT or CIDR) that may be reached over HTTP or with an unknown certificate
    #[arg(long, value_name = "HOST:PORT")]
    insecure_registry: Vec<String>,
    /// Registry that stands in for docker.io altogether: pull, push and login
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
    /// Link name of the default bridge [default: wharf0, or wharf-… for another data root]
    #[arg(long, value_name = "NAME")]
    bridge: Option<String>,
    /// Address range of the default bridge [default: 172.17.0.0/16, or the next free one]
    #[arg(long, value_name = "CIDR", value_parser = parse_subnet)]
    bip: Option<Subnet>,
    /// Control group that containers' groups are made in
    #[arg(long, value_name = "NAME", default_value = "docker")]
    cgroup_parent: String,
    /// Name server for containers [default: the machine's]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
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
        // Refused only to a process-group leader, which then has no terminal to lose.
        let _ = rustix::process::setsid();
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
    make_private_folder(&command.data_root)?;
    make_private_folder(&command.run_root)?;
    let data_root = fs::canonicalize(&command.data_root)?;
    let run_root = fs::canonicalize(&command.run_root)?;
    let _lock = lock(&data_root)?;
    let hosts = if command.hosts.is_empty() {
        vec![DEFAULT_HOST.to_owned()]
    } else {
        command.hosts.clone()
    };
    let listeners = listen::bind(&hosts)?;
    let shutdown = termination()?;

    let api = open(&command, &data_root, &run_root).await?;
    for host in &hosts {
        tracing::info!(%host, data_root = %data_root.display(), "listens");
    }
    crate::notify::ready();
    wharf_docker_api::serve(api, listeners, shutdown).await?;
    listen::remove(&hosts);
    Ok(())
}

/// Opens every room from the bottom up. Opening is recovering: each takes over what an earlier run left.
async fn open(
    command: &Command,
    data_root: &Path,
    run_root: &Path,
) -> Result<wharf_docker_api::Api> {
    crate::embedded::install()
        .map_err(|e| format!("keep the supervisor's program in memory: {e}"))?;
    let instance = hex::encode(&Sha256::digest(data_root.as_os_str().as_encoded_bytes())[..3]);
    let registries = wharf_image::RegistryConfig {
        mirrors: command.registry_mirror.clone(),
        insecure: command.insecure_registry.clone(),
        hub: command.hub.clone(),
    };
    let image_root = data_root.join("image");
    let images =
        tokio::task::spawn_blocking(move || wharf_image::Images::open(&image_root, registries))
            .await??;
    let net = Net::open(&instance).await?;
    let default_subnet = match command.bip {
        Some(subnet) => subnet,
        None => default_subnet(data_root, &net).await?,
    };
    let default_bridge = command
        .bridge
        .clone()
        .unwrap_or_else(|| match data_root.to_str() {
            Some("/var/lib/wharf") => "wharf0".to_owned(),
            _ => format!("wharf-{instance}"),
        });
    let config = wharf_engine::Config {
        data_root: data_root.to_owned(),
        run_root: run_root.to_owned(),
        cgroup_parent: command.cgroup_parent.clone(),
        default_subnet,
        default_bridge,
        dns: command.dns.clone(),
    };
    let engine = wharf_engine::Engine::open(config, images, net).await?;
    let builder = wharf_build::Builder::open(data_root.join("build"), engine.clone())?;
    Ok(wharf_docker_api::Api {
        engine,
        builder,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The default bridge's range is chosen once for a data root, so that addresses survive a restart.
async fn default_subnet(data_root: &Path, net: &Net) -> Result<Subnet> {
    let path = data_root.join("default-subnet.json");
    match fs::read(&path) {
        Ok(bytes) => {
            return serde_json::from_slice(&bytes)
                .map_err(|e| format!("read {}: {e}", path.display()).into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("read {}: {error}", path.display()).into()),
    }
    let subnet = net.free_subnet().await?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(&subnet)?)?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, &path)?;
    Ok(subnet)
}

fn parse_subnet(text: &str) -> std::result::Result<Subnet, String> {
    let wrong = || format!("{text:?} is not an IPv4 range such as 172.17.0.0/16");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|p| (8..=30).contains(p))
        .ok_or_else(wrong)?;
    let network = u32::from(address) & (u32::MAX << (32 - prefix));
    Ok(Subnet {
        address: Ipv4Addr::from(network).into(),
        prefix,
    })
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
fn lock(data_root: &Path) -> Result<File> {
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
    fn subnets_are_cut_to_their_network() {
        let subnet = parse_subnet("172.30.7.9/16").unwrap();
        assert_eq!(
            (subnet.address.to_string(), subnet.prefix),
            ("172.30.0.0".to_owned(), 16)
        );
        for wrong in [
            "172.17.0.0",
            "172.17.0.0/31",
            "fd00::/64",
            "x/16",
            "1.2.3.4/4",
        ] {
            assert!(parse_subnet(wrong).is_err(), "{wrong}");
        }
    }

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
