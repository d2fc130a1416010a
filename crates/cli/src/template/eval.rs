//! Walks the tree of a template.

use super::functions;
use super::print;
use super::tree::{Branch, Command, Control, Kind, Node, Number, Pipe, Tree, Word};
use super::value::Value;

/// Deepest nesting of templates that call templates.
const CALLS_MAX: usize = 1000;

/// How a template is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// A missing map key is an error instead of `<no value>`.
    pub strict_keys: bool,
    /// Functions that change texts leave them alone, as in a table's heading.
    pub heading: bool,
}

struct State<'a> {
    mode: Mode,
    tree: &'a Tree,
    name: String,
    variables: Vec<(String, Value)>,
    out: &'a mut String,
    calls: usize,
}

/// Why nodes stopped before their end.
enum Stop {
    Break,
    Continue,
    Error(String),
}

type Evaluated<T> = Result<T, String>;

/// Renders `tree` for `dot` into `out`.
pub fn run(mode: Mode, tree: &Tree, dot: &Value, out: &mut String) -> Result<(), String> {
    let mut state = State {
        mode,
        tree,
        name: String::new(),
        variables: vec![("$".into(), dot.clone())],
        out,
        calls: 0,
    };
    match state.nodes(&tree.root, dot) {
        Err(Stop::Error(error)) => Err(error),
        _ => Ok(()),
    }
}

impl State<'_> {
    fn wrong<T>(&self, at: usize, context: &dyn std::fmt::Display, what: &str) -> Evaluated<T> {
        let before = self.tree.source.get(..at).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        Err(format!(
            "template: :{line}:{column}: executing {:?} at <{context}>: {what}",
            self.name
        ))
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), Stop> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Break => return Err(Stop::Break),
                Node::Continue => return Err(Stop::Continue),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot).map_err(Stop::Error)?;
                    if pipe.variables.is_empty() {
                        self.out.push_str(&print::top(&value));
                    }
                }
                Node::Branch(branch) => {
                    let scope = self.variables.len();
                    let result = self.branch(branch, dot);
                    self.variables.truncate(scope);
                    result?;
                }
                Node::Call { at, name, pipe } => self.call(*at, name, pipe.as_ref(), dot)?,
            }
        }
        Ok(())
    }

    fn branch(&mut self, branch: &Branch, dot: &Value) -> Result<(), Stop> {
        let value = self.pipe(&branch.pipe, dot).map_err(Stop::Error)?;
        match branch.control {
            Control::Range => self.range(branch, value, dot),
            Control::If if value.truth() => self.nodes(&branch.then, dot),
            Control::With if value.truth() => self.nodes(&branch.then, &value),
            _ => self.nodes(&branch.otherwise, dot),
        }
    }

    fn range(&mut self, branch: &Branch, value: Value, dot: &Value) -> Result<(), Stop> {
        let pairs: Vec<(Value, Value)> = match &value {
            Value::List(items) => {
                let items = items.as_deref().map(Vec::as_slice).unwrap_or_default();
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| (Value::Int(i as i64), item.clone()))
                    .collect()
            }
            Value::Map(items) => {
                let mut items: Vec<&(String, Value)> =
                    items.iter().flat_map(|items| items.iter()).collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items
                    .into_iter()
                    .map(|(key, item)| (Value::text(key), item.clone()))
                    .collect()
            }
            Value::Int(count) => (0..*count)
                .map(|i| (Value::Int(i), Value::Int(i)))
                .collect(),
            Value::Nil | Value::NilPointer | Value::Missing => Vec::new(),
            other => {
                let what = format!("range can't iterate over {}", print::show(other));
                return self
                    .wrong(branch.pipe.at, &branch.pipe, &what)
                    .map_err(Stop::Error);
            }
        };
        if pairs.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        // The pipeline's own variable was set to the collection; the elements take its place.
        let scope = self
            .variables
            .len()
            .saturating_sub(branch.pipe.variables.len());
        if !branch.pipe.assign {
            self.variables.truncate(scope);
        }
        let scope = self.variables.len();
        for (key, item) in pairs {
            self.bind(&branch.pipe, key, &item);
            let result = self.nodes(&branch.then, &item);
            self.variables.truncate(scope);
            match result {
                Err(Stop::Break) => break,
                Err(Stop::Continue) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn bind(&mut self, pipe: &Pipe, key: Value, item: &Value) {
        let values = match pipe.variables.len() {
            1 => vec![item.clone()],
            2 => vec![key, item.clone()],
            _ => return,
        };
        for (name, value) in pipe.variables.iter().zip(values) {
            if pipe.assign {
                self.assign(name, value);
            } else {
                self.variables.push((name.clone(), value));
            }
        }
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            variable.1 = value;
        }
    }

    fn call(
        &mut self,
        at: usize,
        name: &str,
        pipe: Option<&Pipe>,
        dot: &Value,
    ) -> Result<(), Stop> {
        let Some(nodes) = self.tree.defined.get(name) else {
            let context = format!("{{{{template {name:?}}}}}");
            return self
                .wrong(at, &context, &format!("template {name:?} not defined"))
                .map_err(Stop::Error);
        };
        if self.calls >= CALLS_MAX {
            let what = format!("exceeded maximum template depth ({CALLS_MAX})");
            return self.wrong(at, &name, &what).map_err(Stop::Error);
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(pipe, dot).map_err(Stop::Error)?,
            None => Value::Missing,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$".into(), dot.clone())]);
        let outer_name = std::mem::replace(&mut self.name, name.to_owned());
        self.calls += 1;
        let result = self.nodes(nodes, &dot);
        self.calls -= 1;
        self.variables = outer;
        self.name = outer_name;
        result
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Evaluated<Value> {
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.variables {
            if pipe.assign {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Evaluated<Value> {
        let Some((first, rest)) = command.words.split_first() else {
            return Ok(Value::Missing);
        };
        match &first.kind {
            Kind::Function(name) => return self.function(name, command, rest, dot, last),
            Kind::Field(names) => return self.fields(first, dot.clone(), names, rest, dot, last),
            Kind::Variable(names) => {
                let value = self.variable(&names[0]);
                if names.len() > 1 {
                    return self.fields(first, value, &names[1..], rest, dot, last);
                }
                self.no_arguments(first, rest, last.is_some())?;
                return Ok(value);
            }
            Kind::Chain(word, names) => {
                let value = self.word(word, dot)?;
                return self.fields(first, value, names, rest, dot, last);
            }
            _ => {}
        }
        self.no_arguments(first, rest, last.is_some())?;
        if matches!(first.kind, Kind::Nil) {
            return self.wrong(first.at, first, "nil is not a command");
        }
        self.word(first, dot)
    }

    fn no_arguments(&self, first: &Word, rest: &[Word], piped: bool) -> Evaluated<()> {
        if rest.is_empty() && !piped {
            return Ok(());
        }
        self.wrong(
            first.at,
            first,
            &format!("can't give argument to non-function {first}"),
        )
    }

    fn variable(&self, name: &str) -> Value {
        self.variables
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map_or(Value::Missing, |(_, value)| value.clone())
    }

    fn word(&mut self, word: &Word, dot: &Value) -> Evaluated<Value> {
        Ok(match &word.kind {
            Kind::Dot => dot.clone(),
            Kind::Nil => Value::Nil,
            Kind::Bool(on) => Value::Bool(*on),
            Kind::Number(_, Number::Int(number)) => Value::Int(*number),
            Kind::Number(_, Number::Float(number)) => Value::Float(*number),
            Kind::Text(_, text) => Value::text(text),
            Kind::Group(pipe) => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot);
                self.variables.truncate(scope);
                value?
            }
            Kind::Field(names) => self.fields(word, dot.clone(), names, &[], dot, None)?,
            Kind::Variable(names) => {
                let value = self.variable(&names[0]);
                self.fields(word, value, &names[1..], &[], dot, None)?
            }
            Kind::Chain(inner, names) => {
                let value = self.word(inner, dot)?;
                self.fields(word, value, names, &[], dot, None)?
            }
            Kind::Function(name) => {
                let command = Command {
                    at: word.at,
                    words: Vec::new(),
                };
                self.function(name, &command, &[], dot, None)?
            }
        })
    }

    fn fields(
        &mut self,
        word: &Word,
        mut value: Value,
        names: &[String],
        rest: &[Word],
        dot: &Value,
        last: Option<Value>,
    ) -> Evaluated<Value> {
        for (i, name) in names.iter().enumerate() {
            let mut arguments = Vec::new();
            if i + 1 == names.len() {
                for word in rest {
                    arguments.push(self.word(word, dot)?);
                }
                arguments.extend(last.clone());
            }
            value = self.field(word, &value, name, &arguments)?;
        }
        Ok(value)
    }

    fn field(
        &self,
        word: &Word,
        value: &Value,
        name: &str,
        arguments: &[Value],
    ) -> Evaluated<Value> {
        let found = match value {
            Value::Record(record) => record
                .fields
                .iter()
                .find(|field| &*field.name == name)
                .map(|f| &f.value),
            Value::Map(Some(items)) => items
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        };
        match (found, value) {
            (Some(Value::Method(method)), _) => match method(arguments) {
                Ok(value) => Ok(value),
                Err(why) => self.wrong(
                    word.at,
                    word,
                    &format!("wrong number of args for {name}: {why}"),
                ),
            },
            (Some(_), _) if !arguments.is_empty() => {
                let what = match value {
                    Value::Map(_) => format!("{name} is not a method but has arguments"),
                    _ => format!("{name} has arguments but cannot be invoked as function"),
                };
                self.wrong(word.at, word, &what)
            }
            (Some(value), _) => Ok(value.clone()),
            (None, Value::Map(_)) if self.mode.strict_keys => {
                self.wrong(word.at, word, &format!("map has no entry for key {name:?}"))
            }
            (None, Value::Nil | Value::Missing) if self.mode.strict_keys => self.wrong(
                word.at,
                word,
                &format!("nil data; no entry for key {name:?}"),
            ),
            (None, Value::Map(_) | Value::Nil | Value::Missing) => Ok(Value::Missing),
            (None, Value::NilPointer) => self.wrong(
                word.at,
                word,
                &format!("nil pointer evaluating {}.{name}", value.type_name()),
            ),
            (None, other) => {
                let kind = match other {
                    Value::Record(record) => record.type_name.clone(),
                    // Raw JSON has no types of its own.
                    _ if self.mode.strict_keys => "interface {}".to_owned(),
                    other => other.type_name(),
                };
                self.wrong(
                    word.at,
                    word,
                    &format!("can't evaluate field {name} in type {kind}"),
                )
            }
        }
    }

    fn function(
        &mut self,
        name: &str,
        command: &Command,
        rest: &[Word],
        dot: &Value,
        last: Option<Value>,
    ) -> Evaluated<Value> {
        if name == "and" || name == "or" {
            return self.short_circuit(name, command, rest, dot, last);
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for word in rest {
            arguments.push(self.word(word, dot)?);
        }
        arguments.extend(last);
        if self.mode.heading && functions::shapes_text(name) {
            return Ok(arguments
                .into_iter()
                .find(|a| a.as_text().is_some())
                .unwrap_or_default());
        }
        match functions::call(name, &arguments) {
            Ok(value) => Ok(value),
            Err(functions::Wrong::Count(what)) => self.wrong(
                command.at,
                &name,
                &format!("wrong number of args for {name}: {what}"),
            ),
            Err(functions::Wrong::Kind(what)) => match rest.first() {
                Some(word) if matches!(word.kind, Kind::Number(..) | Kind::Bool(_)) => {
                    self.wrong(word.at, word, &format!("expected string; found {word}"))
                }
                Some(word) => self.wrong(word.at, word, &what),
                None => self.wrong(command.at, command, &what),
            },
            Err(functions::Wrong::Call(what)) => self.wrong(
                command.at,
                command,
                &format!("error calling {name}: {what}"),
            ),
        }
    }

    /// `and` and `or` leave alone what can't change the outcome.
    fn short_circuit(
        &mut self,
        name: &str,
        command: &Command,
        rest: &[Word],
        dot: &Value,
        last: Option<Value>,
    ) -> Evaluated<Value> {
        let mut value = Value::Missing;
        for word in rest {
            value = self.word(word, dot)?;
            if value.truth() == (name == "or") {
                return Ok(value);
            }
        }
        match last {
            Some(last) => Ok(last),
            None if rest.is_empty() => {
                let what = format!("wrong number of args for {name}: want at least 1 got 0");
                self.wrong(command.at, &name, &what)
            }
            None => Ok(value),
        }
    }
}
