//! Files of a volume that come from the API: ConfigMaps, Secrets, fields of the pod, tokens.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use serde_json::json;
use wharf_client::{Resource, Target};

use super::atomic::File;
use crate::environment::{Facts, field, resource};
use crate::objects::Used;
use crate::part;

const ACCOUNTS: Resource = Resource::new("", "v1", "serviceaccounts");
const MODE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

type Files = BTreeMap<String, File>;

/// The name of the type in paths, and whether it lies in memory only.
pub(super) fn kind(volume: &Volume) -> Option<(&'static str, bool)> {
    if volume.config_map.is_some() {
        Some(("configmap", false))
    } else if volume.secret.is_some() {
        Some(("secret", true))
    } else if volume.downward_api.is_some() {
        Some(("downward-api", false))
    } else if volume.projected.is_some() {
        Some(("projected", true))
    } else {
        None
    }
}

/// The files as they should be now.
pub(super) async fn make(
    facts: &Facts<'_>,
    used: &mut Used,
    pod: &Pod,
    volume: &Volume,
    refresh_at: &mut Option<Timestamp>,
) -> Result<Files, String> {
    let mut maker = Maker {
        facts,
        used,
        pod,
        refresh_at,
        files: Files::new(),
        mode: MODE,
    };
    if let Some(of) = &volume.config_map {
        maker.mode = of.default_mode.unwrap_or(MODE);
        maker
            .config_map(&of.name, of.items.as_deref(), of.optional == Some(true))
            .await?;
    } else if let Some(of) = &volume.secret {
        maker.mode = of.default_mode.unwrap_or(MODE);
        let name = of.secret_name.as_deref().unwrap_or_default();
        maker
            .secret(name, of.items.as_deref(), of.optional == Some(true))
            .await?;
    } else if let Some(of) = &volume.downward_api {
        maker.mode = of.default_mode.unwrap_or(MODE);
        maker.fields(of.items.as_deref().unwrap_or_default())?;
    } else if let Some(of) = &volume.projected {
        maker.mode = of.default_mode.unwrap_or(MODE);
        for source in of.sources.iter().flatten() {
            maker.projection(source).await?;
        }
    }
    Ok(maker.files)
}

struct Maker<'a, 'b> {
    facts: &'a Facts<'b>,
    used: &'a mut Used,
    pod: &'a Pod,
    refresh_at: &'a mut Option<Timestamp>,
    files: Files,
    mode: i32,
}

impl Maker<'_, '_> {
    fn put(&mut self, path: &str, bytes: Vec<u8>, mode: Option<i32>) {
        let mode = u32::try_from(mode.unwrap_or(self.mode)).unwrap_or(0o644);
        let file = File {
            bytes,
            mode,
            user: None,
        };
        self.files.insert(path.to_owned(), file);
    }

    async fn projection(&mut self, source: &VolumeProjection) -> Result<(), String> {
        if let Some(of) = &source.config_map {
            self.config_map(&of.name, of.items.as_deref(), of.optional == Some(true))
                .await?;
        }
        if let Some(of) = &source.secret {
            self.secret(&of.name, of.items.as_deref(), of.optional == Some(true))
                .await?;
        }
        if let Some(of) = &source.downward_api {
            self.fields(of.items.as_deref().unwrap_or_default())?;
        }
        if let Some(of) = &source.service_account_token {
            self.token(of).await?;
        }
        match source.cluster_trust_bundle.is_some() || source.pod_certificate.is_some() {
            true => Err(
                "bundles of trust and certificates of pods are not offered by this node".to_owned(),
            ),
            false => Ok(()),
        }
    }

    async fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<(), String> {
        let namespace = part::namespace(self.pod);
        match self
            .used
            .config_map(&self.facts.node.objects, namespace, name)
            .await
        {
            Some(map) => self.chosen("configmap", &of_map(&map), items, optional),
            None if optional => Ok(()),
            None => Err(format!("configmap {name:?} not found")),
        }
    }

    async fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<(), String> {
        let namespace = part::namespace(self.pod);
        match self
            .used
            .secret(&self.facts.node.objects, namespace, name)
            .await
        {
            Some(secret) => self.chosen("secret", &of_secret(&secret), items, optional),
            None if optional => Ok(()),
            None => Err(format!("secret {name:?} not found")),
        }
    }

    fn chosen(
        &mut self,
        kind: &str,
        data: &BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, bytes) in data {
                self.put(key, bytes.clone(), None);
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => self.put(&item.path, bytes.clone(), item.mode),
                None if optional => {}
                None => {
                    return Err(format!(
                        "{kind} references non-existent {kind} key: {}",
                        item.key
                    ));
                }
            }
        }
        Ok(())
    }

    fn fields(&mut self, items: &[DownwardAPIVolumeFile]) -> Result<(), String> {
        for item in items {
            let text = if let Some(of) = &item.field_ref {
                field(self.facts, self.pod, &of.field_path)?
            } else if let Some(of) = &item.resource_field_ref {
                let name = of.container_name.as_deref().unwrap_or_default();
                let found = part::parts(self.pod)
                    .into_iter()
                    .find(|part| part.name() == name);
                let found = found.ok_or_else(|| format!("container {name:?} not found"))?;
                let divisor = of.divisor.as_ref().map(|divisor| divisor.0.as_str());
                resource(self.facts.node, &found.container, &of.resource, divisor)?
            } else {
                continue;
            };
            self.put(&item.path, text.into_bytes(), item.mode);
        }
        Ok(())
    }

    /// A token bound to the pod, made anew after four fifths of its life.
    async fn token(&mut self, of: &ServiceAccountTokenProjection) -> Result<(), String> {
        let seconds = of.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let audience = of.audience.clone().unwrap_or_default();
        let key = (audience.clone(), seconds);
        let now = Timestamp::now();
        let known = self
            .used
            .tokens
            .get(&key)
            .filter(|(_, renewal)| now < *renewal)
            .cloned();
        let (token, renewal) = match known {
            Some(known) => known,
            None => {
                let token = self.request(&audience, seconds).await?;
                let life = SignedDuration::from_secs(seconds * 4 / 5);
                let made = (token, now.checked_add(life).unwrap_or(now));
                self.used.tokens.insert(key, made.clone());
                made
            }
        };
        let sooner = self.refresh_at.is_none_or(|at| renewal < at);
        if sooner {
            *self.refresh_at = Some(renewal);
        }
        // Only its reader may read it: the group of the volumes, or the one user that the pod runs as.
        let context = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.clone());
        let context = context.unwrap_or_default();
        let user = only_user(self.pod);
        let mode = match (context.fs_group, user) {
            (Some(_), _) | (None, Some(_)) => 0o600,
            (None, None) => self.mode,
        };
        self.put(&of.path, token.into_bytes(), Some(mode));
        if let Some(file) = self.files.get_mut(&of.path) {
            file.user = user;
        }
        Ok(())
    }

    async fn request(&self, audience: &str, seconds: i64) -> Result<String, String> {
        let spec = self.pod.spec.as_ref();
        let account = spec
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        let audiences: Vec<&str> = Some(audience)
            .into_iter()
            .filter(|one| !one.is_empty())
            .collect();
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "audiences": audiences, "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": part::name(self.pod),
                "uid": part::uid(self.pod)}}});
        let target = Target::new(ACCOUNTS, part::namespace(self.pod), account);
        let answer = self
            .facts
            .node
            .api
            .create(target.with_subresource("token"), request)
            .await;
        let answer = answer.map_err(|error| format!("failed to fetch token: {error}"))?;
        let token = answer["status"]["token"].as_str();
        token
            .map(str::to_owned)
            .ok_or_else(|| "the server's token is none".to_owned())
    }
}

/// The user that all containers run as, if it is one.
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let mut users = containers.map(|container| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|context| context.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}

fn of_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    text.chain(binary).collect()
}

fn of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.iter().flatten();
    data.map(|(key, bytes)| (key.clone(), bytes.0.clone()))
        .collect()
}
