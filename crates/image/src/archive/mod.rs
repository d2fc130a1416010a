//! Images as archives: `docker save` and OCI layout, both ways, and root file systems.

pub(crate) mod import;
mod layout;
mod load;
mod save;
