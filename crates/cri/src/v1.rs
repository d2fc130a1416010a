//! Messages, clients and servers of the Container Runtime Interface, made from `proto/runtime.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]

tonic::include_proto!("runtime.v1");
