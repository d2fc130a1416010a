//! Contexts and images that try to get out, or to make the builder work for ever.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{FileType, Mode};

use super::Kit;

#[tokio::test]
async fn links_of_a_context_stay_inside() {
    let kit = Kit::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let secret = outside.path().join("secret");
    symlink(&secret, kit.context.join("absolute")).unwrap();
    symlink(outside.path(), kit.context.join("folder")).unwrap();
    let up = format!(
        "{}{}",
        "../".repeat(40),
        secret.strip_prefix("/").unwrap().display()
    );
    symlink(&up, kit.context.join("relative")).unwrap();
    symlink("loop", kit.context.join("loop")).unwrap();
    symlink("/proc/self/root/etc/passwd", kit.context.join("magic")).unwrap();
    for source in [
        "absolute",
        "folder/secret",
        "relative",
        "loop",
        "magic",
        "folder",
    ] {
        let error = kit.fails(&format!("FROM base\nCOPY {source} /x")).await;
        assert!(
            error.contains("file not found in build context") || error.contains("forbidden path"),
            "{source}: {error}"
        );
    }
    // As part of a folder they are copied as what they are.
    let id = kit.build("FROM base\nCOPY . /c/\n").await.0.unwrap();
    assert_eq!(
        kit.files(&id)["/c/absolute"],
        format!("777 0:0 -> {}", secret.display())
    );
    let id = kit.build("FROM base\nCOPY abs* /c/\n").await;
    assert!(id.0.is_err());
}

#[tokio::test]
async fn links_of_an_image_stay_inside() {
    let victim = tempfile::tempdir().unwrap();
    let target = victim.path().to_owned();
    // A relative link that leaves the root does not even get into a layer.
    let up = format!("/../..{}", target.display());
    let kit = Kit::with_base(|files| {
        symlink(&target, files.join("absolute")).unwrap();
        symlink(&up, files.join("relative")).unwrap();
        symlink(target.join("file"), files.join("file")).unwrap();
        symlink("self", files.join("self")).unwrap();
        fs::create_dir(files.join("nested")).unwrap();
        symlink(&target, files.join("nested/d")).unwrap();
        symlink(target.join("passwd"), files.join("etc/shadow")).unwrap();
    });
    kit.file("a", "x");
    kit.file("tree/d/a", "x");
    let text = "FROM base\nCOPY a /absolute/\nCOPY a /relative/b\nCOPY a /file\nCOPY tree /nested\nWORKDIR /absolute/w\nCOPY a c\nADD a /relative/\n";
    let id = kit.build(text).await.0.unwrap();
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
    let files = kit.files(&id);
    let inside = |name: &str| files.contains_key(&format!("{}/{name}", target.display()));
    assert!(
        inside("a") && inside("b") && inside("file") && inside("w/c"),
        "{files:?}"
    );
    assert!(files["/nested/d/a"].ends_with(" x"));
    assert!(
        kit.fails("FROM base\nCOPY a /self/x")
            .await
            .starts_with("failed to copy files")
    );
    // Names are looked up in the image, never here.
    let passwd = "FROM base\nCOPY --chown=daemon a /x";
    assert!(kit.fails(passwd).await.contains("no such user"));
}

#[tokio::test]
async fn archives_stay_inside() {
    let victim = tempfile::tempdir().unwrap();
    let kit = Kit::with_base(|files| symlink(victim.path(), files.join("out")).unwrap());
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, link: Option<&Path>| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(0);
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
    };
    add("l", Some(victim.path()));
    add("l/evil", None);
    add("f", None);
    fs::write(kit.context.join("t.tar"), builder.into_inner().unwrap()).unwrap();
    let _ = kit.build("FROM base\nADD t.tar /out/\n").await;
    let _ = kit.build("FROM base\nADD t.tar /\n").await;
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn devices_of_a_context_are_refused() {
    let kit = Kit::new();
    fs::create_dir(kit.context.join("d")).unwrap();
    let device = rustix::fs::makedev(1, 3);
    for path in ["null", "d/null"] {
        let path = kit.context.join(path);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            FileType::CharacterDevice,
            Mode::RUSR,
            device,
        )
        .unwrap();
    }
    for source in ["null", "d", ".", "nu*"] {
        let error = kit.fails(&format!("FROM base\nCOPY {source} /x/")).await;
        assert!(error.contains("is a device or socket"), "{source}: {error}");
    }
    // A pipe is copied, never opened: reading it would wait for ever.
    let path = kit.context.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let id = kit.build("FROM base\nCOPY pipe /x/\n").await.0.unwrap();
    assert!(kit.files(&id)["/x/pipe"].ends_with("special"));
}

#[tokio::test]
async fn dockerfiles_stay_inside() {
    let kit = Kit::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "FROM base\nCMD secret\n").unwrap();
    symlink(outside.path(), kit.context.join("link")).unwrap();
    let up = format!(
        "{}{}",
        "../".repeat(40),
        outside.path().strip_prefix("/").unwrap().display()
    );
    for file in ["link", &up, "absent", "/etc/passwd"] {
        let mut request = kit.request("");
        (request.dockerfile_text, request.dockerfile) = (None, file.to_owned());
        let error = kit.build_with(request).await.0.unwrap_err().to_string();
        assert_eq!(error, format!("Cannot locate specified Dockerfile: {file}"));
    }
    symlink("/dev/zero", kit.context.join(".dockerignore")).unwrap();
    kit.build("FROM base\nCMD x\n").await.0.unwrap();
}

#[tokio::test]
async fn too_much_is_refused() {
    let kit = Kit::new();
    let many = format!("FROM base\n{}", "ENV A=1\n".repeat(10_001));
    assert!(
        kit.fails(&many)
            .await
            .contains("more than 10000 instructions")
    );
    assert!(
        kit.fails(&"#".repeat(5 << 20))
            .await
            .contains("larger than")
    );
    let stages = "FROM base\n".repeat(1_001);
    assert!(kit.fails(&stages).await.contains("more than 1000 stages"));
    fs::write(kit.context.join(".dockerignore"), "[\n").unwrap();
    assert!(
        kit.fails("FROM base\nCMD x")
            .await
            .starts_with("error reading .dockerignore")
    );
}
