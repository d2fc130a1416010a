//! Commands on containers.

pub mod attach;
pub mod commit;
pub mod copy;
pub mod copy_paths;
pub mod create;
pub mod exec;
pub mod lifecycle;
pub mod list;
pub mod list_ports;
pub mod look;
pub mod run;
pub mod signals;
pub mod stats;
pub mod stream;
