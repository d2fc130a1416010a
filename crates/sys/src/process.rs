//! Processes: clone3(2), execve(2), close_range(2), namespaces, scheduling.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Namespace flags of clone(2), combined with `|`.
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Control groups.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Host and domain name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// System V IPC and POSIX message queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Users.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Process IDs.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// Clocks.
    pub const TIME: u64 = 0x80;
}

/// Makes the new process a child of the caller's parent.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

/// `CLONE_INTO_CGROUP`, whose value libc cuts off.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone_process`] this is.
#[derive(Debug)]
pub enum Cloned {
    /// The caller.
    Parent {
        /// PID of the new process, as the caller's PID namespace sees it.
        pid: i32,
        /// Refers to it whatever happens to its number.
        pidfd: OwnedFd,
    },
    /// The new process, with a copy of the caller's memory.
    Child,
}

/// Clones the calling process as fork(2) does, into new namespaces and, on version 2, a control group at once.
///
/// Only for programs with a single thread: in the child no other thread exists that could hold a lock.
pub fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all-zero is the documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = if flags & CLONE_PARENT == 0 {
        libc::SIGCHLD as u64
    } else {
        0
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: neither CLONE_VM nor a stack is given, so the child runs on a copy of this stack as after fork(2). `args`
    // lives through the call and its size is passed; the kernel writes one int to `pidfd`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel just made this descriptor for us (CLONE_PIDFD) and nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}

/// Replaces the program. Returns only on failure.
pub fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path is a C string; both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the program by the one that `file` refers to (execveat(2), `AT_EMPTY_PATH`). Returns only on failure.
pub fn execve_file(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the path is an empty C string; both arrays end with a null pointer and point to C strings that outlive
    // the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Ends the process at once, without running anything that was registered for its end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: no memory is passed; with CLOSE_RANGE_CLOEXEC nothing is closed now, so no owner loses its descriptor.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(result).map(drop)
}

/// Lets a descriptor number of the program to come (0, 1, 2, …) refer to what `fd` refers to.
pub fn place_descriptor(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // dup3 refuses equal numbers; only the close-on-exec flag is in the way.
        // SAFETY: F_SETFD takes an int and touches no memory.
        return check(i64::from(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })).map(drop);
    }
    // SAFETY: dup3 takes integers. Whatever `number` referred to is replaced; the caller is about to exec and owns no
    // value for it (documented).
    check(i64::from(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) })).map(drop)
}

/// Joins the namespaces that `fd` (a namespace file or a pidfd) stands for.
pub fn join_namespaces(fd: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    // SAFETY: setns takes integers.
    check(i64::from(unsafe {
        libc::setns(fd.as_raw_fd(), flags as libc::c_int)
    }))
    .map(drop)
}

/// Leaves the current namespaces for new ones.
pub fn leave_namespaces(flags: u64) -> io::Result<()> {
    debug_assert_eq!(flags & (libc::CLONE_FILES | libc::CLONE_VM) as u64, 0);
    // SAFETY: unshare takes integers; with namespace flags alone it does not split the descriptor table or memory.
    check(i64::from(unsafe { libc::unshare(flags as libc::c_int) })).map(drop)
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: personality takes an integer.
    check(i64::from(unsafe {
        libc::personality(domain as libc::c_ulong)
    }))
    .map(drop)
}

/// Scheduling of a process, as sched_setattr(2) takes it.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Scheduling {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime_ns: u64,
    pub deadline_ns: u64,
    pub period_ns: u64,
}

/// Sets policy and attributes of the calling thread.
pub fn set_scheduling(scheduling: &Scheduling) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: scheduling.policy,
        flags: scheduling.flags,
        nice: scheduling.nice,
        priority: scheduling.priority,
        runtime: scheduling.runtime_ns,
        deadline: scheduling.deadline_ns,
        period: scheduling.period_ns,
    };
    // SAFETY: the structure has the layout of the kernel's first version of sched_attr, states its size, and lives
    // through the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Sets class and level of I/O priority of the calling process (ioprio_set(2)).
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    // SAFETY: ioprio_set takes integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            PROCESS,
            0,
            (class << CLASS_SHIFT) | level,
        )
    })
    .map(drop)
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_cloned_process_is_waited_for_by_its_descriptor() {
        match clone_process(0, None).unwrap() {
            Cloned::Child => exit_now(7),
            Cloned::Parent { pid, pidfd } => {
                let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
                let status = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED)
                    .unwrap()
                    .unwrap();
                assert!(pid > 0);
                assert_eq!(status.exit_status(), Some(7));
            }
        }
    }
}
