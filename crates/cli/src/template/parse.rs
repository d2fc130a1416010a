//! Builds the tree of a template from its tokens.

use super::functions;
use super::lex::{self, Kind as T, Token};
use super::tree::{Branch, Command, Control, Kind, Node, Pipe, Tree, Word};

/// Deepest nesting of structures and parentheses.
const DEPTH_MAX: usize = 200;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    loops: usize,
    depth: usize,
    defined: std::collections::HashMap<String, Vec<Node>>,
}

type Parsed<T> = Result<T, lex::Wrong>;

/// What ended a list of nodes.
#[derive(PartialEq)]
enum Ended {
    End,
    Else,
    Eof,
}

/// Parses a template; the error is Go's.
pub fn parse(source: &str) -> Result<Tree, String> {
    parse_tree(source).map_err(|(at, wrong)| {
        let line = 1 + source
            .as_bytes()
            .iter()
            .take(at.min(source.len()))
            .filter(|b| **b == b'\n')
            .count();
        format!("template: :{line}: {wrong}")
    })
}

fn parse_tree(source: &str) -> Parsed<Tree> {
    let tokens = lex::lex(source)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        variables: vec!["$".into()],
        loops: 0,
        depth: 0,
        defined: Default::default(),
    };
    let (root, ended) = parser.nodes(true)?;
    let at = parser.place();
    match ended {
        Ended::End => Err((at, "unexpected {{end}}".into())),
        Ended::Else => Err((at, "unexpected {{else}}".into())),
        Ended::Eof => Ok(Tree {
            source: source.to_owned(),
            root,
            defined: parser.defined,
        }),
    }
}

impl Parser {
    fn peek(&self) -> &T {
        self.tokens
            .get(self.at)
            .map_or(&T::End, |token| &token.kind)
    }

    fn place(&self) -> usize {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(0, |token| token.at)
    }

    fn next(&mut self) -> Token {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.unwrap_or(Token {
            at: self.tokens.last().map_or(0, |t| t.at),
            kind: T::End,
        })
    }

    fn skip_space(&mut self) {
        while *self.peek() == T::Space {
            self.at += 1;
        }
    }

    fn unexpected<X>(&self, context: &str) -> Parsed<X> {
        Err((
            self.place(),
            format!("unexpected {} in {context}", self.peek().describe()),
        ))
    }

    fn close(&mut self, context: &str) -> Parsed<()> {
        self.skip_space();
        if *self.peek() != T::Right {
            return self.unexpected(context);
        }
        self.at += 1;
        Ok(())
    }

    /// Nodes up to `{{end}}`, `{{else`, or the end of the template. The `else` itself is taken, its condition not.
    fn nodes(&mut self, top: bool) -> Parsed<(Vec<Node>, Ended)> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err((self.place(), "template is nested too deeply".into()));
        }
        let mut nodes = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                T::Text(text) => nodes.push(Node::Text(text)),
                T::End => {
                    self.depth -= 1;
                    if !top {
                        return Err((token.at, "unexpected EOF".into()));
                    }
                    return Ok((nodes, Ended::Eof));
                }
                _ => {
                    self.skip_space();
                    if let Some(ended) = self.action(&mut nodes)? {
                        self.depth -= 1;
                        return Ok((nodes, ended));
                    }
                }
            }
        }
    }

    fn action(&mut self, nodes: &mut Vec<Node>) -> Parsed<Option<Ended>> {
        let word = match self.peek() {
            T::Word(word) => word.clone(),
            _ => String::new(),
        };
        let at = self.place();
        if lex::is_keyword(&word) && word != "nil" {
            self.at += 1;
        }
        match word.as_str() {
            "end" => {
                self.close("end")?;
                return Ok(Some(Ended::End));
            }
            "else" => {
                self.skip_space();
                return Ok(Some(Ended::Else));
            }
            "if" => nodes.push(self.branch(Control::If)?),
            "with" => nodes.push(self.branch(Control::With)?),
            "range" => nodes.push(self.branch(Control::Range)?),
            "define" => self.define()?,
            "block" => nodes.push(self.block(at)?),
            "template" => nodes.push(self.call()?),
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err((at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(&format!("{{{{{word}}}}}"))?;
                nodes.push(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            _ => {
                let pipe = self.pipe("command", true)?;
                self.close("command")?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn branch(&mut self, control: Control) -> Parsed<Node> {
        let context = match control {
            Control::If => "if",
            Control::With => "with",
            Control::Range => "range",
        };
        let scope = self.variables.len();
        let pipe = self.pipe(context, true)?;
        self.close(context)?;
        self.loops += usize::from(control == Control::Range);
        let then = self.nodes(false);
        self.loops -= usize::from(control == Control::Range);
        let (then, ended) = then?;
        let mut otherwise = Vec::new();
        if ended == Ended::Else {
            otherwise = self.otherwise(control)?;
        }
        self.variables.truncate(scope);
        Ok(Node::Branch(Branch {
            control,
            pipe,
            then,
            otherwise,
        }))
    }

    fn otherwise(&mut self, control: Control) -> Parsed<Vec<Node>> {
        let chained = match (self.peek(), control) {
            (T::Word(word), Control::If) if word == "if" => Some(Control::If),
            (T::Word(word), Control::With) if word == "with" => Some(Control::With),
            _ => None,
        };
        if let Some(control) = chained {
            self.at += 1;
            self.skip_space();
            // `else if` shares the outer `end`.
            return Ok(vec![self.branch(control)?]);
        }
        self.close("else")?;
        match self.nodes(false)? {
            (nodes, Ended::End) => Ok(nodes),
            _ => Err((self.place(), "expected end; found {{else}}".into())),
        }
    }

    fn name(&mut self, context: &str) -> Parsed<String> {
        self.skip_space();
        match self.peek().clone() {
            T::Quoted(_, name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected(context),
        }
    }

    fn define(&mut self) -> Parsed<()> {
        let name = self.name("define clause")?;
        self.close("define clause")?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let (nodes, ended) = self.nodes(false)?;
        self.variables = outer;
        if ended != Ended::End {
            return Err((self.place(), "unexpected {{else}} in define clause".into()));
        }
        self.defined.insert(name, nodes);
        Ok(())
    }

    fn block(&mut self, at: usize) -> Parsed<Node> {
        let name = self.name("block clause")?;
        self.skip_space();
        let pipe = self.pipe("block clause", true)?;
        self.close("block clause")?;
        let (nodes, _) = self.nodes(false)?;
        self.defined.entry(name.clone()).or_insert(nodes);
        Ok(Node::Call {
            at,
            name,
            pipe: Some(pipe),
        })
    }

    fn call(&mut self) -> Parsed<Node> {
        self.skip_space();
        let at = self.place();
        let name = self.name("template clause")?;
        self.skip_space();
        let pipe = if *self.peek() == T::Right {
            None
        } else {
            Some(self.pipe("template clause", true)?)
        };
        self.close("template clause")?;
        Ok(Node::Call { at, name, pipe })
    }

    fn pipe(&mut self, context: &str, declares: bool) -> Parsed<Pipe> {
        self.skip_space();
        let at = self.place();
        let (variables, assign) = if declares {
            self.declaration(context)?
        } else {
            (Vec::new(), false)
        };
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            commands.push(self.command(context)?);
            self.skip_space();
            if *self.peek() != T::Pipe {
                break;
            }
            self.at += 1;
            self.skip_space();
            if matches!(self.peek(), T::Right | T::Close) {
                break;
            }
        }
        for command in commands.iter().skip(1) {
            if let Some(word) = command.words.first()
                && matches!(
                    word.kind,
                    Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Number(..) | Kind::Text(..)
                )
            {
                let wrong = format!("non executable command in pipeline stage {}", 2);
                return Err((word.at, wrong));
            }
        }
        self.variables
            .extend(variables.iter().filter(|_| !assign).cloned());
        Ok(Pipe {
            at,
            variables,
            assign,
            commands,
        })
    }

    /// `$x :=`, `$x =`, `$i, $x :=`.
    fn declaration(&mut self, context: &str) -> Parsed<(Vec<String>, bool)> {
        let start = self.at;
        let mut names = Vec::new();
        while let T::Variable(name) = self.peek().clone() {
            self.at += 1;
            self.skip_space();
            names.push(name);
            match self.peek() {
                T::Comma if context == "range" && names.len() < 2 => {
                    self.at += 1;
                    self.skip_space();
                }
                T::Declare | T::Assign => {
                    let assign = *self.peek() == T::Assign;
                    if assign
                        && let Some(unknown) =
                            names.iter().find(|name| !self.variables.contains(name))
                    {
                        return Err((self.place(), format!("undefined variable {unknown:?}")));
                    }
                    self.at += 1;
                    return Ok((names, assign));
                }
                T::Comma => {
                    return Err((self.place(), format!("too many declarations in {context}")));
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, context: &str) -> Parsed<Command> {
        let at = self.place();
        let mut words = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                T::Right | T::Pipe | T::Close => break,
                T::End => return Err((self.place(), "unclosed action".into())),
                _ => words.push(self.operand(context)?),
            }
            if !matches!(self.peek(), T::Space | T::Right | T::Pipe | T::Close) {
                return self.unexpected("operand");
            }
        }
        if words.is_empty() {
            if matches!(self.peek(), T::Right | T::Close) {
                return Err((self.place(), format!("missing value for {context}")));
            }
            return self.unexpected(context);
        }
        Ok(Command { at, words })
    }

    fn operand(&mut self, context: &str) -> Parsed<Word> {
        let token = self.next();
        let kind = match token.kind.clone() {
            T::Field(name) => Kind::Field(vec![name]),
            T::Dot => Kind::Dot,
            T::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err((token.at, format!("undefined variable {name:?}")));
                }
                Kind::Variable(vec![name])
            }
            T::Number(text) => match lex::number_value(&text) {
                Some(number) => Kind::Number(text, number),
                None => return Err((token.at, format!("bad number syntax: {text:?}"))),
            },
            T::Quoted(source, text) => Kind::Text(source, text),
            T::Word(word) => match word.as_str() {
                "true" | "false" => Kind::Bool(word == "true"),
                "nil" => Kind::Nil,
                _ if lex::is_keyword(&word) => {
                    self.at -= 1;
                    return self.unexpected(context);
                }
                _ if functions::known(&word) => Kind::Function(word),
                _ => return Err((token.at, format!("function {word:?} not defined"))),
            },
            T::Open => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err((token.at, "template is nested too deeply".into()));
                }
                let pipe = self.pipe("parenthesized pipeline", false)?;
                self.depth -= 1;
                if *self.peek() != T::Close {
                    return self.unexpected("parenthesized pipeline");
                }
                self.at += 1;
                Kind::Group(Box::new(pipe))
            }
            _ => {
                self.at -= 1;
                return self.unexpected(context);
            }
        };
        self.chain(Word { at: token.at, kind })
    }

    /// Fields that follow an operand without a space.
    fn chain(&mut self, word: Word) -> Parsed<Word> {
        let at = self.place();
        let mut names = Vec::new();
        while let T::Field(name) = self.peek().clone() {
            self.at += 1;
            names.push(name);
        }
        if names.is_empty() {
            return Ok(word);
        }
        // Go gives the whole chain the place of its second link.
        Ok(match word.kind {
            Kind::Field(mut first) => {
                first.extend(names);
                Word {
                    at,
                    kind: Kind::Field(first),
                }
            }
            Kind::Variable(mut first) => {
                first.extend(names);
                Word {
                    at,
                    kind: Kind::Variable(first),
                }
            }
            Kind::Dot | Kind::Group(_) | Kind::Function(_) => Word {
                at,
                kind: Kind::Chain(Box::new(word), names),
            },
            _ => {
                return Err((
                    at,
                    format!("unexpected . after term {:?}", word.to_string()),
                ));
            }
        })
    }
}
