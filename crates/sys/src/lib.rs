//! The system calls that rustix lacks, each behind a safe function. The only crate with `unsafe`.
//!
//! Every `unsafe` site carries its proof. Nothing here knows what a container is.

pub mod bpf;
pub mod descriptors;
pub mod heap;
pub mod keyring;
pub mod memory_policy;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod program;
pub mod seccomp;
pub mod signal;
pub mod signal_queue;
