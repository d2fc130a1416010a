//! Reading a quantity.

use super::{MAX, NANO, Notation, Quantity, QuantityError, divide_away};

/// Digits after the point that count; what follows only rounds.
const FRACTION_DIGITS: usize = 11;

pub(super) fn quantity(text: &str) -> Result<Quantity, QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        None => return Err(QuantityError::Form),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    let number_end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(if suffix.is_empty() {
            QuantityError::Number
        } else {
            QuantityError::Form
        });
    }
    if fraction.contains('.') {
        return Err(QuantityError::Form);
    }
    let (scale, notation) = scale(suffix)?;
    let nanos = amount(whole, fraction, scale).unwrap_or(MAX).min(MAX);
    Ok(Quantity {
        nanos: if negative { -nanos } else { nanos },
        notation,
    })
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Binary(u32),
    Decimal(i32),
}

fn scale(suffix: &str) -> Result<(Scale, Notation), QuantityError> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Scale::Binary((power as u32 + 1) * 10), Notation::BinarySi));
    }
    if let Some(power) = DECIMAL.iter().position(|s| *s == suffix) {
        return Ok((Scale::Decimal(power as i32 * 3 - 9), Notation::DecimalSi));
    }
    let known = |c: char| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c);
    if !suffix.chars().all(known) {
        return Err(QuantityError::Form);
    }
    let digits = suffix
        .strip_prefix(['e', 'E'])
        .ok_or(QuantityError::Suffix)?;
    let exponent: i32 = digits.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Scale::Decimal(exponent), Notation::DecimalExponent))
}

/// The amount in nano units, rounded up; `None` if it is beyond all bounds.
fn amount(whole: &str, fraction: &str, scale: Scale) -> Option<i128> {
    let digits = |text: &str| {
        text.bytes().try_fold(0_i128, |n, d| {
            n.checked_mul(10)?.checked_add(i128::from(d - b'0'))
        })
    };
    let whole = digits(whole.trim_start_matches('0'))?;
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let lost = fraction[kept.len()..].bytes().any(|d| d != b'0');
    let fraction_unit = 10_i128.pow(kept.len() as u32);
    let fraction = digits(kept)?;
    if whole == 0 && fraction == 0 {
        return Some(i128::from(lost));
    }
    match scale {
        Scale::Binary(shift) => {
            let unit = NANO << shift;
            let part = divide_away(unit.checked_mul(fraction)?, fraction_unit);
            whole
                .checked_mul(unit)?
                .checked_add(part + i128::from(lost))
        }
        Scale::Decimal(exponent) => {
            let scaled = whole.checked_mul(fraction_unit)?.checked_add(fraction)?;
            let power = exponent + 9 - kept.len() as i32;
            let nanos = if power >= 0 {
                scaled.checked_mul(10_i128.checked_pow(power as u32)?)?
            } else {
                // Below the smallest power everything rounds up to one.
                10_i128
                    .checked_pow(power.unsigned_abs())
                    .map_or(1, |by| divide_away(scaled, by))
            };
            nanos.checked_add(i128::from(lost && power <= 0))
        }
    }
}
