//! What is known of a container between two commands, and `state`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxMemoryPolicy, Spec};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::args::Parsed;
use super::{Command, Failure, Global, Outcome, cgroup_failed, failed, print};
use crate::init::identity;

/// A configuration longer than this is not one.
const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;
const ID_BYTES_MAX: usize = 200;

pub const COMMAND: Command = Command {
    name: "state",
    usage: "<container-id>",
    about: "output the state of a container",
    flags: &[],
    words: (1, 1),
    in_order: false,
    run: |global, parsed: &Parsed| {
        let container = Container::open(global, parsed.id())?;
        let seen = container.seen()?;
        print(
            &serde_json::to_string_pretty(&seen)
                .map_err(|e| Failure::new(format!("write the state: {e}")))?,
        )?;
        Ok(0)
    },
};

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Host PID of init.
    pub pid: i32,
    /// When it began, in clock ticks since the boot: tells it from a later process of the same number.
    pub start_ticks: u64,
    /// Absolute.
    pub bundle: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// The caller's session keyring was kept.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// Unit of systemd's that has the container's control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// runc's four words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// A container as `state` and `list` show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::HashMap<String, String>>,
    pub owner: String,
}

/// A container that was created.
#[derive(Debug)]
pub struct Container {
    pub id: String,
    pub folder: PathBuf,
    pub record: Record,
    pub spec: Spec,
}

impl Container {
    /// Reads a container's files.
    pub fn open(global: &Global, id: &str) -> Outcome<Container> {
        check_id(id)?;
        let folder = global.root.join(id);
        let Some(text) = read(&folder.join("state.json"))? else {
            return Err(Failure::new("container does not exist"));
        };
        let record = serde_json::from_slice(&text)
            .map_err(|e| Failure::new(format!("read the state of container {id}: {e}")))?;
        Ok(Container {
            spec: saved_spec(&folder)?,
            id: id.to_owned(),
            folder,
            record,
        })
    }

    /// Keeps other commands from changing the container until the value returned is dropped. The folder itself is
    /// locked: the lock goes with it.
    pub fn lock(&self) -> Outcome<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.folder, flags, Mode::empty())
            .map_err(|_| Failure::new("container does not exist"))?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive)
            .map_err(failed("lock the container"))?;
        Ok(folder)
    }

    /// Init, if it has not ended. The start time is compared after the descriptor was opened, so that what the
    /// descriptor stands for is init for certain.
    pub fn init(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.record.pid)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        (start_ticks(self.record.pid)? == self.record.start_ticks).then_some(pidfd)
    }

    /// The container's control group.
    pub fn cgroup(&self) -> Outcome<Box<dyn wharf_cgroup::Cgroup>> {
        wharf_cgroup::open(&crate::cgroup_path(&self.spec, &self.id))
            .map_err(cgroup_failed("open the control group"))
    }

    /// What the container does at this moment.
    pub fn status(&self) -> Status {
        if self.init().is_none() {
            return Status::Stopped;
        }
        let frozen = self
            .cgroup()
            .is_ok_and(|group| group.is_frozen().unwrap_or(false));
        if frozen {
            Status::Paused
        } else if self.gate().exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// The socket by which it is started.
    pub fn gate(&self) -> PathBuf {
        self.folder.join("start.sock")
    }

    /// For `state` and `list`.
    pub fn seen(&self) -> Outcome<Seen> {
        let status = self.status();
        let root = self.spec.root().as_ref().map(|root| root.path().clone());
        Ok(Seen {
            oci_version: self.spec.version().clone(),
            id: self.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                self.record.pid
            },
            status,
            bundle: self.record.bundle.clone(),
            rootfs: self.record.bundle.join(root.unwrap_or_default()),
            created: self.record.created.clone(),
            annotations: self
                .spec
                .annotations()
                .clone()
                .filter(|list| !list.is_empty()),
            owner: String::new(),
        })
    }

    /// The state that hooks get.
    pub fn hook_state(&self, status: Status) -> String {
        let pid = if status == Status::Stopped {
            0
        } else {
            self.record.pid
        };
        crate::state_json(
            &self.id,
            &status.to_string(),
            pid,
            &self.record.bundle,
            &self.spec,
        )
    }

    /// Who made it.
    pub fn owner(&self) -> u32 {
        fs::metadata(&self.folder).map_or(0, |folder| folder.uid())
    }
}

/// Names that are safe as a file's name.
pub fn check_id(id: &str) -> Outcome<()> {
    let good = !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && id != "."
        && id != ".."
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+,-.".contains(&byte));
    if good {
        Ok(())
    } else {
        Err(Failure::new("invalid container ID format"))
    }
}

/// The configuration as it was at the creation.
pub fn saved_spec(folder: &Path) -> Outcome<Spec> {
    let path = folder.join("config.json");
    let text =
        read(&path)?.ok_or_else(|| Failure::new(format!("the state lacks {}", path.display())))?;
    parse_spec(&text)
}

/// Reads a configuration.
pub fn parse_spec(text: &[u8]) -> Outcome<Spec> {
    parse_spec_warned(text).map(|(spec, _)| spec)
}

/// Reads a configuration; with warnings about what no kernel can do and is left out (runtime-spec, "capabilities").
pub fn parse_spec_warned(text: &[u8]) -> Outcome<(Spec, Vec<String>)> {
    let failed = |e: serde_json::Error| Failure::new(format!("read config.json: {e}"));
    match serde_json::from_slice(text) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(error) => {
            let mut value: Value = serde_json::from_slice(text).map_err(failed)?;
            let warnings = drop_unknown_capabilities(&mut value["process"]["capabilities"]);
            if warnings.is_empty() {
                return Err(memory_policy_error(&value).unwrap_or_else(|| failed(error)));
            }
            Ok((serde_json::from_value(value).map_err(failed)?, warnings))
        }
    }
}

/// Says that it is the memory policy which can't be read, where it is that.
fn memory_policy_error(spec: &Value) -> Option<Failure> {
    let policy = spec["linux"].get("memoryPolicy")?;
    let error = serde_json::from_value::<LinuxMemoryPolicy>(policy.clone()).err()?;
    let part = match error.to_string() {
        text if text.contains("MPOL_F_") => "flag",
        _ => "mode",
    };
    Some(Failure::new(format!(
        "invalid memory policy {part}: {error}"
    )))
}

fn drop_unknown_capabilities(sets: &mut Value) -> Vec<String> {
    let mut unknown = std::collections::BTreeSet::new();
    for (_, set) in sets.as_object_mut().into_iter().flatten() {
        let Some(names) = set.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            let known = name
                .as_str()
                .is_some_and(|name| identity::NAMES.contains(&name));
            if !known {
                unknown.insert(name.to_string());
            }
            known
        });
    }
    let warn = |name: &String| format!("ignoring unknown or unavailable capability {name}");
    unknown.iter().map(warn).collect()
}

/// A whole file, up to a limit; `None`: absent.
pub fn read(path: &Path) -> Outcome<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(format!("open {}", path.display()))(error)),
    };
    // Read at once: a buffer that grows from nothing takes ten times the calls.
    let size = file.metadata().map_or(0, |about| about.len());
    let size = usize::try_from(size.min(CONFIG_BYTES_MAX)).unwrap_or(0);
    let mut text = Vec::with_capacity(size + 1);
    file.take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed(format!("read {}", path.display())))?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Failure::new(format!(
            "{} is larger than {CONFIG_BYTES_MAX} bytes",
            path.display()
        )));
    }
    Ok(Some(text))
}

/// Writes a file so that it is there whole or not at all, whenever this process is killed. Nothing is flushed to the
/// disk: after a crash of the machine no process is left that the file could tell of.
pub fn write(path: &Path, text: &[u8], mode: u32) -> Outcome<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let save = || -> std::io::Result<()> {
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(mode);
        let mut file = options.open(&new)?;
        file.write_all(text)?;
        fs::rename(&new, path)
    };
    save().map_err(failed(format!("write {}", path.display())))
}

/// A new container's folder, which goes again unless it is kept.
#[derive(Debug)]
pub struct NewFolder {
    pub path: PathBuf,
    keep: bool,
}

impl NewFolder {
    pub fn make(global: &Global, id: &str) -> Outcome<NewFolder> {
        check_id(id)?;
        let path = global.root.join(id);
        let make = |path: &Path, recursive| {
            fs::DirBuilder::new()
                .mode(0o700)
                .recursive(recursive)
                .create(path)
        };
        let mut made = make(&path, false);
        if made
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::NotFound)
        {
            make(&global.root, true).map_err(failed(format!("make {}", global.root.display())))?;
            made = make(&path, false);
        }
        match made {
            Ok(()) => Ok(NewFolder { path, keep: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::new("container with given ID already exists"))
            }
            Err(error) => Err(failed(format!("make {}", path.display()))(error)),
        }
    }

    /// The container is complete.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// When a process began, in clock ticks since the boot (proc_pid_stat(5), field 22); `None`: it has ended, even if
/// nobody has asked for its exit code yet.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets.
    let (_, after_name) = text.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A path for bind and connect that is short however deep the folder lies: a socket's path has 107 bytes at most.
pub fn short_path(folder: &Path, name: &str) -> Outcome<(OwnedFd, String)> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())
        .map_err(failed(format!("open {}", folder.display())))?;
    let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    Ok((folder, path))
}

/// Removes the gate: from now on the container counts as running.
pub fn remove_gate(container: &Container) {
    let folder = rustix::fs::open(
        &container.folder,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    );
    if let Ok(folder) = folder {
        let _ = rustix::fs::unlinkat(folder.as_fd(), "start.sock", AtFlags::empty());
    }
}
