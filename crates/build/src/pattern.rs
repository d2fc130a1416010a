//! Patterns of paths: wildcards of COPY and the lines of `.dockerignore`. Matching is linear in pattern times path.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character but `/`.
    One,
    /// `*`: any number of those.
    Star,
    /// `**`: anything.
    Any,
    /// `**/`: nothing, or anything that ends with `/`.
    Folders,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether COPY takes the name for a pattern.
pub(crate) fn has_wildcards(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

impl Pattern {
    /// `deep`: `**` crosses folders (`.dockerignore`); otherwise it is two stars.
    pub fn new(text: &str, deep: bool) -> Result<Pattern, String> {
        let malformed = || format!("syntax error in pattern {text:?}");
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' if deep && rest.next_if_eq(&'*').is_some() => {
                    if rest.next_if_eq(&'/').is_some() {
                        Token::Folders
                    } else {
                        Token::Any
                    }
                }
                '*' => Token::Star,
                '?' => Token::One,
                '[' => class(&mut rest).ok_or_else(malformed)?,
                '\\' => Token::Literal(rest.next().ok_or_else(malformed)?),
                c => Token::Literal(c),
            });
        }
        Ok(Pattern { tokens })
    }

    /// Whether the whole path fits.
    pub fn matches(&self, path: &str) -> bool {
        // State 2i: before token i; 2i + 1: within the folders that token i stands for.
        let end = self.tokens.len();
        let mut now = vec![false; 2 * end + 2];
        now[0] = true;
        self.skip(&mut now);
        for c in path.chars() {
            let mut next = vec![false; 2 * end + 2];
            for (i, token) in self.tokens.iter().enumerate() {
                let (before, within) = (now[2 * i], now[2 * i + 1]);
                if !before && !within {
                    continue;
                }
                match token {
                    Token::Folders => {
                        next[2 * i + 1] = true;
                        next[2 * i + 2] |= c == '/';
                    }
                    Token::Star => next[2 * i] |= c != '/',
                    Token::Any => next[2 * i] = true,
                    Token::Literal(wanted) => next[2 * i + 2] |= c == *wanted,
                    Token::One => next[2 * i + 2] |= c != '/',
                    Token::Class { negated, ranges } => {
                        let inside = ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
                        next[2 * i + 2] |= inside != *negated && c != '/';
                    }
                }
            }
            self.skip(&mut next);
            now = next;
        }
        now[2 * end]
    }

    /// Tokens that may stand for nothing are passed over.
    fn skip(&self, states: &mut [bool]) {
        for (i, token) in self.tokens.iter().enumerate() {
            if states[2 * i] && matches!(token, Token::Star | Token::Any | Token::Folders) {
                states[2 * i + 2] = true;
            }
        }
    }
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let from = match rest.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => rest.next()?,
            c => c,
        };
        let to = match rest.next_if_eq(&'-') {
            None => from,
            Some(_) => match rest.next()? {
                ']' | '-' => return None,
                '\\' => rest.next()?,
                c => c,
            },
        };
        ranges.push((from, to));
    }
}

/// Lines of `.dockerignore`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    rules: Vec<(Pattern, bool)>,
}

impl Ignore {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Ignore, String> {
        let mut rules = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let line = line.trim();
            let (line, keeps) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let path = clean(line);
            if line.is_empty() || path.is_empty() {
                continue;
            }
            rules.push((Pattern::new(&path, true)?, keeps));
            if rules.len() > 10_000 {
                return Err("more than 10000 patterns".to_owned());
            }
        }
        Ok(Ignore { rules })
    }

    /// Whether a path below the context is left out: the last rule decides that fits it or a folder above it.
    pub fn excludes(&self, path: &str) -> bool {
        let fits = |pattern: &Pattern| {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            pattern.matches(path) || above.into_iter().any(|folder| pattern.matches(folder))
        };
        let last = self.rules.iter().rev().find(|(pattern, _)| fits(pattern));
        last.is_some_and(|(_, keeps)| !keeps)
    }

    /// Whether anything is left out at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Normal form without a leading slash; `..` does not lead above the top.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_patterns() {
        let table = [
            ("a.txt", "a.txt", true),
            ("a.txt", "b/a.txt", false),
            ("*.txt", "a.txt", true),
            ("*.txt", "b/a.txt", false),
            ("*/*.txt", "b/a.txt", true),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "b/c/a.txt", true),
            ("a/**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "ab/z", false),
            ("**", "anything/at/all", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a.c", "abc", false),
            ("**/foo", "barfoo", false),
        ];
        for (pattern, path, expected) in table {
            let compiled = Pattern::new(pattern, true).unwrap();
            assert_eq!(compiled.matches(path), expected, "{pattern} {path}");
        }
        for bad in ["[", "[]", "[a", "a\\", "[-a]"] {
            assert!(Pattern::new(bad, true).is_err(), "{bad}");
        }
        assert!(!Pattern::new("**/a", false).unwrap().matches("x/y/a"));
    }

    #[test]
    fn last_rule_decides() {
        let ignore =
            Ignore::parse("# no\n*.md\n!README.md\nREADME-x.md\n/build\n!build/keep\n./x/../y\n")
                .unwrap();
        let table = [
            ("a.md", true),
            ("README.md", false),
            ("sub/a.md", false),
            ("build", true),
            ("build/a/b", true),
            ("build/keep", false),
            ("build/keep/x", false),
            ("y", true),
            ("x", false),
            ("# no", false),
        ];
        for (path, expected) in table {
            assert_eq!(ignore.excludes(path), expected, "{path}");
        }
        let all = Ignore::parse("**\n!src\nsrc/*.o\n").unwrap();
        assert!(all.excludes("x") && !all.excludes("src/a.c") && all.excludes("src/a.o"));
    }

    #[test]
    fn hostile_patterns_are_quick() {
        let pattern = Pattern::new(&"*a".repeat(500), true).unwrap();
        assert!(!pattern.matches(&"a".repeat(400)));
    }

    #[test]
    fn tells_wildcards() {
        assert!(
            has_wildcards("a*")
                && has_wildcards("[x]")
                && !has_wildcards("a\\*")
                && !has_wildcards("a")
        );
    }
}
