//! Loading a seccomp filter.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jump_true: u8,
    /// Instructions to skip when false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the call returns a descriptor on which notifications are read.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;

/// Puts a filter on the calling thread (seccomp(2), `SECCOMP_SET_MODE_FILTER`). Needs no_new_privs or `CAP_SYS_ADMIN`.
/// Returns the listener where [`FLAG_NEW_LISTENER`] asks for one.
pub fn load(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const Instruction,
    }
    const SET_MODE_FILTER: libc::c_uint = 1;
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long"))?;
    let argument = Program {
        length,
        filter: program.as_ptr(),
    };
    // SAFETY: Program and Instruction have the layout of sock_fprog and sock_filter; the pointer covers `length`
    // instructions and lives through the call, which copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            &raw const argument,
        )
    };
    match result {
        r if r < 0 => Err(io::Error::last_os_error()),
        // SAFETY: with this flag the kernel returns a new descriptor that nobody else owns.
        r if flags & FLAG_NEW_LISTENER != 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(r as i32) })),
        _ => Ok(None),
    }
}
