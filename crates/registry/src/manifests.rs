//! Manifests: what is pushed is checked, linked, tagged; what refers to another manifest is listed with it
//! (distribution-spec, "Pushing manifests", "Listing referrers").

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use wharf_blob::{Digest, Durability};

use crate::Registry;
use crate::error::{Outcome, Refusal};
use crate::request::{Query, empty, header_value, json as json_response, with_body};
use crate::route::Reference;

/// Largest manifest taken (distribution-spec asks for 4 MiB at least).
pub const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Layers that a registry need not hold: their bytes lie elsewhere.
const FOREIGN: &[&str] = &[
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];

/// `GET` and `HEAD …/manifests/REFERENCE`.
pub fn get(registry: &Registry, name: &str, reference: &Reference, head: bool) -> Outcome {
    let (digest, media_type) = find(registry, name, reference)?;
    let bytes = registry.storage.blobs.read(&digest, MANIFEST_BYTES_MAX)?;
    let facts = [
        (header::CONTENT_LENGTH, bytes.len().to_string()),
        (header::CONTENT_TYPE, media_type),
        (header::ETAG, format!("\"{digest}\"")),
    ];
    let body = if head {
        Body::empty()
    } else {
        Body::from(bytes)
    };
    let mut response = with_body(StatusCode::OK, &facts, body)?;
    response
        .headers_mut()
        .insert("docker-content-digest", header_value(digest.as_str())?);
    Ok(response)
}

fn find(registry: &Registry, name: &str, reference: &Reference) -> Outcome<(Digest, String)> {
    let digest = match reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(tag) => registry
            .storage
            .tag(name, tag)
            .ok_or_else(|| Refusal::manifest_unknown(tag))?,
    };
    match registry.storage.media_type(name, &digest) {
        Some(media_type) => Ok((digest, media_type)),
        None => Err(Refusal::manifest_unknown(digest.as_str())),
    }
}

/// `PUT …/manifests/REFERENCE`.
pub async fn put(
    registry: Arc<Registry>,
    name: String,
    reference: Reference,
    headers: HeaderMap,
    body: Body,
) -> Outcome {
    let bytes = match Limited::new(body, MANIFEST_BYTES_MAX as usize)
        .collect()
        .await
    {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Refusal::manifest_too_large(MANIFEST_BYTES_MAX));
        }
        Err(error) => {
            return Err(Refusal::manifest_invalid(format!(
                "the manifest broke off: {error}"
            )));
        }
    };
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    crate::blocking(move || {
        store(
            &registry,
            &name,
            &reference,
            content_type.as_deref(),
            &bytes,
        )
    })
    .await
}

fn store(
    registry: &Registry,
    name: &str,
    reference: &Reference,
    content_type: Option<&str>,
    bytes: &[u8],
) -> Outcome {
    let manifest = Manifest::parse(content_type, bytes)?;
    let storage = &registry.storage;
    let lease = storage.blobs.lease();
    manifest.check_references(registry, name, &lease)?;
    let digest = match reference {
        // Algorithms other than SHA-256 are known only from what the client asked for.
        Reference::Digest(expected) => {
            let mut ingest = storage
                .blobs
                .ingest(&format!("manifest-{}", expected.hex()), Default::default())?;
            ingest.reset()?;
            ingest.append(bytes)?;
            ingest.commit_as(expected, Durability::Now, &lease)?
        }
        Reference::Tag(_) => storage.blobs.put(bytes, Durability::Now, &lease)?,
    };
    storage.link_manifest(name, &digest, &manifest.media_type)?;
    if let Some(subject) = &manifest.subject {
        let descriptor = manifest.descriptor(&digest, bytes.len()).to_string();
        storage.add_referrer(name, subject, &digest, descriptor.as_bytes())?;
    }
    if let Reference::Tag(tag) = reference {
        storage.set_tag(name, tag, &digest)?;
    }
    let mut response = empty(
        StatusCode::CREATED,
        &[(header::LOCATION, format!("/v2/{name}/manifests/{digest}"))],
    )?;
    response
        .headers_mut()
        .insert("docker-content-digest", header_value(digest.as_str())?);
    if let Some(subject) = &manifest.subject {
        response
            .headers_mut()
            .insert("oci-subject", header_value(subject.as_str())?);
    }
    Ok(response)
}

/// `DELETE …/manifests/REFERENCE`: a tag alone, or a manifest with all its tags.
pub fn delete(registry: &Registry, name: &str, reference: &Reference) -> Outcome {
    let storage = &registry.storage;
    let gone = match reference {
        Reference::Tag(tag) => storage.untag(name, tag)?,
        Reference::Digest(digest) => {
            if storage.media_type(name, digest).is_some() {
                let bytes = storage.blobs.read(digest, MANIFEST_BYTES_MAX)?;
                let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                if let Some(subject) = manifest["subject"]["digest"]
                    .as_str()
                    .and_then(|d| Digest::parse(d).ok())
                {
                    storage.remove_referrer(name, &subject, digest)?;
                }
            }
            storage.unlink_manifest(name, digest)?
        }
    };
    if gone {
        empty(StatusCode::ACCEPTED, &[])
    } else {
        Err(Refusal::manifest_unknown("nothing was deleted"))
    }
}

/// `GET …/referrers/DIGEST`: an index of the manifests whose subject it is.
pub fn referrers(
    registry: &Registry,
    name: &str,
    subject: &Digest,
    query: &Query,
) -> Outcome<Response<Body>> {
    let wanted = query.get("artifactType");
    let mut manifests = Vec::new();
    for bytes in registry.storage.referrers(name, subject)? {
        let descriptor: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if wanted.is_none_or(|wanted| descriptor["artifactType"] == wanted) {
            manifests.push(descriptor);
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
    let mut response = json_response(&[(header::CONTENT_TYPE, INDEX_TYPE.to_owned())], &index)?;
    if wanted.is_some() {
        response
            .headers_mut()
            .insert("oci-filters-applied", header_value("artifactType")?);
    }
    Ok(response)
}

/// The parts of a manifest or an index that concern a registry.
#[derive(Debug)]
struct Manifest {
    media_type: String,
    artifact_type: Option<String>,
    annotations: Option<Value>,
    subject: Option<Digest>,
    /// Configuration and layers.
    blobs: Vec<Digest>,
    /// Of an index.
    manifests: Vec<Digest>,
}

impl Manifest {
    fn parse(content_type: Option<&str>, bytes: &[u8]) -> Outcome<Manifest> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|e| Refusal::manifest_invalid(format!("the manifest is not JSON: {e}")))?;
        if !value.is_object() {
            return Err(Refusal::manifest_invalid(
                "the manifest is not a JSON object",
            ));
        }
        let stated = value["mediaType"].as_str();
        let content_type = content_type
            .map(|t| t.split(';').next().unwrap_or(t).trim())
            .filter(|t| !t.is_empty());
        if let (Some(stated), Some(sent)) = (stated, content_type)
            && stated != sent
        {
            let message = format!("the manifest says it is {stated:?}, but was sent as {sent:?}");
            return Err(Refusal::manifest_invalid(message));
        }
        let guessed = if value.get("manifests").is_some() {
            INDEX_TYPE
        } else {
            MANIFEST_TYPE
        };
        let is_foreign = |layer: &&Value| {
            layer["mediaType"]
                .as_str()
                .is_some_and(|t| FOREIGN.contains(&t))
        };
        let layers = list(&value, "layers");
        let blobs: Vec<&Value> = value
            .get("config")
            .into_iter()
            .chain(layers.iter().filter(|layer| !is_foreign(layer)))
            .collect();
        let artifact_type = value["artifactType"]
            .as_str()
            .or(value["config"]["mediaType"].as_str());
        Ok(Manifest {
            media_type: content_type.or(stated).unwrap_or(guessed).to_owned(),
            artifact_type: artifact_type.map(str::to_owned),
            annotations: value.get("annotations").cloned(),
            subject: value
                .get("subject")
                .filter(|s| !s.is_null())
                .map(digest_of)
                .transpose()?,
            blobs: blobs.into_iter().map(digest_of).collect::<Outcome<_>>()?,
            manifests: list(&value, "manifests")
                .iter()
                .map(digest_of)
                .collect::<Outcome<_>>()?,
        })
    }

    /// Everything named must be here, else a pull would fail half-way. A subject may come later.
    fn check_references(
        &self,
        registry: &Registry,
        name: &str,
        lease: &wharf_blob::Lease,
    ) -> Outcome<()> {
        for digest in &self.blobs {
            lease.hold(digest)?;
            if !registry.storage.has_blob(name, digest) {
                return Err(Refusal::manifest_blob_unknown(digest.as_str()));
            }
        }
        for digest in &self.manifests {
            lease.hold(digest)?;
            if registry.storage.media_type(name, digest).is_none() {
                return Err(Refusal::manifest_blob_unknown(digest.as_str()));
            }
        }
        Ok(())
    }

    fn descriptor(&self, digest: &Digest, size_bytes: usize) -> Value {
        let mut descriptor =
            json!({"mediaType": self.media_type, "digest": digest.as_str(), "size": size_bytes});
        if let Some(artifact_type) = &self.artifact_type {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if let Some(annotations) = &self.annotations {
            descriptor["annotations"] = annotations.clone();
        }
        descriptor
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn digest_of(descriptor: &Value) -> Outcome<Digest> {
    let text = descriptor["digest"].as_str().unwrap_or_default();
    Digest::parse(text)
        .map_err(|e| Refusal::manifest_invalid(format!("a descriptor of the manifest: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_manifest_names_what_it_needs() {
        let text = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/x", "digest": DIGEST, "size": 0},
            "layers": [{"mediaType": FOREIGN[0], "digest": DIGEST, "size": 0}],
            "subject": {"digest": DIGEST},
        })
        .to_string();
        let manifest = Manifest::parse(Some(MANIFEST_TYPE), text.as_bytes()).unwrap();
        assert_eq!(manifest.blobs.len(), 1, "a foreign layer is not asked for");
        assert_eq!(manifest.artifact_type.as_deref(), Some("application/x"));
        assert_eq!(manifest.subject.unwrap().as_str(), DIGEST);
    }

    #[test]
    fn malformed_manifests_are_refused() {
        assert!(Manifest::parse(None, b"{").is_err());
        assert!(Manifest::parse(None, b"[]").is_err());
        assert!(
            Manifest::parse(
                Some(INDEX_TYPE),
                format!("{{\"mediaType\":\"{MANIFEST_TYPE}\"}}").as_bytes()
            )
            .is_err()
        );
        assert!(Manifest::parse(None, br#"{"layers":[{"digest":"sha256:x"}]}"#).is_err());
    }
}
