//! Layers and snapshots: unpack → mount → modify → diff → apply gives the same tree.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink as make_symlink};
use std::path::Path;

use common::{archive, describe, file, folder, hard_link, images, symlink, through};
use wharf_image::{ChangeKind, Images, RegistryConfig};

/// What a container might do to an image.
fn modify(root: &Path) {
    std::fs::write(root.join("etc/new"), "new").unwrap();
    std::fs::write(root.join("etc/passwd"), "changed").unwrap();
    std::fs::remove_file(root.join("etc/gone")).unwrap();
    std::fs::remove_dir_all(root.join("opt")).unwrap();
    std::fs::create_dir(root.join("opt")).unwrap();
    std::fs::write(root.join("opt/only"), "this").unwrap();
    std::fs::remove_dir_all(root.join("srv")).unwrap();
    std::fs::write(root.join("srv"), "now a file").unwrap();
    make_symlink("/etc/passwd", root.join("etc/link")).unwrap();
    std::fs::hard_link(root.join("etc/new"), root.join("etc/zhard")).unwrap();
    std::fs::set_permissions(
        root.join("bin/tool"),
        std::fs::Permissions::from_mode(0o4711),
    )
    .unwrap();
    std::os::unix::fs::lchown(root.join("etc/link"), Some(1000), Some(3_000_000)).unwrap();
    rustix::fs::setxattr(
        root.join("etc/new").as_path(),
        "user.colour",
        b"blue",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(
        root.join("etc/passwd").as_path(),
        "security.capability",
        &capability,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let long = root.join("l".repeat(120)).join("m".repeat(120));
    std::fs::create_dir_all(&long).unwrap();
    std::fs::write(long.join("ß".repeat(50)), "deep").unwrap();
    // A folder of the image can't be renamed in one step on overlayfs: programs copy, as `mv` does.
    assert!(std::fs::rename(root.join("var/old"), root.join("var/renamed")).is_err());
    std::fs::create_dir(root.join("var/renamed")).unwrap();
    std::fs::rename(root.join("var/old/f"), root.join("var/renamed/f")).unwrap();
    std::fs::remove_dir(root.join("var/old")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::fs::write(root.join("zeros"), vec![0u8; 100_000]).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
}

fn base(images: &Images) -> wharf_image::Layer {
    let items = [
        folder("./"),
        folder("etc"),
        file("etc/passwd", "root"),
        file("etc/gone", "g"),
        folder("opt"),
        file("opt/a", "a"),
        folder("opt/b"),
        file("opt/b/c", "c"),
        folder("srv"),
        file("srv/x", "x"),
        folder("bin"),
        file("bin/tool", "t"),
        hard_link("bin/tool2", "bin/tool"),
        symlink("sh", "bin/tool"),
        folder("var"),
        folder("var/old"),
        file("var/old/f", "f"),
    ];
    images
        .add_layer(None, &mut archive(&items).as_slice())
        .unwrap()
}

#[test]
fn round_trip_by_copy_and_by_taking() {
    let (_data, images) = images();
    let base = base(&images);
    images.prepare("c1", Some(&base.chain)).unwrap();
    let tree = images.mount("c1").unwrap();
    modify(&through(&tree));
    let wanted = describe(&through(&tree));
    let copied = images.commit_layer("c1", &[]).unwrap();
    assert!(!copied.empty && copied.size_bytes > 1 << 20);
    drop(tree);

    let taken = images.take_layer("c1").unwrap();
    assert_eq!(copied, taken, "both ways make the same layer");
    assert!(
        images.snapshot("c1").is_err(),
        "taking consumes the snapshot"
    );

    images.prepare("c2", Some(&copied.chain)).unwrap();
    let again = images.mount("c2").unwrap();
    let got = describe(&through(&again));
    for (path, text) in &wanted {
        assert_eq!(got.get(path), Some(text), "{path}");
    }
    assert_eq!(got.len(), wanted.len());
}

#[test]
fn changes_in_dockers_terms() {
    let (_data, images) = images();
    let base = base(&images);
    images.prepare("c1", Some(&base.chain)).unwrap();
    assert!(images.changes("c1", &[]).unwrap().is_empty());
    let tree = images.mount("c1").unwrap();
    let root = through(&tree);
    std::fs::write(root.join("etc/new"), "new").unwrap();
    std::fs::write(root.join("etc/passwd"), "changed").unwrap();
    std::fs::remove_file(root.join("etc/gone")).unwrap();
    std::fs::remove_dir_all(root.join("opt")).unwrap();
    std::fs::create_dir(root.join("opt")).unwrap();
    let changes = images.changes("c1", &[]).unwrap();
    let text: Vec<String> = changes
        .iter()
        .map(|c| format!("{:?} {}", c.kind, c.path.display()))
        .collect();
    assert_eq!(
        text,
        [
            "Modified /etc",
            "Deleted /etc/gone",
            "Added /etc/new",
            "Modified /etc/passwd",
            "Modified /opt",
            "Deleted /opt/a",
            "Deleted /opt/b"
        ]
    );
    assert!(changes.iter().any(|c| c.kind == ChangeKind::Deleted));
    assert!(images.usage_bytes("c1").unwrap() > 0);
}

#[test]
fn places_to_mount_on_are_no_change() {
    const PLACES: &[&str] = &["dev", "etc/hosts", "srv/mnt"];
    let (_data, images) = images();
    let base = base(&images);
    images.prepare("c1", Some(&base.chain)).unwrap();
    let tree = images.mount("c1").unwrap();
    let root = through(&tree);
    std::fs::create_dir(root.join("dev")).unwrap();
    std::fs::write(root.join("etc/hosts"), "").unwrap();
    std::fs::create_dir(root.join("srv/mnt")).unwrap();
    let seen = || -> Vec<String> {
        let changes = images.changes("c1", PLACES).unwrap();
        changes
            .iter()
            .map(|c| format!("{:?} {}", c.kind, c.path.display()))
            .collect()
    };
    assert_eq!(seen(), Vec::<String>::new());
    assert!(images.commit_layer("c1", PLACES).unwrap().empty);
    // What is more than an empty place counts, and so does a folder that was changed beside.
    std::fs::write(root.join("etc/hosts"), "text").unwrap();
    std::fs::set_permissions(root.join("srv"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(
        seen(),
        ["Modified /etc", "Added /etc/hosts", "Modified /srv"]
    );
    assert!(!images.commit_layer("c1", PLACES).unwrap().empty);
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let (_data, images) = images();
    let base = base(&images);
    let items = [
        // A whiteout beside its own replacement, before and after it; one below a folder that has no entry.
        file("etc/.wh.passwd", ""),
        file("etc/passwd", "same layer"),
        folder("opt"),
        file("opt/new", "n"),
        file(".wh.opt", ""),
        file(".wh.srv", ""),
        file("srv/y", "y"),
        file("var/.wh..wh..opq", ""),
        file(".wh..wh.plnk", ""),
    ];
    let layer = images
        .add_layer(Some(&base.chain), &mut archive(&items).as_slice())
        .unwrap();
    let tree = images.mount_read_only(&layer.chain).unwrap();
    let root = through(&tree);
    assert_eq!(
        std::fs::read_to_string(root.join("etc/passwd")).unwrap(),
        "same layer"
    );
    let names = |path: &str| {
        let mut names: Vec<String> = std::fs::read_dir(root.join(path))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("opt"), ["new"]);
    assert_eq!(names("srv"), ["y"]);
    assert!(names("var").is_empty());
    assert_eq!(names(""), ["bin", "etc", "opt", "sh", "srv", "var"]);
}

#[test]
fn sparse_files_of_every_form() {
    for format in ["gnu", "posix", "oldgnu"] {
        for version in ["0.0", "0.1", "1.0"] {
            let work = tempfile::tempdir().unwrap();
            let path = work.path().join("sparse");
            let file = std::fs::File::create(&path).unwrap();
            for i in 0..40u64 {
                std::os::unix::fs::FileExt::write_all_at(
                    &file,
                    &[i as u8 + 1; 4096],
                    i * 1_000_000,
                )
                .unwrap();
            }
            file.set_len(50_000_000).unwrap();
            let output = std::process::Command::new("tar")
                .args(["-cS", "--format", format, "--sparse-version", version, "-C"])
                .arg(work.path())
                .arg("sparse")
                .output()
                .unwrap();
            assert!(output.stdout.len() < 1_000_000, "tar made it sparse");
            let (_data, images) = images();
            let layer = images
                .add_layer(None, &mut output.stdout.as_slice())
                .unwrap();
            let tree = images.mount_read_only(&layer.chain).unwrap();
            let copy = through(&tree).join("sparse");
            assert!(
                std::fs::read(&path).unwrap() == std::fs::read(&copy).unwrap(),
                "{format} {version}"
            );
            assert!(std::fs::metadata(&copy).unwrap().blocks() * 512 < 1_000_000);
        }
    }
}

#[test]
fn setgid_folders_and_owners_survive() {
    let (_data, images) = images();
    let mut setgid = folder("shared");
    setgid.mode = 0o2775;
    let mut setuid = file("shared/su", "x");
    setuid.mode = 0o6755;
    let layer = images
        .add_layer(None, &mut archive(&[setgid, setuid]).as_slice())
        .unwrap();
    let tree = images.mount_read_only(&layer.chain).unwrap();
    let meta = |path: &str| std::fs::metadata(through(&tree).join(path)).unwrap();
    assert_eq!(meta("shared").mode() & 0o7777, 0o2775);
    assert_eq!(meta("shared/su").mode() & 0o7777, 0o6755);
    assert_eq!(meta("shared").mtime(), 1_700_000_000);
}

#[test]
fn the_same_layer_is_here_once_and_goes_with_its_last_chain() {
    let (data, images) = images();
    let one = archive(&[file("one", "1")]);
    let two = archive(&[file("two", "2")]);
    let a = images.add_layer(None, &mut one.as_slice()).unwrap();
    let ab = images
        .add_layer(Some(&a.chain), &mut two.as_slice())
        .unwrap();
    let b = images.add_layer(None, &mut two.as_slice()).unwrap();
    assert_eq!(ab.diff_id, b.diff_id);
    assert_ne!(ab.chain, b.chain);
    let count = || {
        std::fs::read_dir(data.path().join("layers"))
            .unwrap()
            .count()
    };
    assert_eq!(count(), 2);
    let image = images
        .create(&common::config(&[&a.diff_id, &ab.diff_id]), None, None)
        .unwrap();
    let other = images
        .create(&common::config(&[&b.diff_id]), None, None)
        .unwrap();
    images.remove(&image.id, false, true, &|_| None).unwrap();
    assert_eq!(count(), 1, "layer two is still needed");
    images.remove(&other.id, false, true, &|_| None).unwrap();
    assert_eq!(count(), 0);
    assert_eq!(
        std::fs::read_dir(data.path().join("content/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn opening_recovers() {
    let (data, images) = images();
    let base = base(&images);
    let reference = wharf_image::Reference::parse("app:1").unwrap();
    let image = images
        .create(&common::config(&[&base.diff_id]), None, Some(&reference))
        .unwrap();
    images.prepare("kept", Some(&base.chain)).unwrap();
    let step = images
        .add_layer(
            Some(&base.chain),
            &mut archive(&[file("step", "")]).as_slice(),
        )
        .unwrap();
    drop(images);
    std::fs::create_dir_all(data.path().join("staging/99/fs/half")).unwrap();
    std::fs::create_dir_all(data.path().join("layers/98/fs")).unwrap();
    std::fs::create_dir_all(data.path().join("snapshots/torn/upper")).unwrap();
    std::fs::write(data.path().join("images/junk.json"), "{").unwrap();

    let images = Images::open(data.path(), RegistryConfig::default()).unwrap();
    assert_eq!(images.resolve("app:1").unwrap().id, image.id);
    assert_eq!(images.snapshots(), ["kept"]);
    assert!(
        images.layer(&step.chain).unwrap().is_some(),
        "a build's layers survive a restart"
    );
    for place in [
        "staging/99",
        "layers/98",
        "snapshots/torn",
        "images/junk.json",
    ] {
        assert!(!data.path().join(place).exists(), "{place}");
    }
    drop(images);

    // After a loss of power only what an image or a container vouches for is trusted.
    std::fs::write(data.path().join("boot"), "another").unwrap();
    let images = Images::open(data.path(), RegistryConfig::default()).unwrap();
    assert_eq!(images.resolve("app:1").unwrap().id, image.id);
    assert!(images.layer(&step.chain).unwrap().is_none());
    images.mount("kept").unwrap();
}

#[test]
fn snapshots_on_nothing_and_bad_keys() {
    let (_data, images) = images();
    images.prepare("scratch", None).unwrap();
    let tree = images.mount("scratch").unwrap();
    std::fs::write(through(&tree).join("a"), "a").unwrap();
    drop(tree);
    let layer = images.take_layer("scratch").unwrap();
    assert_eq!(layer.chain.0, layer.diff_id);
    images.prepare("again", Some(&layer.chain)).unwrap();
    assert!(
        images.prepare("again", Some(&layer.chain)).is_err(),
        "the key is taken"
    );
    for bad in ["", ".", "..", "a/b", "../x"] {
        assert!(images.prepare(bad, None).is_err(), "{bad:?}");
    }
    assert!(
        images
            .prepare("x", Some(&wharf_image::ChainId("sha256:00".into())))
            .is_err()
    );
    images.remove_snapshot("absent").unwrap();
}

#[test]
fn an_empty_layer_says_so() {
    let (_data, images) = images();
    let base = base(&images);
    images.prepare("c", Some(&base.chain)).unwrap();
    let layer = images.commit_layer("c", &[]).unwrap();
    assert!(layer.empty);
    assert_eq!(images.lower(&layer.chain).unwrap().len(), 1);
}
