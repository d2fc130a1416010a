//! The supervisor's executable, carried inside this one.

/// Static, as `build.rs` has built it.
static EXECUTABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wharf-shim"));

/// Puts it into a sealed file in memory, from which supervisors are started. Before the first container.
pub fn install() -> std::io::Result<()> {
    wharf_shim::client::install(EXECUTABLE)
}
