//! Session keyrings (keyctl(2)).

use std::ffi::CStr;
use std::io;

const JOIN_SESSION_KEYRING: libc::c_int = 1;
const SET_PERMISSIONS: libc::c_int = 5;
const DESCRIBE: libc::c_int = 6;
/// `KEY_USR_SEARCH`: what runs as the same user may look keys up.
const USER_SEARCH: u32 = 0x0008_0000;

/// Joins the session keyring of this name, made where it is missing, in place of the caller's.
pub fn join_session(name: &CStr) -> io::Result<()> {
    // SAFETY: the operation reads a C string, which lives through the call.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    if id < 0 {
        return Err(io::Error::last_os_error());
    }
    let permissions = permissions(id)? | USER_SEARCH;
    // SAFETY: the operation takes integers.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, SET_PERMISSIONS, id, permissions) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Reads `type;uid;gid;permissions;description`.
fn permissions(id: libc::c_long) -> io::Result<u32> {
    let mut text = [0u8; 4096];
    // SAFETY: the kernel writes at most the given length to the buffer, which lives through the call.
    let length = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            DESCRIBE,
            id,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let text = String::from_utf8_lossy(&text);
    let field = text.split(';').nth(3);
    field
        .and_then(|field| u32::from_str_radix(field, 16).ok())
        .ok_or_else(|| io::Error::other("the kernel's description of a keyring is not readable"))
}
