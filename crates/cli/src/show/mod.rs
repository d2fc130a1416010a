//! How results are shown: tables, templates, indented JSON, progress.

pub mod inspect;
pub mod progress;
pub mod schema;
pub mod schema_types;
pub mod table;
