//! Debian packages that commands need: installed when missing, with `apt-get update` first.

use std::process::{Command, Stdio};

use crate::{Result, run};

/// Package and a program of it that tells whether it is there.
pub type Need = (&'static str, &'static str);

/// For making the test images.
pub const FOR_IMAGES: &[Need] = &[
    ("gcc", "cc"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("dpkg", "dpkg-deb"),
    ("iproute2", "ip"),
    ("util-linux", "nsenter"),
];

/// For the demonstration.
pub const FOR_DEMO: &[Need] = &[("curl", "curl"), ("procps", "ps")];

/// For the tests: clients and references.
pub const FOR_TESTS: &[Need] = &[
    ("curl", "curl"),
    ("procps", "ps"),
    ("docker.io", "docker"),
    ("runc", "runc"),
    ("crun", "crun"),
    ("skopeo", "skopeo"),
    ("nftables", "nft"),
    ("busybox-static", "/bin/busybox"),
    ("docker-registry", "docker-registry"),
    ("containerd", "containerd"),
    ("podman", "podman"),
    ("conmon", "conmon"),
    ("python3-pip", "pip3"),
    ("etcd-server", "etcd"),
    ("bzip2", "bzip2"),
    ("xz-utils", "xz"),
    ("uidmap", "newuidmap"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("binutils", "strip"),
];

/// Installs those packages whose program is missing.
pub fn install(needs: &[Need]) -> Result {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(_, program)| !present(program))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return refresh_lists();
    }
    println!("installing {}", missing.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    // Services of these packages must not start: tests run their own.
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .stdout(Stdio::null()))
    .map_err(|e| {
        format!(
            "{e}\ninstall these packages by hand as root: {}",
            missing.join(" ")
        )
    })
}

/// Packages for images are looked up in apt's lists: a fresh machine has none.
fn refresh_lists() -> Result {
    let known = Command::new("apt-cache")
        .args(["show", "nginx"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match known {
        Ok(status) if status.success() => Ok(()),
        _ => run(Command::new("apt-get").args(["update", "-qq"])),
    }
}

fn present(program: &str) -> bool {
    if program.starts_with('/') {
        return std::path::Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).exists())
}
