//! `.dockerignore`: patterns, one a line, the last that matches decides, `!` brings back.

/// The patterns of a file.
#[derive(Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    keep: bool,
    parts: Vec<String>,
}

impl Ignore {
    /// Reads the file. The error names the line that is no pattern.
    pub fn parse(text: &str) -> Result<Ignore, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut ignore = Ignore::default();
        for line in text.lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                if keep {
                    return Err("illegal exclusion pattern: \"!\"".into());
                }
                continue;
            }
            let cleaned = crate::container::copy_paths::clean(pattern);
            let cleaned = cleaned.trim_start_matches('/');
            if cleaned.is_empty() || cleaned == "." {
                continue;
            }
            let parts: Vec<String> = cleaned.split('/').map(str::to_owned).collect();
            if parts.iter().any(|part| !well_formed(part)) {
                return Err(format!("syntax error in pattern: {pattern:?}"));
            }
            ignore.patterns.push(Pattern { keep, parts });
        }
        Ok(ignore)
    }

    /// Adds a pattern that always keeps `path`.
    pub fn always_keep(&mut self, path: &str) {
        let parts = path.split('/').map(str::to_owned).collect();
        self.patterns.push(Pattern { keep: true, parts });
    }

    /// Whether `path` (relative, with slashes) is left out. A pattern that matches a folder matches all below it.
    pub fn leaves_out(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut out = false;
        for pattern in &self.patterns {
            if pattern.keep != out {
                continue;
            }
            if (1..=parts.len()).any(|depth| matches(&pattern.parts, &parts[..depth])) {
                out = !pattern.keep;
            }
        }
        out
    }

    /// Whether something below the folder `path`, itself left out, may be brought back.
    pub fn may_keep_below(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        self.patterns
            .iter()
            .any(|pattern| pattern.keep && reaches(&pattern.parts, &parts))
    }
}

fn well_formed(part: &str) -> bool {
    let mut chars = part.chars();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => return false,
            '[' if !class => class = true,
            ']' if class => class = false,
            _ => {}
        }
    }
    !class
}

fn matches(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => {
            (0..=path.len()).any(|skip| matches(rest, &path[skip..]))
        }
        Some((first, rest)) => match path.split_first() {
            Some((name, below)) => matches_part(first, name) && matches(rest, below),
            None => false,
        },
    }
}

/// Whether a path that starts with `path` could match.
fn reaches(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (_, None) => true,
        (None, _) => true,
        (Some((first, _)), _) if first == "**" => true,
        (Some((first, rest)), Some((name, below))) => {
            matches_part(first, name) && reaches(rest, below)
        }
    }
}

fn matches_part(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    glob(&pattern, &name)
}

fn glob(pattern: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        '*' => {
            let rest = match rest.iter().position(|c| *c != '*') {
                Some(at) => &rest[at..],
                None => return true,
            };
            (0..=name.len()).any(|skip| glob(rest, &name[skip..]))
        }
        '?' => !name.is_empty() && glob(rest, &name[1..]),
        '[' => {
            let Some(end) = class_end(rest) else {
                return false;
            };
            !name.is_empty()
                && in_class(&rest[..end], name[0])
                && glob(&rest[end + 1..], &name[1..])
        }
        '\\' => match rest.split_first() {
            Some((c, rest)) => name.first() == Some(c) && glob(rest, &name[1..]),
            None => false,
        },
        c => name.first() == Some(c) && glob(rest, &name[1..]),
    }
}

fn class_end(rest: &[char]) -> Option<usize> {
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 1,
            ']' if at > 0 => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn in_class(class: &[char], c: char) -> bool {
    let (negated, class) = match class.split_first() {
        Some(('^', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    let mut at = 0;
    while at < class.len() {
        if class[at] == '\\' && at + 1 < class.len() {
            at += 1;
        }
        let low = class[at];
        if at + 2 < class.len() && class[at + 1] == '-' {
            found |= (low..=class[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= low == c;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_rules() {
        for (file, path, out) in [
            ("*.md", "a.md", true),
            ("*.md", "d/a.md", false),
            ("**/*.md", "d/e/a.md", true),
            ("**/*.md", "a.md", true),
            ("d", "d/e/f", true),
            ("/d/", "d/x", true),
            ("d/*", "d", false),
            ("*\n!keep", "keep/x", false),
            ("*\n!keep", "other", true),
            ("!a\n*", "a", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-a.md", false),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                "README-secret.md",
                true,
            ),
            ("# a\n\n a ", "a", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a/**/b", "a/b", true),
            ("a/**", "a/x/y", true),
            ("./a/../b", "b", true),
            (r"\*", "x", false),
        ] {
            assert_eq!(
                Ignore::parse(file).unwrap().leaves_out(path),
                out,
                "{file:?} {path}"
            );
        }
        assert!(Ignore::parse("!").is_err());
        assert!(Ignore::parse("[a").is_err());
    }

    #[test]
    fn folders_are_entered_only_where_something_may_come_back() {
        let ignore = Ignore::parse("*\n!a/b/c").unwrap();
        assert!(ignore.may_keep_below("a") && ignore.may_keep_below("a/b"));
        assert!(!ignore.may_keep_below("x"));
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(file in "[!*?\\[\\]^a-c/.#\\\\\\n ü-]{0,24}", path in "[a-cü]{1,4}(/[a-c]{1,3}){0,3}") {
            if let Ok(ignore) = Ignore::parse(&file) {
                let _ = (ignore.leaves_out(&path), ignore.may_keep_below(&path));
            }
        }
    }
}
