//! A virtual machine with Debian's kernel and systemd, control groups of version 2 alone: made from packages, emulated
//! in software, over in seconds. It runs one script and powers off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::debian;
use crate::process::run;

const KERNEL: &str = "linux-image-cloud-amd64";
/// Besides the libraries that they link against. libpam is one, which the fetching of libraries leaves out.
const PACKAGES: &[&str] = &[
    "systemd",
    "libpam0g",
    "busybox-static",
    "dbus-daemon",
    "dbus-system-bus-common",
    "criu",
];
/// Commands of the guest that busybox has.
const APPLETS: &[&str] = &[
    "sh", "cat", "cp", "chmod", "chown", "env", "grep", "id", "insmod", "kill", "ln", "ls",
    "mkdir", "mount", "ps", "rm", "sed", "sleep", "timeout", "true", "umount", "unshare",
];
/// A disk in memory: something to limit the use of.
const MODULES: &[&str] = &["kernel/drivers/block/brd.ko"];

const MEMORY_MB: &str = "1280";
/// Everything, the emulated boot too.
const SECONDS_MAX: &str = "300";

const FIRST_PROGRAM: &str = "#!/image/bin/busybox sh
b=/image/bin/busybox
$b mount --bind /image /image
cd /image
$b mount --move . /
exec $b chroot . /lib/systemd/systemd
";

const UNIT: &str = "[Unit]
DefaultDependencies=no
Wants=dbus.socket
After=dbus.socket
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
Delegate=yes
TTYPath=/dev/ttyS0
StandardOutput=tty
StandardError=tty
ExecStart=/bin/sh -c '/test/run </dev/null; echo \"ended with $?\"'
";

const BUS_SOCKET: &str = "[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
";

const BUS: &str = "[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
StandardOutput=null
StandardError=null
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
";

/// Runs a script (`/bin/sh`, as root, below `/test`) beside these files, each a file of this machine and its name below
/// `/test`. Returns what came over the console; the last line is `ended with CODE`.
pub fn run_script(files: &[(&Path, &str)], script: &str) -> String {
    let kernel = kernel();
    let folder = tempfile::tempdir().expect("make a folder for the machine");
    let first = folder.path().join("first-root");
    let mut bytes = fs::read(base(&kernel)).expect("read the base of the machine");
    bytes.extend(of_test(files, script));
    fs::write(&first, bytes).expect("write the machine's first root");
    let image = fs::read_dir(kernel.join("boot")).expect("read the kernel's package");
    let image = image.flatten().map(|entry| entry.path());
    let image = image
        .into_iter()
        .find(|path| path.display().to_string().contains("/vmlinuz"))
        .expect("the package has a kernel");
    let ran = run(Command::new("timeout")
        .args([
            SECONDS_MAX,
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
        ])
        .args(["-cpu", "max", "-smp", "2", "-m", MEMORY_MB])
        .args(["-nographic", "-no-reboot", "-vga", "none", "-nic", "none"])
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off systemd.show_status=0 systemd.log_level=err",
        ])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(first));
    ran.both().replace('\r', "")
}

/// The kernel's package, unpacked.
fn kernel() -> PathBuf {
    let depends = run(Command::new("apt-cache").args(["depends", "--important", KERNEL]));
    let name = depends
        .ok()
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .expect("the package names its kernel")
        .to_owned();
    unpacked(&name, &[&name])
}

/// Packages unpacked together, once.
fn unpacked(name: &str, packages: &[&str]) -> PathBuf {
    let folder = crate::cache_dir().join("machine").join(name);
    if !folder.exists() {
        let new = folder.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).expect("make a folder for packages");
        for package in debian::fetch(packages) {
            debian::unpack(&package, &new);
        }
        fs::rename(&new, &folder).expect("keep what was unpacked");
    }
    folder
}

/// Kernel modules, systemd and what they need, as an archive that is made once.
fn base(kernel: &Path) -> PathBuf {
    let path = crate::cache_dir().join("machine/base.cpio");
    if path.exists() {
        return path;
    }
    let mut archive = Archive::default();
    archive.folder("image");
    let root = unpacked("root", PACKAGES);
    archive.tree(&root, "image", &is_needed);
    for applet in APPLETS {
        if !root.join("bin").join(applet).exists() {
            archive.link(&format!("image/bin/{applet}"), "busybox");
        }
    }
    archive.file("init", 0o755, FIRST_PROGRAM.as_bytes());
    for name in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "root",
        "test",
        "lib/modules",
        "etc/systemd",
        "etc/systemd/system",
    ] {
        archive.folder(&format!("image/{name}"));
    }
    for (name, text) in [
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nuser:x:1000:1000::/:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\nmessagebus:x:100:\nuser:x:1000:\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/os-release", "ID=test\n"),
        ("etc/systemd/system/test.service", UNIT),
        ("etc/systemd/system/dbus.socket", BUS_SOCKET),
        ("etc/systemd/system/dbus.service", BUS),
        (
            "etc/systemd/system/default.target",
            "[Unit]\nDefaultDependencies=no\nWants=test.service\n",
        ),
    ] {
        archive.file(&format!("image/{name}"), 0o644, text.as_bytes());
    }
    let modules = fs::read_dir(kernel.join("lib/modules")).expect("read the kernel's modules");
    let modules = modules.flatten().next().expect("there are modules").path();
    for module in MODULES {
        let name = Path::new(module).file_name().and_then(|name| name.to_str());
        let content = fs::read(modules.join(module)).expect("read a module");
        archive.file(
            &format!("image/lib/modules/{}", name.expect("it has a name")),
            0o644,
            &content,
        );
    }
    let new = path.with_extension("new");
    fs::write(&new, archive.finish()).expect("write the base of the machine");
    fs::rename(&new, &path).expect("keep the base of the machine");
    path
}

/// Documents, and what no test asks for, only take time to unpack.
fn is_needed(path: &Path) -> bool {
    const LEFT_OUT: &[&str] = &[
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/lintian",
        "usr/share/info",
        "usr/share/bash-completion",
        "usr/share/zsh",
        "usr/share/perl5",
        "usr/lib/x86_64-linux-gnu/gconv",
        "usr/lib/x86_64-linux-gnu/perl-base",
        "usr/share/bug",
        "lib/systemd/system-generators",
        "usr/lib/systemd/user-generators",
        "etc/systemd/system",
        "usr/lib/python3.11/test",
    ];
    !LEFT_OUT.iter().any(|left_out| path == Path::new(left_out))
}

fn of_test(files: &[(&Path, &str)], script: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    for (file, name) in files {
        archive.file(&format!("image/test/{name}"), 0o755, &without_symbols(file));
    }
    archive.file(
        "image/test/run",
        0o755,
        format!("#!/bin/sh\n{script}").as_bytes(),
    );
    archive.finish()
}

/// A program without what only a debugger reads: most of a debug build.
fn without_symbols(program: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("make a folder for a program");
    let small = folder.path().join("small");
    run(Command::new("strip").arg("-o").arg(&small).arg(program)).ok();
    fs::read(small).expect("read a program")
}
