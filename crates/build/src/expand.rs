//! Variables, quotes and escapes in instruction arguments, as the Dockerfile reference defines them.

use std::iter::Peekable;
use std::str::Chars;

/// Deeper nesting of `${x:-${y:-…}}` is refused.
const DEPTH_MAX: usize = 50;
/// Longer results are refused: nested defaults may grow without bound.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands a word: quotes vanish, `$x`, `${x}`, `${x:-y}`, `${x:+y}`, `${x:?y}` (and without the colon) are replaced.
pub(crate) fn word(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    expand(text, escape, lookup, true).map(|(result, _)| result)
}

/// The same, split at white space that is neither quoted nor escaped; that of values splits too.
pub(crate) fn words(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, String> {
    let (_, words) = expand(text, escape, lookup, true)?;
    Ok(words)
}

/// Text of a here-document: quotes stay as they are.
pub(crate) fn text(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    expand(text, escape, lookup, false).map(|(result, _)| result)
}

fn expand(
    text: &str,
    escape: char,
    lookup: Lookup<'_>,
    quotes: bool,
) -> Result<(String, Vec<String>), String> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        escape,
        lookup,
        quotes,
        depth: 0,
    };
    let mut out = Out::default();
    let result = lexer.until(None, &mut out);
    result.map_err(|e| format!("failed to process \"{text}\": {e}"))?;
    out.end_word();
    Ok((out.text, out.words))
}

#[derive(Default)]
struct Out {
    text: String,
    words: Vec<String>,
    word: Option<String>,
}

impl Out {
    /// Part of a word whatever it is.
    fn raw(&mut self, c: char) {
        self.text.push(c);
        self.word.get_or_insert_default().push(c);
    }

    /// White space ends a word.
    fn plain(&mut self, c: char) {
        if c.is_whitespace() {
            self.text.push(c);
            self.end_word();
        } else {
            self.raw(c);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.get_or_insert_default().push_str(text);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: Lookup<'a>,
    quotes: bool,
    depth: usize,
}

impl Lexer<'_> {
    fn until(&mut self, stop: Option<char>, out: &mut Out) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            if out.text.len() > RESULT_BYTES_MAX {
                return Err("the result is too long".to_owned());
            }
            match c {
                _ if Some(c) == stop => return Ok(()),
                '\'' if self.quotes => out.quoted(&self.single_quoted()?),
                '"' if self.quotes => out.quoted(&self.double_quoted()?),
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| out.plain(c));
                }
                _ if c == self.escape => self.escaped(out),
                _ => out.plain(c),
            }
        }
        match stop {
            Some(_) => Err("unexpected end of statement while looking for matching }".to_owned()),
            None => Ok(()),
        }
    }

    fn escaped(&mut self, out: &mut Out) {
        match self.rest.next() {
            // Outside of words only a dollar and the escape itself need protection.
            Some(c) if !self.quotes && c != '$' && c != self.escape => {
                out.raw(self.escape);
                out.raw(c);
            }
            Some(c) => out.raw(c),
            None => {}
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        for c in self.rest.by_ref() {
            if c == '\'' {
                return Ok(text);
            }
            text.push(c);
        }
        Err("unexpected end of statement while looking for matching single-quote".to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return Ok(text),
                '$' => text.push_str(&self.dollar()?),
                _ if c == self.escape => match self.rest.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        text.push(next)
                    }
                    Some(next) => text.extend([c, next]),
                    None => break,
                },
                _ => text.push(c),
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".to_owned())
    }

    /// What follows a `$`.
    fn dollar(&mut self) -> Result<String, String> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok((self.lookup)(&name).unwrap_or_default());
        }
        self.rest.next();
        let name = self.name();
        if name.is_empty() {
            return Err(match self.rest.peek() {
                Some('}') => "syntax error: bad substitution".to_owned(),
                Some(':') => "bad substitution: no name before the colon".to_owned(),
                _ => "bad substitution: expected a name after ${".to_owned(),
            });
        }
        let value = (self.lookup)(&name);
        match self.rest.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.rest.next();
                let given = value.filter(|value| !value.is_empty());
                self.modified(&name, modifier, given)
            }
            Some(modifier @ ('-' | '+' | '?')) => self.modified(&name, Some(modifier), value),
            _ => Err("missing ':' in substitution".to_owned()),
        }
    }

    fn modified(
        &mut self,
        name: &str,
        modifier: Option<char>,
        value: Option<String>,
    ) -> Result<String, String> {
        let Some(modifier @ ('-' | '+' | '?')) = modifier else {
            let shown = modifier.map(String::from).unwrap_or_default();
            return Err(format!("unsupported modifier ({shown}) in substitution"));
        };
        if self.depth == DEPTH_MAX {
            return Err("substitutions are nested too deeply".to_owned());
        }
        self.depth += 1;
        let mut out = Out::default();
        self.until(Some('}'), &mut out)?;
        self.depth -= 1;
        let word = out.text;
        match (modifier, value) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            (_, None) if word.is_empty() => Err(format!("{name}: is not allowed to be unset")),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.peek().copied() {
            let fits = c == '_' || c.is_ascii_alphanumeric();
            let special = name.is_empty()
                && (c.is_ascii_digit() || matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!'));
            if !fits && !special {
                break;
            }
            name.push(c);
            self.rest.next();
            if special {
                break;
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("hello".to_owned()),
            "S" => Some("one two".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn expands() {
        let table = [
            ("", ""),
            ("plain text", "plain text"),
            ("$A", "hello"),
            ("${A}x", "hellox"),
            ("$Ax", ""),
            ("$A/x-$A.", "hello/x-hello."),
            ("'$A'", "$A"),
            ("\"$A\"", "hello"),
            ("\"a\\tb\"", "a\\tb"),
            ("\"x\\\"y\\\\\"", "x\"y\\"),
            ("\\$A", "$A"),
            ("\\a\\ b", "a b"),
            ("'c\\$x'", "c\\$x"),
            ("tail\\", "tail"),
            ("$", "$"),
            ("$$", ""),
            ("a$ b", "a$ b"),
            ("$1x", "x"),
            ("${A:-d}", "hello"),
            ("${E:-d}", "d"),
            ("${E-d}", ""),
            ("${N:-d}", "d"),
            ("${N-d}", "d"),
            ("${N:-${M:-deep}}", "deep"),
            ("${N:-\"a b}\"}", "a b}"),
            ("${A:+yes}", "yes"),
            ("${E:+yes}", ""),
            ("${E+yes}", "yes"),
            ("${N:+yes}", ""),
            ("${A:?no}", "hello"),
        ];
        for (text, expected) in table {
            assert_eq!(word(text, '\\', &lookup).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(word("`$A\\", '`', &lookup).as_deref(), Ok("$A\\"));
    }

    #[test]
    fn refuses_with_dockers_words() {
        let table = [
            ("${x:?foo}", "x: foo"),
            ("${x", "missing ':' in substitution"),
            ("${x#y}", "missing ':' in substitution"),
            ("${x:y}", "unsupported modifier (y) in substitution"),
            (
                "'",
                "unexpected end of statement while looking for matching single-quote",
            ),
            (
                "\"a",
                "unexpected end of statement while looking for matching double-quote",
            ),
        ];
        for (text, expected) in table {
            let error = word(text, '\\', &lookup).unwrap_err();
            assert_eq!(error, format!("failed to process \"{text}\": {expected}"));
        }
    }

    #[test]
    fn splits_words_of_values() {
        let split = |text| words(text, '\\', &lookup).unwrap();
        assert_eq!(split("$S x"), ["one", "two", "x"]);
        assert_eq!(split("\"$S\" 'a b' c\\ d"), ["one two", "a b", "c d"]);
        assert_eq!(split(" $N "), Vec::<String>::new());
    }

    #[test]
    fn survives_hostile_nesting() {
        let deep = format!("{}x", "${a:-".repeat(100_000));
        assert!(word(&deep, '\\', &lookup).is_err());
    }

    #[test]
    fn heredocs_keep_quotes() {
        let expanded = text("it's \"$A\" \\$A \\n", '\\', &lookup).unwrap();
        assert_eq!(expanded, "it's \"hello\" $A \\n");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[$\\\\{}:+?'\"a-c -]{0,40}") {
            let _ = words(&text, '\\', &lookup);
        }
    }
}
