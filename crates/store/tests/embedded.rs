//! The embedded store: the shared suite, restarts, damaged files, slow watchers, bounds and snapshots.
#![allow(clippy::unwrap_used)]

mod suite;

use std::io::{Seek, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_store::{Embedded, Error, Event, Options, Range, Store};

fn open(folder: &Path) -> Embedded {
    Embedded::open(&folder.join("state.redb"), Options::default()).unwrap()
}

fn everything() -> Range {
    Range::default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    suite::all(Arc::new(open(folder.path()))).await;
}

#[tokio::test]
async fn a_restart_keeps_values_revisions_and_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let one = store.create("a", Bytes::from_static(b"1")).await.unwrap();
    let two = store.update("a", one, Bytes::from_static(b"2")).await;
    let two = two.unwrap();
    let before = store.list(everything()).await.unwrap();
    drop(store);
    let store = open(folder.path());
    let after = store.list(everything()).await.unwrap();
    assert_eq!(after.entries, before.entries);
    assert_eq!(after.revision, two);
    let mut watch = store.watch("", one).await.unwrap();
    let Event::Change(change) = watch.next().await.unwrap() else {
        panic!("not a change");
    };
    assert_eq!(change.before.as_ref().unwrap().value, "1");
    assert!(store.create("b", Bytes::new()).await.unwrap() > two);
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let second = Embedded::open(&folder.path().join("state.redb"), Options::default());
    let message = second.unwrap_err().to_string();
    assert!(message.contains("another process uses it"), "{message}");
}

#[tokio::test]
async fn a_torn_file_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 0..200 {
        let value = Bytes::from(vec![b'x'; 2000]);
        store.create(&format!("key/{n}"), value).await.unwrap();
    }
    drop(store);
    let path = folder.path().join("state.redb");
    let whole = std::fs::read(&path).unwrap();
    let refused = |what: &str| {
        let error = Embedded::open(&path, Options::default()).expect_err(what);
        let message = error.to_string();
        assert!(message.contains("restore a snapshot"), "{what}: {message}");
    };
    std::fs::write(
        &path,
        b"this is not a database, and long enough to be looked at",
    )
    .unwrap();
    refused("foreign");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused("cut");
    std::fs::write(&path, &whole).unwrap();
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    for at in (8192..whole.len()).step_by(4096) {
        file.seek(SeekFrom::Start(at as u64 + 512)).unwrap();
        file.write_all(&[0xa5; 64]).unwrap();
    }
    drop(file);
    refused("overwritten");
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let start = store.get("").await.unwrap().revision;
    let mut slow = store.watch("k/", start).await.unwrap();
    let writes: Vec<_> = (0..6000)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.create(&format!("k/{n}"), Bytes::new()).await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let mut seen = 0;
    let error = loop {
        match slow.next().await {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Lagged { .. }), "{error}");
    assert!(seen < 6000, "{seen} events were buffered");
}

#[tokio::test]
async fn history_and_file_stay_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let options = Options {
        history_changes_max: 50,
        history_bytes_max: 1 << 20,
        history_age_max: Duration::from_secs(600),
    };
    let store = Embedded::open(&path, options).unwrap();
    let value = Bytes::from(vec![b'x'; 10_000]);
    let first = store.create("key", value.clone()).await.unwrap();
    let mut revision = first;
    for _ in 0..400 {
        revision = store.update("key", revision, value.clone()).await.unwrap();
    }
    let gone = store.watch("", first).await;
    assert!(matches!(gone, Err(Error::Compacted { .. })));
    store.watch("", revision - 40).await.unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes < 8 << 20, "{bytes} bytes for one key of 10,000");
}

#[tokio::test]
async fn a_snapshot_opens_as_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.create("a", Bytes::from_static(b"1")).await.unwrap();
    let copy = folder.path().join("copy.redb");
    let revision = store.snapshot(&copy).unwrap();
    let later = store.create("b", Bytes::from_static(b"2")).await.unwrap();
    assert!(later > revision);
    let restored = Embedded::open(&copy, Options::default()).unwrap();
    let page = restored.list(everything()).await.unwrap();
    assert_eq!((page.revision, page.entries.len()), (revision, 1));
}
