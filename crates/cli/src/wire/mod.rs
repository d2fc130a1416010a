//! HTTP/1.1 over one stream, as much of it as the Engine API uses, blocking and without a runtime: a command
//! makes a few requests one after another, and starting a reactor would cost more than they do.

pub mod body;
pub mod client;
pub mod endpoint;
pub mod head;
pub mod query;

pub use client::{Client, Request, Streaming};
