//! Signals that this process gets and the container should have, and the size of its terminal.

use std::sync::mpsc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal;
use crate::wire::query::Query;
use crate::wire::{Client, Request};

/// Signals passed on, by number and name.
const PASSED: [(i32, &str); 11] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
];

/// Passes signals on to the container. Returns once they are being caught.
pub fn pass_on(client: Client, id: String) {
    let kinds: Vec<i32> = PASSED.iter().map(|(number, _)| *number).collect();
    let mut client = client;
    catch(kinds, move |number| {
        let name = PASSED
            .iter()
            .find(|(n, _)| *n == number)
            .map_or("TERM", |(_, name)| name);
        let path = Query::new()
            .add("signal", name)
            .to_path(&format!("/containers/{id}/kill"));
        // The container may have ended by itself meanwhile; then there is nobody to tell.
        let _ = client.call(Request::post(path));
    });
}

/// Tells the container the size of the terminal, now and whenever it changes. `path` is its resize end point.
pub fn follow_size(mut client: Client, path: String) {
    resize(&mut client, &path);
    catch(vec![28], move |_| resize(&mut client, &path));
}

fn resize(client: &mut Client, path: &str) {
    if let Some((rows, columns)) = terminal::size() {
        let query = Query::new()
            .add("h", &rows.to_string())
            .add("w", &columns.to_string());
        let _ = client.call(Request::post(query.to_path(path)));
    }
}

/// Calls `act` with the number of every signal of `kinds`, on a thread of its own.
fn catch(kinds: Vec<i32>, mut act: impl FnMut(i32) + Send + 'static) {
    let (ready, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
        else {
            return;
        };
        runtime.block_on(async move {
            let mut signals: Vec<(i32, Signal)> = kinds
                .into_iter()
                .filter_map(|number| Some((number, signal(SignalKind::from_raw(number)).ok()?)))
                .collect();
            let _ = ready.send(());
            loop {
                let number = std::future::poll_fn(|context| {
                    for (number, signal) in &mut signals {
                        if signal.poll_recv(context).is_ready() {
                            return std::task::Poll::Ready(*number);
                        }
                    }
                    std::task::Poll::Pending
                })
                .await;
                act(number);
            }
        });
    });
    // An error means that the thread could not start; then signals have their usual effect.
    let _ = wait.recv();
}
