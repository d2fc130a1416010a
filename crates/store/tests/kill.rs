//! The embedded store's writer is killed under load, again and again: what it acknowledged must be there.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use wharf_store::{Embedded, Options, Range, Store};

const FILE: &str = "WHARF_TEST_STORE_FILE";
const ROUNDS: u64 = 50;
const WRITERS: usize = 8;

/// A value that tells whether it is whole.
fn value(count: u64) -> Bytes {
    let mut text = format!("{count} ");
    let length = 100 + (count % 37) as usize * 100;
    text.extend(std::iter::repeat_n('v', length));
    text.push('.');
    text.into()
}

fn count_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap();
    let count = text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(value, self::value(count), "half a write");
    count
}

/// Not a test of its own: the program that gets killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test below"]
async fn writer() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let store = Arc::new(Embedded::open(Path::new(&path), Options::default()).unwrap());
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write_for_ever(store.clone(), format!("key/{n}"))))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn write_for_ever(store: Arc<Embedded>, key: String) {
    let mut entry = store.get(&key).await.unwrap().entry;
    loop {
        let count = entry.as_ref().map_or(0, |entry| count_of(&entry.value)) + 1;
        let revision = match &entry {
            None => store.create(&key, value(count)).await.unwrap(),
            Some(entry) => {
                let update = store.update(&key, entry.revision, value(count)).await;
                update.unwrap()
            }
        };
        entry = store.get(&key).await.unwrap().entry;
        assert_eq!(entry.as_ref().unwrap().revision, revision);
        let line = format!("\nack {key} {count} {revision}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn killed_fifty_times_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    let mut newest = 0;
    for round in 0..ROUNDS {
        let acks = 20 + (round * 7919) % 180;
        let last = write_and_kill(&path, acks, &mut acknowledged);
        assert!(
            last > newest,
            "round {round}: revisions went back to {last}"
        );
        let store = Embedded::open(&path, Options::default()).unwrap();
        let page = store.list(Range::default()).await.unwrap();
        assert!(
            page.revision >= last,
            "round {round}: revision {last} is lost"
        );
        newest = page.revision;
        let found: HashMap<String, u64> = page
            .entries
            .iter()
            .map(|entry| (entry.key.to_string(), count_of(&entry.value)))
            .collect();
        for (key, count) in &acknowledged {
            let there = found[key];
            // One write of each writer may have been durable and not yet acknowledged.
            let range = *count..=count + 1;
            assert!(
                range.contains(&there),
                "round {round}: {key} {there}, not {range:?}"
            );
        }
        acknowledged = found;
    }
}

/// Starts the writer, kills it after a number of acknowledgements, and returns the last revision it named.
fn write_and_kill(path: &Path, acks: u64, acknowledged: &mut HashMap<String, u64>) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = 0;
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let &["ack", key, count, revision] = words.as_slice() else {
            continue;
        };
        // A line cut by the kill has no newline after it, but a shorter number: the next line start tells.
        let (Ok(count), Ok(revision)) = (count.parse::<u64>(), revision.parse::<u64>()) else {
            continue;
        };
        let known = acknowledged.entry(key.to_owned()).or_default();
        *known = (*known).max(count);
        last = last.max(revision);
        seen += 1;
        if seen == acks {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= acks, "the writer ended by itself");
    last
}
