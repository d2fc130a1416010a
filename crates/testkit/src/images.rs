//! The images that tests and the demonstration run: real programs of Debian packages, as `docker save` archives.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::process::run;
use crate::{archive, debian};

/// Names under which images are made, see [`path`].
pub const NAMES: [&str; 6] = [
    "busybox",
    "alpine",
    "hello-world",
    "nginx",
    "redis",
    "netshoot",
];

/// Raised when the recipe of an image changes: archives of older recipes are made anew.
const RECIPE: u32 = 1;

/// The archive of an image; panics with the remedy if it was not made yet.
pub fn path(name: &str) -> PathBuf {
    let path = location(name);
    assert!(
        path.exists(),
        "{} is missing: make the test images with `cargo xtask images`",
        path.display()
    );
    path
}

/// Makes those archives that are not there.
pub fn make_all() {
    let folder = crate::cache_dir().join("images");
    fs::create_dir_all(&folder).expect("make the image cache");
    let base = || vec![archive::pack(&base()).expect("pack the base")];
    make(
        "busybox",
        &["busybox:latest"],
        base,
        json!({"Cmd": ["sh"], "Env": [PATH]}),
    );
    make(
        "alpine",
        &["alpine:3.10", "alpine:latest"],
        base,
        json!({"Cmd": ["/bin/sh"], "Env": [PATH]}),
    );
    make(
        "hello-world",
        &["hello-world:latest"],
        hello_world,
        json!({"Cmd": ["/hello-world"], "Env": [PATH]}),
    );
    make(
        "nginx",
        &["nginx:latest"],
        || with_packages("nginx", &["nginx", "nginx-common"], finish_nginx),
        nginx_config(),
    );
    make(
        "redis",
        &["redis:latest"],
        || with_packages("redis", &["redis-server", "redis-tools"], finish_redis),
        redis_config(),
    );
    make(
        "netshoot",
        &["netshoot:latest", "nicolaka/netshoot:latest"],
        || {
            with_packages(
                "netshoot",
                &["curl", "iproute2", "iputils-ping", "netcat-openbsd"],
                |_| {},
            )
        },
        json!({"Cmd": ["sh"], "Env": [PATH]}),
    );
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn nginx_config() -> Value {
    json!({
        "Cmd": ["nginx", "-g", "daemon off;"],
        "Env": [PATH, "NGINX_VERSION=1.22.1"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    })
}

fn redis_config() -> Value {
    // Every write is durable at once: a removed container must not lose a count that was answered.
    json!({
        "Cmd": ["redis-server", "--bind", "*", "--protected-mode", "no", "--dir", "/data",
                "--appendonly", "yes", "--appendfsync", "always"],
        "Env": [PATH],
        "ExposedPorts": {"6379/tcp": {}},
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
    })
}

fn location(name: &str) -> PathBuf {
    crate::cache_dir().join(format!("images/{name}-{RECIPE}.tar"))
}

fn make(name: &str, references: &[&str], layers: impl FnOnce() -> Vec<Vec<u8>>, config: Value) {
    let path = location(name);
    if !path.exists() {
        archive::write(&path, references, &layers(), &config)
            .unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
}

/// Busybox with all its applets and the files that every system has.
fn base() -> PathBuf {
    let root = fresh("base");
    let unpacked = fresh("busybox-static");
    for package in debian::fetch(&["busybox-static"]) {
        debian::unpack(&package, &unpacked);
    }
    for folder in [
        "bin", "dev", "etc", "home", "lib", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin",
        "usr/sbin", "var/log",
    ] {
        fs::create_dir_all(root.join(folder)).expect("make a folder of the base");
    }
    set_mode(&root.join("tmp"), 0o1777);
    set_mode(&root.join("root"), 0o700);
    fs::copy(unpacked.join("bin/busybox"), root.join("bin/busybox")).expect("copy busybox");
    let applets = run(Command::new(root.join("bin/busybox")).arg("--list-full"));
    for applet in applets
        .ok()
        .lines()
        .filter(|applet| *applet != "bin/busybox")
    {
        let link = root.join(applet);
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).expect("make an applet's folder");
        }
        symlink("/bin/busybox", link).expect("link an applet");
    }
    write(
        &root,
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n",
    );
    write(
        &root,
        "etc/group",
        "root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n",
    );
    write(
        &root,
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    );
    write(
        &root,
        "etc/os-release",
        "NAME=\"Wharf test base\"\nID=wharf-test\nVERSION_ID=3.10.0\n",
    );
    root
}

fn hello_world() -> Vec<Vec<u8>> {
    let root = fresh("hello-world");
    fs::copy(example("hello-world"), root.join("hello-world")).expect("copy hello-world");
    vec![archive::pack(&root).expect("pack hello-world")]
}

/// The base and, as a second layer, packages with their libraries.
fn with_packages(name: &str, packages: &[&str], finish: fn(&Path)) -> Vec<Vec<u8>> {
    let root = fresh(name);
    for package in debian::fetch(packages) {
        debian::unpack(&package, &root);
    }
    for unneeded in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/lintian",
    ] {
        let _ = fs::remove_dir_all(root.join(unneeded));
    }
    finish(&root);
    vec![
        archive::pack(&base()).expect("pack the base"),
        archive::pack(&root).expect("pack the packages"),
    ]
}

fn finish_nginx(root: &Path) {
    for folder in ["var/lib/nginx", "var/log/nginx", "run", "var/www/html"] {
        fs::create_dir_all(root.join(folder)).expect("make nginx's folders");
    }
    for (log, stream) in [("access.log", "/dev/stdout"), ("error.log", "/dev/stderr")] {
        let link = root.join("var/log/nginx").join(log);
        let _ = fs::remove_file(&link);
        symlink(stream, link).expect("link nginx's log");
    }
    write(
        root,
        "var/www/html/index.html",
        "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head>\n<body><h1>Welcome to nginx!</h1></body></html>\n",
    );
    write(
        root,
        "etc/nginx/nginx.conf",
        "user www-data;\nworker_processes 1;\npid /run/nginx.pid;\nevents { worker_connections 512; }\n\
         http {\n  include mime.types;\n  access_log /var/log/nginx/access.log;\n  error_log /var/log/nginx/error.log;\n\
         \x20 server {\n    listen 80;\n    listen [::]:80;\n    root /var/www/html;\n  }\n}\n",
    );
}

fn finish_redis(root: &Path) {
    fs::create_dir_all(root.join("data")).expect("make /data");
}

/// Data folder of a registry that holds all test images; `cargo xtask images` fills it.
pub fn registry() -> PathBuf {
    let path = registry_location();
    assert!(
        path.exists(),
        "{} is missing: make the test images with `cargo xtask images`",
        path.display()
    );
    path
}

/// Where [`registry`] is or will be.
pub fn registry_location() -> PathBuf {
    crate::cache_dir().join(format!("registry-{RECIPE}"))
}

/// A statically linked program of `examples/`, as `cargo xtask images` builds them.
pub fn example(name: &str) -> PathBuf {
    let path = crate::workspace_dir()
        .join("target/x86_64-unknown-linux-gnu/release")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: build the examples with `cargo xtask images`",
        path.display()
    );
    path
}

fn fresh(name: &str) -> PathBuf {
    let path = crate::cache_dir().join("rootfs").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("make a root folder");
    path
}

fn write(root: &Path, path: &str, text: &str) {
    fs::write(root.join(path), text).unwrap_or_else(|e| panic!("write {path}: {e}"));
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set a mode");
}
