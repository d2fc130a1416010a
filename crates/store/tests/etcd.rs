//! The store on a real etcd: the shared suite, several stores on one etcd, and an etcd that goes away.
#![allow(clippy::unwrap_used)]

mod suite;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use wharf_store::{Error, Etcd, EtcdOptions, Event, Options, Range, Store};

/// A member of a cluster of its own.
struct Member {
    process: Child,
    port: u16,
}

impl Member {
    /// Starts etcd (package etcd-server) and waits until it serves.
    fn start(folder: &Path, ports: [u16; 2]) -> Self {
        let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut process = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(folder)
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd can't be started: apt-get install etcd-server");
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = said
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("ready to serve") && line.contains("client requests"));
        assert!(ready, "etcd ended before it was ready");
        std::thread::spawn(move || said.for_each(drop));
        Self {
            process,
            port: ports[0],
        }
    }

    async fn store(&self, prefix: &str) -> Etcd {
        let options = EtcdOptions {
            endpoints: vec![format!("http://127.0.0.1:{}", self.port)],
            prefix: prefix.to_owned(),
            history: Options::default(),
        };
        Etcd::open(options).await.unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn under(prefix: &str) -> Range {
    Range {
        prefix: prefix.to_owned(),
        ..Range::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(folder.path(), free_ports());
    suite::all(Arc::new(member.store("/wharf/").await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_etcd_see_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(folder.path(), free_ports());
    let (here, there) = (member.store("/wharf/").await, member.store("/wharf/").await);
    let stranger = member.store("/other/").await;
    let start = here.list(under("")).await.unwrap().revision;
    let mut watch = there.watch("pods/", start).await.unwrap();
    for number in 0..100 {
        let key = format!("pods/{number:03}");
        let revision = here.create(&key, Bytes::from_static(b"{}")).await.unwrap();
        // What one server has acknowledged, every later read of another shows.
        assert!(there.list(under("pods/")).await.unwrap().entries.len() > number);
        let Event::Change(change) = watch.next().await.unwrap() else {
            panic!("not a change");
        };
        assert_eq!((change.revision, &*change.key), (revision, key.as_str()));
        // Keys of others are not ours, whatever their revisions are.
        stranger.create(&key, Bytes::new()).await.unwrap();
    }
    let entry = here.get("pods/007").await.unwrap().entry.unwrap();
    let (one, two) = tokio::join!(
        here.update("pods/007", entry.revision, Bytes::from_static(b"here")),
        there.update("pods/007", entry.revision, Bytes::from_static(b"there")),
    );
    let lost = [one.is_err(), two.is_err()];
    assert!(
        lost[0] != lost[1],
        "exactly one of two writers wins: {one:?} {two:?}"
    );
    assert_eq!(
        stranger.list(under("pods/")).await.unwrap().entries.len(),
        100
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_goes_away_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let member = Member::start(folder.path(), ports);
    let store = member.store("/wharf/").await;
    let one = store.create("a", Bytes::from_static(b"1")).await.unwrap();
    let mut watch = store.watch("", one).await.unwrap();
    drop(member);
    let refused = store.update("a", one, Bytes::from_static(b"2")).await;
    let Err(error @ Error::Etcd { .. }) = refused else {
        panic!("a write without etcd: {refused:?}");
    };
    assert!(error.to_string().contains("majority"), "{error}");

    let _member = Member::start(folder.path(), ports);
    // Nothing was written while it was away; the channel connects again by itself.
    let two = loop {
        match store.update("a", one, Bytes::from_static(b"2")).await {
            Ok(revision) => break revision,
            Err(Error::Etcd { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let Event::Change(change) = watch.next().await.unwrap() else {
        panic!("not a change");
    };
    assert_eq!(change.revision, two);
    assert_eq!(change.before.as_ref().unwrap().revision, one);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_were_compacted_end_watches() {
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(folder.path(), free_ports());
    let store = member.store("/wharf/").await;
    let one = store.create("a", Bytes::new()).await.unwrap();
    let two = store.update("a", one, Bytes::new()).await.unwrap();
    store.compact(two).await.unwrap();
    let old = store.watch("", one).await;
    assert!(matches!(old, Err(Error::Compacted { oldest, .. }) if oldest == two));
    // A second time is no mistake.
    store.compact(two).await.unwrap();
}
