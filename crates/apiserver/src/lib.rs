//! The Kubernetes API server: REST and watch, authentication, authorisation, admission and custom resources over a store.
//!
//! Objects are bytes from the store to the client; only what changes an object reads it. Knows nothing of nodes and
//! containers.
#![forbid(unsafe_code)]

mod admission;
mod aggregation;
mod api;
mod authn;
mod authz;
mod body;
mod bootstrap;
mod cache;
mod call;
mod certificates;
mod clock;
mod controllers;
mod convert;
mod discovery;
mod dispatch;
mod handle;
#[cfg(test)]
mod harness;
mod https;
mod info;
mod kubeconfig;
mod local;
mod metrics;
mod nonresource;
mod object;
mod object_request;
mod output;
mod present;
mod random;
mod registry;
mod relay;
mod seal;
mod serve;
mod server;
mod verbs;
mod yaml;

pub use relay::NodeTrust;
pub use server::{Config, Datastore, Error, Server, database, snapshot};
