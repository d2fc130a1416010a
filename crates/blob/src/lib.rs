//! Content-addressed store: ingest, verify, lease, garbage-collect. Does not know what the bytes mean.
#![forbid(unsafe_code)]
