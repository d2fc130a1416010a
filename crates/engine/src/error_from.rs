//! Failures of the rooms below, by what a caller of the engine can do about them.

use crate::error::{Error, Kind};

impl From<wharf_image::Error> for Error {
    fn from(error: wharf_image::Error) -> Error {
        use wharf_image::Error as E;
        let kind = match &error {
            E::InvalidReference(_) | E::Invalid(_) => Kind::InvalidParameter,
            E::NotFound(_) | E::RegistryNotFound(_) => Kind::NotFound,
            E::Ambiguous(_) => Kind::InvalidParameter,
            E::Conflict(_) => Kind::Conflict,
            _ => Kind::Internal,
        };
        Error::with(kind, chain(&error), error)
    }
}

impl From<wharf_net::Error> for Error {
    fn from(error: wharf_net::Error) -> Error {
        use wharf_net::Error as E;
        let kind = match &error {
            E::Overlap(_) | E::AddressUnavailable(_) => Kind::Forbidden,
            _ => Kind::Internal,
        };
        let words = match &error {
            E::Overlap(_) => "Pool overlaps with other one on this address space: ",
            _ => "",
        };
        Error::with(kind, format!("{words}{}", chain(&error)), error)
    }
}

impl From<wharf_shim::client::Error> for Error {
    fn from(error: wharf_shim::client::Error) -> Error {
        Error::with(Kind::Internal, chain(&error), error)
    }
}

impl From<wharf_cgroup::Error> for Error {
    fn from(error: wharf_cgroup::Error) -> Error {
        Error::with(Kind::Internal, chain(&error), error)
    }
}

/// An error with its causes in one line: clients show one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    line
}

/// For `map_err` of file operations: names operation and object.
pub(crate) fn io<E: std::fmt::Display>(
    operation: impl std::fmt::Display,
) -> impl FnOnce(E) -> Error {
    let operation = operation.to_string();
    move |error| Error::new(Kind::Internal, format!("{operation}: {error}"))
}

/// Runs work that blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::Result<T> + Send + 'static,
) -> crate::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(
            Kind::Internal,
            format!("a task of the engine ended abnormally: {error}"),
        )),
    }
}
