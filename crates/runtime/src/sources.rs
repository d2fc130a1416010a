//! Sources of bind mounts that only the creator can open: for a container with a user namespace, whose root may not
//! enter every folder of the host, and for mounts with mapped IDs, which need rights over the file system.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxIdMapping, Mount, Spec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use wharf_sys::mount::{Attributes, attribute, set_attributes};
use wharf_sys::process::{Cloned, clone_process, exit_now, namespace};

use crate::create::kill_and_reap;
use crate::error::{Error, Result};
use crate::id_mappings;
use crate::mount_options::Options;
use crate::namespaces::Plan;

/// Detached trees by the index of their mount in the configuration.
#[derive(Debug, Default)]
pub struct Sources(Vec<Option<OwnedFd>>);

impl Sources {
    /// Opens those that are needed.
    pub fn open(spec: &Spec, bundle: &Path, plan: &Plan) -> Result<Sources> {
        // An ordinary user's creator has fewer rights than the container's root: nothing is to be opened for it.
        let foreign = plan.is_private(namespace::USER) && crate::has_root();
        let root = crate::init::rootfs::root_path(spec, bundle);
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let open = |mount: &Mount| {
            let options = Options::parse(mount.options().as_deref().unwrap_or_default());
            let bind = options.bind.is_some() || mount.typ().as_deref() == Some("bind");
            let mapped = options.idmap.is_some() || has_mappings(mount);
            // What lies in the container's own root is what the mounts before have made of it.
            let source = mount.source().as_deref();
            let inside = source.is_some_and(|source| bundle.join(source).starts_with(&root));
            match (bind, mapped) {
                (true, false) if inside => Ok(None),
                (false, true) => Err(invalid(mount, "only bind mounts can have mapped IDs")),
                (true, _) if foreign || mapped => {
                    let tree = open_source(mount, bundle, &options)?;
                    if mapped {
                        map(tree.as_fd(), spec, plan, mount, &options)?;
                    }
                    Ok(Some(tree))
                }
                _ => Ok(None),
            }
        };
        mounts.iter().map(open).collect::<Result<_>>().map(Sources)
    }

    /// The tree of a mount, if it was opened here.
    pub fn get(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.0.get(index)?.as_ref().map(AsFd::as_fd)
    }
}

fn invalid(mount: &Mount, what: &str) -> Error {
    Error::Config(format!("mount {}: {what}", mount.destination().display()))
}

fn has_mappings(mount: &Mount) -> bool {
    let some = |list: &Option<Vec<LinuxIdMapping>>| list.as_ref().is_some_and(|l| !l.is_empty());
    some(mount.uid_mappings()) || some(mount.gid_mappings())
}

fn open_source(mount: &Mount, bundle: &Path, options: &Options) -> Result<OwnedFd> {
    let source = mount
        .source()
        .as_ref()
        .ok_or_else(|| invalid(mount, "a bind mount needs a source"))?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.bind == Some(true) {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let path = bundle.join(source);
    rustix::mount::open_tree(CWD, path.as_path(), flags).map_err(Error::system(format!(
        "bind {} to {}",
        path.display(),
        mount.destination().display()
    )))
}

/// Maps the IDs of a tree: by the mount's own mappings, else by the container's.
fn map(
    tree: BorrowedFd<'_>,
    spec: &Spec,
    plan: &Plan,
    mount: &Mount,
    options: &Options,
) -> Result<()> {
    let linux = spec.linux().as_ref();
    let own = has_mappings(mount);
    let (uids, gids) = if own {
        (mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref())
    } else {
        (
            linux.and_then(|linux| linux.uid_mappings().as_ref()),
            linux.and_then(|linux| linux.gid_mappings().as_ref()),
        )
    };
    let joined = plan.join.iter().find(|(bit, _)| *bit == namespace::USER);
    let made;
    let users = match (uids, gids, joined) {
        (Some(uids), Some(gids), _) if !uids.is_empty() && !gids.is_empty() => {
            made = mapped_namespace(uids, gids)?;
            made.as_fd()
        }
        (None, None, Some((_, joined))) => joined.as_fd(),
        _ => {
            return Err(invalid(
                mount,
                "mapped IDs need uidMappings and gidMappings, of the mount or of the container",
            ));
        }
    };
    let attributes = Attributes {
        set: attribute::IDMAP,
        user_namespace: Some(users),
        ..Attributes::default()
    };
    let recursive = options.idmap == Some(true);
    set_attributes(tree, &attributes, recursive).map_err(Error::system(format!(
        "map the IDs of the mount to {} (does its file system support that?)",
        mount.destination().display()
    )))
}

/// A user namespace with these mappings, in which nothing lives.
fn mapped_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let what = "make a user namespace for mapped IDs";
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::system(what))?;
    let cloned = clone_process(namespace::USER, None).map_err(Error::system(what))?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            drop(writer);
            // Until the creator has what it needs, or is gone.
            let _ = fs::File::from(reader).read(&mut [0; 1]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(reader);
    let opened = id_mappings::write(pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::system(what))
    });
    drop(writer);
    kill_and_reap(pidfd.as_fd());
    opened
}
