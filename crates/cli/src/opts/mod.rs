//! The flags that describe a container, and their way into the body of a create request.

pub mod checks;
pub mod create;
pub mod create_flags;
pub mod devices;
pub mod env;
pub mod mounts;
pub mod networks;
pub mod ports;
pub mod resources;
pub mod security;
