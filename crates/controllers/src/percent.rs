//! Numbers that are given as such or as a part of another: `25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number meant; what makes no sense is zero, as it would be refused by the server.
pub(crate) fn of(value: &IntOrString, whole: i32, rounds_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let Some(percent) = text.strip_suffix('%').and_then(|n| n.parse::<i64>().ok()) else {
                return 0;
            };
            let exact = percent.saturating_mul(whole.into());
            let rounded = match rounds_up {
                true => exact.saturating_add(99).div_euclid(100),
                false => exact.div_euclid(100),
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_as_asked() {
        let quarter = IntOrString::String("25%".to_owned());
        assert_eq!(of(&quarter, 10, true), 3);
        assert_eq!(of(&quarter, 10, false), 2);
        assert_eq!(of(&quarter, 0, true), 0);
        assert_eq!(of(&IntOrString::Int(7), 10, true), 7);
    }
}
