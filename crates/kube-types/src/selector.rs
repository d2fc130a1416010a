//! Label selectors, in their text form and as objects, and field selectors.

mod field;
mod label;
mod lexer;

pub use field::{FieldSelector, field_value, supported_fields};
pub use label::{LabelSelector, Operator, Requirement};

/// A selector longer than this is refused: bytes.
const LENGTH_MAX: usize = 64 * 1024;

/// Why a selector can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[cfg(test)]
mod tests;
