//! Process 1 of the process namespace that a pod's containers share: the one case in which a sandbox has a process.

use std::fs;
use std::path::Path;

use serde_json::json;
use tonic::Status;
use wharf_shim::client::{Idle, Launch, Notice, Supervisor};
use wharf_shim::protocol::LogConfig;

use super::io;

/// Its run folder, within the sandbox's.
const FOLDER: &str = "holder";

/// Starts it; its process namespace is bound to the file `pid` of the folder.
pub(super) fn start(id: &str, folder: &Path, init: &Path, group: &str) -> Result<(), Status> {
    let run_dir = folder.join(FOLDER);
    let rootfs = run_dir.join("rootfs");
    fs::create_dir_all(&rootfs).map_err(io(format!("make {}", rootfs.display())))?;
    if !init.exists() {
        wharf_shim::client::write_init(init).map_err(io(format!("write {}", init.display())))?;
    }
    let program = format!("/{}", wharf_shim::init::NAME);
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "pid"})];
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let path = folder.join(file);
        namespaces.extend(path.exists().then(|| json!({"type": kind, "path": path})));
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "root": {"path": rootfs, "readonly": true},
        "process": {
            "terminal": false, "user": {"uid": 65534, "gid": 65534}, "args": [program], "env": [], "cwd": "/",
            "capabilities": {"bounding": [], "permitted": [], "effective": []}, "noNewPrivileges": true,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": program, "type": "bind", "source": init, "options": ["bind", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("{group}/{id}"), "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        },
    });
    let spec = serde_json::from_value(spec).map_err(io("configure a sandbox's first process"))?;
    let idle = Idle::spawn().map_err(io("spawn a supervisor"))?;
    let launched = idle.launch(Launch {
        id: id.to_owned(),
        run_dir,
        spec,
        log: LogConfig::None,
        open_stdin: false,
        stdin_once: false,
        console_size: None,
        rootfs: None,
        netns: None,
        ports: Vec::new(),
        attached: Vec::new(),
    });
    let supervisor = launched.map_err(io("start a sandbox's first process"))?;
    let file = folder.join("pid");
    fs::write(&file, b"").map_err(io(format!("make {}", file.display())))?;
    rustix::mount::mount_bind(format!("/proc/{}/ns/pid", supervisor.pid), &file)
        .map_err(io(format!("bind {}", file.display())))
}

/// Ends it, and with it whatever is left in its process namespace; what is not there is fine.
pub(super) fn stop(folder: &Path) -> Result<(), Status> {
    let run_dir = folder.join(FOLDER);
    if !run_dir.exists() {
        return Ok(());
    }
    let connected = Supervisor::connect(&run_dir);
    match connected.map_err(io("reach a sandbox's first process"))? {
        Some(supervisor) => {
            // Refused when it has ended already.
            let _ = supervisor.signal(9);
            while let Ok(Some(notice)) = supervisor.next_notice() {
                if matches!(notice, Notice::Exit(_)) {
                    break;
                }
            }
            Ok(())
        }
        None => wharf_shim::client::bury(&run_dir)
            .map(drop)
            .map_err(io("clean up after a sandbox's first process")),
    }
}
