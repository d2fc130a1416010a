//! Durable creates per second with 1 and with 32 writers: `cargo bench -p wharf-store`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wharf_store::{Embedded, Options, Store};

const TIME: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("start the runtime");
    for writers in [1, 32] {
        let creates = runtime.block_on(measure(writers));
        let rate = creates as f64 / TIME.as_secs_f64();
        println!("{writers:>3} writers: {rate:>8.0} durable creates of 1 KiB a second");
    }
}

async fn measure(writers: usize) -> usize {
    let folder = tempfile::tempdir_in(".").expect("make a folder on the disk");
    let path = folder.path().join("state.redb");
    let store = Arc::new(Embedded::open(&path, Options::default()).expect("open the store"));
    let end = Instant::now() + TIME;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    let key = format!("bench/{writer}/{done}");
                    let value = Bytes::from(vec![b'x'; 1024]);
                    store.create(&key, value).await.expect("create");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("writer");
    }
    total
}
