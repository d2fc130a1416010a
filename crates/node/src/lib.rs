//! The node: runs the pods that the cluster gives to this machine, and tells the cluster how they are.
//!
//! It knows the API (pods come, status goes), the Container Runtime Interface (sandboxes and containers) and the files
//! of volumes. It must not know which runtime answers behind [`wharf_cri::Cri`], nor where the API lives.

mod backoff;
mod decide;
mod expand;
mod part;
mod resources;
mod seen;
