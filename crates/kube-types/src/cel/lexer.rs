//! Text → tokens.

/// A mistake and its place.
pub type Mistake = (usize, String);

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Ident(String),
    Int(i64),
    /// The one number that is an integer only with a minus before it.
    IntMin,
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// Punctuation and operators.
    Sign(&'static str),
    End,
}

/// Longest first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}", "=",
];

/// All tokens with their places; the last is [`Token::End`].
pub fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Mistake> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        if next.is_whitespace() {
            at += next.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else {
            let (token, length) = token(rest).map_err(|message| (at, message))?;
            tokens.push((at, token));
            at += length;
        }
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    if let Some(found) = quoted(rest)? {
        return Ok(found);
    }
    let first = rest.chars().next().unwrap_or_default();
    let second_is_digit = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || (first == '.' && second_is_digit) {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        return Ok((Token::Ident(rest[..length].to_owned()), length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) if *sign != "=" => Ok((Token::Sign(sign), sign.len())),
        _ => Err(format!(
            "Syntax error: token recognition error at: '{first}'"
        )),
    }
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let bad = |text: &str| format!("invalid number literal: {text}");
    if rest.starts_with("0x") || rest.starts_with("0X") {
        let digits = rest[2..].bytes().take_while(u8::is_ascii_hexdigit).count();
        let text = &rest[2..2 + digits];
        if rest[2 + digits..].starts_with(['u', 'U']) {
            let value = u64::from_str_radix(text, 16).map_err(|_| bad(text))?;
            return Ok((Token::Uint(value), 3 + digits));
        }
        let value = i64::from_str_radix(text, 16).map_err(|_| bad(text))?;
        return Ok((Token::Int(value), 2 + digits));
    }
    let bytes = rest.as_bytes();
    let digits = |from: usize| {
        bytes[from.min(bytes.len())..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut length = digits(0);
    let mut is_double = false;
    if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
        is_double = true;
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
            is_double = true;
        }
    }
    let text = &rest[..length];
    if is_double {
        return text
            .parse()
            .map(|value| (Token::Double(value), length))
            .map_err(|_| bad(text));
    }
    if matches!(bytes.get(length), Some(b'u' | b'U')) {
        let value = text.parse().map_err(|_| bad(text))?;
        return Ok((Token::Uint(value), length + 1));
    }
    if text == "9223372036854775808" {
        return Ok((Token::IntMin, length));
    }
    text.parse()
        .map(|value| (Token::Int(value), length))
        .map_err(|_| bad(text))
}

/// A string or bytes literal: prefixes `r` and `b`, one or three quotes of either kind.
fn quoted(rest: &str) -> Result<Option<(Token, usize)>, String> {
    let prefix = rest
        .find(|c: char| !matches!(c, 'r' | 'R' | 'b' | 'B'))
        .filter(|length| *length <= 2)
        .unwrap_or(0);
    let body = &rest[prefix..];
    let Some(quote) = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quote| body.starts_with(quote))
    else {
        return Ok(None);
    };
    let marks = rest[..prefix].to_lowercase();
    let (is_raw, is_bytes) = (marks.contains('r'), marks.contains('b'));
    let mut out = Vec::new();
    let mut at = quote.len();
    loop {
        let here = &body[at..];
        if here.starts_with(quote) {
            at += quote.len();
            break;
        }
        let Some(next) = here.chars().next() else {
            return Err("Syntax error: unterminated string literal".to_owned());
        };
        if next == '\n' && quote.len() == 1 {
            return Err("Syntax error: newline in string literal".to_owned());
        }
        if next == '\\' && !is_raw {
            at += escape(here, is_bytes, &mut out)?;
        } else {
            out.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            at += next.len_utf8();
        }
    }
    let token = if is_bytes {
        Token::Bytes(out)
    } else {
        Token::String(
            String::from_utf8(out).map_err(|_| "invalid text in string literal".to_owned())?,
        )
    };
    Ok(Some((token, prefix + at)))
}

/// One escape sequence at the start of `here`; its length.
fn escape(here: &str, is_bytes: bool, out: &mut Vec<u8>) -> Result<usize, String> {
    let bad = || {
        format!(
            "Syntax error: invalid escape sequence: {:?}",
            here.chars().take(2).collect::<String>()
        )
    };
    let kind = here[1..].chars().next().ok_or_else(bad)?;
    let simple = match kind {
        'n' => Some(b'\n'),
        't' => Some(b'\t'),
        'r' => Some(b'\r'),
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'v' => Some(11),
        '\\' | '"' | '\'' | '`' | '?' => Some(kind as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Ok(2);
    }
    let (radix, from, digits) = match kind {
        'x' | 'X' => (16, 2, 2),
        'u' if !is_bytes => (16, 2, 4),
        'U' if !is_bytes => (16, 2, 8),
        '0'..='3' => (8, 1, 3),
        _ => return Err(bad()),
    };
    let text = here.get(from..from + digits).ok_or_else(bad)?;
    let code = u32::from_str_radix(text, radix).map_err(|_| bad())?;
    if is_bytes {
        out.push(u8::try_from(code).map_err(|_| bad())?);
    } else {
        let sign = char::from_u32(code).ok_or_else(bad)?;
        out.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(from + digits)
}
