//! The store as its users see it: ingest, resume, concurrency, leases, collection, recovery.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wharf_blob::{Check, Claim, Digest, Durability, Error, Store};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn check(bytes: &[u8]) -> Check {
    Check {
        digest: Some(Digest::of(bytes)),
        size_bytes: Some(bytes.len() as u64),
    }
}

fn ingest(store: &Store, check: Check) -> wharf_blob::Ingest {
    match store.claim(check, &store.lease()).unwrap() {
        Claim::Ingest(ingest) => ingest,
        Claim::Present(_) => panic!("already here"),
    }
}

#[test]
fn keeps_what_was_put() {
    let (_folder, store) = store();
    let lease = store.lease();
    let digest = store.put(b"hello", Durability::Now, &lease).unwrap();
    assert_eq!(store.stat(&digest).unwrap(), Some(5));
    assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
    assert!(matches!(
        store.read(&digest, 4),
        Err(Error::TooLarge { .. })
    ));
    store.verify(&digest).unwrap();
    let mode = std::fs::metadata(store.path(&digest))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o444);
    assert!(matches!(
        store.reader(&Digest::of(b"other")),
        Err(Error::NotFound(_))
    ));
}

#[test]
fn resumes_after_reopening() {
    let (folder, store) = store();
    let mut first = ingest(&store, check(b"hello world"));
    first.append(b"hello").unwrap();
    drop(first);
    assert_eq!(store.partials().unwrap()[0].size_bytes, 5);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let mut second = ingest(&store, check(b"hello world"));
    assert_eq!(second.offset_bytes(), 5);
    second.append(b" world").unwrap();
    let digest = second.commit(Durability::Deferred, &store.lease()).unwrap();
    assert_eq!(store.read(&digest, 100).unwrap(), b"hello world");
    assert!(store.partials().unwrap().is_empty());
}

#[test]
fn wrong_bytes_leave_nothing() {
    let (_folder, store) = store();
    let mut wrong = ingest(&store, check(b"hello"));
    wrong.append(b"hellO").unwrap();
    let error = wrong.commit(Durability::Now, &store.lease()).unwrap_err();
    assert!(
        error.to_string().contains(Digest::of(b"hello").as_str()),
        "{error}"
    );
    assert!(store.partials().unwrap().is_empty() && store.list().unwrap().is_empty());

    let mut long = ingest(&store, check(b"hello"));
    assert!(matches!(
        long.append(b"hello and more"),
        Err(Error::Size {
            expected_bytes: 5,
            actual_bytes: 14,
            ..
        })
    ));
    long.append(b"hel").unwrap();
    assert!(matches!(
        long.commit(Durability::Now, &store.lease()),
        Err(Error::Size {
            actual_bytes: 3,
            ..
        })
    ));
    assert_eq!(
        store.partials().unwrap()[0].size_bytes,
        3,
        "too short is kept for resuming"
    );
}

#[test]
fn concurrent_claims_do_the_work_once() {
    let (_folder, store) = store();
    let data = vec![7u8; 1 << 20];
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let lease = store.lease();
                if let Claim::Ingest(mut ingest) = store.claim(check(&data), &lease).unwrap() {
                    written.fetch_add(1, Ordering::SeqCst);
                    ingest.append(&data).unwrap();
                    ingest.commit(Durability::Deferred, &lease).unwrap();
                }
                assert_eq!(store.stat(&Digest::of(&data)).unwrap(), Some(1 << 20));
            });
        }
    });
    assert_eq!(written.into_inner(), 1);
}

#[test]
fn a_failed_writer_hands_over_to_the_next() {
    let (_folder, store) = store();
    let mut first = ingest(&store, check(b"abc"));
    first.append(b"a").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ingest(&store, check(b"abc")).offset_bytes());
        drop(first);
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[test]
fn own_keys_are_exclusive_and_stay_in_the_folder() {
    let (_folder, store) = store();
    let mut upload = store.ingest("upload-1", Check::default()).unwrap();
    assert!(matches!(
        store.ingest("upload-1", Check::default()),
        Err(Error::Busy(_))
    ));
    assert!(matches!(
        store.remove_partial("upload-1"),
        Err(Error::Busy(_))
    ));
    upload.append(b"xyz").unwrap();
    assert_eq!(store.ingest_size("upload-1").unwrap(), Some(3));
    let lease = store.lease();
    let sha512 = format!(
        "sha512:{}",
        hex::encode(<sha2::Sha512 as sha2::Digest>::digest(b"xyz"))
    );
    let digest = upload
        .commit_as(&Digest::parse(&sha512).unwrap(), Durability::Now, &lease)
        .unwrap();
    assert_eq!(store.read(&digest, 3).unwrap(), b"xyz");
    for bad in ["", "..", ".", "a/b", "../x", "a\0b", &"x".repeat(161)] {
        assert!(
            matches!(
                store.ingest(bad, Check::default()),
                Err(Error::InvalidKey(_))
            ),
            "{bad:?}"
        );
    }
}

#[test]
fn collects_what_is_neither_live_nor_leased_nor_young() {
    let (_folder, store) = store();
    let lease = store.lease();
    let live = store
        .put(b"live", Durability::Deferred, &store.lease())
        .unwrap();
    let held = store.put(b"held", Durability::Deferred, &lease).unwrap();
    let waste = store
        .put(b"waste", Durability::Deferred, &store.lease())
        .unwrap();
    let nothing = store
        .collect(&|_| false, Duration::from_secs(3600))
        .unwrap();
    assert_eq!(nothing.blobs, 0, "too young");
    let collected = store.collect(&|d| *d == live, Duration::ZERO).unwrap();
    assert_eq!((collected.blobs, collected.size_bytes), (1, 5));
    assert_eq!(store.stat(&waste).unwrap(), None);
    drop(lease);
    assert_eq!(
        store
            .collect(&|d| *d == live, Duration::ZERO)
            .unwrap()
            .blobs,
        1
    );
    assert_eq!(store.stat(&held).unwrap(), None);
    assert_eq!(store.stat(&live).unwrap(), Some(4));
}

#[test]
fn one_process_at_a_time() {
    let (folder, store) = store();
    assert!(matches!(Store::open(folder.path()), Err(Error::InUse(_))));
    drop(store);
    Store::open(folder.path()).unwrap();
}

#[test]
fn doubtful_blobs_are_checked_after_another_boot() {
    let (folder, store) = store();
    let lease = store.lease();
    let good = store.put(b"good", Durability::Deferred, &lease).unwrap();
    let torn = store.put(b"torn", Durability::Deferred, &lease).unwrap();
    let durable = store.put(b"durable", Durability::Now, &lease).unwrap();
    let mode = |d: &Digest, store: &Store| {
        std::fs::metadata(store.path(d))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&good, &store), 0o600);
    drop(lease);
    std::fs::write(store.path(&torn), b"\0\0\0\0").unwrap();
    std::fs::write(folder.path().join("boot"), "another boot").unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(mode(&good, &store), 0o444);
    assert_eq!(store.stat(&torn).unwrap(), None);
    assert_eq!(store.read(&durable, 10).unwrap(), b"durable");
}

#[test]
fn sync_makes_blobs_durable() {
    let (_folder, store) = store();
    let digest = store
        .put(b"later", Durability::Deferred, &store.lease())
        .unwrap();
    store.sync().unwrap();
    assert_eq!(
        std::fs::metadata(store.path(&digest))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o444
    );
}
