//! What `ps` shows: the process name, and the container's short ID in place of the placeholder in `argv`.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use crate::spawn::{NAME, PLACEHOLDER};

/// Names the process; a shim run from a memfd is named by a number otherwise.
pub(crate) fn set_name() {
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Writes the short ID over the placeholder. Only looks suffer where that cannot be done.
pub(crate) fn set_container(id: &str) {
    let _ = overwrite(id);
}

fn overwrite(id: &str) -> Option<()> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields are counted behind the name, which may hold blanks; arg_start is the 48th, arg_end the 49th.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(45);
    let start: u64 = fields.next()?.parse().ok()?;
    let end: u64 = fields.next()?.parse().ok()?;
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/self/mem")
        .ok()?;
    let mut arguments = vec![0; usize::try_from(end.checked_sub(start)?).ok()?.min(4096)];
    memory.read_exact_at(&mut arguments, start).ok()?;
    let place = arguments
        .windows(PLACEHOLDER.len())
        .position(|window| window == PLACEHOLDER.as_bytes())?;
    let short: Vec<u8> = id
        .bytes()
        .chain(std::iter::repeat(b' '))
        .take(PLACEHOLDER.len())
        .collect();
    memory.write_all_at(&short, start + place as u64).ok()
}
