//! Kubernetes objects as JSON: kinds, schemas, defaults, validation, selectors, patches, quantities, tables and encodings.
//!
//! Everything here is pure: bytes and values in, values and errors out; no input or output, no clock, no randomness.
//! Objects are [`serde_json::Value`]s. One schema engine ([`schema`]) serves built-in and custom kinds; what only one
//! kind knows lives in a file of its own under [`validate`], [`defaults`] and [`table`].
//!
//! The path of a write through this crate:
//!
//! 1. [`schema::parse_strict`] or [`protobuf::decode`];
//! 2. [`schema::read`] (types, unknown fields, canonical form, defaults); the server sets name, uid and creation time;
//! 3. [`strategy::prepare_create`] or [`strategy::prepare_update`] or [`strategy::prepare_status_update`];
//! 4. (admission, not here), [`validate::create`], [`validate::update`] or [`validate::status_update`];
//! 5. [`apply::track`] for the managed fields.

#![forbid(unsafe_code)]

pub mod apply;
pub mod cel;
pub mod crd;
pub mod defaults;
pub mod field;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;
pub mod time;
pub mod validate;

pub use field::{FieldError, FieldErrorKind, Path};
pub use quantity::Quantity;
pub use resources::Resource;
pub use schema::Schema;
pub use status::Status;
