//! Commands on the daemon as a whole, on registries, and `inspect` for everything.

pub mod credentials;
pub mod disk;
pub mod events;
pub mod info;
pub mod inspect;
pub mod login;
pub mod prune;
pub mod search;
pub mod version;
