//! Words of an instruction's arguments: quoted, `NAME=VALUE`, or a JSON array.

/// Splits at white space outside of quotes; quotes and escapes stay in the words.
pub(crate) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(characters.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Pairs of ENV and LABEL: `NAME=VALUE …`, or the old form `NAME VALUE` that takes the whole line.
pub(crate) fn pairs(
    keyword: &str,
    text: &str,
    escape: char,
) -> Result<Vec<(String, String)>, String> {
    let words = split(text, escape);
    let Some(first) = words.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        return match text.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.trim_start().to_owned())]),
            None => Err(format!("{keyword} must have two arguments")),
        };
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!(
            "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
        )),
    };
    words.iter().map(pair).collect()
}

/// A JSON array of strings; `None`: it is no JSON array, so the text is meant as it is.
pub(crate) fn json(text: &str) -> Result<Option<Vec<String>>, String> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    // As Docker reads it: what follows the array is not looked at.
    let mut stream = serde_json::Deserializer::from_str(text).into_iter();
    let Some(Ok::<Vec<serde_json::Value>, _>(values)) = stream.next() else {
        return Ok(None);
    };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => {
            Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned())
        }
    });
    strings.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_words() {
        let table: [(&str, &[&str]); 5] = [
            ("", &[]),
            ("a  b\tc", &["a", "b", "c"]),
            ("a=\"b c\" d='e \" f'", &["a=\"b c\"", "d='e \" f'"]),
            ("a=b\\ c d", &["a=b\\ c", "d"]),
            ("'unclosed x", &["'unclosed x"]),
        ];
        for (text, expected) in table {
            assert_eq!(split(text, '\\'), expected, "{text}");
        }
    }

    #[test]
    fn reads_pairs() {
        let read = |text| pairs("ENV", text, '\\');
        assert_eq!(
            read("A some   value").unwrap(),
            [("A".into(), "some   value".into())]
        );
        assert_eq!(
            read("A=1 B=\"x y\"").unwrap(),
            [("A".into(), "1".into()), ("B".into(), "\"x y\"".into())]
        );
        assert_eq!(read("A").unwrap_err(), "ENV must have two arguments");
        assert!(read("A=1 B").unwrap_err().contains("can't find = in \"B\""));
    }

    #[test]
    fn tells_json_from_words() {
        assert_eq!(json("[\"a\", \"b\\\"\"]").unwrap().unwrap(), ["a", "b\""]);
        assert_eq!(json("[ 1 = 1 ] && x").unwrap(), None);
        assert_eq!(json("[\"a\"").unwrap(), None);
        assert_eq!(json("[\"a\"] rest").unwrap().unwrap(), ["a"]);
        assert!(json("[1]").is_err());
    }
}
