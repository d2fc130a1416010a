//! Functions of texts.

use super::{EvalError, Result, Value, regex};
use crate::cel::strings::format;

pub fn call<'a>(function: &str, text: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (function, args) {
        ("contains", [Value::String(part)]) => Value::Bool(text.contains(part.as_ref())),
        ("startsWith", [Value::String(part)]) => Value::Bool(text.starts_with(part.as_ref())),
        ("endsWith", [Value::String(part)]) => Value::Bool(text.ends_with(part.as_ref())),
        ("matches", [Value::String(pattern)]) => Value::Bool(regex(pattern)?.is_match(text)),
        ("find", [Value::String(pattern)]) => {
            let found = regex(pattern)?
                .find(text)
                .map(|found| found.as_str().to_owned());
            Value::text(found.unwrap_or_default())
        }
        ("findAll", [Value::String(pattern)]) => find_all(text, pattern, usize::MAX)?,
        ("findAll", [Value::String(pattern), Value::Int(limit)]) => {
            find_all(text, pattern, usize::try_from(*limit).unwrap_or(usize::MAX))?
        }
        ("lowerAscii", []) => Value::text(text.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(text.to_ascii_uppercase()),
        ("trim", []) => Value::text(text.trim()),
        ("reverse", []) => Value::text(text.chars().rev().collect::<String>()),
        ("charAt", [Value::Int(at)]) => char_at(text, *at)?,
        ("indexOf", [Value::String(part)]) => position(text, text.find(part.as_ref())),
        ("lastIndexOf", [Value::String(part)]) => position(text, text.rfind(part.as_ref())),
        ("indexOf", [Value::String(part), Value::Int(from)]) => {
            let start = byte_of(text, *from)?;
            position(text, text[start..].find(part.as_ref()).map(|at| at + start))
        }
        ("substring", [Value::Int(from)]) => Value::text(&text[byte_of(text, *from)?..]),
        ("substring", [Value::Int(from), Value::Int(to)]) => {
            let (from, to) = (byte_of(text, *from)?, byte_of(text, *to)?);
            let part = text.get(from..to);
            Value::text(part.ok_or_else(|| EvalError::new("invalid substring range"))?)
        }
        ("replace", [Value::String(old), Value::String(new)]) => {
            Value::text(text.replace(old.as_ref(), new))
        }
        ("replace", [Value::String(old), Value::String(new), Value::Int(limit)]) => {
            Value::text(text.replacen(
                old.as_ref(),
                new,
                usize::try_from(*limit).unwrap_or(usize::MAX),
            ))
        }
        ("split", [Value::String(by)]) => Value::list(pieces(text, by, usize::MAX)),
        ("split", [Value::String(_), Value::Int(0)]) => Value::list(Vec::new()),
        ("split", [Value::String(by), Value::Int(limit)]) => Value::list(pieces(
            text,
            by,
            usize::try_from(*limit).unwrap_or(usize::MAX),
        )),
        ("format", [args]) if args.is_list() => Value::text(format(text, &args.items())?),
        _ => return Err(EvalError::no_overload()),
    })
}

/// Texts of a list as one.
pub fn join<'a>(items: &[Value<'a>], args: &[Value<'a>]) -> Result<Value<'a>> {
    let between = match args {
        [] => "",
        [Value::String(between)] => between,
        _ => return Err(EvalError::no_overload()),
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(text) => texts.push(text.as_ref()),
            _ => return Err(EvalError::no_overload()),
        }
    }
    Ok(Value::text(texts.join(between)))
}

fn pieces<'a>(text: &str, by: &str, limit: usize) -> Vec<Value<'a>> {
    if by.is_empty() {
        return text.chars().map(|c| Value::text(c.to_string())).collect();
    }
    text.splitn(limit, by).map(Value::text).collect()
}

fn find_all<'a>(text: &str, pattern: &str, limit: usize) -> Result<Value<'a>> {
    let regex = regex(pattern)?;
    let found = regex.find_iter(text).take(limit);
    Ok(Value::list(
        found.map(|found| Value::text(found.as_str())).collect(),
    ))
}

/// The byte at which a character begins; one past the last is the end.
fn byte_of(text: &str, at: i64) -> Result<usize> {
    let outside = || EvalError::new(format!("index out of range: {at}"));
    let at = usize::try_from(at).map_err(|_| outside())?;
    let mut starts = text
        .char_indices()
        .map(|(byte, _)| byte)
        .chain([text.len()]);
    starts.nth(at).ok_or_else(outside)
}

fn char_at<'a>(text: &str, at: i64) -> Result<Value<'a>> {
    let start = byte_of(text, at)?;
    let found = text[start..].chars().next();
    Ok(Value::text(found.map(String::from).unwrap_or_default()))
}

/// The number of the character that begins at a byte; -1 for none.
fn position<'a>(text: &str, byte: Option<usize>) -> Value<'a> {
    let number = byte.map(|byte| text[..byte].chars().count());
    Value::Int(number.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1))
}
