//! The time of day, in the form that objects carry.

use std::time::{SystemTime, UNIX_EPOCH};

use wharf_kube_types::time::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}

/// Now, as `metav1.Time` is written.
pub fn now_text() -> String {
    now().to_seconds_text()
}
