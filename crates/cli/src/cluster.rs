//! Commands that ask the cluster's API.

pub mod kubeconfig;
pub mod why;
