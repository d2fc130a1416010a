//! Random trees: what is unpacked, mounted and made a layer again is the same tree and the same layer.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::AsFd;
use std::path::Path;

use common::{describe, images};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Node {
    File {
        data: Vec<u8>,
        mode: u32,
        uid: u32,
        mtime: i64,
        xattr: Option<Vec<u8>>,
    },
    Folder {
        mode: u32,
        gid: u32,
        children: Vec<(String, Node)>,
    },
    Symlink(String),
    HardLinkToFirst,
    Fifo,
    Device(u32, u32),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        "[a-zA-Z0-9 ._\\-=\n]{1,20}",
        "[äöü€]{1,10}",
        Just("n".repeat(200)),
    ]
    .prop_filter("a name of its own kind", |name| {
        name != "." && name != ".." && !name.starts_with(".wh.")
    })
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![
        Just(0o644u32),
        Just(0o755),
        Just(0o4755),
        Just(0o2711),
        Just(0),
        Just(0o1777)
    ];
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        (0usize..3).prop_map(|pages| vec![0u8; pages * 4096 + 17]),
        any::<u8>().prop_map(|byte| [vec![byte; 5000], vec![0; 300_000], vec![byte; 3]].concat()),
    ];
    let id = prop_oneof![Just(0u32), Just(1000), Just(2_097_152), Just(u32::MAX - 1)];
    let time = prop_oneof![
        Just(0i64),
        1_000_000_000i64..2_000_000_000,
        Just(-1_000_000),
        Just(8_589_934_592)
    ];
    let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 0..50));
    let leaf = prop_oneof![
        4 => (data, mode, id, time, xattr)
            .prop_map(|(data, mode, uid, mtime, xattr)| Node::File { data, mode, uid, mtime, xattr }),
        1 => "[a-z/]{1,150}".prop_map(Node::Symlink),
        1 => Just(Node::HardLinkToFirst),
        1 => Just(Node::Fifo),
        1 => (1u32..5, 1u32..300).prop_map(|(major, minor)| Node::Device(major, minor)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let mode = prop_oneof![Just(0o755u32), Just(0o700), Just(0o2775), Just(0o1777)];
        let children = prop::collection::vec((name(), inner), 0..6);
        (mode, 0u32..2000, children).prop_map(|(mode, gid, children)| Node::Folder {
            mode,
            gid,
            children,
        })
    })
}

/// Makes a node; names that are taken already are left out.
fn make(path: &Path, node: &Node, first: &mut Option<std::path::PathBuf>) {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::symlink_metadata(path).is_ok() {
        return;
    }
    let permissions = |mode: u32| std::fs::Permissions::from_mode(mode);
    match node {
        Node::File {
            data,
            mode,
            uid,
            mtime,
            xattr,
        } => {
            std::fs::write(path, data).unwrap();
            std::os::unix::fs::chown(path, Some(*uid), Some(*uid)).unwrap();
            if let Some(value) = xattr {
                rustix::fs::setxattr(path, "user.test", value, rustix::fs::XattrFlags::empty())
                    .unwrap();
            }
            std::fs::set_permissions(path, permissions(*mode)).unwrap();
            set_time(path, *mtime);
            first.get_or_insert_with(|| path.to_owned());
        }
        Node::Folder {
            mode,
            gid,
            children,
        } => {
            std::fs::create_dir(path).unwrap();
            for (name, child) in children {
                make(&path.join(name), child, first);
            }
            std::os::unix::fs::chown(path, Some(0), Some(*gid)).unwrap();
            std::fs::set_permissions(path, permissions(*mode)).unwrap();
            set_time(path, 1_500_000_000);
        }
        Node::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
        Node::HardLinkToFirst => {
            if let Some(first) = first {
                std::fs::hard_link(first, path).unwrap();
            }
        }
        Node::Fifo => special(path, rustix::fs::FileType::Fifo, 0),
        Node::Device(major, minor) => special(
            path,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::makedev(*major, *minor),
        ),
    }
}

fn special(path: &Path, kind: rustix::fs::FileType, device: u64) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        kind,
        rustix::fs::Mode::from_raw_mode(0o640),
        device,
    )
    .unwrap();
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_survives(children in prop::collection::vec((name(), node()), 0..6)) {
        let (_data, images) = images();
        images.prepare("make", None).unwrap();
        let upper = images.snapshot("make").unwrap().upper;
        // Straight into the upper folder: the layer's tree as a container would leave it.
        let mut first = None;
        for (name, node) in &children {
            make(&upper.join(name), node, &mut first);
        }
        let wanted = describe(&upper);
        let copied = images.commit_layer("make", &[]).unwrap();
        let copy = images.lower(&copied.chain).unwrap();
        if let Some(copy) = copy.first() {
            prop_assert_eq!(&describe(copy), &wanted);
        } else {
            prop_assert!(wanted.is_empty());
        }
        // Made from its own folder again, it is the same layer.
        images.prepare("again", Some(&copied.chain)).unwrap();
        let taken = images.take_layer("make").unwrap();
        prop_assert_eq!(&taken, &copied);

        // And an independent implementation reads the same tree from the archive.
        let image = images.create(&common::config(&[&copied.diff_id]), None, None).unwrap();
        let mut saved = Vec::new();
        images.save(&[image.id], &mut saved).unwrap();
        let work = tempfile::tempdir().unwrap();
        unpack_with_gnu_tar(&saved, &copied.diff_id, work.path());
        prop_assert_eq!(&describe(&work.path().join("tree")), &wanted);
    }

    #[test]
    fn any_bytes_are_an_error_or_an_archive(bytes in prop::collection::vec(any::<u8>(), 0..3000), valid in any::<bool>()) {
        let mut bytes = bytes;
        if valid && bytes.len() >= 512 {
            // A right checksum lets the rest of the header be looked at.
            bytes[148..156].fill(b' ');
            let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let _ = wharf_image::unpack(&mut bytes.as_slice(), root.as_fd(), &wharf_image::UnpackOptions::default());
    }
}

fn unpack_with_gnu_tar(saved: &[u8], diff_id: &str, work: &Path) {
    let archive = work.join("saved.tar");
    std::fs::write(&archive, saved).unwrap();
    std::fs::create_dir(work.join("tree")).unwrap();
    let layer = format!("blobs/sha256/{}", diff_id.trim_start_matches("sha256:"));
    let extract = |archive: &Path, into: &Path, more: &[&str]| {
        let mut command = std::process::Command::new("tar");
        command
            .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"])
            .arg(archive)
            .arg("-C")
            .arg(into);
        let output = command.args(more).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    extract(&archive, work, &[&layer]);
    extract(&work.join(&layer), &work.join("tree"), &[]);
}
