//! Offsets of the clocks of a new time namespace (runtime-spec, "Offset for Time Namespace").

use oci_spec::runtime::Spec;

use crate::error::{Error, Result};

/// Whether there are any.
pub fn has_offsets(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    linux.is_some_and(|linux| linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty()))
}

/// Sets those of the namespace that the children of `pid` will be in; nothing may run in it yet.
pub fn set_offsets(spec: &Spec, pid: i32) -> Result<()> {
    let linux = spec.linux().as_ref();
    let Some(offsets) = linux.and_then(|linux| linux.time_offsets().as_ref()) else {
        return Ok(());
    };
    let mut text = String::new();
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::Config(format!(
                "time offset for {clock:?}: only monotonic and boottime have one"
            )));
        }
        text.push_str(&format!(
            "{clock} {} {}\n",
            offset.secs().unwrap_or(0),
            offset.nanosecs().unwrap_or(0)
        ));
    }
    let path = format!("/proc/{pid}/timens_offsets");
    std::fs::write(&path, text).map_err(Error::system(format!("set the clocks' offsets in {path}")))
}
