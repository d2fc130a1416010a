//! The composition root: one binary that is client, daemon, registry, runtime and supervisor.
#![forbid(unsafe_code)]

fn main() {}
