//! What can be done with objects: a file per verb. The server's controllers use them as clients do.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod patch;
pub mod subresource;
pub mod update;
pub mod watch;
pub mod write;
