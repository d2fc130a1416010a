//! GET of one object.

use wharf_kube_types::Status;

use crate::call::Call;
use crate::object::Record;
use crate::present;

/// The newest state of the object.
///
/// # Errors
/// 404, or the store's.
pub async fn get(call: &Call) -> Result<Record, Status> {
    let version = call.query.get("resourceVersion");
    if !matches!(version, "" | "0") {
        let asked = super::list::parse_version(version)?;
        super::list::reach(&call.api, asked).await?;
    }
    let key = call.key();
    let record = call.api.read(&key).await?;
    let record = record.ok_or_else(|| call.not_found())?;
    present::one(&call.api, &call.kind, &key, record, true).await
}
