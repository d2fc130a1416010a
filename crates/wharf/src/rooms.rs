//! Putting the rooms below the APIs together: images, network, engine, builder.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wharf_net::{Net, Subnet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the commands that own an engine share.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineArgs {
    /// Folder of everything that lasts: images, containers, volumes
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wharf")]
    pub data_root: PathBuf,
    /// Folder of what belongs to this boot: sockets, bundles, exit records
    #[arg(long, value_name = "DIR", default_value = "/run/wharf")]
    pub run_root: PathBuf,
    /// Registry asked first for images of docker.io
    #[arg(long, value_name = "URL")]
    pub registry_mirror: Vec<String>,
    /// Registry (HOST:PORT or CIDR) that may be reached over HTTP or with an unknown certificate
    #[arg(long, value_name = "HOST:PORT")]
    pub insecure_registry: Vec<String>,
    /// Registry that stands in for docker.io altogether: pull, push and login
    #[arg(long, value_name = "URL")]
    pub hub: Option<String>,
    /// Link name of the default bridge [default: wharf0, or wharf-… for another data root]
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// Address range of the default bridge [default: 172.17.0.0/16, or the next free one]
    #[arg(long, value_name = "CIDR", value_parser = parse_subnet)]
    pub bip: Option<Subnet>,
    /// Control group that containers' groups are made in
    #[arg(long, value_name = "NAME", default_value = "docker")]
    pub cgroup_parent: String,
    /// Name server for containers [default: the machine's]
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,
}

/// The rooms below the APIs.
pub struct Rooms {
    /// What Docker's API stands on.
    pub docker: wharf_docker_api::Api,
    /// Pods of an earlier run: their addresses are claimed, whether or not somebody runs them on.
    pub pods: wharf_cri::Pods,
}

/// Opens every room from the bottom up. Opening is recovering: each takes over what an earlier run left.
pub async fn open(args: &EngineArgs, data_root: &Path, run_root: &Path) -> Result<Rooms> {
    crate::embedded::install()
        .map_err(|e| format!("keep the supervisor's program in memory: {e}"))?;
    let instance = hex::encode(&Sha256::digest(data_root.as_os_str().as_encoded_bytes())[..3]);
    let registries = wharf_image::RegistryConfig {
        mirrors: args.registry_mirror.clone(),
        insecure: args.insecure_registry.clone(),
        hub: args.hub.clone(),
    };
    let image_root = data_root.join("image");
    let images =
        tokio::task::spawn_blocking(move || wharf_image::Images::open(&image_root, registries))
            .await??;
    let net = Net::open(&instance).await?;
    let default_subnet = match args.bip {
        Some(subnet) => subnet,
        None => default_subnet(data_root, &net).await?,
    };
    let default_bridge = args
        .bridge
        .clone()
        .unwrap_or_else(|| match data_root.to_str() {
            Some("/var/lib/wharf") => "wharf0".to_owned(),
            _ => format!("wharf-{instance}"),
        });
    let config = wharf_engine::Config {
        data_root: data_root.to_owned(),
        run_root: run_root.to_owned(),
        cgroup_parent: args.cgroup_parent.clone(),
        default_subnet,
        default_bridge,
        dns: args.dns.clone(),
    };
    let pods = wharf_cri::local::Options {
        data_root: data_root.to_owned(),
        run_root: run_root.to_owned(),
        bridge: match data_root.to_str() {
            Some("/var/lib/wharf") => "wharf-pods".to_owned(),
            _ => format!("wharfp-{instance}"),
        },
        pod_cidr: None,
    };
    let pods = wharf_cri::Pods::restore(pods, net.clone())
        .await
        .map_err(|status| status.message().to_owned())?;
    let engine = wharf_engine::Engine::open(config, images, net).await?;
    let builder = wharf_build::Builder::open(data_root.join("build"), engine.clone())?;
    let docker = wharf_docker_api::Api {
        engine,
        builder,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(Rooms { docker, pods })
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
}
