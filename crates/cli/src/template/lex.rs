//! Splits a template into text and the tokens of its actions.

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Byte offset.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
}

/// Kinds of tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text between actions.
    Text(String),
    /// `{{`
    Left,
    /// `}}`
    Right,
    /// White space inside an action.
    Space,
    /// A word: keyword, function, `true`, `nil`.
    Word(String),
    /// `.name`
    Field(String),
    /// `.`
    Dot,
    /// `$` or `$name`
    Variable(String),
    /// A number as written.
    Number(String),
    /// A quoted text as written, and its meaning.
    Quoted(String, String),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `,`
    Comma,
    /// End of the template.
    End,
}

impl Kind {
    /// How an error names the token.
    pub fn describe(&self) -> String {
        match self {
            Kind::End => "EOF".into(),
            Kind::Text(text) => format!("{:?}", shorten(text)),
            Kind::Left => "\"{{\"".into(),
            Kind::Right => "\"}}\"".into(),
            Kind::Space => "\" \"".into(),
            Kind::Word(word) if is_keyword(word) => format!("<{word}>"),
            Kind::Word(word) | Kind::Variable(word) | Kind::Number(word) => {
                format!("{:?}", shorten(word))
            }
            Kind::Field(name) => format!("\".{}\"", shorten(name)),
            Kind::Dot => "<.>".into(),
            Kind::Quoted(source, _) => format!("{:?}", shorten(source)),
            Kind::Pipe => "\"|\"".into(),
            Kind::Open => "\"(\"".into(),
            Kind::Close => "\")\"".into(),
            Kind::Declare => "\":=\"".into(),
            Kind::Assign => "\"=\"".into(),
            Kind::Comma => "\",\"".into(),
        }
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() > 10 {
        format!("{}...", text.chars().take(10).collect::<String>())
    } else {
        text.to_owned()
    }
}

/// Whether the word starts or ends a control structure.
pub fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "end"
            | "range"
            | "with"
            | "define"
            | "block"
            | "template"
            | "break"
            | "continue"
            | "nil"
    )
}

/// What is wrong, and at which byte.
pub type Wrong = (usize, String);

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
    depth: usize,
}

/// Tokens of `source`, ending in [`Kind::End`].
pub fn lex(source: &str) -> Result<Vec<Token>, Wrong> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
        depth: 0,
    };
    let mut trim = false;
    loop {
        match lexer.text(trim) {
            false => break,
            true => trim = lexer.action()?,
        }
    }
    lexer.push(source.len(), Kind::End);
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, at: usize, kind: Kind) {
        self.tokens.push(Token { at, kind });
    }

    /// Takes text up to the next action; false at the end.
    fn text(&mut self, trim_left: bool) -> bool {
        let start = self.at;
        let found = self.rest().find("{{");
        let end = found.map_or(self.source.len(), |offset| self.at + offset);
        let mut text = &self.source[start..end];
        if trim_left {
            text = text.trim_start_matches([' ', '\t', '\r', '\n']);
        }
        let after = &self.source[(end + 2).min(self.source.len())..];
        if found.is_some() && trims_left(after) {
            text = text.trim_end_matches([' ', '\t', '\r', '\n']);
        }
        if !text.is_empty() {
            self.push(start, Kind::Text(text.to_owned()));
        }
        self.at = end;
        found.is_some()
    }

    /// Takes one action; says whether the text after it is to be trimmed.
    fn action(&mut self) -> Result<bool, Wrong> {
        let start = self.at;
        self.at += 2;
        if trims_left(self.rest()) {
            self.at += 2;
        }
        if self.rest().starts_with("/*") {
            return self.comment(start);
        }
        self.push(start, Kind::Left);
        self.depth = 0;
        loop {
            let rest = self.rest();
            let trims = rest.starts_with([' ', '\t', '\r', '\n']) && rest[1..].starts_with("-}}");
            if rest.starts_with("}}") || trims {
                if self.depth > 0 {
                    return Err((self.at, "unclosed left paren".into()));
                }
                self.push(self.at, Kind::Right);
                self.at += if trims { 4 } else { 2 };
                return Ok(trims);
            }
            self.token()?;
        }
    }

    fn comment(&mut self, start: usize) -> Result<bool, Wrong> {
        let Some(end) = self.rest().find("*/") else {
            return Err((start, "unclosed comment".into()));
        };
        self.at += end + 2;
        let rest = self.rest();
        if rest.starts_with("}}") {
            self.at += 2;
            return Ok(false);
        }
        if rest.starts_with([' ', '\t', '\r', '\n']) && rest[1..].starts_with("-}}") {
            self.at += 4;
            return Ok(true);
        }
        Err((self.at, "comment ends before closing delimiter".into()))
    }

    fn token(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let Some(c) = self.rest().chars().next() else {
            return Err((start, "unclosed action".into()));
        };
        match c {
            ' ' | '\t' | '\r' | '\n' => self.space(),
            '|' => self.single(Kind::Pipe),
            '(' => {
                self.depth += 1;
                self.single(Kind::Open);
            }
            ')' => {
                if self.depth == 0 {
                    return Err((start, "unexpected right paren".into()));
                }
                self.depth -= 1;
                self.single(Kind::Close);
            }
            ',' => self.single(Kind::Comma),
            '=' => self.single(Kind::Assign),
            ':' => {
                if !self.rest().starts_with(":=") {
                    return Err((start, "expected :=".into()));
                }
                self.at += 2;
                self.push(start, Kind::Declare);
            }
            '"' => self.quoted()?,
            '`' => self.raw()?,
            '\'' => self.character()?,
            '$' => {
                self.at += 1;
                let name = self.name();
                self.push(start, Kind::Variable(format!("${name}")));
            }
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.dot(),
            '+' | '-' | '.' | '0'..='9' => self.number()?,
            c if c.is_alphabetic() || c == '_' => {
                let name = self.name();
                self.push(start, Kind::Word(name));
            }
            c if c.is_ascii_graphic() => {
                return Err((start, format!("unexpected {:?} in command", c.to_string())));
            }
            c => {
                return Err((
                    start,
                    format!("unrecognized character in action: U+{:04X} '{c}'", c as u32),
                ));
            }
        }
        Ok(())
    }

    fn single(&mut self, kind: Kind) {
        self.push(self.at, kind);
        self.at += 1;
    }

    fn space(&mut self) {
        let start = self.at;
        while let Some(c) = self.rest().chars().next() {
            // The blank before a trim marker belongs to the marker.
            if !matches!(c, ' ' | '\t' | '\r' | '\n') || (self.rest()[1..].starts_with("-}}")) {
                break;
            }
            self.at += 1;
        }
        if self.at > start {
            self.push(start, Kind::Space);
        }
    }

    fn name(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn dot(&mut self) {
        let start = self.at;
        self.at += 1;
        let name = self.name();
        self.push(
            start,
            if name.is_empty() {
                Kind::Dot
            } else {
                Kind::Field(name)
            },
        );
    }

    fn number(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let rest = self.rest();
        let mut end = 0;
        let mut last = ' ';
        for c in rest.chars() {
            let sign = matches!(c, '+' | '-') && (end == 0 || matches!(last, 'e' | 'E'));
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || sign) {
                break;
            }
            end += 1;
            last = c;
        }
        let text = &rest[..end];
        if number_value(text).is_none() {
            return Err((start, format!("bad number syntax: {text:?}")));
        }
        self.at += end;
        self.push(start, Kind::Number(text.to_owned()));
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let rest = self.rest();
        let mut escaped = false;
        for (offset, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let source = &rest[..=offset];
                    let Some(meaning) = unquote(&source[1..offset]) else {
                        return Err((start, "invalid syntax".into()));
                    };
                    self.at += offset + 1;
                    self.push(start, Kind::Quoted(source.to_owned(), meaning));
                    return Ok(());
                }
                _ => {}
            }
        }
        Err((start, "unterminated quoted string".into()))
    }

    fn raw(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let rest = self.rest();
        let Some(end) = rest[1..].find('`') else {
            return Err((start, "unterminated raw quoted string".into()));
        };
        let source = &rest[..end + 2];
        self.at += end + 2;
        self.push(
            start,
            Kind::Quoted(source.to_owned(), source[1..=end].to_owned()),
        );
        Ok(())
    }

    fn character(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let rest = self.rest();
        let skip = if rest[1..].starts_with('\\') { 3 } else { 2 };
        let end = rest
            .char_indices()
            .skip(skip)
            .find(|(_, c)| *c == '\'')
            .map(|(offset, _)| offset);
        let inner = end.and_then(|end| unquote(&rest[1..end]));
        match (
            end,
            inner
                .as_deref()
                .map(|text| text.chars().collect::<Vec<_>>())
                .as_deref(),
        ) {
            (Some(end), Some([c])) => {
                self.at += end + 1;
                self.push(start, Kind::Number(format!("{}", *c as u32)));
                Ok(())
            }
            (Some(end), _) => Err((
                start,
                format!("malformed character constant: {}", &rest[..=end]),
            )),
            _ => Err((start, "unterminated character constant".into())),
        }
    }
}

fn trims_left(after: &str) -> bool {
    let mut chars = after.chars();
    chars.next() == Some('-') && matches!(chars.next(), Some(' ' | '\t' | '\r' | '\n'))
}

/// The value of a number as Go writes it.
pub fn number_value(text: &str) -> Option<super::tree::Number> {
    use super::tree::Number;
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix)
                .ok()
                .map(|n| Number::Int(sign * n));
        }
    }
    if let Ok(whole) = digits.parse::<i64>() {
        return Some(Number::Int(sign * whole));
    }
    if lower.chars().any(|c| c.is_ascii_alphabetic() && c != 'e') {
        return None;
    }
    digits
        .parse::<f64>()
        .ok()
        .map(|n| Number::Float(sign as f64 * n))
}

/// The meaning of the inside of a quoted text.
pub fn unquote(inner: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            '\\' => out.push('\\'),
            '"' => out.push('"'),
            '\'' => out.push('\''),
            'x' => out.push(code(&mut chars, 2, 16)?),
            'u' => out.push(code(&mut chars, 4, 16)?),
            'U' => out.push(code(&mut chars, 8, 16)?),
            _ => return None,
        }
    }
    Some(out)
}

fn code(chars: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Option<char> {
    let text: String = chars.by_ref().take(digits).collect();
    if text.len() < digits {
        return None;
    }
    char::from_u32(u32::from_str_radix(&text, radix).ok()?)
}
