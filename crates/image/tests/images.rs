//! Names, IDs, removal and pruning, in Docker's words.
#![allow(clippy::unwrap_used)]

mod common;

use common::{archive, config, file, images};
use wharf_image::{Error, Image, Images, Reference, Removed};

fn nobody(_: &str) -> Option<(String, bool)> {
    None
}

fn make(images: &Images, content: &str, parent: Option<&Image>, name: Option<&str>) -> Image {
    let above = parent.and_then(|parent| parent.top.clone());
    let layer = images
        .add_layer(
            above.as_ref(),
            &mut archive(&[file(content, content)]).as_slice(),
        )
        .unwrap();
    let mut diff_ids: Vec<String> = parent
        .map(|p| p.config.rootfs().diff_ids().clone())
        .unwrap_or_default();
    diff_ids.push(layer.diff_id);
    let config = config(&diff_ids.iter().map(String::as_str).collect::<Vec<_>>());
    let reference = name.map(|name| Reference::parse(name).unwrap());
    images
        .create(&config, parent.map(|p| p.id.as_str()), reference.as_ref())
        .unwrap()
}

fn short(image: &Image) -> &str {
    &image.id["sha256:".len()..][..12]
}

#[test]
fn finds_by_every_kind_of_name() {
    let (_data, images) = images();
    let image = make(&images, "a", None, Some("app:1"));
    images.tag("app:1", "reg.lan:5000/x/app").unwrap();
    for name in [
        "app:1",
        "docker.io/library/app:1",
        "reg.lan:5000/x/app:latest",
        "reg.lan:5000/x/app",
        &image.id,
        short(&image),
        &image.id[..11],
    ] {
        assert_eq!(images.resolve(name).unwrap().id, image.id, "{name}");
    }
    assert_eq!(
        images.resolve("app:1").unwrap().tags,
        ["app:1", "reg.lan:5000/x/app:latest"]
    );
    for (name, expected) in [
        ("app", "No such image: app:latest"),
        ("app:2", "No such image: app:2"),
        ("nope/nope", "No such image: nope/nope:latest"),
        (
            "App",
            "invalid reference format: repository name (library/App) must be lowercase",
        ),
        ("app::1", "invalid reference format"),
    ] {
        assert_eq!(images.resolve(name).unwrap_err().to_string(), expected);
    }
    let error = images
        .resolve(&format!("sha256:{}", "0".repeat(64)))
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("No such image: sha256:{}", "0".repeat(64)));
    assert!(
        images
            .tag("app:1", &format!("x@{}", image.id))
            .unwrap_err()
            .to_string()
            .contains("digest reference")
    );
    assert!(matches!(images.tag("none", "x"), Err(Error::NotFound(_))));
}

#[test]
fn a_prefix_that_fits_several_is_ambiguous() {
    let (_data, images) = images();
    let mut firsts = std::collections::HashMap::new();
    for i in 0..17 {
        let image = make(&images, &format!("f{i}"), None, None);
        if let Some(_other) = firsts.insert(image.id.as_bytes()["sha256:".len()], image.id.clone())
        {
            let prefix = &image.id["sha256:".len()..]["".len()..1];
            assert!(matches!(images.resolve(prefix), Err(Error::Ambiguous(_))));
            return;
        }
    }
    panic!("17 images and 16 digits");
}

#[test]
fn a_name_moves_and_its_old_image_stays() {
    let (_data, images) = images();
    let old = make(&images, "old", None, Some("app"));
    let new = make(&images, "new", None, Some("app"));
    assert_eq!(images.resolve("app").unwrap().id, new.id);
    assert!(images.resolve(&old.id).unwrap().tags.is_empty());
    assert_eq!(images.list(false).unwrap().len(), 2);
}

#[test]
fn build_steps_are_listed_with_all_only() {
    let (_data, images) = images();
    let base = make(&images, "base", None, Some("base"));
    let step = make(&images, "step", Some(&base), None);
    let app = make(&images, "app", Some(&step), Some("app"));
    let ids = |all| {
        images
            .list(all)
            .unwrap()
            .into_iter()
            .map(|image| image.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(true).len(), 3);
    assert!(
        !ids(false).contains(&step.id)
            && ids(false).contains(&base.id)
            && ids(false).contains(&app.id)
    );
    assert_eq!(images.children(&step.id), std::slice::from_ref(&app.id));
    assert_eq!(
        images.resolve("app").unwrap().parent.as_deref(),
        Some(step.id.as_str())
    );
    assert_eq!(images.resolve("app").unwrap().size_bytes, 4 + 4 + 3);

    // The base is needed: only its name goes. The app takes the step with it.
    assert_eq!(
        images.remove("base", false, true, &nobody).unwrap(),
        [Removed::Untagged("base:latest".into())]
    );
    let error = images
        .remove(&base.id, false, true, &nobody)
        .unwrap_err()
        .to_string();
    let expected = format!(
        "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
        short(&base)
    );
    assert_eq!(error, expected);
    let removed = images.remove("app", false, true, &nobody).unwrap();
    let deleted = |image: &Image| Removed::Deleted(image.id.clone());
    assert_eq!(
        removed,
        [
            Removed::Untagged("app:latest".into()),
            deleted(&app),
            deleted(&step),
            deleted(&base)
        ]
    );
    assert_eq!(images.totals().unwrap(), (0, 0));
}

#[test]
fn removal_conflicts() {
    let (_data, images) = images();
    let image = make(&images, "a", None, Some("app:1"));
    let container = "0123456789abcdef0123456789abcdef";
    let stopped = |_: &str| Some((container.to_owned(), false));
    let running = |_: &str| Some((container.to_owned(), true));
    let text = |result: wharf_image::Result<Vec<Removed>>| result.unwrap_err().to_string();
    let id = short(&image);
    assert_eq!(
        text(images.remove("app:1", false, true, &stopped)),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container 0123456789ab is using its \
             referenced image {id}"
        )
    );
    assert_eq!(
        text(images.remove(&image.id, false, true, &stopped)),
        format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container 0123456789ab"
        )
    );
    assert_eq!(
        text(images.remove(id, true, true, &running)),
        format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container 0123456789ab"
        )
    );
    images.tag("app:1", "other:1").unwrap();
    assert_eq!(
        text(images.remove(id, false, true, &nobody)),
        format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        )
    );
    // With several names a used image loses one without force.
    assert_eq!(
        images.remove("other:1", false, true, &running).unwrap(),
        [Removed::Untagged("other:1".into())]
    );
    // Forced by name: a running container keeps the image, the name goes.
    assert_eq!(
        images.remove("app:1", true, true, &running).unwrap(),
        [Removed::Untagged("app:1".into())]
    );
    images.resolve(&image.id).unwrap();
    images.tag(&image.id, "app:1").unwrap();
    // A stopped container does not keep a forced image; its layers stay while it has a snapshot.
    images.prepare("c1", image.top.as_ref()).unwrap();
    let removed = images.remove("app:1", true, true, &stopped).unwrap();
    assert_eq!(
        removed,
        [
            Removed::Untagged("app:1".into()),
            Removed::Deleted(image.id.clone())
        ]
    );
    images.mount("c1").unwrap();
    images.remove_snapshot("c1").unwrap();
    assert!(
        images.layer(image.top.as_ref().unwrap()).unwrap().is_none(),
        "the last user takes the layers with it"
    );
    assert_eq!(
        text(images.remove("app:1", false, true, &nobody)),
        "No such image: app:1"
    );
}

#[test]
fn pruning() {
    let (data, images) = images();
    let base = make(&images, "base", None, Some("base"));
    let used = make(&images, "used", None, None);
    let loose = make(&images, "loose", None, None);
    let child = make(&images, "child", Some(&base), None);
    let (removed, bytes) = images.prune(false, &|id| id == used.id).unwrap();
    assert!(
        removed.contains(&Removed::Deleted(loose.id.clone()))
            && removed.contains(&Removed::Deleted(child.id.clone()))
    );
    assert_eq!((removed.len(), bytes), (2, 10));
    let (removed, _) = images.prune(true, &|id| id == used.id).unwrap();
    assert_eq!(
        removed,
        [
            Removed::Untagged("base:latest".into()),
            Removed::Deleted(base.id.clone())
        ]
    );
    images.resolve(&used.id).unwrap();
    images.prune(true, &|_| false).unwrap();
    assert_eq!(
        std::fs::read_dir(data.path().join("layers"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(data.path().join("content/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn an_unnamed_step_does_not_outlive_a_loss_of_power_but_a_named_image_does() {
    let (data, images) = images();
    let base = make(&images, "base", None, None);
    let app = make(&images, "app", Some(&base), Some("app"));
    let step = make(&images, "step", Some(&app), None);
    images.tag(&step.id, "named-later").unwrap();
    let lost = make(&images, "lost", Some(&app), None);
    drop(images);
    std::fs::write(data.path().join("boot"), "another").unwrap();
    for entry in std::fs::read_dir(data.path().join("images")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        if !value["unsynced_boot"].is_null() {
            value["unsynced_boot"] = "another".into();
            std::fs::write(&path, value.to_string()).unwrap();
        }
    }
    let images = Images::open(data.path(), Default::default()).unwrap();
    assert!(images.resolve(&lost.id).is_err() && images.resolve(&base.id).is_err());
    assert_eq!(images.resolve("app").unwrap().parent, None);
    images.resolve("named-later").unwrap();
    let tree = images.mount_read_only(app.top.as_ref().unwrap()).unwrap();
    assert_eq!(
        std::fs::read_to_string(common::through(&tree).join("base")).unwrap(),
        "base"
    );
}

#[test]
fn an_image_needs_its_layers() {
    let (_data, images) = images();
    let absent = format!("sha256:{}", "1".repeat(64));
    let error = images
        .create(&config(&[&absent]), None, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains(&absent), "{error}");
    assert!(images.create(b"{", None, None).is_err());
    let empty = images
        .create(
            &config(&[]),
            None,
            Some(&Reference::parse("scratch-like").unwrap()),
        )
        .unwrap();
    assert_eq!((empty.top, empty.size_bytes), (None, 0));
}
