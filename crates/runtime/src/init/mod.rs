//! The child's side of a creation, in the order in which it happens. Everything here runs in the process that will
//! become the container, between the clone and the exec.
//!
//! 1. [`child`] joins namespaces and waits for mappings and control group;
//! 2. [`rootfs`] attaches the root file system, with [`mounts`], [`devices`] and [`console`] on it, and pivots;
//! 3. [`masks`] hides and protects what must not be seen or changed;
//! 4. [`identity`] drops rights; [`program`] finds and execs the program.

pub mod child;
pub mod console;
pub mod devices;
pub mod identity;
pub mod kernel_places;
pub mod kernel_settings;
pub mod labels;
pub mod masks;
pub mod mounts;
pub mod processors;
pub mod program;
pub mod rootfs;

use std::io;

/// A failed step: the sentence that goes to the parent.
#[derive(Debug)]
pub struct Failure {
    /// Operation, object and cause.
    pub message: String,
    /// Docker's exit code for it.
    pub exit_code: i32,
}

/// Result of a step.
pub type Step<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure without a cause of the kernel's.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            exit_code: 125,
        }
    }
}

/// For `map_err`: names what was tried.
pub fn failed<E: Into<io::Error>>(operation: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| {
        let error: io::Error = error.into();
        Failure::new(format!("{operation}: {}", words(&error)))
    }
}

/// The kernel's words without Rust's "(os error N)".
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
