//! Following a cluster's API: caches that are kept up to date, queues of what is to be done, and who leads.
//!
//! - [`Api`] is what can be asked of an API server. [`Http`] asks over the network; a server in the same process
//!   implements the trait itself. Writes go the same way for both: admission and validation are never passed by.
//! - [`Informer`] lists, then watches, and keeps a [`Cache`] that many readers share.
//! - [`Queue`] holds keys that need work: each once, one worker a key, failures with back-off.
//! - [`Elector`] campaigns for a Lease, so that one of several processes acts.
//!
//! Must not know the server's inside, nor what the objects mean.
#![forbid(unsafe_code)]

mod api;
mod cache;
mod elector;
mod http;
mod informer;
mod object;
mod pause;
mod queue;
mod wire;

pub use api::{
    Answer, Api, Deletion, Error, ListRequest, Page, Patch, Query, Resource, Result, Target,
    WatchEvent, WatchKind, WatchRequest, WatchStream,
};
pub use cache::{Cache, Index};
pub use elector::{Elector, Leadership, Timing};
pub use http::{Http, HttpConfig};
pub use informer::{Event, Informer};
pub use object::{Key, Object};
pub use queue::{Queue, Taken};
pub use wire::query_text;
