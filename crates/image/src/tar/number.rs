//! Numbers of a tar header: octal text, or base 256 where the first bit is set.

/// Reads a field; `None`: not a number, or one that does not fit.
pub(crate) fn parse(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => parse_base256(field),
        _ => parse_octal(field),
    }
}

fn parse_octal(field: &[u8]) -> Option<i64> {
    let text = field
        .split(|b| *b == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if text.is_empty() {
        return Some(0);
    }
    text.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, most significant byte first; the topmost bit only marks the form.
fn parse_base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative {
        i128::from(field[0] | 0x80) - 256
    } else {
        i128::from(field[0] & 0x3f)
    };
    let value = field[1..].iter().try_fold(first, |value, byte| {
        let next = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        (next.abs() < 1 << 80).then_some(next)
    })?;
    i64::try_from(value).ok()
}

/// Writes octal digits with a closing NUL; `false`: does not fit.
pub(crate) fn write_octal(field: &mut [u8], value: u64) -> bool {
    let width = field.len() - 1;
    let text = format!("{value:0width$o}");
    if text.len() > width {
        return false;
    }
    field[..width].copy_from_slice(text.as_bytes());
    field[width] = 0;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_forms() {
        assert_eq!(parse(b"0000644\0"), Some(0o644));
        assert_eq!(parse(b"   644 \0"), Some(0o644));
        assert_eq!(parse(b"\0\0\0\0"), Some(0));
        assert_eq!(parse(b"0000648\0"), None);
        assert_eq!(parse(b"-1\0"), None);
        assert_eq!(parse(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(parse(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(
            parse(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
        let mut field = [b'x'; 8];
        assert!(write_octal(&mut field, 0o7777777) && !write_octal(&mut field, 0o10000000));
    }
}
