//! YAML in and out: bodies are read with bounds on nesting and on repeated anchors; answers are written block by block.

use serde_json::Value;
use serde_saphyr::Error;
use serde_saphyr::options::DuplicateKeyPolicy;

/// Levels that a document may nest.
const DEPTH_MAX: usize = 100;

/// Reads one document, and tells which key is there more than once: the last one counts.
///
/// # Errors
/// What is wrong with the text.
pub fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    // Most clients send JSON, which is YAML and much quicker to read as what it is.
    if bytes.first() == Some(&b'{')
        && let Ok((value, doubled)) = wharf_kube_types::schema::parse_strict(bytes)
        && doubled.is_empty()
    {
        return Ok((value, doubled));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let failed = |error: serde_saphyr::Error| format!("error converting YAML to JSON: {error}");
    let error = match serde_saphyr::from_str::<Value>(text) {
        Ok(value) => return Ok((value, Vec::new())),
        Err(error) => error,
    };
    let Error::DuplicateMappingKey { key, location } = error.without_snippet() else {
        return Err(failed(error));
    };
    let doubled = format!(
        "yaml: unmarshal errors:\n  line {}: key {:?} already set in map",
        location.line(),
        key.as_deref().unwrap_or_default()
    );
    let lenient = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let value = serde_saphyr::from_str_with_options(text, lenient).map_err(failed)?;
    Ok((value, vec![doubled]))
}

/// Writes a document.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() && depth < DEPTH_MAX => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 || depth > 0 && out.ends_with('\n') {
                    indent(out, depth);
                }
                scalar(out, key);
                out.push(':');
                nested(out, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() && depth < DEPTH_MAX => {
            for item in items {
                if out.ends_with('\n') || out.is_empty() {
                    indent(out, depth);
                }
                out.push_str("- ");
                block(out, item, depth + 1);
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
        Value::String(text) => {
            scalar(out, text);
            out.push('\n');
        }
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    let deep = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if deep {
        out.push('\n');
        block(out, value, depth + 1);
    } else {
        out.push(' ');
        block(out, value, depth + 1);
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Plain where nothing else can be meant, else in double quotes as in JSON, which YAML reads the same.
fn scalar(out: &mut String, text: &str) {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
    );
    let plain =
        text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(safe) && !word;
    if plain {
        out.push_str(text);
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({"a": {"b": [1, {"c": "x: y", "d": ["e", []]}, "true"], "f": {}}, "g": null, "h": "", "i": "two\nlines"});
        let text = write(&value);
        assert_eq!(read(text.as_bytes()).unwrap(), (value, vec![]), "{text}");
    }

    #[test]
    fn a_key_that_comes_twice_is_told_with_its_line() {
        let (value, doubled) = read(b"a: 1\nb: 2\nb: 3\n").unwrap();
        assert_eq!(value, json!({"a": 1, "b": 3}));
        assert_eq!(
            doubled,
            ["yaml: unmarshal errors:\n  line 3: key \"b\" already set in map"]
        );
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes()).is_err());
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (now, before) in ["b", "c", "d", "e", "f", "g", "h"]
            .iter()
            .zip(["a", "b", "c", "d", "e", "f", "g"])
        {
            let many = vec![format!("*{before}"); 10].join(",");
            bomb.push_str(&format!("{now}: &{now} [{many}]\n"));
        }
        assert!(read(bomb.as_bytes()).is_err());
    }
}
