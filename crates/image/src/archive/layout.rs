//! Files of image archives: Docker's `manifest.json` and what it points to, OCI's layout beside it.

use serde::{Deserialize, Serialize};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const INDEX: &str = "index.json";
pub(super) const OCI_LAYOUT: &str = "oci-layout";
pub(super) const OCI_LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Name of an image in an index: the tag alone by the specification, the whole name by containerd's custom.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";

/// One image of `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// Where a blob is in the archive.
pub(super) fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}
