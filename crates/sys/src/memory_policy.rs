//! Placement of memory on NUMA nodes (set_mempolicy(2)).

use std::io;

/// Sets the calling thread's policy, which an exec keeps. `nodes`: a bit each, lowest first.
pub fn set(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // One more than the bits: the kernel takes the count for one too many.
    let bits = nodes.len() * 64 + 1;
    let mask = if nodes.is_empty() {
        std::ptr::null()
    } else {
        nodes.as_ptr()
    };
    let bits = if nodes.is_empty() { 0 } else { bits };
    // SAFETY: the kernel reads `bits` - 1 bits from the mask, which holds as many and lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
