//! Threads that own state and work on it, one job after the other.
//!
//! A netlink request blocks its thread for as long as the kernel works on it, and a namespace is a thread's
//! property: so networking has threads of its own, outside the async runtime. Three are enough whatever the
//! number of networks: one answers requests, the others do what nobody should wait for.

use std::sync::mpsc;
use std::sync::{Arc, OnceLock};

use crate::{Error, Result};

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Sends jobs to a thread. The thread ends when the last of its senders is gone.
pub(crate) struct Worker<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Worker {
            jobs: self.jobs.clone(),
        }
    }
}

impl<S> std::fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

fn gone() -> Error {
    Error::Kernel {
        operation: "ask the networking thread, which has stopped; the daemon must be restarted"
            .into(),
        source: std::io::ErrorKind::BrokenPipe.into(),
    }
}

/// A thread that is making its state.
pub(crate) struct Started(tokio::sync::oneshot::Receiver<Result<()>>);

impl Started {
    /// Waits until it is ready.
    pub(crate) async fn ready(self) -> Result<()> {
        self.0.await.map_err(|_| gone())?
    }
}

impl<S: 'static> Worker<S> {
    /// Starts a thread, in the calling thread's network namespace, that makes its state first. The receiver
    /// tells how that went.
    pub(crate) fn start(
        name: &str,
        init: impl FnOnce() -> Result<S> + Send + 'static,
    ) -> Result<(Worker<S>, Started)> {
        let (jobs, received) = mpsc::channel::<Job<S>>();
        let (ready, started) = tokio::sync::oneshot::channel();
        let run = move || {
            let mut state = match init() {
                Ok(state) => state,
                Err(error) => return drop(ready.send(Err(error))),
            };
            if ready.send(Ok(())).is_err() {
                return;
            }
            while let Ok(job) = received.recv() {
                job(&mut state);
            }
        };
        let operation = format!("start the thread {name}");
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(256 * 1024)
            .spawn(run)
            .map_err(|source| Error::Kernel { operation, source })?;
        Ok((Worker { jobs }, Started(started)))
    }

    /// Hands over a job; nobody hears of its end.
    pub(crate) fn post(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<()> {
        self.jobs.send(Box::new(job)).map_err(|_| gone())
    }

    /// Runs a job and waits, blocking, until it is done.
    pub(crate) fn run_blocking<T: Send + Sync + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = mpsc::sync_channel(1);
        self.post(move |state| drop(done.send(job(state))))?;
        result.recv().map_err(|_| gone())
    }

    /// Runs a job to its end, even if the call is dropped.
    pub(crate) async fn run<T: Send + Sync + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.post(move |state| drop(done.send(job(state))))?;
        result.await.map_err(|_| gone())?
    }

    /// Runs a job whose result must not be lost: if the call is dropped, `undo` gets it, on the same thread.
    pub(crate) async fn run_or_undo<T: Send + Sync + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
        undo: fn(&mut S, T),
    ) -> Result<T> {
        let parcel = Arc::new(OnceLock::new());
        let claim = Claim {
            worker: self.clone(),
            parcel: Arc::clone(&parcel),
            undo,
        };
        let (done, finished) = tokio::sync::oneshot::channel();
        self.post(move |state| match job(state) {
            Ok(value) => {
                let _ = parcel.set(value);
                drop(parcel);
                drop(done.send(Ok(())));
            }
            Err(error) => drop(done.send(Err(error))),
        })?;
        finished.await.map_err(|_| gone())??;
        claim.take().ok_or_else(gone)
    }
}

/// Stands for a result that is under way. Dropped before it was taken, it has the result undone: by a job
/// that is queued behind the one that produces it.
struct Claim<S: 'static, T: Send + Sync + 'static> {
    worker: Worker<S>,
    parcel: Arc<OnceLock<T>>,
    undo: fn(&mut S, T),
}

impl<S, T: Send + Sync> Claim<S, T> {
    fn take(mut self) -> Option<T> {
        Arc::get_mut(&mut self.parcel)?.take()
    }
}

impl<S, T: Send + Sync> Drop for Claim<S, T> {
    fn drop(&mut self) {
        // After a successful `take` an empty parcel is left, for which there is nothing to do.
        let mut parcel = std::mem::take(&mut self.parcel);
        if Arc::get_mut(&mut parcel).is_some_and(|parcel| parcel.get().is_none()) {
            return;
        }
        let undo = self.undo;
        // If the thread is gone, so is the state in which the result meant something.
        let _ = self.worker.post(move |state| {
            if let Some(value) = Arc::into_inner(parcel).and_then(OnceLock::into_inner) {
                undo(state, value);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    async fn numbers() -> Worker<Vec<u32>> {
        let (worker, started) = Worker::start("numbers", || Ok(Vec::new())).unwrap();
        started.ready().await.unwrap();
        worker
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn undo(state: &mut Vec<u32>, value: u32) {
        state.push(value + 1000);
    }

    #[tokio::test]
    async fn a_result_that_is_taken_is_not_undone() {
        let worker = numbers().await;
        assert_eq!(worker.run_or_undo(|_| Ok(7), undo).await.unwrap(), 7);
        assert_eq!(worker.run(|state| Ok(state.clone())).await.unwrap(), [0; 0]);
    }

    #[tokio::test]
    async fn a_dropped_call_is_undone_whether_it_has_run_or_not() {
        let worker = numbers().await;
        let (go, wait) = mpsc::channel::<()>();
        worker
            .post(move |_| wait.recv().unwrap_or_default())
            .unwrap();
        let mut early = Box::pin(worker.run_or_undo(|_| Ok(1), undo));
        assert!(poll(&mut early).is_pending());
        drop(early);
        let mut late = Box::pin(worker.run_or_undo(|_| Ok(2), undo));
        assert!(poll(&mut late).is_pending());
        go.send(()).unwrap();
        worker.run(|_| Ok(())).await.unwrap();
        drop(late);
        assert_eq!(
            worker.run(|state| Ok(state.clone())).await.unwrap(),
            [1001, 1002]
        );
    }

    #[tokio::test]
    async fn a_thread_that_died_is_reported() {
        let worker = numbers().await;
        let died = worker.run::<()>(|_| panic!("on purpose")).await;
        assert!(died.is_err());
        assert!(worker.run(|_| Ok(())).await.is_err());
    }
}
