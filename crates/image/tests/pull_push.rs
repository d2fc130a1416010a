//! Pull and push against a registry that breaks off, lies, refuses and is busy.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::registry::{Auth, FakeRegistry};
use common::{archive, file, images, silent, through};
use wharf_image::{Credentials, Images, ProgressSink, Reference, RegistryConfig, Removed};

/// Bytes that gzip can't shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn noisy_layer(name: &str, len: usize) -> Vec<u8> {
    let data = noise(len);
    archive(&[common::Item {
        kind: tar::EntryType::Regular,
        path: name,
        link: "",
        data: &data,
        mode: 0o644,
    }])
}

fn reference(registry: &FakeRegistry, name: &str) -> Reference {
    Reference::parse(&format!("{}/{name}", registry.address)).unwrap()
}

fn login() -> Option<Credentials> {
    Some(Credentials {
        username: "user".into(),
        password: "pass".into(),
        ..Credentials::default()
    })
}

/// A sink, and what came in.
fn listen() -> (ProgressSink, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let copy = lines.clone();
    let sink: ProgressSink = Arc::new(move |progress: wharf_image::Progress| {
        let id = progress.id.map(|id| format!("{id}: ")).unwrap_or_default();
        copy.lock()
            .unwrap()
            .push(format!("{id}{}", progress.status));
    });
    (sink, lines)
}

fn leftovers(data: &std::path::Path) -> Vec<String> {
    let mut left = Vec::new();
    for place in ["staging", "layers", "content/ingest"] {
        for entry in std::fs::read_dir(data.join(place)).unwrap() {
            left.push(format!(
                "{place}/{}",
                entry.unwrap().file_name().to_string_lossy()
            ));
        }
    }
    left
}

#[tokio::test]
async fn pulls_in_dockers_words() {
    let registry = FakeRegistry::start();
    let digest = registry.add_image(
        "a/app",
        "1",
        &[archive(&[file("x", "x")]), archive(&[file("y", "y")])],
    );
    let (_data, images) = images();
    let (sink, lines) = listen();
    // Also a check that the future can be sent between threads.
    let (own, name) = (images.clone(), reference(&registry, "a/app:1"));
    let (image, result) = tokio::spawn(async move { own.pull(&name, None, None, sink).await })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (result.digest.as_str(), result.newer),
        (digest.as_str(), true)
    );
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines[0], "1: Pulling from a/app");
    for status in [
        "Pulling fs layer",
        "Downloading",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Pull complete",
    ] {
        let count = lines
            .iter()
            .filter(|line| line.ends_with(&format!(": {status}")))
            .count();
        assert_eq!(count, 2, "{status} in {lines:?}");
    }
    let name = format!("{}/a/app:1", registry.address);
    assert_eq!(
        lines[lines.len() - 2..],
        [
            format!("Digest: {digest}"),
            format!("Status: Downloaded newer image for {name}")
        ]
    );
    assert_eq!(image.tags, std::slice::from_ref(&name));
    assert_eq!(
        image.digests,
        [format!("{}/a/app@{digest}", registry.address)]
    );
    let tree = images.mount_read_only(image.top.as_ref().unwrap()).unwrap();
    assert_eq!(
        std::fs::read_to_string(through(&tree).join("y")).unwrap(),
        "y"
    );
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let registry = FakeRegistry::start();
    let layers = [archive(&[file("x", "x")]), archive(&[file("y", "y")])];
    registry.add_image("a/app", "1", &layers);
    let (_data, images) = images();
    let app = reference(&registry, "a/app:1");
    images.pull(&app, None, None, silent()).await.unwrap();
    let (sink, lines) = listen();
    let (_, again) = images.pull(&app, None, None, sink).await.unwrap();
    assert!(!again.newer);
    let lines = lines.lock().unwrap().clone();
    let name = app.familiar();
    assert_eq!(
        lines.last().unwrap(),
        &format!("Status: Image is up to date for {name}")
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.ends_with("Already exists"))
            .count(),
        2
    );
    assert_eq!(
        registry.count("GET /v2/a/app/blobs"),
        3,
        "two layers and the configuration, once"
    );
}

#[tokio::test]
async fn a_broken_layer_is_resumed_where_it_broke() {
    for ignore_range in [false, true] {
        let registry = FakeRegistry::start();
        registry.add_image("app", "latest", &[noisy_layer("big", 3_000_000)]);
        registry.set(|inner| {
            inner.faults.break_after = Some((if ignore_range { 1_500_000 } else { 1_000_000 }, 2));
            inner.faults.ignore_range = ignore_range;
        });
        let (_data, images) = images();
        let (image, _) = images
            .pull(&reference(&registry, "app"), None, None, silent())
            .await
            .unwrap();
        let tree = images.mount_read_only(image.top.as_ref().unwrap()).unwrap();
        assert!(std::fs::read(through(&tree).join("big")).unwrap() == noise(3_000_000));
        let ranges: Vec<String> = registry
            .inner
            .lock()
            .unwrap()
            .log
            .iter()
            .filter(|l| l.contains("bytes="))
            .cloned()
            .collect();
        assert_eq!(ranges.len(), 2, "{ranges:?}");
        assert!(!ranges[0].contains("bytes=0-"));
    }
}

#[tokio::test]
async fn an_interrupted_pull_goes_on_in_the_next_process() {
    let registry = FakeRegistry::start();
    registry.add_image("app", "latest", &[noisy_layer("big", 3_000_000)]);
    registry.set(|inner| inner.faults.break_after = Some((500_000, usize::MAX)));
    let (data, images) = images();
    // Each attempt brings something, so it is given up only when the caller does.
    let own = images.clone();
    let name = reference(&registry, "app");
    let pull = tokio::spawn(async move { own.pull(&name, None, None, silent()).await.map(|_| ()) });
    while registry.count("GET /v2/app/blobs") < 3 {
        tokio::task::yield_now().await;
    }
    pull.abort();
    let _ = pull.await;
    // The workers end by themselves and give the data root free.
    drop(images);
    let images = loop {
        match Images::open(data.path(), RegistryConfig::default()) {
            Ok(images) => break images,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    registry.set(|inner| {
        inner.faults.break_after = None;
        inner.log.clear();
    });
    images
        .pull(&reference(&registry, "app"), None, None, silent())
        .await
        .unwrap();
    assert_eq!(
        registry.count("GET /v2/app/blobs/sha256:"),
        2,
        "configuration and the rest of the layer"
    );
    assert!(
        registry
            .inner
            .lock()
            .unwrap()
            .log
            .iter()
            .any(|line| line.contains("bytes=")),
        "resumed"
    );
}

#[tokio::test]
async fn wrong_bytes_are_named_and_not_kept() {
    let registry = FakeRegistry::start();
    registry.add_image("app", "latest", &[noisy_layer("big", 100_000)]);
    let digest = registry
        .inner
        .lock()
        .unwrap()
        .blobs
        .iter()
        .max_by_key(|(_, b)| b.len())
        .unwrap()
        .0
        .clone();
    let (data, images) = images();
    // The configuration comes first: let that one through.
    let config = registry
        .inner
        .lock()
        .unwrap()
        .blobs
        .iter()
        .min_by_key(|(_, b)| b.len())
        .unwrap()
        .0
        .clone();
    assert_ne!(config, digest);
    registry.set(|inner| {
        let bytes = inner.blobs.get_mut(&digest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let error = images
        .pull(&reference(&registry, "app"), None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("digest mismatch") && error.contains(&digest),
        "{error}"
    );
    assert!(
        leftovers(data.path()).is_empty(),
        "{:?}",
        leftovers(data.path())
    );
    assert!(images.list(true).unwrap().is_empty());

    registry.set(|inner| inner.faults.corrupt = true);
    let error = images
        .pull(&reference(&registry, "app"), None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("digest mismatch") && error.contains(&config),
        "{error}"
    );
    registry.set(|inner| inner.faults.wrong_manifest = true);
    let error = images
        .pull(&reference(&registry, "app"), None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("digest mismatch"), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let registry = FakeRegistry::start();
    registry.add_image("app", "latest", &[noisy_layer("big", 50_000)]);
    registry.add_image("evil", "latest", &[archive(&[file("../../escape", "x")])]);
    let (data, images) = images();
    let error = images
        .pull(&reference(&registry, "evil"), None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("leaves the root"), "{error}");
    assert!(
        leftovers(data.path()).is_empty(),
        "{:?}",
        leftovers(data.path())
    );
    // A manifest that pairs a good layer with another configuration.
    let manifest = |inner: &common::registry::Inner, name: &str| -> serde_json::Value {
        serde_json::from_slice(&inner.manifests[&(name.to_owned(), "latest".to_owned())].1).unwrap()
    };
    let (mut mixed, evil) = {
        let inner = registry.inner.lock().unwrap();
        (manifest(&inner, "app"), manifest(&inner, "evil"))
    };
    mixed["config"] = evil["config"].clone();
    registry.set(|inner| {
        let more = inner.owned["evil"].clone();
        inner.owned.get_mut("app").unwrap().extend(more);
    });
    registry.add_manifest(
        "app",
        "mixed",
        "application/vnd.oci.image.manifest.v1+json",
        &mixed,
    );
    let error = images
        .pull(&reference(&registry, "app:mixed"), None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("does not unpack to what"), "{error}");
    assert!(leftovers(data.path()).is_empty());
    assert_eq!(
        std::fs::read_dir(data.path().join("content/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn busy_registries_are_asked_again() {
    for status in [429, 503] {
        let registry = FakeRegistry::start();
        registry.add_image("app", "latest", &[noisy_layer("x", 1000)]);
        registry.set(|inner| inner.faults.busy = Some((status, 3)));
        let (_data, images) = images();
        images
            .pull(&reference(&registry, "app"), None, None, silent())
            .await
            .unwrap();
    }
    let registry = FakeRegistry::start();
    registry.set(|inner| inner.faults.busy = Some((503, usize::MAX)));
    let (_data, images) = images();
    let error = images
        .pull(&reference(&registry, "app"), None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("503"), "{error}");
}

#[tokio::test]
async fn absent_and_refused_in_dockers_words() {
    let registry = FakeRegistry::start();
    registry.add_image("app", "latest", &[noisy_layer("x", 1000)]);
    let (_data, images) = images();
    let address = &registry.address;
    let pull = async |name: &str, credentials| {
        images
            .pull(&reference(&registry, name), None, credentials, silent())
            .await
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        pull("app:no", None).await,
        format!("manifest for {address}/app:no not found: manifest unknown: manifest unknown")
    );
    let text = format!(
        "repository {address}/none not found: name unknown: repository name not known to registry"
    );
    assert_eq!(pull("none", None).await, text);
    registry.set(|inner| inner.auth = Auth::Basic);
    let denied = format!(
        "pull access denied for {address}/app, repository does not exist or may require 'docker login': denied: \
         requested access to the resource is denied"
    );
    assert_eq!(pull("app", None).await, denied);
    let wrong = Some(Credentials {
        username: "user".into(),
        password: "no".into(),
        ..Credentials::default()
    });
    assert!(
        pull("app", wrong)
            .await
            .contains("unauthorized: authentication required")
    );
    images
        .pull(&reference(&registry, "app"), None, login(), silent())
        .await
        .unwrap();

    let nobody = Reference::parse("127.0.0.1:1/app").unwrap();
    let error = images
        .pull(&nobody, None, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(error, r#"Get "http://127.0.0.1:1/v2/""#);
}

#[tokio::test]
async fn bearer_tokens_are_fetched_again_when_they_run_out() {
    let registry = FakeRegistry::start();
    registry.add_image(
        "app",
        "latest",
        &[noisy_layer("x", 1000), noisy_layer("y", 2000)],
    );
    registry.set(|inner| {
        inner.auth = Auth::Bearer;
        inner.faults.token_uses = Some(2);
    });
    let (_data, images) = images();
    images
        .pull(&reference(&registry, "app"), None, None, silent())
        .await
        .unwrap();
    assert!(
        registry.count("GET /token") >= 2,
        "fetched again when it ran out"
    );
}

#[tokio::test]
async fn tokens_by_password_and_by_identity() {
    let registry = FakeRegistry::start();
    registry.add_image("app", "latest", &[noisy_layer("x", 1000)]);
    registry.set(|inner| inner.auth = Auth::Bearer);
    let (_data, images) = images();
    let app = reference(&registry, "app");
    images.pull(&app, None, None, silent()).await.unwrap();
    images
        .tag(&app.familiar(), &format!("{}/mine:1", registry.address))
        .unwrap();
    let mine = reference(&registry, "mine:1");
    let error = images
        .push(&mine, None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("push access denied for {}/mine", registry.address)),
        "{error}"
    );
    images.push(&mine, login(), silent()).await.unwrap();
    images
        .login(&registry.address, login().unwrap())
        .await
        .unwrap();
    let identity = Credentials {
        identity_token: Some("identity".into()),
        ..Credentials::default()
    };
    images
        .login(&registry.address, identity.clone())
        .await
        .unwrap();
    assert!(registry.count("POST /token") >= 1);
    images
        .tag(
            &format!("{}/app", registry.address),
            &format!("{}/other:1", registry.address),
        )
        .unwrap();
    images
        .push(&reference(&registry, "other:1"), Some(identity), silent())
        .await
        .unwrap();
    let wrong = Credentials {
        username: "user".into(),
        password: "wrong".into(),
        ..Credentials::default()
    };
    let error = images
        .login(&registry.address, wrong)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("incorrect username or password"), "{error}");
}

/// An image of one pulled layer and one made here, on a registry.
struct Built {
    registry: FakeRegistry,
    _data: tempfile::TempDir,
    images: Images,
    base: wharf_image::Image,
    base_digest: String,
    name: Reference,
}

async fn built() -> Built {
    let registry = FakeRegistry::start();
    let base_digest = registry.add_image("base", "1", &[noisy_layer("base", 200_000)]);
    let (_data, images) = images();
    let (base, _) = images
        .pull(&reference(&registry, "base:1"), None, None, silent())
        .await
        .unwrap();
    // Built on it: one more layer, made from a snapshot.
    images.prepare("step", base.top.as_ref()).unwrap();
    let tree = images.mount("step").unwrap();
    std::fs::write(through(&tree).join("app"), "app").unwrap();
    drop(tree);
    let layer = images.take_layer("step").unwrap();
    let base_diff = base.config.rootfs().diff_ids()[0].clone();
    let name = reference(&registry, "me/app:1");
    images
        .create(
            &common::config(&[&base_diff, &layer.diff_id]),
            Some(&base.id),
            Some(&name),
        )
        .unwrap();
    Built {
        registry,
        _data,
        images,
        base,
        base_digest,
        name,
    }
}

#[tokio::test]
async fn pushes_what_is_missing_only() {
    let Built {
        registry,
        images,
        name,
        _data,
        ..
    } = built().await;
    let (sink, lines) = listen();
    let first = images.push(&name, None, sink).await.unwrap();
    let lines = lines.lock().unwrap().clone();
    assert_eq!(
        lines[0],
        format!(
            "The push refers to repository [{}/me/app]",
            registry.address
        )
    );
    assert!(
        lines
            .iter()
            .any(|line| line.ends_with(": Mounted from base")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.ends_with(": Pushed")),
        "{lines:?}"
    );
    assert_eq!(
        lines.last().unwrap(),
        &format!("1: digest: {} size: {}", first.digest, first.size_bytes)
    );
    assert_eq!(registry.count("PATCH"), 1, "the base is not sent");

    let (sink, lines) = listen();
    let second = images.push(&name, None, sink).await.unwrap();
    assert_eq!(second.digest, first.digest);
    let lines = lines.lock().unwrap().clone();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.ends_with(": Layer already exists"))
            .count(),
        2
    );
    assert_eq!(registry.count("PATCH"), 1);
}

#[tokio::test]
async fn digests_stay_wherever_an_image_goes() {
    let Built {
        registry: _registry,
        images,
        base,
        base_digest,
        name,
        _data,
    } = built().await;
    let first = images.push(&name, None, silent()).await.unwrap();

    // To another registry: everything is sent, the digests stay; the pulled image keeps its very manifest.
    let other = FakeRegistry::start();
    let there = Reference::parse(&format!("{}/x:1", other.address)).unwrap();
    images.tag(&name.familiar(), &there.familiar()).unwrap();
    other.set(|inner| inner.faults.upload_breaks = 1);
    assert_eq!(
        images.push(&there, None, silent()).await.unwrap().digest,
        first.digest
    );
    let base_there = Reference::parse(&format!("{}/base:1", other.address)).unwrap();
    images.tag(&base.id, &base_there.familiar()).unwrap();
    assert_eq!(
        images
            .push(&base_there, None, silent())
            .await
            .unwrap()
            .digest,
        base_digest
    );

    // Removed here, pulled back, same image.
    let id = images.resolve(&name.familiar()).unwrap().id;
    let removed = images.remove(&id, true, true, &|_| None).unwrap();
    assert!(removed.contains(&Removed::Deleted(id.clone())));
    let (again, result) = images.pull(&name, None, None, silent()).await.unwrap();
    assert_eq!((again.id, result.digest), (id, first.digest));
}

#[tokio::test]
async fn a_refused_mount_becomes_an_upload() {
    let registry = FakeRegistry::start();
    registry.add_image("base", "1", &[noisy_layer("base", 10_000)]);
    registry.set(|inner| inner.faults.no_mount = true);
    let (_data, images) = images();
    images
        .pull(&reference(&registry, "base:1"), None, None, silent())
        .await
        .unwrap();
    let copy = reference(&registry, "copy:1");
    images
        .tag(&format!("{}/base:1", registry.address), &copy.familiar())
        .unwrap();
    images.push(&copy, None, silent()).await.unwrap();
    assert_eq!(registry.count("PATCH"), 1);
}

#[tokio::test]
async fn the_hub_mirrors_and_pushes_without_login() {
    let (mirror, hub) = (FakeRegistry::start(), FakeRegistry::start());
    hub.add_image("library/nginx", "latest", &[noisy_layer("hub", 1000)]);
    let data = tempfile::tempdir().unwrap();
    let config = RegistryConfig {
        mirrors: vec![
            "http://127.0.0.1:1".into(),
            format!("http://{}", mirror.address),
        ],
        insecure: vec![],
        hub: Some(hub.address.clone()),
    };
    let images = Images::open(data.path(), config).unwrap();
    let nginx = Reference::parse("nginx").unwrap();
    let (image, _) = images.pull(&nginx, None, None, silent()).await.unwrap();
    assert_eq!(image.tags, ["nginx:latest"]);
    assert_eq!(
        mirror.count("GET /v2/library/nginx/manifests/latest"),
        1,
        "the mirror is asked first"
    );
    mirror.add_image("library/nginx", "other", &[noisy_layer("mirror", 500)]);
    images
        .pull(
            &Reference::parse("nginx:other").unwrap(),
            None,
            None,
            silent(),
        )
        .await
        .unwrap();

    hub.set(|inner| inner.log.clear());
    images.tag("nginx", "k8s-for-beginners:v0.0.1").unwrap();
    let name = Reference::parse("k8s-for-beginners:v0.0.1").unwrap();
    let error = images
        .push(&name, Some(Credentials::default()), silent())
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "push access denied for k8s-for-beginners",
        "docker login",
        "USER/k8s-for-beginners:v0.0.1",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(
        hub.inner.lock().unwrap().log.is_empty(),
        "refused without a round trip"
    );
    let error = images
        .push(&Reference::parse("user/none").unwrap(), login(), silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("An image does not exist locally with the tag: user/none"),
        "{error}"
    );
}

#[tokio::test]
async fn platforms_indexes_and_tags() {
    let registry = FakeRegistry::start();
    let amd64 = registry.add_image("app", "amd64", &[noisy_layer("amd", 100)]);
    let arm64 = registry.add_image("app", "arm64", &[noisy_layer("arm", 200)]);
    let entry = |digest: &str, architecture: &str| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry(&arm64, "arm64"), entry(&amd64, "amd64")]});
    let digest = registry.add_manifest(
        "app",
        "multi",
        "application/vnd.oci.image.index.v1+json",
        &index,
    );
    let (_data, images) = images();
    let multi = reference(&registry, "app:multi");
    let (arm, result) = images
        .pull(&multi, Some("linux/arm64"), None, silent())
        .await
        .unwrap();
    assert_eq!(result.digest, digest, "the tag's digest is the index's");
    let (amd, _) = images
        .pull(&multi, Some("linux/amd64"), None, silent())
        .await
        .unwrap();
    assert_ne!(arm.id, amd.id);
    let error = images
        .pull(&multi, Some("linux/s390x"), None, silent())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "no matching manifest for linux/s390x in the manifest list entries"
    );
    let by_digest = Reference::parse(&format!("{}/app@{amd64}", registry.address)).unwrap();
    let (same, _) = images.pull(&by_digest, None, None, silent()).await.unwrap();
    assert_eq!(same.id, amd.id);
    assert_eq!(
        images.remote_tags(&multi, None).await.unwrap(),
        ["amd64", "arm64", "multi"]
    );
}

#[tokio::test]
async fn two_pulls_at_once_fetch_once() {
    let registry = FakeRegistry::start();
    registry.add_image(
        "app",
        "latest",
        &[noisy_layer("x", 500_000), noisy_layer("y", 400_000)],
    );
    let (_data, images) = images();
    let name = reference(&registry, "app");
    let (a, b) = tokio::join!(
        images.pull(&name, None, None, silent()),
        images.pull(&name, None, None, silent())
    );
    assert_eq!(a.unwrap().0.id, b.unwrap().0.id);
    let log = registry.inner.lock().unwrap().log.clone();
    let mut blobs: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("GET /v2/app/blobs"))
        .collect();
    blobs.sort();
    blobs.dedup();
    assert_eq!(blobs.len(), 3);
    assert!(
        registry.count("GET /v2/app/blobs") <= 4,
        "only the small configuration may come twice: {log:?}"
    );
}

#[tokio::test]
async fn a_pull_is_whole_or_absent_after_a_loss_of_power() {
    let registry = FakeRegistry::start();
    registry.add_image("app", "latest", &[noisy_layer("x", 1000)]);
    registry.add_image("late", "latest", &[noisy_layer("y", 2000)]);
    let (data, images) = images();
    let (app, late) = (reference(&registry, "app"), reference(&registry, "late"));
    images.pull(&app, None, None, silent()).await.unwrap();
    // Naming it waits until it is on disk.
    images.tag(&app.familiar(), "kept:1").unwrap();
    let late_id = images.pull(&late, None, None, silent()).await.unwrap().0.id;
    let record = data
        .path()
        .join("images")
        .join(format!("{}.json", &late_id["sha256:".len()..]));
    let durable = || {
        std::fs::read_to_string(&record)
            .unwrap()
            .contains("\"unsynced_boot\":null")
    };
    while !durable() {
        tokio::task::yield_now().await;
    }
    drop(images);
    // As if the last round had not come through.
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(
        &record,
        text.replace("\"unsynced_boot\":null", "\"unsynced_boot\":\"another\""),
    )
    .unwrap();
    std::fs::rename(
        data.path().join("names.json"),
        data.path().join("names.kept.json"),
    )
    .unwrap();
    std::fs::write(data.path().join("names.json"), "").unwrap();
    std::fs::write(data.path().join("boot"), "another").unwrap();
    let images = loop {
        match Images::open(data.path(), RegistryConfig::default()) {
            Err(e) if e.to_string().contains("in use") => tokio::task::yield_now().await,
            opened => break opened.unwrap(),
        }
    };
    assert!(images.resolve(&late_id).is_err() && images.resolve(&late.familiar()).is_err());
    images.resolve("kept:1").unwrap();
    assert_eq!(
        std::fs::read_dir(data.path().join("layers"))
            .unwrap()
            .count(),
        1
    );
    images.pull(&late, None, None, silent()).await.unwrap();
}
