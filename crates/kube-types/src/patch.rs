//! Patches: RFC 6902 (JSON patch), RFC 7386 (merge patch) and Kubernetes' strategic merge patch.

use serde_json::Value;

use crate::schema::Schema;

/// Why a patch can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is no patch: answer 400.
    #[error("{0}")]
    Malformed(String),
    /// The object isn't what the patch expects: answer 422.
    #[error("{0}")]
    Unfit(String),
    /// The patch or its result is over a bound: answer 413.
    #[error("{0}")]
    TooLarge(String),
}

/// Applies a JSON patch: at most 10,000 operations.
///
/// # Errors
/// The patch is malformed, or an operation fails; the object is then unchanged.
pub fn json_patch(_object: &mut Value, _patch: &Value) -> Result<(), PatchError> {
    Err(PatchError::Malformed("not yet".to_owned()))
}

/// Applies a merge patch.
pub fn merge_patch(_object: &mut Value, _patch: &Value) {}

/// Applies a strategic merge patch by the schema's patch strategies and merge keys.
///
/// # Errors
/// The patch is malformed, as an unknown directive or an item without its merge key.
pub fn strategic_merge(
    _schema: &Schema,
    object: &mut Value,
    patch: &Value,
) -> Result<(), PatchError> {
    merge_patch(object, patch);
    Ok(())
}
