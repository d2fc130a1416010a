//! Archives: our own and other tools', both ways.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::{archive, config, describe, file, folder, images, silent, symlink, through};
use wharf_image::{Image, Images, Reference};

fn app(images: &Images, name: &str) -> Image {
    let base = archive(&[
        folder("etc"),
        file("etc/passwd", "root:x:0:0::/:/bin/sh"),
        file("gone", "x"),
        symlink("l", "etc/passwd"),
    ]);
    let base = images.add_layer(None, &mut base.as_slice()).unwrap();
    images.prepare("make", Some(&base.chain)).unwrap();
    let tree = images.mount("make").unwrap();
    std::fs::write(through(&tree).join("app"), vec![7u8; 300_000]).unwrap();
    std::fs::remove_file(through(&tree).join("gone")).unwrap();
    drop(tree);
    let top = images.take_layer("make").unwrap();
    images
        .create(
            &config(&[&base.diff_id, &top.diff_id]),
            None,
            Some(&Reference::parse(name).unwrap()),
        )
        .unwrap()
}

fn tree_of(images: &Images, image: &Image) -> std::collections::BTreeMap<String, String> {
    let tree = images.mount_read_only(image.top.as_ref().unwrap()).unwrap();
    describe(&through(&tree))
}

fn save(images: &Images, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    images
        .save(
            &names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
            &mut out,
        )
        .unwrap();
    out
}

#[test]
fn what_is_saved_can_be_loaded() {
    let (_data, images) = images();
    let image = app(&images, "app:1");
    images.tag("app:1", "reg.lan/other:2").unwrap();
    let saved = save(&images, &["app:1", "reg.lan/other:2"]);
    assert_eq!(
        saved,
        save(&images, &["app:1", "reg.lan/other:2"]),
        "the same bytes again"
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&saved).unwrap();
    for bytes in [
        saved.clone(),
        gzip.finish().unwrap(),
        zstd::encode_all(saved.as_slice(), 1).unwrap(),
    ] {
        let (_data, other) = common::images();
        assert_eq!(
            other.load(&mut bytes.as_slice(), silent()).unwrap(),
            ["app:1", "reg.lan/other:2"]
        );
        let loaded = other.resolve("app:1").unwrap();
        assert_eq!(loaded.id, image.id);
        assert_eq!(tree_of(&other, &loaded), tree_of(&images, &image));
        assert_eq!(
            other.load(&mut bytes.as_slice(), silent()).unwrap().len(),
            2,
            "again"
        );
    }
    let (_data, other) = common::images();
    let unnamed = save(&images, &[&image.id]);
    assert_eq!(
        other.load(&mut unnamed.as_slice(), silent()).unwrap(),
        [image.id]
    );
}

/// What is wrong, the archive, and a part of the error that says so.
fn damaged() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (_data, source) = images();
    app(&source, "app:1");
    let saved = save(&source, &["app:1"]);
    let mut flipped = saved.clone();
    // In the large file's data.
    let at = saved
        .windows(64)
        .position(|window| window.iter().all(|b| *b == 7))
        .unwrap();
    flipped[at] ^= 1;
    let evil = [file(
        "manifest.json",
        r#"[{"Config":"../../etc/passwd","Layers":[]}]"#,
    )];
    let lie = [
        file(
            "c.json",
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}"#,
        ),
        file("layer.tar", ""),
        file(
            "manifest.json",
            r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["layer.tar"]}]"#,
        ),
    ];
    let short = [
        file(
            "c.json",
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
        ),
        file("layer.tar", ""),
        file(
            "manifest.json",
            r#"[{"Config":"c.json","Layers":["layer.tar"]}]"#,
        ),
    ];
    vec![
        ("a changed layer", flipped, "digest mismatch"),
        ("cut off", saved[..saved.len() / 2].to_vec(), "ends"),
        ("config outside", archive(&evil), "leaves it"),
        ("a wrong diff ID", archive(&lie), "digest does not match"),
        (
            "more layers than announced",
            archive(&short),
            "length mismatch",
        ),
        (
            "no image",
            archive(&[file("readme", "x")]),
            "neither manifest.json nor index.json",
        ),
        (
            "a device",
            archive(&[common::link(tar::EntryType::Char, "null", "")]),
            "neither file, folder nor link",
        ),
        (
            "a path outside",
            archive(&[file("../x", "x")]),
            "leaves the archive",
        ),
    ]
}

#[test]
fn damaged_archives_leave_nothing() {
    for (what, bytes, part) in damaged() {
        let (data, images) = images();
        let error = images
            .load(&mut bytes.as_slice(), silent())
            .expect_err(what)
            .to_string();
        assert!(error.contains(part), "{what}: {error}");
        for place in [
            "staging",
            "layers",
            "images",
            "content/ingest",
            "content/blobs/sha256",
        ] {
            assert_eq!(
                std::fs::read_dir(data.path().join(place)).unwrap().count(),
                0,
                "{what}: left in {place}"
            );
        }
    }
}

#[test]
fn a_root_file_system_becomes_an_image() {
    let (_data, images) = images();
    let tar = archive(&[folder("bin"), file("bin/sh", "#!"), file("other", "o")]);
    let config = oci_spec::image::ImageConfiguration::default();
    let reference = Reference::parse("imported:1").unwrap();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    let image = images
        .import(&mut zstd.as_slice(), config.clone(), Some(&reference))
        .unwrap();
    assert_eq!(image.tags, ["imported:1"]);
    assert_eq!(image.size_bytes, 3);
    let layer = [wharf_blob::Digest::of(&tar).to_string()];
    assert_eq!(*image.config.rootfs().diff_ids(), layer);
    // Whatever it is packed with, it is the same layer.
    for program in ["bzip2", "xz"] {
        let packed = packed(program, &tar);
        let again = images.import(&mut packed.as_slice(), config.clone(), None);
        assert_eq!(
            *again.unwrap().config.rootfs().diff_ids(),
            layer,
            "{program}"
        );
    }
    let history = image.config.history().clone().unwrap();
    assert_eq!(history.len(), 1);
}

/// As the system's own program packs it.
fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("archive");
    std::fs::write(&file, bytes).unwrap();
    let output = Command::new(program).arg("-c").arg(&file).output();
    output.expect("apt-get install bzip2 xz-utils").stdout
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("{program} is not installed: not compared with it");
    }
    found
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// skopeo reads our archives both as Docker's and as OCI's, and we read what it writes in either form.
#[test]
fn skopeo_both_ways() {
    if !is_installed("skopeo") {
        return;
    }
    let (_data, images) = images();
    let image = app(&images, "app:1");
    let work = tempfile::tempdir().unwrap();
    let ours = path(work.path(), "ours.tar");
    std::fs::write(&ours, save(&images, &["app:1"])).unwrap();
    for (source, target) in [
        (
            format!("docker-archive:{ours}:app:1"),
            format!("oci-archive:{}:app:1", path(work.path(), "oci.tar")),
        ),
        (
            format!("oci-archive:{ours}:1"),
            format!("docker-archive:{}:app:1", path(work.path(), "docker.tar")),
        ),
        (
            format!("docker-archive:{ours}:app:1"),
            format!("docker-archive:{}:app:1", path(work.path(), "same.tar")),
        ),
    ] {
        run(
            "skopeo",
            &["--insecure-policy", "copy", "-q", &source, &target],
        );
    }
    // Between the two forms skopeo writes the configuration anew, which gives it another ID.
    for (name, same_id) in [
        ("oci.tar", false),
        ("docker.tar", false),
        ("same.tar", true),
    ] {
        let (_data, other) = common::images();
        let mut file = std::fs::File::open(work.path().join(name)).unwrap();
        let loaded = other.load(&mut file, silent()).unwrap();
        assert_eq!(loaded.len(), 1, "{name}");
        let loaded = other.resolve(&loaded[0]).unwrap();
        assert!(!same_id || loaded.id == image.id, "{name}");
        assert_eq!(tree_of(&other, &loaded), tree_of(&images, &image), "{name}");
    }
}
