//! Archives that try to reach out of their root, or to exhaust the machine.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use common::{archive, file, folder, hard_link, images, link, symlink};
use tar::EntryType;

/// Unpacks below `OUTER/root` and checks that nothing else in `OUTER` changed.
fn attack(
    items: &[common::Item<'_>],
) -> (
    tempfile::TempDir,
    wharf_image::Result<wharf_image::Unpacked>,
) {
    let outer = tempfile::tempdir().unwrap();
    std::fs::create_dir(outer.path().join("root")).unwrap();
    std::fs::create_dir(outer.path().join("victim")).unwrap();
    std::fs::write(outer.path().join("victim/file"), "untouched").unwrap();
    let options = wharf_image::UnpackOptions {
        whiteouts: true,
        devices: true,
        ..wharf_image::UnpackOptions::default()
    };
    let root = std::fs::File::open(outer.path().join("root")).unwrap();
    let result = wharf_image::unpack(&mut archive(items).as_slice(), root.as_fd(), &options);
    let names = |path: &str| std::fs::read_dir(outer.path().join(path)).unwrap().count();
    assert_eq!(
        (names(""), names("victim")),
        (2, 1),
        "something appeared outside"
    );
    assert_eq!(
        std::fs::read_to_string(outer.path().join("victim/file")).unwrap(),
        "untouched"
    );
    assert_eq!(
        std::fs::metadata(outer.path().join("victim/file"))
            .unwrap()
            .nlink(),
        1
    );
    (outer, result)
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for (what, items) in [
        ("dot-dot", vec![file("../victim/new", "x")]),
        (
            "dot-dot inside",
            vec![folder("a"), file("a/../../victim/new", "x")],
        ),
        ("folder", vec![folder("../victim2")]),
        ("symlink upwards", vec![symlink("s", "../victim")]),
        (
            "symlink upwards from below",
            vec![folder("d"), symlink("d/s", "../../victim/file")],
        ),
        ("hard link upwards", vec![hard_link("h", "../victim/file")]),
        (
            "hard link through the root",
            vec![hard_link("h", "/../victim/file")],
        ),
        ("whiteout of dot-dot", vec![file(".wh...", "")]),
        ("whiteout of nothing", vec![file(".wh.", "")]),
        ("whiteout upwards", vec![file("../victim/.wh.file", "")]),
    ] {
        let (_outer, result) = attack(&items);
        let error = result.expect_err(what).to_string();
        assert!(error.contains("refused"), "{what}: {error}");
    }
}

#[test]
fn links_are_followed_inside_the_root_only() {
    let (outer, result) = attack(&[symlink("s", "/victim"), file("s/file", "inside")]);
    // `/victim` does not exist in the root: the link dangles, and nothing is made in its place.
    assert!(result.unwrap_err().to_string().contains("not a folder"));
    assert!(!outer.path().join("root/victim").exists());

    let (outer, result) = attack(&[
        folder("victim"),
        symlink("s", "/victim"),
        file("s/file", "inside"),
    ]);
    result.unwrap();
    assert_eq!(
        std::fs::read_to_string(outer.path().join("root/victim/file")).unwrap(),
        "inside"
    );
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    // The cached folder must not survive its replacement.
    let (outer, result) = attack(&[
        folder("a"),
        file("a/one", "1"),
        symlink("a", "/etc"),
        folder("etc"),
        file("a/passwd", "2"),
    ]);
    result.unwrap();
    assert_eq!(
        std::fs::read_to_string(outer.path().join("root/etc/passwd")).unwrap(),
        "2"
    );
    let (outer, result) = attack(&[symlink("a", "/tmp"), folder("a"), file("a/x", "1")]);
    result.unwrap();
    assert!(
        std::fs::symlink_metadata(outer.path().join("root/a"))
            .unwrap()
            .is_dir()
    );
    assert!(outer.path().join("root/a/x").exists());
}

#[test]
fn files_are_not_written_through_links() {
    let (outer, result) = attack(&[symlink("s", "/victim/file"), file("s", "new")]);
    result.unwrap();
    assert!(
        std::fs::symlink_metadata(outer.path().join("root/s"))
            .unwrap()
            .is_file()
    );
    let (_outer, result) = attack(&[hard_link("h", "victim/file")]);
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("not in the archive")
    );
    let (outer, result) = attack(&[symlink("s", "/victim/file"), hard_link("h", "s")]);
    result.unwrap();
    assert!(
        std::fs::symlink_metadata(outer.path().join("root/h"))
            .unwrap()
            .is_symlink(),
        "the link itself is linked"
    );
}

#[test]
fn whiteouts_through_links_stay_inside() {
    let (outer, result) = attack(&[
        folder("victim"),
        symlink("s", "/victim"),
        file("s/.wh.file", ""),
        file("s/.wh..wh..opq", ""),
    ]);
    result.unwrap();
    let made = std::fs::symlink_metadata(outer.path().join("root/victim/file")).unwrap();
    assert!(made.file_type().is_char_device() && made.rdev() == 0);
}

#[test]
fn overlay_attributes_of_an_archive_are_ignored() {
    let mut builder = tar::Builder::new(Vec::new());
    let pax = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".as_slice()),
        ("SCHILY.xattr.user.kept", b"v"),
    ];
    builder.append_pax_extensions(pax).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::Directory);
    header.set_path("d").unwrap();
    header.set_mode(0o755);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    let outer = tempfile::tempdir().unwrap();
    let root = std::fs::File::open(outer.path()).unwrap();
    let bytes = builder.into_inner().unwrap();
    wharf_image::unpack(
        &mut bytes.as_slice(),
        root.as_fd(),
        &wharf_image::UnpackOptions::default(),
    )
    .unwrap();
    let mut value = [0u8; 16];
    let path = outer.path().join("d");
    assert!(rustix::fs::lgetxattr(&path, "trusted.overlay.redirect", &mut value[..]).is_err());
    assert_eq!(
        rustix::fs::lgetxattr(&path, "user.kept", &mut value[..]).unwrap(),
        1
    );
}

#[test]
fn device_nodes_only_where_allowed() {
    let (outer, result) = attack(&[link(EntryType::Char, "null", "")]);
    result.unwrap();
    assert!(
        std::fs::metadata(outer.path().join("root/null"))
            .unwrap()
            .file_type()
            .is_char_device()
    );
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::File::open(folder.path()).unwrap();
    let error = wharf_image::extract(
        &mut archive(&[link(EntryType::Char, "null", "")]).as_slice(),
        root.as_fd(),
        "".as_ref(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("device node"), "{error}");
}

#[test]
fn malformed_archives_are_errors_and_leave_nothing() {
    let (data, images) = images();
    let good = archive(&[file("a", "some data that is longer than nothing")]);
    let mut bad_sum = good.clone();
    bad_sum[0] ^= 1;
    let mut huge = good.clone();
    huge[124..136].copy_from_slice(b"77777777777\0");
    let sum: u64 = huge[..512]
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u64::from(*b)
            }
        })
        .sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let odd = archive(&[link(EntryType::new(b'Z'), "odd", "")]);
    let long_name = archive(&[Item0::long_name()]);
    for (what, bytes) in [
        ("checksum", bad_sum),
        ("cut in a header", good[..300].to_vec()),
        ("cut in data", good[..520].to_vec()),
        ("huge", huge),
        ("unknown kind", odd),
        ("garbage", vec![b'x'; 2048]),
        ("huge name", long_name),
        (
            "xz",
            [&[0xfd, b'7', b'z', b'X', b'Z', 0][..], &[0; 100]].concat(),
        ),
        (
            "escape",
            archive(&[file("fine", "x"), file("../../escape", "x")]),
        ),
    ] {
        images
            .add_layer(None, &mut bytes.as_slice())
            .map(|_| ())
            .expect_err(what);
        for place in [
            "staging",
            "layers",
            "chains",
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

struct Item0;
impl Item0 {
    /// A GNU long name of 1 GiB, announced only.
    fn long_name() -> common::Item<'static> {
        static DATA: [u8; 2 << 20] = [b'n'; 2 << 20];
        common::Item {
            kind: EntryType::GNULongName,
            path: "././@LongLink",
            link: "",
            data: &DATA,
            mode: 0,
        }
    }
}

#[test]
fn a_bomb_is_noticed_while_it_goes_off() {
    let (_data, images) = images();
    // 2 GiB of zeros in about 200 KiB of zstd.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(2 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0u8; 1 << 20];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let error = images
        .add_layer(None, &mut bomb.as_slice())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("compressed bytes unpack to more than"),
        "{error}"
    );
}

#[test]
fn trees_of_any_depth_are_removed() {
    let (data, images) = images();
    let layer = images
        .add_layer(None, &mut archive(&[file("x", "")]).as_slice())
        .unwrap();
    images.prepare("deep", Some(&layer.chain)).unwrap();
    let upper = images.snapshot("deep").unwrap().upper;
    let name = "n".repeat(100);
    let mut folder = std::fs::File::open(&upper).unwrap();
    for _ in 0..300 {
        rustix::fs::mkdirat(&folder, &name, rustix::fs::Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&folder, "side", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        folder = rustix::fs::openat(&folder, &name, flags, rustix::fs::Mode::empty())
            .unwrap()
            .into();
    }
    images.remove_snapshot("deep").unwrap();
    assert_eq!(
        std::fs::read_dir(data.path().join("staging"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_users_archive_goes_into_a_folder_of_the_root() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(outer.path().join("real/data")).unwrap();
    std::os::unix::fs::symlink("/real/data", outer.path().join("data")).unwrap();
    let root = std::fs::File::open(outer.path()).unwrap();
    let mut top = folder("./");
    top.mode = 0o700;
    let items = [
        top,
        file("a", "a"),
        hard_link("b", "a"),
        file(".wh.c", "plain"),
        symlink("up", "../up"),
    ];
    wharf_image::extract(
        &mut archive(&items).as_slice(),
        root.as_fd(),
        "/data".as_ref(),
    )
    .unwrap();
    let inside = outer.path().join("real/data");
    assert_eq!(std::fs::metadata(inside.join("b")).unwrap().nlink(), 2);
    assert_eq!(
        std::fs::read_to_string(inside.join(".wh.c")).unwrap(),
        "plain"
    );
    assert_eq!(
        std::fs::metadata(&inside).unwrap().mode() & 0o777,
        0o755,
        "the folder itself stays as it is"
    );
    let mut packed = Vec::new();
    let tree = std::fs::File::open(&inside).unwrap();
    assert_eq!(
        wharf_image::pack(tree.as_fd(), &mut packed)
            .unwrap()
            .entries,
        3,
        "a, b and the link; .wh.c is no name"
    );
    for bad in [file("../../etc", "x"), symlink("s", "../../../x")] {
        let result = wharf_image::extract(
            &mut archive(&[bad]).as_slice(),
            root.as_fd(),
            "data".as_ref(),
        );
        assert!(result.unwrap_err().to_string().contains("refused"));
    }
}
