//! Manifests, indexes and configurations: media types, lenient parsing, choosing a platform.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// More layers than this no image has (Docker's own limit is 127).
pub(crate) const LAYERS_MAX: usize = 500;
/// Larger manifests are refused unread (distribution-spec recommends at least 4 MiB).
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Larger configurations are refused unread.
pub(crate) const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// What is asked for when a manifest is fetched.
pub(crate) const ACCEPT: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

/// Content descriptor (image-spec, "OCI Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What an image runs on (image-spec, "platform").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go names it: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// As Go names it: `linux`.
    #[serde(default)]
    pub os: String,
    /// Of the processor: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

/// What a reference leads to.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Parses a manifest or index. One that could be read as both is refused: two readers would see two images.
pub(crate) fn parse(bytes: &[u8], content_type: &str) -> Result<Document> {
    let invalid = |why: &str| Error::Invalid(format!("malformed manifest: {why}"));
    let value: Value = serde_json::from_slice(bytes).map_err(|e| invalid(&e.to_string()))?;
    let has = |key: &str| value.get(key).is_some();
    if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(invalid(
            "schema version 1 is no longer supported; push the image again with a newer tool",
        ));
    }
    if has("manifests") && (has("layers") || has("config")) {
        return Err(invalid("it is an image and an index at once"));
    }
    let stated = value
        .get("mediaType")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if !stated.is_empty() && ACCEPT.contains(&content_type) && stated != content_type {
        return Err(invalid(&format!(
            "it says {stated}, but was sent as {content_type}"
        )));
    }
    if has("manifests") {
        return serde_json::from_value(value)
            .map(Document::Index)
            .map_err(|e| invalid(&e.to_string()));
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|e| invalid(&e.to_string()))?;
    if manifest.layers.len() > LAYERS_MAX {
        return Err(invalid(&format!(
            "{} layers, at most {LAYERS_MAX} are accepted",
            manifest.layers.len()
        )));
    }
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        wharf_blob::Digest::parse(&descriptor.digest)?;
    }
    Ok(Document::Manifest(manifest))
}

/// Media type of a manifest's or index's bytes, where nothing else says it.
pub(crate) fn media_type_of(document: &Document) -> &str {
    let (stated, default) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, OCI_MANIFEST),
        Document::Index(index) => (&index.media_type, OCI_INDEX),
    };
    if stated.is_empty() { default } else { stated }
}

/// `OS[/ARCH[/VARIANT]]` or `ARCH`, completed with this machine's.
pub(crate) fn parse_platform(text: Option<&str>) -> Result<Platform> {
    let mut platform = Platform {
        architecture: host_architecture().to_owned(),
        os: "linux".to_owned(),
        variant: None,
    };
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(platform);
    };
    let parts: Vec<&str> = text.split('/').collect();
    let fine = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    if parts.len() > 3 || !parts.iter().all(fine) {
        return Err(Error::Invalid(format!(
            "{text:?}: invalid platform; expected OS/ARCHITECTURE[/VARIANT], such as linux/amd64"
        )));
    }
    match parts.as_slice() {
        [one] if matches!(*one, "linux" | "windows" | "darwin" | "freebsd") => {
            platform.os = (*one).to_owned()
        }
        [one] => platform.architecture = (*one).to_owned(),
        [os, architecture, rest @ ..] => {
            (platform.os, platform.architecture) = ((*os).to_owned(), (*architecture).to_owned());
            platform.variant = rest.first().map(|variant| (*variant).to_owned());
        }
        [] => {}
    }
    let (architecture, variant) = match platform.architecture.as_str() {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "i386" | "i686" => ("386", None),
        other => (other, None),
    };
    platform.variant = platform.variant.or(variant.map(str::to_owned));
    platform.architecture = architecture.to_owned();
    Ok(platform)
}

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The entry of an index that fits best.
pub(crate) fn select<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor> {
    let fitting = index.manifests.iter().filter_map(|entry| {
        let platform = entry.platform.as_ref()?;
        if platform.os != wanted.os || platform.architecture != wanted.architecture {
            return None;
        }
        Some((rank(wanted, platform.variant.as_deref())?, entry))
    });
    // The first of equals, as Docker takes it.
    let best = fitting
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry);
    // An index of one image that doesn't say what for (some archives).
    let only = match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    best.or(only).ok_or_else(|| {
        let variant = wanted
            .variant
            .as_ref()
            .map(|variant| format!("/{variant}"))
            .unwrap_or_default();
        let platform = format!("{}/{}{variant}", wanted.os, wanted.architecture);
        Error::RegistryNotFound(format!(
            "no matching manifest for {platform} in the manifest list entries"
        ))
    })
}

/// How far a variant is from the wanted one; `None`: does not run.
fn rank(wanted: &Platform, variant: Option<&str>) -> Option<u32> {
    let level = |text: Option<&str>, default: u32| -> Option<u32> {
        text.map_or(Some(default), |text| {
            text.strip_prefix('v')
                .and_then(|digits| digits.parse().ok())
        })
    };
    let default = match wanted.architecture.as_str() {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    };
    let (wanted, offered) = (
        level(wanted.variant.as_deref(), default)?,
        level(variant, default)?,
    );
    wanted.checked_sub(offered)
}

/// Parses a configuration; what old builders left out or set to null is completed.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration> {
    if let Ok(config) = serde_json::from_slice(bytes) {
        return Ok(config);
    }
    let invalid =
        |e: serde_json::Error| Error::Invalid(format!("malformed image configuration: {e}"));
    let mut value: Value = serde_json::from_slice(bytes).map_err(invalid)?;
    drop_nulls(&mut value);
    if let Some(object) = value.as_object_mut() {
        for (key, default) in [("architecture", host_architecture()), ("os", "linux")] {
            let there = object
                .get(key)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty());
            if !there {
                object.insert(key.to_owned(), default.into());
            }
        }
        let rootfs = object
            .entry("rootfs")
            .or_insert_with(|| serde_json::json!({"type": "layers"}));
        if let Some(rootfs) = rootfs.as_object_mut() {
            rootfs
                .entry("diff_ids")
                .or_insert_with(|| Value::Array(Vec::new()));
        }
    }
    serde_json::from_value(value).map_err(invalid)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(array) => array.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let name = format!("{os}/{architecture}/{}", variant.unwrap_or_default());
        Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: wharf_blob::Digest::of(name.as_bytes()).to_string(),
            size: 1,
            annotations: None,
            platform: Some(Platform {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
                variant: variant.map(str::to_owned),
            }),
        }
    }

    #[test]
    fn selects_what_runs() {
        let manifests = vec![
            entry("unknown", "unknown", None),
            entry("windows", "amd64", None),
            entry("linux", "arm", Some("v5")),
            entry("linux", "arm", Some("v6")),
            entry("linux", "arm64", Some("v8")),
            entry("linux", "amd64", Some("v3")),
            entry("linux", "amd64", None),
        ];
        let index = Index {
            schema_version: 2,
            media_type: String::new(),
            manifests,
        };
        let table = [
            ("linux/amd64", Some(6)),
            ("linux/amd64/v3", Some(5)),
            ("linux/amd64/v2", Some(6)),
            ("linux/arm/v7", Some(3)),
            ("linux/arm/v5", Some(2)),
            ("arm64", Some(4)),
            ("linux/aarch64", Some(4)),
            ("linux/s390x", None),
        ];
        for (platform, expected) in table {
            let wanted = parse_platform(Some(platform)).unwrap();
            let selected = select(&index, &wanted)
                .ok()
                .map(|entry| entry.digest.clone());
            assert_eq!(
                selected,
                expected.map(|i: usize| index.manifests[i].digest.clone()),
                "{platform}"
            );
        }
        assert!(
            parse_platform(Some("a/b/c/d")).is_err() && parse_platform(Some("linux//x")).is_err()
        );
    }

    #[test]
    fn refuses_ambiguous_manifests() {
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{"digest":"sha256:00","size":1}}"#;
        assert!(parse(both, "").unwrap_err().to_string().contains("at once"));
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        assert!(parse(index.as_bytes(), OCI_MANIFEST).is_err());
        assert!(matches!(
            parse(index.as_bytes(), OCI_INDEX),
            Ok(Document::Index(_))
        ));
        assert!(
            parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, "")
                .unwrap_err()
                .to_string()
                .contains("version 1")
        );
        let escape =
            br#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#;
        assert!(parse(escape, "").is_err());
    }

    #[test]
    fn completes_sparse_configurations() {
        let config = parse_config(
            br#"{"config":null,"created":null,"rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        assert!(config.rootfs().diff_ids().is_empty());
        assert!(parse_config(b"[]").is_err());
    }
}
