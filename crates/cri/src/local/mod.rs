//! Pods on our own engine. A sandbox has no process of its own: its namespaces are held by bind mounts in the run
//! folder, so that they outlive this program and cost nothing; only a shared process namespace needs a process 1.
//!
//! On disk: one record for each sandbox below `data_root/pods`, written before anything is made for it; opening takes
//! away what a record that never became ready stands for.

mod container;
mod container_status;
mod events;
mod exec;
mod holder;
mod image;
mod namespaces;
mod network;
mod record;
mod resources;
mod sandbox;
mod sandbox_status;
mod security;
mod stats;
mod status;
mod streams;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;
use wharf_engine::{Engine, Kind};
use wharf_net::{Net, Subnet};

use crate::rpcs::with_rpcs;
use crate::streaming::Streaming;
use crate::{Answer, Answers, Cri, v1};
use record::{Pod, Store};

/// Where pods are kept and how they are connected.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durable state; the same as the engine's.
    pub data_root: PathBuf,
    /// State of this boot; the same as the engine's.
    pub run_root: PathBuf,
    /// Link of the pods' bridge, at most 15 bytes.
    pub bridge: String,
    /// Range of pods' addresses until a client sets another (`UpdateRuntimeConfig`). `None`: pods without the host's
    /// network must wait for that.
    pub pod_cidr: Option<Subnet>,
}

/// Pods that are known, before there is an engine: their addresses are claimed first, since opening the engine removes
/// whatever nobody claims.
#[derive(Debug)]
pub struct Pods {
    options: Options,
    net: Net,
    store: Store,
}

impl Pods {
    /// Reads the records, makes the bridge, claims the pods' addresses.
    ///
    /// # Errors
    /// What reading the records says, and what the kernel refuses.
    pub async fn restore(options: Options, net: Net) -> Result<Pods, Status> {
        let (data_root, run_root) = (options.data_root.clone(), options.run_root.clone());
        let store = blocking(move || Store::load(&data_root, &run_root)).await?;
        let pods = Pods {
            options,
            net,
            store,
        };
        pods.restore_network().await?;
        Ok(pods)
    }
}

/// The runtime on our engine, in this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    net: Net,
    options: Options,
    store: Store,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    network_gate: tokio::sync::Mutex<()>,
    streaming: tokio::sync::OnceCell<Streaming>,
}

impl Local {
    /// Finishes or takes back what an interrupted run began, then is ready. `engine` must run on the same network.
    ///
    /// # Errors
    /// None yet.
    pub async fn open(pods: Pods, engine: Engine) -> Result<Local, Status> {
        let loaded = pods.store.take();
        let local = Local {
            inner: Arc::new(Inner {
                engine,
                net: pods.net,
                options: pods.options,
                store: pods.store,
                pods: Mutex::new(loaded),
                network_gate: tokio::sync::Mutex::default(),
                streaming: tokio::sync::OnceCell::new(),
            }),
        };
        local.recover().await;
        Ok(local)
    }
}

/// A lock whose holder panicked protects data that is still whole: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs work that blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Status::internal(format!(
            "a task ended abnormally: {error}"
        ))),
    }
}

/// The engine's failures, as gRPC says them.
fn failed(error: wharf_engine::Error) -> Status {
    let code = match error.kind {
        Kind::NotFound => tonic::Code::NotFound,
        Kind::InvalidParameter => tonic::Code::InvalidArgument,
        Kind::Conflict | Kind::NotModified => tonic::Code::FailedPrecondition,
        Kind::Forbidden => tonic::Code::PermissionDenied,
        Kind::Unavailable => tonic::Code::Unavailable,
        Kind::Internal => tonic::Code::Unknown,
    };
    Status::new(code, error.message)
}

/// The network's failures.
fn failed_net(error: wharf_net::Error) -> Status {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match error {
        wharf_net::Error::PortInUse { .. } => Status::already_exists(line),
        wharf_net::Error::PoolExhausted(_) => Status::resource_exhausted(line),
        _ => Status::unknown(line),
    }
}

/// Names operation and object of a failed system call.
fn io<E: std::fmt::Display>(operation: impl std::fmt::Display) -> impl FnOnce(E) -> Status {
    let operation = operation.to_string();
    move |error| Status::internal(format!("{operation}: {error}"))
}

macro_rules! implement {
    (runtime { $($rkind:ident $rname:ident ($rask:ident) -> $rgive:ident;)* }
     image { $($ikind:ident $iname:ident ($iask:ident) -> $igive:ident;)* }) => {
        impl Cri for Local {
            $(implement!(@$rkind $rname $rask $rgive);)*
            $(implement!(@$ikind $iname $iask $igive);)*
        }
    };
    // Saving the state of a running process is nothing that this engine does.
    (@unary checkpoint_container $ask:ident $give:ident) => {};
    (@unary checkpoint_pod $ask:ident $give:ident) => {};
    (@unary restore_pod $ask:ident $give:ident) => {};
    (@unary $name:ident $ask:ident $give:ident) => {
        fn $name(&self, request: v1::$ask) -> Answer<'_, v1::$give> {
            // The method of this name below, not this one: those of the type itself go first.
            Box::pin(Local::$name(self, request))
        }
    };
    (@stream $name:ident $ask:ident $give:ident) => {
        fn $name(&self, request: v1::$ask) -> Answer<'_, Answers<v1::$give>> {
            Box::pin(Local::$name(self, request))
        }
    };
}

with_rpcs!(implement);

/// A listing as a stream of one block.
fn once<T: Send + 'static>(item: T) -> Answers<T> {
    Box::pin(futures_util::stream::iter([Ok(item)]))
}
