//! Networks: records of what was declared, and the bridges behind them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_net::{BridgeConfig, Subnet};

use crate::error_from::io;
use crate::record::write_whole;
use crate::spec::{IpamPool, NetworkSpec};
use crate::view::NetworkMember;
use crate::{Engine, Error, Kind, Labels, Network, Result, names};

/// Networks that are always there and can't be removed.
pub(crate) const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];

/// A network's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub id: String,
    pub created: Timestamp,
    pub spec: NetworkSpec,
    /// For networks with a bridge.
    pub bridge: Option<BridgeConfig>,
}

impl NetworkRecord {
    /// Names are resolved by the embedded server on networks of the user's own, not on the default one.
    pub fn has_dns(&self) -> bool {
        self.bridge.is_some() && self.spec.name != "bridge"
    }
}

/// All networks.
#[derive(Debug)]
pub(crate) struct Networks {
    root: PathBuf,
    by_id: RwLock<BTreeMap<String, NetworkRecord>>,
}

impl Networks {
    /// Loads the records.
    pub fn load(root: PathBuf) -> Result<Networks> {
        fs::create_dir_all(&root).map_err(io(format!("make {}", root.display())))?;
        let mut by_id = BTreeMap::new();
        for entry in fs::read_dir(&root)
            .map_err(io(format!("read {}", root.display())))?
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(io(format!("read {}", path.display())))?;
            let record: NetworkRecord =
                serde_json::from_slice(&bytes).map_err(io(format!("read {}", path.display())))?;
            by_id.insert(record.id.clone(), record);
        }
        Ok(Networks {
            root,
            by_id: RwLock::new(by_id),
        })
    }

    /// All records, by ID.
    pub fn all(&self) -> Vec<NetworkRecord> {
        self.by_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// By ID, name, or unique prefix of an ID.
    pub fn find(&self, wanted: &str) -> Result<NetworkRecord> {
        let wanted = if wanted == "default" {
            "bridge"
        } else {
            wanted
        };
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = by_id
            .get(wanted)
            .or_else(|| by_id.values().find(|r| r.spec.name == wanted))
        {
            return Ok(record.clone());
        }
        let mut fitting = by_id
            .range(wanted.to_owned()..)
            .take_while(|(id, _)| id.starts_with(wanted));
        match (wanted.is_empty(), fitting.next(), fitting.next()) {
            (false, Some((_, record)), None) => Ok(record.clone()),
            (false, Some(_), Some(_)) => Err(Error::new(
                Kind::InvalidParameter,
                format!("network {wanted} is ambiguous (several networks match this ID prefix)"),
            )),
            _ => Err(Error::new(
                Kind::NotFound,
                format!("network {wanted} not found"),
            )),
        }
    }

    /// Keeps a record.
    pub fn insert(&self, record: NetworkRecord) -> Result<()> {
        let path = self.path(&record.id);
        let bytes = serde_json::to_vec(&record).map_err(io("write a network's record"))?;
        write_whole(&path, &bytes, true).map_err(io(format!("write {}", path.display())))?;
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record.id.clone(), record);
        Ok(())
    }

    /// Forgets a record.
    pub fn remove(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(format!("remove {}", path.display()))(error));
            }
            _ => {}
        }
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.root.join(format!("{id}.json"))
    }
}

impl Engine {
    /// Makes those of the three networks that every engine has which are missing, then all bridges.
    pub(crate) async fn restore_networks(&self) -> Result<()> {
        for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
            if self
                .inner
                .networks
                .find(name)
                .is_err_and(|error| error.kind == Kind::NotFound)
            {
                let spec = NetworkSpec {
                    name: name.into(),
                    driver: driver.into(),
                    ipam_driver: "default".into(),
                    ..NetworkSpec::default()
                };
                let bridge = (name == "bridge")
                    .then(|| self.default_bridge())
                    .transpose()?;
                self.inner.networks.insert(new_record(spec, bridge)?)?;
            }
        }
        for record in self.inner.networks.all() {
            if let Some(bridge) = &record.bridge {
                self.inner.net.ensure_bridge(bridge).await?;
                let kept: Vec<IpAddr> = auxiliary(&record.spec);
                if !kept.is_empty() {
                    self.inner.net.keep_addresses(&bridge.bridge, &kept).await?;
                }
            }
        }
        Ok(())
    }

    fn default_bridge(&self) -> Result<BridgeConfig> {
        let config = &self.inner.config;
        bridge_of(
            config.default_bridge.clone(),
            config.default_subnet,
            None,
            None,
            &Labels::new(),
        )
    }

    /// Makes a network; returns it as made.
    pub async fn network_create(&self, mut spec: NetworkSpec) -> Result<Network> {
        names::check_network(&spec.name)?;
        let _one_at_a_time = self.inner.network_gate.lock().await;
        if self
            .inner
            .networks
            .all()
            .iter()
            .any(|record| record.spec.name == spec.name)
        {
            return Err(Error::new(
                Kind::Conflict,
                format!("network with name {} already exists", spec.name),
            ));
        }
        match spec.driver.as_str() {
            "" | "bridge" => spec.driver = "bridge".into(),
            "host" | "null" => {
                let message = format!(
                    "only one instance of \"{}\" network is allowed",
                    spec.driver
                );
                return Err(Error::new(Kind::Forbidden, message));
            }
            other => {
                let message = format!(
                    "could not find plugin {other} in v1 plugin registry: plugin not found"
                );
                return Err(Error::new(Kind::NotFound, message));
            }
        }
        let id = names::new_id()?;
        let bridge = self.plan_bridge(&mut spec, &id).await?;
        self.inner.net.ensure_bridge(&bridge).await?;
        let kept = auxiliary(&spec);
        if !kept.is_empty() {
            self.inner.net.keep_addresses(&bridge.bridge, &kept).await?;
        }
        let record = NetworkRecord {
            id,
            created: Timestamp::now(),
            spec,
            bridge: Some(bridge.clone()),
        };
        if let Err(error) = self.inner.networks.insert(record.clone()) {
            // Nobody knows of the network: its bridge goes again.
            let _ = self.inner.net.remove_bridge(&bridge.bridge).await;
            return Err(error);
        }
        self.network_event("create", &record, None);
        Ok(self.network_view(record))
    }

    /// Ranges as asked for, or free ones; written back, so that they are shown and stay.
    async fn plan_bridge(&self, spec: &mut NetworkSpec, id: &str) -> Result<BridgeConfig> {
        if spec.ipam.is_empty() {
            spec.ipam.push(IpamPool::default());
        }
        let mut v4 = None;
        let mut v6 = None;
        for pool in &mut spec.ipam {
            let planned = self.plan_pool(pool).await?;
            pool.subnet = planned.subnet.to_string();
            match (planned.subnet.address, planned.gateway) {
                (IpAddr::V4(_), _) => v4 = Some(planned),
                (IpAddr::V6(_), Some(IpAddr::V6(gateway))) => v6 = Some((planned.subnet, gateway)),
                (IpAddr::V6(first), _) => {
                    v6 = Some((planned.subnet, (u128::from(first) + 1).into()));
                }
            }
        }
        let pool = match v4 {
            Some(pool) => pool,
            None => self.plan_pool(&IpamPool::default()).await?,
        };
        let name = spec.options.get("com.docker.network.bridge.name").cloned();
        let name = name.unwrap_or_else(|| format!("br-{}", &id[..12]));
        let mut config = bridge_of(name, pool.subnet, pool.range, pool.gateway, &spec.options)?;
        config.subnet6 = v6;
        config.internal = spec.internal;
        let shown = pool.subnet.to_string();
        if let Some(pool) = spec.ipam.iter_mut().find(|pool| pool.subnet == shown) {
            pool.gateway = config.gateway.to_string();
        }
        Ok(config)
    }

    async fn plan_pool(&self, pool: &IpamPool) -> Result<Pool> {
        let invalid = |what: &str, text: &str| {
            Error::new(Kind::InvalidParameter, format!("invalid {what}: {text}"))
        };
        let range = |text: &str| -> Result<Subnet> {
            text.parse().map_err(|_| invalid("CIDR address", text))
        };
        let subnet = match pool.subnet.as_str() {
            "" => self.inner.net.free_subnet().await?,
            text => {
                let subnet = range(text)?;
                self.inner.net.check_subnet(subnet).await?;
                subnet
            }
        };
        let gateway = match pool.gateway.as_str() {
            "" => None,
            text => Some(
                text.parse::<IpAddr>()
                    .map_err(|_| invalid("gateway address", text))?,
            ),
        };
        if let Some(gateway) = gateway.filter(|gateway| !subnet.contains(*gateway)) {
            let message = format!("no matching subnet for gateway {gateway}");
            return Err(Error::new(Kind::InvalidParameter, message));
        }
        let range = match pool.ip_range.as_str() {
            "" => None,
            text => Some(range(text)?),
        };
        Ok(Pool {
            subnet,
            range,
            gateway,
        })
    }

    /// By ID, name or unique ID prefix.
    pub fn network(&self, network: &str) -> Result<Network> {
        Ok(self.network_view(self.inner.networks.find(network)?))
    }

    /// All networks, `bridge`, `host` and `none` included.
    pub fn networks(&self) -> Vec<Network> {
        self.inner
            .networks
            .all()
            .into_iter()
            .map(|record| self.network_view(record))
            .collect()
    }

    /// Removes a network without endpoints.
    pub async fn network_remove(&self, network: &str) -> Result<()> {
        let record = self.inner.networks.find(network)?;
        if BUILT_IN.contains(&record.spec.name.as_str()) {
            let message = format!(
                "{} is a pre-defined network and cannot be removed",
                record.spec.name
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        let members = self.network_view(record.clone()).containers;
        if !members.is_empty() {
            let message = format!(
                "error while removing network: network {} id {} has active endpoints",
                record.spec.name, record.id
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        if let Some(bridge) = &record.bridge {
            self.inner.net.remove_bridge(&bridge.bridge).await?;
        }
        self.inner.networks.remove(&record.id)?;
        self.network_event("destroy", &record, None);
        Ok(())
    }

    /// Removes unused user-defined networks; returns their names.
    pub async fn prune_networks(
        &self,
        keep: &(dyn Fn(&Network) -> bool + Sync),
    ) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks() {
            let name = &network.spec.name;
            let used = self
                .inner
                .containers
                .all()
                .iter()
                .any(|entry| entry.record().networks.contains_key(name));
            if BUILT_IN.contains(&name.as_str())
                || used
                || !network.containers.is_empty()
                || keep(&network)
            {
                continue;
            }
            self.network_remove(&network.id).await?;
            removed.push(network.spec.name);
        }
        Ok(removed)
    }

    pub(crate) fn network_view(&self, record: NetworkRecord) -> Network {
        let mut containers = BTreeMap::new();
        for entry in self.inner.containers.all() {
            let container = entry.record();
            let attached = container
                .networks
                .values()
                .find(|a| a.network_id == record.id);
            if let Some((attachment, endpoint)) =
                attached.and_then(|a| Some((a, a.endpoint.clone()?)))
                && container.is_live()
            {
                let member = NetworkMember {
                    name: container.name.clone(),
                    endpoint_id: attachment.endpoint_id.clone(),
                    endpoint,
                };
                containers.insert(container.id.clone(), member);
            }
        }
        let mut spec = record.spec;
        if let (Some(bridge), true) = (&record.bridge, spec.ipam.is_empty()) {
            spec.ipam.push(IpamPool {
                subnet: bridge.subnet.to_string(),
                gateway: bridge.gateway.to_string(),
                ..IpamPool::default()
            });
        }
        Network {
            id: record.id,
            created: record.created,
            spec,
            scope: "local".into(),
            containers,
        }
    }

    pub(crate) fn network_event(
        &self,
        action: &str,
        record: &NetworkRecord,
        container: Option<&str>,
    ) {
        let mut attributes = Labels::from([
            ("name".to_owned(), record.spec.name.clone()),
            ("type".to_owned(), record.spec.driver.clone()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
        self.emit("network", action, &record.id, attributes);
    }
}

/// A range, decided on.
struct Pool {
    subnet: Subnet,
    range: Option<Subnet>,
    gateway: Option<IpAddr>,
}

fn new_record(spec: NetworkSpec, bridge: Option<BridgeConfig>) -> Result<NetworkRecord> {
    Ok(NetworkRecord {
        id: names::new_id()?,
        created: Timestamp::now(),
        spec,
        bridge,
    })
}

/// A bridge with its gateway at the first address unless told otherwise.
fn bridge_of(
    bridge: String,
    subnet: Subnet,
    ip_range: Option<Subnet>,
    gateway: Option<IpAddr>,
    options: &Labels,
) -> Result<BridgeConfig> {
    let IpAddr::V4(first) = subnet.address else {
        return Err(Error::new(
            Kind::InvalidParameter,
            format!("{subnet} is not an IPv4 range"),
        ));
    };
    let gateway = match gateway {
        Some(IpAddr::V4(gateway)) => gateway,
        _ => Ipv4Addr::from(u32::from(first) + 1),
    };
    let flag = |key: &str, default: bool| options.get(key).map_or(default, |value| value == "true");
    Ok(BridgeConfig {
        bridge,
        subnet,
        ip_range,
        gateway,
        subnet6: None,
        internal: false,
        inter_container: flag("com.docker.network.bridge.enable_icc", true),
        masquerade: flag("com.docker.network.bridge.enable_ip_masquerade", true),
        mtu: options
            .get("com.docker.network.driver.mtu")
            .and_then(|mtu| mtu.parse().ok()),
    })
}

fn auxiliary(spec: &NetworkSpec) -> Vec<IpAddr> {
    spec.ipam
        .iter()
        .flat_map(|pool| pool.aux_addresses.values())
        .filter_map(|text| text.parse().ok())
        .collect()
}
