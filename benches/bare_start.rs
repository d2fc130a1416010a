//! The least that starting a container can cost: one clone into new namespaces, the mounts of the default configuration,
//! a new root, an exec; no configuration read, no control group, no device node, no right dropped, no filter.
//!
//! `bare_start ROOTFS PROGRAM`

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{WaitId, WaitIdOptions};
use wharf_sys::process::{Cloned, clone_process, execve, exit_now, namespace};

type Result<T = ()> = std::io::Result<T>;

/// Kind, place, flags and data: as `runc spec` has them.
const MOUNTS: &[(&str, &str, MountFlags, &str)] = &[
    ("proc", "proc", MountFlags::empty(), ""),
    ("tmpfs", "dev", MountFlags::NOSUID, "mode=755,size=65536k"),
    (
        "devpts",
        "dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    ),
    ("tmpfs", "dev/shm", HARDENED, "mode=1777,size=65536k"),
    ("mqueue", "dev/mqueue", HARDENED, ""),
    ("sysfs", "sys", HARDENED.union(MountFlags::RDONLY), ""),
];
const HARDENED: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NODEV);

/// Hidden by a bind of /dev/null or an empty folder, and made read-only: as `runc spec` has them.
const MASKED: &[&str] = &["proc/kcore", "proc/keys", "proc/timer_list"];
const READ_ONLY: &[&str] = &[
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

fn main() -> Result {
    let args: Vec<String> = std::env::args().collect();
    let [_, root, program] = &args[..] else {
        eprintln!("bare_start ROOTFS PROGRAM");
        std::process::exit(2);
    };
    let flags = namespace::PID
        | namespace::NETWORK
        | namespace::IPC
        | namespace::UTS
        | namespace::MOUNT
        | namespace::CGROUP;
    match clone_process(flags, None)? {
        Cloned::Child => {
            let error = enter(Path::new(root), program).err();
            eprintln!("bare_start: {error:?}");
            exit_now(127)
        }
        Cloned::Parent { pidfd, .. } => {
            let ended =
                rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            let code = ended.and_then(|status| status.exit_status());
            std::process::exit(code.unwrap_or(1))
        }
    }
}

/// The container's side, which ends with the exec.
fn enter(root: &Path, program: &str) -> Result {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    rustix::mount::mount_bind_recursive(root, root)?;
    rustix::process::chdir(root)?;
    for (kind, place, flags, data) in MOUNTS {
        let data = CString::new(*data)?;
        let _ = rustix::fs::mkdirat(CWD, *place, Mode::from_raw_mode(0o755));
        rustix::mount::mount(*kind, *place, *kind, *flags, data.as_c_str())?;
    }
    let there = |place: &&&str| Path::new(place).exists();
    for place in MASKED.iter().filter(there) {
        rustix::mount::mount_bind("/dev/null", *place)?;
    }
    for place in READ_ONLY.iter().filter(there) {
        rustix::mount::mount_bind(*place, *place)?;
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        rustix::mount::mount_remount(*place, flags, c"")?;
    }
    rustix::system::sethostname(b"bare")?;
    let old = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&old)?;
    rustix::mount::mount_change(
        ".",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    let program = CString::new(program)?;
    Err(execve(&program.clone(), &[program], &[]))
}
