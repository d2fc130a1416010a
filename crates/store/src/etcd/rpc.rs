//! etcd's messages and clients, made from `proto/etcd.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]

tonic::include_proto!("etcdserverpb");
