//! Registries (distribution-spec 1.1): where they are, how to speak to them, who one is there.

mod answer;
mod auth;
mod certificates;
mod endpoint;
mod http;
mod link;
mod retry;
mod session;
mod upload;

pub(crate) use endpoint::{Purpose, Registries, is_meaningful};
pub(crate) use retry::{ATTEMPTS_MAX, delay as retry_delay};
pub(crate) use session::{FetchedManifest, Session};
pub(crate) use upload::{Sent, Upload};
