//! `wharf status`: what of the cluster on this machine is up, in a glance.

use std::ffi::OsString;

use clap::Parser;

use super::Result;
use super::place::Place;
use crate::rooms::EngineArgs;

/// Show what of the cluster on this machine is up
#[derive(Debug, Parser)]
#[command(name = "wharf status")]
struct Command {
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command line after `wharf status`: 0 if the cluster is up, 3 if not.
pub fn main(args: &[OsString]) -> i32 {
    let command: Command = match super::parse("wharf status", args) {
        Ok(command) => command,
        Err(code) => return code,
    };
    match show(&command.engine) {
        Ok(true) => 0,
        Ok(false) => 3,
        Err(error) => {
            crate::daemon::report("wharf status", error.as_ref());
            1
        }
    }
}

fn show(args: &EngineArgs) -> Result<bool> {
    let (_, run_root) = crate::daemon::folders(args)?;
    let Some(place) = Place::read(&run_root)? else {
        println!("no cluster: start one with `wharf up`");
        return Ok(false);
    };
    if place.process().is_none() {
        println!(
            "the cluster's process has ended; its pods go on: take them over with `wharf up`, or end them with `wharf down`"
        );
        return Ok(false);
    }
    println!("cluster     up, process {}", place.pid);
    println!("node        {}", place.node);
    println!("Kubernetes  https://{}", place.address);
    println!("kubeconfig  {}", place.kubeconfig.display());
    for host in &place.hosts {
        println!("Docker      {host}");
    }
    println!("data        {}", place.data_root.display());
    Ok(true)
}
