//! A Dockerfile's text as logical lines: comments dropped, continuations joined, flags and here-documents taken apart.

use crate::Error;

/// Larger Dockerfiles are refused.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// More instructions than this are refused.
const LINES_MAX: usize = 10_000;

/// A here-document of one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word after `<<`.
    pub name: String,
    /// Whether variables in it are expanded (the word was not quoted).
    pub expand: bool,
    /// Text, with its last newline.
    pub text: String,
}

/// One instruction as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Number of its first line, from 1.
    pub line: usize,
    /// Column of its first character, from 1.
    pub column: usize,
    /// Upper case.
    pub keyword: String,
    /// Joined and trimmed, as a build shows it.
    pub original: String,
    /// `--NAME[=VALUE]`.
    pub flags: Vec<(String, Option<String>)>,
    /// What follows keyword and flags.
    pub rest: String,
    /// In the order of their words.
    pub heredocs: Vec<Heredoc>,
    /// `\` or a backtick.
    pub escape: char,
}

impl Line {
    /// A complaint about this instruction.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::Dockerfile {
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }
}

/// Splits a Dockerfile.
pub(crate) fn split(text: &str) -> Result<Vec<Line>, Error> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the Dockerfile is larger than {TEXT_BYTES_MAX} bytes"
        )));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut splitter = Splitter {
        lines: text.lines().collect(),
        next: 0,
        escape: '\\',
    };
    splitter.directives()?;
    let mut found = Vec::new();
    while let Some(line) = splitter.instruction()? {
        found.push(line);
        if found.len() > LINES_MAX {
            return Err(Error::Invalid(format!(
                "the Dockerfile has more than {LINES_MAX} instructions"
            )));
        }
    }
    Ok(found)
}

struct Splitter<'a> {
    lines: Vec<&'a str>,
    next: usize,
    escape: char,
}

impl Splitter<'_> {
    /// `# escape=…` counts only above everything else.
    fn directives(&mut self) -> Result<(), Error> {
        let mut seen = false;
        for (index, line) in self.lines.iter().enumerate() {
            let directive = line
                .trim_start()
                .strip_prefix('#')
                .and_then(|rest| rest.split_once('='))
                .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()));
            let Some((name, value)) = directive else {
                break;
            };
            match name.as_str() {
                "escape" => {
                    let twice = seen.then_some("only one escape parser directive can be used");
                    seen = true;
                    let message = match value {
                        "\\" | "`" => twice.map(str::to_owned),
                        other => Some(format!("invalid ESCAPE '{other}'. Must be ` or \\")),
                    };
                    if let Some(message) = message {
                        return Err(Error::Dockerfile {
                            line: index + 1,
                            column: 1,
                            message,
                        });
                    }
                    self.escape = value.chars().next().unwrap_or('\\');
                }
                "syntax" | "check" | "platform" => {}
                _ => break,
            }
        }
        Ok(())
    }

    fn instruction(&mut self) -> Result<Option<Line>, Error> {
        while let Some(line) = self.lines.get(self.next) {
            if !is_blank(line) && !is_comment(line) {
                break;
            }
            self.next += 1;
        }
        let Some(first) = self.lines.get(self.next) else {
            return Ok(None);
        };
        let start = self.next;
        let column = first.len() - first.trim_start().len() + 1;
        let joined = self.joined();
        let original = joined.trim().to_owned();
        let (keyword, rest) = original
            .split_once(char::is_whitespace)
            .unwrap_or((original.as_str(), ""));
        let mut line = Line {
            line: start + 1,
            column,
            keyword: keyword.to_ascii_uppercase(),
            flags: Vec::new(),
            rest: rest.trim().to_owned(),
            heredocs: Vec::new(),
            escape: self.escape,
            original: original.clone(),
        };
        take_flags(&mut line);
        if takes_heredocs(&line) {
            for (name, expand, strip) in heredoc_words(&line)? {
                let text = self.heredoc(&line, &name, strip)?;
                line.heredocs.push(Heredoc { name, expand, text });
            }
        }
        Ok(Some(line))
    }

    /// Joins continued lines; comments and empty lines among them vanish.
    fn joined(&mut self) -> String {
        let mut joined = String::new();
        let mut first = true;
        while let Some(line) = self.lines.get(self.next) {
            self.next += 1;
            if !first && (is_comment(line) || is_blank(line)) {
                continue;
            }
            let text = if first { line.trim_start() } else { line };
            first = false;
            let cut = text.trim_end_matches([' ', '\t', '\r']);
            match cut.strip_suffix(self.escape) {
                Some(continued) => joined.push_str(continued),
                None => {
                    joined.push_str(text);
                    break;
                }
            }
        }
        joined
    }

    fn heredoc(&mut self, line: &Line, name: &str, strip: bool) -> Result<String, Error> {
        let mut text = String::new();
        while let Some(next) = self.lines.get(self.next) {
            self.next += 1;
            let next = if strip {
                next.trim_start_matches('\t')
            } else {
                next
            };
            if next == name {
                return Ok(text);
            }
            text.push_str(next);
            text.push('\n');
        }
        Err(line.error(format!("unterminated heredoc: no line says {name}")))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

/// Takes `--flags` off the front; quotes group and the escape character protects, as in words.
fn take_flags(line: &mut Line) {
    if matches!(
        line.keyword.as_str(),
        "CMD" | "ENTRYPOINT" | "ONBUILD" | "SHELL"
    ) {
        return;
    }
    let mut rest = line.rest.as_str();
    while rest.starts_with("--") {
        let (word, after) = flag_word(rest, line.escape);
        if word == "--" {
            rest = after;
            break;
        }
        let flag = word.trim_start_matches("--");
        line.flags.push(match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag.to_owned(), None),
        });
        rest = after;
    }
    line.rest = rest.to_owned();
}

fn flag_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match quote {
            None if c.is_whitespace() => return (word, text[at..].trim_start()),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape && quote != Some('\'') => {
                word.extend(characters.next().map(|(_, next)| next))
            }
            _ => word.push(c),
        }
    }
    (word, "")
}

fn takes_heredocs(line: &Line) -> bool {
    let keyword = match line.keyword.as_str() {
        "ONBUILD" => line.rest.split_whitespace().next().unwrap_or_default(),
        keyword => keyword,
    };
    ["RUN", "COPY", "ADD"]
        .iter()
        .any(|known| keyword.eq_ignore_ascii_case(known))
}

/// Words `<<NAME` outside of quotes: name, whether it expands, whether leading tabs go.
fn heredoc_words(line: &Line) -> Result<Vec<(String, bool, bool)>, Error> {
    let mut found = Vec::new();
    for word in crate::words::split(&line.rest, line.escape) {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(name) = word.strip_prefix("<<") else {
            continue;
        };
        let (name, strip) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        // `<<<` is a here-string of the shell, `<<` alone an arithmetic shift.
        if name.is_empty() || name.starts_with('<') {
            continue;
        }
        let bare: String = name
            .chars()
            .filter(|c| !matches!(c, '"' | '\'' | '\\'))
            .collect();
        let fine = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        if bare.is_empty() || !bare.chars().all(fine) {
            continue;
        }
        if found.len() == 64 {
            return Err(line.error("more than 64 heredocs in one instruction"));
        }
        found.push((bare.clone(), bare == name, strip));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originals(text: &str) -> Vec<(usize, String)> {
        let lines = split(text).unwrap();
        lines.into_iter().map(|l| (l.line, l.original)).collect()
    }

    #[test]
    fn joins_continued_lines() {
        let text = "# c\n\nFROM x\n  RUN a \\\n # note\n\n  b \\  \n\tc\nCMD d \\";
        let expected = [(3, "FROM x"), (4, "RUN a   b \tc"), (9, "CMD d")];
        let expected: Vec<_> = expected.map(|(n, t)| (n, t.to_owned())).into();
        assert_eq!(originals(text), expected);
        assert_eq!(
            originals("#escape=`\r\nRUN a `\r\n b\\\r\nUSER c"),
            [(2, "RUN a  b\\".to_owned()), (4, "USER c".to_owned())]
        );
        let late = "FROM a\n# escape=`\nRUN b `\nUSER c";
        assert_eq!(originals(late).len(), 3);
    }

    #[test]
    fn refuses_bad_directives() {
        for (text, at) in [
            ("# escape=x\nFROM a", 1),
            ("#syntax=y\n#escape=\\\n#escape=\\\n", 3),
        ] {
            match split(text) {
                Err(Error::Dockerfile { line, .. }) => assert_eq!(line, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn takes_flags_and_heredocs_apart() {
        let text = "COPY --from=\"a b\" --chown=1:2 <<EOF <<-'X Y' <<-\"Z\" /d/\nhi $x\nEOF\n\tz\n\tZ\nRUN cat <<< x 3<<A && echo $((1<<2))\n a\nA\n";
        let lines = split(text).unwrap();
        assert_eq!(lines.len(), 2);
        let flags: Vec<_> = lines[0]
            .flags
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_deref()))
            .collect();
        assert_eq!(flags, [("from", Some("a b")), ("chown", Some("1:2"))]);
        let docs: Vec<_> = lines[0]
            .heredocs
            .iter()
            .map(|d| (d.name.as_str(), d.expand, d.text.as_str()))
            .collect();
        assert_eq!(docs, [("EOF", true, "hi $x\n"), ("Z", false, "z\n")]);
        assert_eq!(lines[1].heredocs.len(), 1);
        assert_eq!(lines[1].heredocs[0].text, " a\n");
        assert!(split("RUN <<E\nx").is_err());
    }
}
