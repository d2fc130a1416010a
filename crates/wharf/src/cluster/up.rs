//! `wharf up`: API server, node, scheduler, controllers, services and engine in one process.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use tokio_util::sync::CancellationToken;

use super::Result;
use super::compose::{self, House};
use super::place::Place;
use crate::daemon::DEFAULT_HOST;
use crate::listen;
use crate::rooms::EngineArgs;

/// Start a Kubernetes cluster on this machine
///
/// Makes what is missing (certificates, store, networks), takes over what an earlier run left, and stays in the
/// foreground until it is interrupted. Pods live on when this process ends, and are taken over when it starts again;
/// `wharf down` ends them.
#[derive(Debug, Parser)]
#[command(name = "wharf up")]
struct Command {
    /// Sockets of Docker's API: unix:///PATH or tcp://ADDRESS:PORT (no authentication: loopback only is wise)
    #[arg(short = 'H', long = "host", value_name = "URL")]
    hosts: Vec<String>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Address and port of the Kubernetes API
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443")]
    listen: SocketAddr,
    /// Also write the administrator's kubeconfig here
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
    /// What this node is called [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Return once the node is ready, and go on in the background
    #[arg(long)]
    detach: bool,
    /// Least severe messages to log: error, warn, info, debug, trace
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Leaves the caller's session, so that closing its terminal does not end the cluster
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs the command line after `wharf up`.
pub fn main(args: &[OsString]) -> i32 {
    let command: Command = match super::parse("wharf up", args) {
        Ok(command) => command,
        Err(code) => return code,
    };
    let done = if command.detach {
        detach(&command, args)
    } else {
        crate::daemon::log_to_stderr(&command.log_level);
        if command.detached {
            // Refused only to a process-group leader, which then has no terminal to lose.
            let _ = rustix::process::setsid();
        }
        crate::daemon::async_runtime()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(serve(command)))
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            crate::daemon::report("wharf up", error.as_ref());
            1
        }
    }
}

/// The same command in the background; returns once its node is ready.
fn detach(command: &Command, args: &[OsString]) -> Result<()> {
    let (_, run_root) = crate::daemon::folders(&command.engine)?;
    let mut all: Vec<OsString> = vec!["up".into(), "--detached".into()];
    all.extend(args.iter().filter(|arg| *arg != "--detach").cloned());
    crate::daemon::start_detached(&all, &run_root.join("cluster.log"))?;
    if let Some(place) = Place::read(&run_root)? {
        greet(&place);
    }
    Ok(())
}

async fn serve(command: Command) -> Result<()> {
    // No provider is installed yet, so this cannot fail in a way that matters.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (data_root, run_root) = crate::daemon::folders(&command.engine)?;
    let _lock = crate::daemon::lock(&data_root)?;
    let hosts = match command.hosts.as_slice() {
        [] => vec![DEFAULT_HOST.to_owned()],
        given => given.to_vec(),
    };
    let listeners = listen::bind(&hosts)?;
    let shutdown = crate::daemon::termination()?;
    let stop = CancellationToken::new();

    let rooms = crate::rooms::open(&command.engine, &data_root, &run_root).await?;
    let docker = rooms.docker.clone();
    let server = wharf_apiserver::Server::open(wharf_apiserver::Config {
        data_root: data_root.join("server"),
        listen: command.listen,
        datastore: wharf_apiserver::Datastore::Embedded,
        kubeconfig_out: command.kubeconfig_out.clone(),
    })
    .await?;
    let house = House {
        node: node_name(command.node_name.as_deref())?,
        data_root: &data_root,
        stop: stop.clone(),
    };
    let place = Place {
        pid: std::process::id().cast_signed(),
        address: server.address(),
        kubeconfig: command
            .kubeconfig_out
            .unwrap_or_else(|| server.kubeconfig()),
        node: house.node.clone(),
        hosts: hosts.clone(),
        data_root: data_root.clone(),
    };
    let cri = wharf_cri::Local::open(rooms.pods, rooms.docker.engine)
        .await
        .map_err(|status| status.message().to_owned())?;
    let mut tasks = compose::start(&house, server, cri)
        .await
        .map_err(super::local)?;
    tasks.spawn({
        let stop = stop.clone();
        async move {
            let served = wharf_docker_api::serve(docker, listeners, stop.cancelled_owned()).await;
            ("Docker's API", served.map_err(Into::into))
        }
    });
    announce(&place, &run_root)?;
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok((part, Ok(()))) => Err(format!("{part} has ended").into()),
            Ok((part, Err(error))) => Err(format!("{part}: {error}").into()),
            Err(panic) => Err(panic.into()),
        },
    };
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    listen::remove(&hosts);
    ended
}

/// Leaves word, tells whoever waits, and says how to go on.
fn announce(place: &Place, run_root: &Path) -> Result<()> {
    place.write(run_root)?;
    greet(place);
    crate::notify::ready();
    Ok(())
}

fn greet(place: &Place) {
    println!(
        "node {} is ready; the Kubernetes API listens on https://{}",
        place.node, place.address
    );
    println!(
        "try: kubectl --kubeconfig {} get nodes",
        place.kubeconfig.display()
    );
}

/// A node's name has to be a DNS name.
fn node_name(given: Option<&str>) -> Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .to_lowercase(),
    };
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(good) {
        return Ok(name);
    }
    Err(format!("{name:?} can't be a node's name: letters, digits, '-' and '.' only; give one with --node-name").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_are_names_of_dns() {
        assert_eq!(node_name(Some("one.example-1")).unwrap(), "one.example-1");
        for wrong in ["", "One", "a_b", "-a", "a..b", &"x".repeat(64)] {
            assert!(node_name(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
