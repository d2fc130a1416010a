//! Texts, canonical forms and arithmetic.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn texts_become_canonical() {
    for (text, expect) in [
        ("0", "0"),
        ("1", "1"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("512Ki", "512Ki"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),
        ("1e3", "1e3"),
        ("12E6", "12e6"),
        ("100m", "100m"),
        ("1.25", "1250m"),
        ("-1", "-1"),
        ("+5", "5"),
        ("1u", "1u"),
        ("0.0000000001", "1n"),
        ("1E", "1E"),
        ("4Ei", "4Ei"),
        (".5", "500m"),
        ("5.", "5"),
        ("10000000000000000000000", "9223372036854775807"),
        ("123456789", "123456789"),
        ("100000k", "100M"),
        ("2048", "2048"),
        ("0Ki", "0"),
        ("1.1Ki", "1127"),
        ("8Ei", "9223372036854775807"),
    ] {
        assert_eq!(Quantity::parse(text).unwrap().to_string(), expect, "{text}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    for (text, expect) in [
        ("", QuantityError::Form),
        ("abc", QuantityError::Form),
        ("1x", QuantityError::Form),
        ("1.2.3", QuantityError::Form),
        ("1KiB", QuantityError::Form),
        ("1ki", QuantityError::Suffix),
        ("1mi", QuantityError::Suffix),
        ("-", QuantityError::Number),
        ("1 Gi", QuantityError::Form),
        ("1e", QuantityError::Suffix),
        ("1e99999999999", QuantityError::Suffix),
    ] {
        assert_eq!(Quantity::parse(text).unwrap_err(), expect, "{text}");
    }
}

#[test]
fn sums_keep_the_notation_of_the_first() {
    let check = |a: &str, b: &str, sum: &str, difference: &str| {
        let (a, b) = (Quantity::parse(a).unwrap(), Quantity::parse(b).unwrap());
        assert_eq!((a + b).to_string(), sum);
        assert_eq!((a - b).to_string(), difference);
    };
    check("1Gi", "1Gi", "2Gi", "0");
    check("0", "1Ki", "1Ki", "-1Ki");
    check("500m", "1", "1500m", "-500m");
    check("1Gi", "1M", "1074741824", "1072741824");
}

#[test]
fn integers_are_rounded_away_from_zero() {
    let value = |text: &str| {
        (
            Quantity::parse(text).unwrap().value(),
            Quantity::parse(text).unwrap().milli_value(),
        )
    };
    assert_eq!(value("1.2"), (2, 1200));
    assert_eq!(value("-1.2"), (-2, -1200));
    assert_eq!(value("1u"), (1, 1));
    assert_eq!(value("9E"), (9_000_000_000_000_000_000, i64::MAX));
}

proptest! {
    #[test]
    fn the_canonical_text_means_the_same(number in "[+-]?[0-9]{1,15}(\\.[0-9]{0,6})?",
        suffix in prop::sample::select(vec!["", "m", "k", "M", "Ki", "Mi", "Gi", "e3", "e-3", "u", "n"])) {
        let text = format!("{number}{suffix}");
        let first = Quantity::parse(&text).unwrap();
        let again = Quantity::parse(&first.to_string()).unwrap();
        // A binary amount of more than a Ki is written without its fraction.
        if first.notation() != Notation::BinarySi || first.is_integer() || first.value().abs() < 1_024 {
            prop_assert_eq!(first, again);
        }
        prop_assert_eq!(first.to_string(), again.to_string());
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn adding_and_taking_away_are_inverse(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
        let (a, b) = (Quantity::from_millis(a), Quantity::from_millis(b));
        prop_assert_eq!(a + b - b, a);
    }
}
