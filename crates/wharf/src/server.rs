//! `wharf server`: the Kubernetes API server as a command.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Serve the Kubernetes API
///
/// Makes its own certificates, keeps everything in one folder, and writes a kubeconfig for kubectl.
#[derive(Debug, Parser)]
#[command(
    name = "wharf server",
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a copy of the store of a server that is stopped; put it in the store's place to restore it
    Snapshot(Snapshot),
}

#[derive(Debug, Args)]
struct Serve {
    /// Folder of everything that lasts: objects, keys, certificates
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    data_root: PathBuf,
    /// Address and port to listen on; port 0 for a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Where objects are kept: in the data root, or in an etcd as etcd://HOST:PORT,…
    #[arg(long, value_name = "STORE", default_value = "embedded")]
    datastore: wharf_apiserver::Datastore,
    /// Also write the administrator's kubeconfig here
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
    /// Least severe messages to log: error, warn, info, debug, trace
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Debug, Args)]
struct Snapshot {
    /// Folder of everything that lasts
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf/server")]
    data_root: PathBuf,
    /// File to write
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

/// Runs the command line after `wharf server`.
pub fn main(args: &[OsString]) -> i32 {
    let name = OsString::from("wharf server");
    let command = match Command::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match command.verb {
        Some(Verb::Snapshot(snapshot)) => copy(&snapshot),
        None => {
            crate::daemon::log_to_stderr(&command.serve.log_level);
            serve(command.serve)
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            crate::daemon::report("wharf server", error.as_ref());
            1
        }
    }
}

fn copy(snapshot: &Snapshot) -> Result<()> {
    let revision = wharf_apiserver::snapshot(&snapshot.data_root, &snapshot.to)?;
    println!("wrote {} at revision {revision}", snapshot.to.display());
    Ok(())
}

fn serve(serve: Serve) -> Result<()> {
    let config = wharf_apiserver::Config {
        data_root: serve.data_root,
        listen: serve.listen,
        datastore: serve.datastore,
        kubeconfig_out: serve.kubeconfig_out,
    };
    crate::daemon::async_runtime()?.block_on(async {
        let shutdown = crate::daemon::termination()?;
        let server = wharf_apiserver::Server::open(config).await?;
        println!("API server listens on https://{}", server.address());
        println!(
            "try: kubectl --kubeconfig {} get namespaces",
            server.kubeconfig().display()
        );
        crate::notify::ready();
        server.serve(shutdown).await;
        Ok(())
    })
}
