//! Volumes of the local driver that are more than a folder: what mount(8) could mount.
#![allow(clippy::unwrap_used)]

use std::fs;

use wharf_testkit::images;
use wharf_testkit::sandbox::Sandbox;

#[test]
fn options_are_those_of_mount() {
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_wharf"));
    let _daemon = sandbox.start_daemon(&[]);
    let run = |args: &[&str]| sandbox.wharf(args).ok().to_owned();
    run(&["load", "-i", &images::path("busybox").display().to_string()]);
    let shared = sandbox.folder().join("shared");
    fs::create_dir(&shared).unwrap();
    let device = format!("device={}", shared.display());
    let bind = ["-o", "type=none", "-o", "o=bind", "-o", &device, "bound"];
    run(&[&["volume", "create"], &bind[..]].concat());
    run(&[
        "run",
        "--rm",
        "-v",
        "bound:/data",
        "busybox",
        "touch",
        "/data/file",
    ]);
    assert!(shared.join("file").exists());
    let refused = sandbox.wharf(&[
        "run",
        "--rm",
        "-v",
        "bound:/data:ro",
        "busybox",
        "touch",
        "/data/x",
    ]);
    assert!(
        refused.failed().contains("Read-only file system"),
        "{refused:?}"
    );

    let memory = [
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m",
        "small",
    ];
    run(&[&["volume", "create"], &memory[..]].concat());
    let size = run(&[
        "run",
        "--rm",
        "-v",
        "small:/data",
        "busybox",
        "df",
        "-k",
        "/data",
    ]);
    assert!(size.contains("tmpfs") && size.contains(" 1024 "), "{size}");
    // What is in the machine's folder stays when the volume goes.
    run(&["volume", "rm", "bound", "small"]);
    assert!(shared.join("file").exists());
    let refused = sandbox.wharf(&["volume", "create", "-o", "nonsense=1", "wrong"]);
    assert!(
        refused.failed().contains("invalid option: \"nonsense\""),
        "{refused:?}"
    );
}
