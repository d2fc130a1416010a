//! What every store must do, whatever it is made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use wharf_store::{Entry, Error, Event, Range, Store, Watch};

/// Runs all of it on an empty store.
pub async fn all(store: Arc<dyn Store>) {
    writes_are_compared_and_swapped(&*store).await;
    lists_come_in_chunks_of_one_revision(&*store).await;
    watchers_see_each_change_once_in_order(&*store).await;
    a_watch_resumes_after_a_revision(&*store).await;
    progress_follows_what_was_delivered(&*store).await;
    concurrent_writers_never_lose_an_update(store.clone()).await;
    the_past_and_the_future_are_refused(&*store).await;
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn under(prefix: &str) -> Range {
    Range {
        prefix: prefix.to_owned(),
        ..Range::default()
    }
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.key).collect()
}

async fn change(watch: &mut Watch) -> (String, Option<String>, Option<String>) {
    let text = |entry: &Option<Entry>| {
        entry
            .as_ref()
            .map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
    };
    match watch.next().await.unwrap() {
        Event::Change(change) => (
            change.key.to_string(),
            text(&change.before),
            text(&change.now),
        ),
        Event::Progress(revision) => panic!("progress {revision} was not asked for"),
    }
}

async fn writes_are_compared_and_swapped(store: &dyn Store) {
    let first = store.create("cas/a", bytes("1")).await.unwrap();
    let Err(Error::Conflict { current, .. }) = store.create("cas/a", bytes("2")).await else {
        panic!("made twice");
    };
    assert_eq!(current.unwrap().value, bytes("1"));
    let second = store.update("cas/a", first, bytes("2")).await.unwrap();
    assert!(second > first);
    let stale = store.update("cas/a", first, bytes("3")).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    let seen = store.get("cas/a").await.unwrap();
    assert_eq!(seen.revision, second);
    let entry = seen.entry.unwrap();
    assert_eq!((entry.created, entry.revision), (first, second));
    let stale = store.delete("cas/a", first).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    store.delete("cas/a", second).await.unwrap();
    assert!(store.get("cas/a").await.unwrap().entry.is_none());
    let gone = store.delete("cas/a", second).await;
    assert!(matches!(gone, Err(Error::Conflict { current: None, .. })));
    let again = store.create("cas/a", bytes("4")).await.unwrap();
    let entry = store.get("cas/a").await.unwrap().entry.unwrap();
    assert_eq!((entry.created, entry.revision), (again, again));
}

async fn lists_come_in_chunks_of_one_revision(store: &dyn Store) {
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let key = format!("list/{name}");
        revisions.push(store.create(&key, bytes(name)).await.unwrap());
    }
    store.create("listing", bytes("outside")).await.unwrap();
    let range = Range {
        limit: 2,
        ..under("list/")
    };
    let first = store.list(range.clone()).await.unwrap();
    assert_eq!(keys(&first.entries), ["list/a", "list/b"]);
    assert_eq!(first.remaining, 3);
    // Changes between the chunks must not show.
    store.delete("list/c", revisions[2]).await.unwrap();
    store.create("list/cc", bytes("new")).await.unwrap();
    let changed = store.update("list/d", revisions[3], bytes("d2")).await;
    changed.unwrap();
    let rest = store
        .list(Range {
            after: Some("list/b".to_owned()),
            limit: 0,
            at: Some(first.revision),
            ..range
        })
        .await
        .unwrap();
    assert_eq!(keys(&rest.entries), ["list/c", "list/d", "list/e"]);
    assert_eq!(rest.entries[1].value, bytes("d"));
    assert_eq!((rest.revision, rest.remaining), (first.revision, 0));
    let now = store.list(under("list/")).await.unwrap();
    assert_eq!(
        keys(&now.entries),
        ["list/a", "list/b", "list/cc", "list/d", "list/e"]
    );
}

async fn watchers_see_each_change_once_in_order(store: &dyn Store) {
    let start = store.get("watch/").await.unwrap().revision;
    let mut watch = store.watch("watch/", start).await.unwrap();
    let one = store.create("watch/x", bytes("1")).await.unwrap();
    store.create("elsewhere/x", bytes("1")).await.unwrap();
    let two = store.update("watch/x", one, bytes("2")).await.unwrap();
    store.delete("watch/x", two).await.unwrap();
    let text = |text: &str| Some(text.to_owned());
    let key = || "watch/x".to_owned();
    assert_eq!(change(&mut watch).await, (key(), None, text("1")));
    assert_eq!(change(&mut watch).await, (key(), text("1"), text("2")));
    assert_eq!(change(&mut watch).await, (key(), text("2"), None));
    assert_eq!(watch.try_next(), None);
}

async fn a_watch_resumes_after_a_revision(store: &dyn Store) {
    let one = store.create("resume/a", bytes("1")).await.unwrap();
    store.create("resume/b", bytes("1")).await.unwrap();
    let mut watch = store.watch("resume/", one).await.unwrap();
    assert_eq!(change(&mut watch).await.0, "resume/b");
    store.create("resume/c", bytes("1")).await.unwrap();
    assert_eq!(change(&mut watch).await.0, "resume/c");
}

async fn progress_follows_what_was_delivered(store: &dyn Store) {
    let start = store.get("progress/").await.unwrap().revision;
    let mut watch = store.watch("progress/", start).await.unwrap();
    store.create("progress/a", bytes("1")).await.unwrap();
    let last = store.create("other/a", bytes("1")).await.unwrap();
    store.request_progress().await.unwrap();
    assert_eq!(change(&mut watch).await.0, "progress/a");
    assert_eq!(watch.next().await.unwrap(), Event::Progress(last));
}

async fn concurrent_writers_never_lose_an_update(store: Arc<dyn Store>) {
    const WRITERS: u64 = 16;
    const ROUNDS: u64 = 20;
    store.create("count/n", bytes("0")).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| tokio::spawn(count_up(store.clone(), ROUNDS)))
        .collect();
    let mut revisions = BTreeSet::new();
    for writer in writers {
        for revision in writer.await.unwrap() {
            assert!(revisions.insert(revision), "{revision} was given twice");
        }
    }
    let entry = store.get("count/n").await.unwrap().entry.unwrap();
    assert_eq!(entry.value, bytes(&(WRITERS * ROUNDS).to_string()));
}

async fn count_up(store: Arc<dyn Store>, rounds: u64) -> Vec<u64> {
    let mut revisions = Vec::new();
    while (revisions.len() as u64) < rounds {
        let entry = store.get("count/n").await.unwrap().entry.unwrap();
        let number: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
        let next = bytes(&(number + 1).to_string());
        match store.update("count/n", entry.revision, next).await {
            Ok(revision) => revisions.push(revision),
            Err(Error::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    revisions
}

async fn the_past_and_the_future_are_refused(store: &dyn Store) {
    let old = store.create("past/a", bytes("1")).await.unwrap();
    let new = store.create("past/b", bytes("1")).await.unwrap();
    store.compact(new).await.unwrap();
    let range = |at| Range {
        at: Some(at),
        ..under("past/")
    };
    let past = store.list(range(old)).await;
    assert!(matches!(past, Err(Error::Compacted { .. })));
    let past = store.watch("past/", old).await;
    assert!(matches!(past, Err(Error::Compacted { .. })));
    assert_eq!(store.list(range(new)).await.unwrap().entries.len(), 2);
    store.watch("past/", new).await.unwrap();
    let future = store.list(range(new + 1000)).await;
    assert!(matches!(future, Err(Error::Future { .. })));
}
