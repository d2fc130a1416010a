//! `checkpoint` and `restore`: runc's words and flags. What they need, criu, is not driven yet, and that is said.

use std::path::Path;

use super::args::{Flag, Parsed};
use super::create::{BUNDLE, CONSOLE_SOCKET, NO_PIVOT, PID_FILE};
use super::state::{Container, Status, check_id};
use super::{Command, Failure, Global, Outcome};

const IMAGE_PATH: Flag = Flag::value("image-path", "folder of the image");
const WORK_PATH: Flag = Flag::value("work-path", "folder of criu's logs");
const PARENT_PATH: Flag = Flag::value("parent-path", "image before this one, relative to it");
const TCP: Flag = Flag::switch("tcp-established", "allow open TCP connections");
const SOCKETS: Flag = Flag::switch("ext-unix-sk", "allow connections to sockets outside");
const SHELL: Flag = Flag::switch("shell-job", "allow a terminal from outside");
const LAZY: Flag = Flag::switch("lazy-pages", "move memory when it is asked for");
const LOCKS: Flag = Flag::switch("file-locks", "allow file locks");
const GROUPS: Flag = Flag::value("manage-cgroups-mode", "soft, full, strict or ignore");
const EMPTY: Flag = Flag::value("empty-ns", "namespace that is made anew, empty");
const DEDUP: Flag = Flag::switch("auto-dedup", "drop pages that a later image has");

pub const CHECKPOINT: Command = Command {
    name: "checkpoint",
    usage: "<container-id>",
    about: "checkpoint a running container",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        PARENT_PATH,
        Flag::switch("leave-running", "let the container go on"),
        TCP,
        Flag::switch("tcp-skip-in-flight", "leave out connections under way"),
        Flag::switch("link-remap", "allow files that have been removed"),
        SOCKETS,
        SHELL,
        LAZY,
        Flag::value(
            "status-fd",
            "descriptor that is told when pages can be asked for",
        ),
        Flag::value("page-server", "ADDRESS:PORT that takes the pages"),
        LOCKS,
        Flag::switch("pre-dump", "memory only, the container goes on"),
        GROUPS,
        EMPTY,
        DEDUP,
    ],
    words: (1, 1),
    in_order: false,
    run: checkpoint,
};

pub const RESTORE: Command = Command {
    name: "restore",
    usage: "<container-id>",
    about: "restore a container from a previous checkpoint",
    flags: &[
        CONSOLE_SOCKET,
        IMAGE_PATH,
        WORK_PATH,
        TCP,
        SOCKETS,
        SHELL,
        LOCKS,
        GROUPS,
        BUNDLE,
        Flag::switch("detach", "return once the container runs").short("d"),
        PID_FILE,
        Flag::switch(
            "no-subreaper",
            "leave orphans of the container to somebody else",
        ),
        NO_PIVOT,
        EMPTY,
        DEDUP,
        LAZY,
        Flag::value("lsm-profile", "security profile, TYPE:NAME"),
        Flag::value("lsm-mount-context", "security context of mounts"),
    ],
    words: (1, 1),
    in_order: false,
    run: |_, parsed| {
        check_id(parsed.id())?;
        Err(not_driven("restore"))
    },
};

fn checkpoint(global: &Global, parsed: &Parsed) -> Outcome {
    let container = Container::open(global, parsed.id())?;
    if matches!(container.status(), Status::Created | Status::Stopped) {
        return Err(Failure::new(format!(
            "Container cannot be checkpointed in {} state",
            container.status()
        )));
    }
    if let Some(parent) = parsed.get("parent-path") {
        let image = parsed.get("image-path").unwrap_or("checkpoint");
        if Path::new(parent).is_absolute() {
            return Err(Failure::new(
                "--parent-path must be relative to the folder of the image",
            ));
        }
        if !Path::new(image).join(parent).is_dir() {
            return Err(Failure::new(format!(
                "invalid --parent-path: {parent} is not a folder below {image}"
            )));
        }
    }
    Err(not_driven("checkpoint"))
}

fn not_driven(what: &str) -> Failure {
    Failure::new(format!(
        "{what} needs criu, which is not driven yet: stop the container and start it anew"
    ))
}
