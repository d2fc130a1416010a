//! Pull and push against Debian's docker-registry, over TLS with a password and over plain HTTP; skopeo looks on.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{archive, config, file, images, silent, through};
use wharf_image::{Credentials, Images, Reference};

/// `user:pass`, bcrypt.
const HTPASSWD: &str = "user:$2b$04$s9DmKChmUM/47FeGaiuuluLe2UYpyAv2.KCYI67hDvr9Ol10Xx7Fe\n";

struct Registry {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`: not installed.
fn start(secure: bool) -> Option<Registry> {
    let found = Command::new("docker-registry").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("docker-registry is not installed: nothing is compared with it");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
        path("data")
    );
    text += &format!("http:\n  addr: {address}\n  secret: test\n");
    if secure {
        certificate(folder.path());
        std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
        text += &format!(
            "  tls: {{certificate: {}, key: {}}}\n",
            path("cert.pem"),
            path("key.pem")
        );
        text += &format!(
            "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            path("htpasswd")
        );
    }
    std::fs::write(path("config.yml"), text).unwrap();
    let mut command = Command::new("docker-registry");
    command
        .args(["serve", &path("config.yml")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("listening on")),
        "it never listened"
    );
    // Its log must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some(Registry {
        child,
        address,
        _folder: folder,
    })
}

fn certificate(folder: &Path) {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn credentials(password: &str) -> Credentials {
    Credentials {
        username: "user".into(),
        password: password.into(),
        ..Credentials::default()
    }
}

/// Two layers: an archive, and what a snapshot changed.
fn make(images: &Images, name: &Reference) -> String {
    let base = images
        .add_layer(None, &mut archive(&[file("base", "base")]).as_slice())
        .unwrap();
    images.prepare("make", Some(&base.chain)).unwrap();
    let tree = images.mount("make").unwrap();
    std::fs::write(through(&tree).join("app"), vec![3u8; 2_000_000]).unwrap();
    drop(tree);
    let top = images.take_layer("make").unwrap();
    images
        .create(&config(&[&base.diff_id, &top.diff_id]), None, Some(name))
        .unwrap()
        .id
}

async fn there_and_back(registry: &Registry, login: Option<Credentials>) -> String {
    let name = Reference::parse(&format!("{}/team/app:1", registry.address)).unwrap();
    let (_data, images) = images();
    let id = make(&images, &name);
    let pushed = images.push(&name, login.clone(), silent()).await.unwrap();
    let (_data, other) = common::images();
    let (image, pulled) = other
        .pull(&name, None, login.clone(), silent())
        .await
        .unwrap();
    assert_eq!((image.id, &pulled.digest), (id, &pushed.digest));
    assert_eq!(
        other.remote_tags(&name, login.clone()).await.unwrap(),
        ["1"]
    );
    let tree = other.mount_read_only(image.top.as_ref().unwrap()).unwrap();
    assert_eq!(
        std::fs::read(through(&tree).join("app")).unwrap(),
        vec![3u8; 2_000_000]
    );
    let copy = Reference::parse(&format!("{}/team/copy:2", registry.address)).unwrap();
    other.tag(&name.familiar(), &copy.familiar()).unwrap();
    assert_eq!(
        other.push(&copy, login, silent()).await.unwrap().digest,
        pushed.digest
    );
    pushed.digest
}

#[tokio::test]
async fn plain_http() {
    let Some(registry) = start(false) else { return };
    let digest = there_and_back(&registry, None).await;
    let look = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{}/team/app:1", registry.address))
        .output();
    if let Ok(output) = look {
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), digest);
    }
}

#[tokio::test]
async fn tls_and_a_password() {
    let Some(registry) = start(true) else { return };
    let (_data, images) = images();
    images
        .login(&registry.address, credentials("pass"))
        .await
        .unwrap();
    let error = images
        .login(&registry.address, credentials("wrong"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("unauthorized"), "{error}");
    there_and_back(&registry, Some(credentials("pass"))).await;
    let name = Reference::parse(&format!("{}/team/app:1", registry.address)).unwrap();
    let error = images
        .pull(&name, None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("pull access denied"), "{error}");
}
