//! Commands on images.

pub mod build;
pub mod build_context;
pub mod build_flags;
pub mod ignore;
pub mod list;
pub mod look;
pub mod pull;
pub mod reference;
pub mod remove;
pub mod transfer;
