//! What COPY and ADD make of files, compared with what dockerd 20.10 makes of the same.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::Kit;

fn kit() -> Kit {
    let kit = Kit::with_base(|files| {
        fs::create_dir_all(files.join("k/inner")).unwrap();
        for path in ["k", "k/inner"] {
            std::os::unix::fs::chown(files.join(path), Some(7), Some(7)).unwrap();
        }
        fs::create_dir(files.join("t")).unwrap();
        symlink("/t", files.join("u")).unwrap();
        symlink("/t/f", files.join("file")).unwrap();
        symlink("/no/where", files.join("dangling")).unwrap();
    });
    kit.file("a.txt", "a");
    kit.file("d/inner/z", "z");
    kit.file("d/x", "x");
    fs::set_permissions(
        kit.context.join("d/inner/z"),
        PermissionsExt::from_mode(0o4755),
    )
    .unwrap();
    fs::set_permissions(kit.context.join("d"), PermissionsExt::from_mode(0o700)).unwrap();
    symlink("/etc/passwd", kit.context.join("d/l")).unwrap();
    symlink("/a.txt", kit.context.join("l2")).unwrap();
    kit
}

/// Instruction, then paths with what must be there; an empty text: nothing is there.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)]);

const PLACED: &[Case<'_>] = &[
    ("COPY a.txt /x", &[("/x", "644 0:0 a")]),
    (
        "COPY a.txt /x/",
        &[("/x", "755 0:0 dir"), ("/x/a.txt", "644 0:0 a")],
    ),
    ("COPY a.txt x/y/z", &[("/x/y/z", "644 0:0 a")]),
    (
        "COPY a.txt /tmp",
        &[("/tmp", "1777 0:0 dir"), ("/tmp/a.txt", "644 0:0 a")],
    ),
    ("COPY l2 /x", &[("/x", "644 0:0 a")]),
    (
        "COPY d /x/y/",
        &[
            ("/x/y/x", "644 0:0 x"),
            ("/x/y/inner/z", "755 0:0 z"),
            ("/x/y/l", "777 0:0 -> /etc/passwd"),
            ("/x/y/d", ""),
        ],
    ),
    (
        "COPY --chown=5:6 d /k",
        &[
            ("/k", "755 7:7 dir"),
            ("/k/inner", "755 5:6 dir"),
            ("/k/inner/z", "755 5:6 z"),
            ("/k/l", "777 5:6 -> /etc/passwd"),
        ],
    ),
    ("COPY --chown=www a.txt /x", &[("/x", "644 33:34 a")]),
    (
        "COPY --chown=www:0 a.txt /n/x",
        &[("/n", "755 33:0 dir"), ("/n/x", "644 33:0 a")],
    ),
    ("COPY --chmod=4711 a.txt /x", &[("/x", "4711 0:0 a")]),
    (
        "COPY d /u",
        &[("/u", "777 0:0 -> /t"), ("/t/x", "644 0:0 x")],
    ),
    ("COPY a.txt /u/", &[("/t/a.txt", "644 0:0 a")]),
    (
        "COPY a.txt /file",
        &[("/file", "777 0:0 -> /t/f"), ("/t/f", "644 0:0 a")],
    ),
    ("COPY a.txt /dangling/", &[("/no/where/a.txt", "644 0:0 a")]),
    (
        "COPY *.txt d* /w/",
        &[("/w/a.txt", "644 0:0 a"), ("/w/x", "644 0:0 x")],
    ),
    ("COPY d/*/z /w/", &[("/w/z", "755 0:0 z")]),
    (
        "COPY . /c/",
        &[
            ("/c/a.txt", "644 0:0 a"),
            ("/c/d/x", "644 0:0 x"),
            ("/c/d", "700 0:0 dir"),
        ],
    ),
    (
        "COPY [\"a.txt\", \"d\", \"/j s/\"]",
        &[("/j s/a.txt", "644 0:0 a"), ("/j s/x", "644 0:0 x")],
    ),
    ("COPY a.txt ../../x", &[("/x", "644 0:0 a")]),
];

#[tokio::test]
async fn puts_files_where_docker_puts_them() {
    let kit = kit();
    for (instruction, expected) in PLACED {
        let id = kit
            .build(&format!("FROM base\n{instruction}\n"))
            .await
            .0
            .unwrap_or_else(|e| panic!("{instruction}: {e}"));
        let files = kit.files(&id);
        for (path, what) in *expected {
            assert_eq!(
                files.get(*path).map_or("", String::as_str),
                *what,
                "{instruction}: {path}"
            );
        }
    }
}

#[tokio::test]
async fn replaces_what_is_in_the_way() {
    let kit = Kit::with_base(|files| {
        fs::create_dir_all(files.join("t/a/deep")).unwrap();
        fs::write(files.join("t/b"), "old").unwrap();
        symlink("/etc", files.join("t/c")).unwrap();
    });
    kit.file("d/a", "file on folder");
    kit.file("d/b/x", "folder on file");
    kit.file("d/c/passwd", "folder on link");
    let id = kit.build("FROM base\nCOPY d /t\n").await.0.unwrap();
    let files = kit.files(&id);
    assert_eq!(files["/t/a"], "644 0:0 file on folder");
    assert_eq!(files["/t/b/x"], "644 0:0 folder on file");
    assert_eq!(files["/t/c/passwd"], "644 0:0 folder on link");
    assert!(files["/etc/passwd"].contains("root:x"));
}

#[tokio::test]
async fn keeps_owners_and_names_of_images() {
    let kit = Kit::with_base(|files| {
        fs::create_dir(files.join("p")).unwrap();
        fs::write(files.join("p/q"), "q").unwrap();
        fs::hard_link(files.join("p/q"), files.join("p/r")).unwrap();
        for path in ["p", "p/q"] {
            std::os::unix::fs::chown(files.join(path), Some(8), Some(9)).unwrap();
        }
        fs::set_permissions(files.join("p/q"), PermissionsExt::from_mode(0o4755)).unwrap();
    });
    let id = kit.build("FROM base\nCOPY --from=base /p /z/p\nCOPY --from=base /p/q /one\nCOPY --from=base --chown=1 /p/q /two\n").await.0.unwrap();
    let files = kit.files(&id);
    assert_eq!(files["/z/p"], "755 0:0 dir");
    assert_eq!(
        (files["/z/p/q"].as_str(), files["/z/p/r"].as_str()),
        ("4755 8:9 q", "4755 8:9 q")
    );
    assert_eq!(files["/one"], "4755 8:9 q");
    assert_eq!(files["/two"], "755 1:1 q");
    let image = kit.images.resolve(&id).unwrap();
    let mounted = kit
        .images
        .mount_read_only(image.top.as_ref().unwrap())
        .unwrap();
    let inode = |name: &str| {
        use std::os::{fd::AsFd, unix::fs::MetadataExt};
        fs::metadata(super::proc_path(mounted.as_fd(), name))
            .unwrap()
            .ino()
    };
    assert_eq!(inode("z/p/q"), inode("z/p/r"));
    assert_eq!(
        kit.fails("FROM base\nCOPY --from=base /nope /x").await,
        "COPY failed: stat nope: file does not exist"
    );
}

#[tokio::test]
async fn add_unpacks_archives() {
    let kit = Kit::with_base(|files| symlink("/t", files.join("u")).unwrap());
    kit.file("d/x", "x");
    let tar = wharf_testkit::archive::pack(&kit.context.join("d")).unwrap();
    fs::write(kit.context.join("t.tar"), &tar).unwrap();
    fs::write(
        kit.context.join("odd name"),
        zstd::encode_all(&tar[..], 1).unwrap(),
    )
    .unwrap();
    kit.file("plain.tar", "no archive");
    let id = kit.build("FROM base\nADD t.tar /u\nADD [\"odd name\", \"/two/\"]\nADD plain.tar /\nCOPY t.tar /\n").await.0.unwrap();
    let files = kit.files(&id);
    assert!(
        files["/t/x"].ends_with(" x") && files["/two/x"].ends_with(" x"),
        "{files:?}"
    );
    assert_eq!(files["/plain.tar"], "644 0:0 no archive");
    assert!(files.contains_key("/t.tar"));
}

#[tokio::test]
async fn refuses_in_dockers_words() {
    let kit = kit();
    kit.file(".dockerignore", "secret\n");
    kit.file("secret", "s");
    symlink("secret", kit.context.join("to-secret")).unwrap();
    let table = [
        (
            "COPY ../x /",
            "COPY failed: forbidden path outside the build context: ../x ()",
        ),
        (
            "COPY d/../../x /",
            "COPY failed: forbidden path outside the build context: d/../../x ()",
        ),
        (
            "COPY nope /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "ADD nope /",
            "ADD failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "COPY secret /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat secret: file does not exist",
        ),
        (
            "COPY to-secret /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat to-secret: file does not exist",
        ),
        ("COPY no* /", "COPY failed: no source files were specified"),
        (
            "COPY a.txt d /x",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "COPY --chown=nobodyx a.txt /",
            "unable to convert uid/gid chown string to host mapping: can't find uid for user nobodyx: no such user: nobodyx",
        ),
        (
            "COPY --from=0 /x /",
            "invalid from flag value 0: refers to current build stage",
        ),
    ];
    for (instruction, expected) in table {
        assert_eq!(
            kit.fails(&format!("FROM base\n{instruction}")).await,
            expected,
            "{instruction}"
        );
    }
    for instruction in [
        "COPY a.txt /etc/passwd/x",
        "COPY d /etc/passwd",
        "COPY a.txt /etc/passwd/",
    ] {
        assert!(
            kit.fails(&format!("FROM base\n{instruction}"))
                .await
                .starts_with("failed to copy files"),
            "{instruction}"
        );
    }
}

#[tokio::test]
async fn dockerignore_leaves_out() {
    let kit = Kit::new();
    for path in ["sub/a", "sub/b", "x.tar", "y", "deep/er/x.tar"] {
        kit.file(path, "1");
    }
    kit.file(".dockerignore", "sub\n!sub/b\n*.tar\n**/er\nDockerfile\n");
    kit.file("Dockerfile", "FROM base\nCOPY . /c\n");
    let mut request = kit.request("");
    request.dockerfile_text = None;
    let id = kit.build_with(request).await.0.unwrap();
    let files = kit.files(&id);
    let inside: Vec<_> = files
        .keys()
        .filter_map(|path| path.strip_prefix("/c/"))
        .collect();
    assert_eq!(inside, [".dockerignore", "deep", "sub", "sub/b", "y"]);
}

#[tokio::test]
async fn the_same_layer_may_come_twice() {
    let kit = Kit::new();
    kit.file("a", "x");
    kit.file("b", "y");
    let id = kit
        .build("FROM base\nCOPY a /d/f\nCOPY b /d/f\nCOPY a /d/f\nWORKDIR /w\n")
        .await
        .0
        .unwrap();
    assert_eq!(kit.files(&id)["/d/f"], "644 0:0 x");
}
