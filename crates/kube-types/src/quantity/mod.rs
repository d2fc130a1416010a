//! Quantities: numbers with suffixes, as `500m` and `2Gi`, kept to the nano and written in one canonical way.

mod parse;

use std::cmp::Ordering;
use std::fmt;

/// Nano units in one.
const NANO: i128 = 1_000_000_000;
/// The greatest amount, in nano units: larger ones are cut to it, as the original does.
const MAX: i128 = (i64::MAX as i128) * NANO;

/// Which suffixes an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `m`, `k`, `M`, …
    DecimalSi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// An amount. Comparison and equality look at the amount, not at the notation.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form at all.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Form,
    /// No number.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// A suffix that isn't one.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        notation: Notation::DecimalSi,
    };

    /// Reads an amount. What is finer than a nano is rounded away from zero.
    ///
    /// # Errors
    /// The text is no quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::quantity(text)
    }

    /// Reads an amount from JSON, where it is a text or a number.
    ///
    /// # Errors
    /// The value is no quantity.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, QuantityError> {
        match value {
            serde_json::Value::String(text) => Self::parse(text),
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            serde_json::Value::Null => Ok(Self::ZERO),
            _ => Err(QuantityError::Form),
        }
    }

    /// A whole amount.
    pub fn from_integer(value: i64, notation: Notation) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            notation,
        }
    }

    /// An amount in thousandths.
    pub fn from_millis(millis: i64) -> Self {
        Self {
            nanos: i128::from(millis) * (NANO / 1_000),
            notation: Notation::DecimalSi,
        }
    }

    /// The amount, rounded away from zero to an integer.
    pub fn value(self) -> i64 {
        saturate(divide_away(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        saturate(divide_away(self.nanos, NANO / 1_000))
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Less than, equal to or greater than zero.
    pub fn sign(self) -> Ordering {
        self.nanos.cmp(&0)
    }

    /// Whether it has no part finer than one.
    pub fn is_integer(self) -> bool {
        self.nanos % NANO == 0
    }

    /// The notation it is written in.
    pub fn notation(self) -> Notation {
        self.notation
    }

    fn with(self, nanos: i128, other: Self) -> Self {
        // Nothing has no notation of its own: the sum of nothing and 1Ki is 1Ki.
        let notation = if self.nanos == 0 {
            other.notation
        } else {
            self.notation
        };
        Self {
            nanos: nanos.clamp(-MAX, MAX),
            notation,
        }
    }

    fn decimal(self, f: &mut fmt::Formatter<'_>, exponents: bool) -> fmt::Result {
        const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let mut amount = self.nanos;
        let mut power = 0;
        while amount != 0 && amount % 1_000 == 0 && power + 1 < SUFFIXES.len() {
            amount /= 1_000;
            power += 1;
        }
        if amount == 0 {
            return f.write_str("0");
        }
        write!(f, "{amount}")?;
        let exponent = power as i32 * 3 - 9;
        if exponents && exponent != 0 {
            return write!(f, "e{exponent}");
        }
        f.write_str(SUFFIXES[power])
    }

    fn binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let mut amount = divide_away(self.nanos, NANO);
        let mut power = 0;
        while amount % 1_024 == 0 && power + 1 < SUFFIXES.len() {
            amount /= 1_024;
            power += 1;
        }
        write!(f, "{amount}{}", SUFFIXES[power])
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(self.nanos + other.nanos, other)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(self.nanos - other.nanos, other)
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: -self.nanos,
            ..self
        }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |a, b| a + b)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    /// The canonical text: no fraction, the greatest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.notation {
            Notation::BinarySi if self.nanos.abs() >= 1_024 * NANO => self.binary(f),
            Notation::DecimalExponent => self.decimal(f, true),
            _ => self.decimal(f, false),
        }
    }
}

fn divide_away(amount: i128, by: i128) -> i128 {
    let quotient = amount / by;
    match amount % by {
        0 => quotient,
        rest => quotient + rest.signum(),
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
