//! The parsed form of a template.

use std::collections::HashMap;
use std::fmt;

/// A template with the ones defined inside it.
#[derive(Debug, Default)]
pub struct Tree {
    /// Source, for positions in errors.
    pub source: String,
    /// What is rendered.
    pub root: Vec<Node>,
    /// `define` and `block`.
    pub defined: HashMap<String, Vec<Node>>,
}

/// A piece of a template.
#[derive(Debug)]
pub enum Node {
    /// Text as it stands.
    Text(String),
    /// `{{pipeline}}`.
    Action(Pipe),
    /// `if`, `with`, `range`.
    Branch(Branch),
    /// `{{template "name" pipeline}}`.
    Call {
        /// Byte offset.
        at: usize,
        /// Name.
        name: String,
        /// New dot.
        pipe: Option<Pipe>,
    },
    /// `{{break}}`.
    Break,
    /// `{{continue}}`.
    Continue,
}

/// Which control structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `if`.
    If,
    /// `with`.
    With,
    /// `range`.
    Range,
}

/// A control structure.
#[derive(Debug)]
pub struct Branch {
    /// Kind.
    pub control: Control,
    /// Condition or collection.
    pub pipe: Pipe,
    /// When true, or for each.
    pub then: Vec<Node>,
    /// Otherwise.
    pub otherwise: Vec<Node>,
}

/// A pipeline.
#[derive(Debug)]
pub struct Pipe {
    /// Byte offset.
    pub at: usize,
    /// Variables set, without the dollar sign's meaning lost: `$x`.
    pub variables: Vec<String>,
    /// `=` instead of `:=`.
    pub assign: bool,
    /// Commands, each given the result of the one before it.
    pub commands: Vec<Command>,
}

/// A command: an operand, or a function with its arguments.
#[derive(Debug)]
pub struct Command {
    /// Byte offset.
    pub at: usize,
    /// Words.
    pub words: Vec<Word>,
}

/// A word with its place.
#[derive(Debug)]
pub struct Word {
    /// Byte offset.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a word is.
#[derive(Debug)]
pub enum Kind {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// Number as written, whole or with a fraction.
    Number(String, Number),
    /// Text, as written and as meant.
    Text(String, String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`, the first being `$x`.
    Variable(Vec<String>),
    /// A function's name.
    Function(String),
    /// `(pipeline)`
    Group(Box<Pipe>),
    /// `(pipeline).A.B`
    Chain(Box<Word>, Vec<String>),
}

/// A number's value.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// Whole.
    Int(i64),
    /// With a fraction.
    Float(f64),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Dot => f.write_str("."),
            Kind::Nil => f.write_str("nil"),
            Kind::Bool(on) => write!(f, "{on}"),
            Kind::Number(text, _) | Kind::Text(text, _) | Kind::Function(text) => f.write_str(text),
            Kind::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            Kind::Variable(names) => f.write_str(&names.join(".")),
            Kind::Group(pipe) => write!(f, "({pipe})"),
            Kind::Chain(word, names) => {
                write!(f, "{word}")?;
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words.iter().map(Word::to_string).collect();
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(
                f,
                "{} {} ",
                self.variables.join(", "),
                if self.assign { "=" } else { ":=" }
            )?;
        }
        let commands: Vec<String> = self.commands.iter().map(Command::to_string).collect();
        f.write_str(&commands.join(" | "))
    }
}
