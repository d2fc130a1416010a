//! `wharf registry serve`: the distribution server as a command.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Store and serve images to any registry client.
#[derive(Debug, Parser)]
#[command(name = "wharf registry", disable_help_subcommand = true)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a folder as an OCI registry until interrupted
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    /// Address and port to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    addr: SocketAddr,
    /// Folder that holds blobs, manifests and uploads under way
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Users and bcrypt hashes (`htpasswd -B`); without it everyone may push and pull
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Certificate chain in PEM; turns TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Least severe messages to log: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// Runs the command line after `wharf registry`.
pub fn main(args: &[OsString]) -> i32 {
    let name = OsString::from("wharf registry");
    let command = match Command::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    let Verb::Serve(serve) = command.verb;
    crate::daemon::log_to_stderr(&serve.log_level);
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(serve) {
        Ok(()) => 0,
        Err(error) => {
            crate::daemon::report("wharf registry", error.as_ref());
            1
        }
    }
}

fn run(serve: Serve) -> Result<(), Box<dyn std::error::Error>> {
    let config = wharf_registry::Config {
        addr: serve.addr,
        data: serve.data,
        htpasswd: serve.htpasswd,
        tls: serve.tls_cert.zip(serve.tls_key),
    };
    crate::daemon::async_runtime()?.block_on(async {
        let shutdown = crate::daemon::termination()?;
        wharf_registry::serve(
            config,
            |address| {
                tracing::info!(%address, "registry listens");
                crate::notify::ready();
            },
            shutdown,
        )
        .await?;
        Ok(())
    })
}
