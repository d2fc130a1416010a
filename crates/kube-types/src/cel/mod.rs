//! The Common Expression Language, as Kubernetes speaks it: rules of custom kinds, admission policies, match conditions.
//!
//! An expression is parsed and checked once ([`compile`]) and evaluated often ([`Program::evaluate`]), each time within a
//! budget: whoever may write expressions may not keep the server busy. Objects stay JSON; a schema tells an integer from
//! a number, a time from a text, a set from a list.
//!
//! Has the language of cel-spec with Kubernetes' libraries, optional values and comprehensions with two variables. Has no
//! messages (there are none here), no authorizer, and no estimate of costs ahead of time.

mod ast;
mod check;
mod eval;
mod lexer;
mod library;
mod operators;
mod parse;
mod rules;
mod strings;
mod value;

pub use check::{Environment, Type};
pub use eval::{Budget, EvalError};
pub use rules::{Rules, verify_rules};
pub use value::Value;

use ast::Node;

/// Expressions longer than this are refused.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: Node,
    text: String,
    result: Type,
}

/// Why an expression can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.report())]
pub struct CompileError {
    message: String,
    /// Byte in the text.
    at: usize,
    text: String,
}

impl CompileError {
    /// The message with its place, as cel-go prints it.
    fn report(&self) -> String {
        let before = &self.text[..self.at.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count();
        let shown = self.text[line_start..].lines().next().unwrap_or_default();
        let message = &self.message;
        let dots = ".".repeat(column);
        format!(
            "ERROR: <input>:{line}:{}: {message}\n | {shown}\n | {dots}^",
            column + 1
        )
    }
}

/// Parses an expression and checks it against what there is to speak of.
///
/// # Errors
/// A mistake in the expression, with its place.
pub fn compile(text: &str, environment: &Environment<'_>) -> Result<Program, CompileError> {
    let failed = |(at, message): (usize, String)| CompileError {
        message,
        at,
        text: text.to_owned(),
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(failed((
            0,
            format!("expression is longer than {TEXT_BYTES_MAX} bytes"),
        )));
    }
    let root = parse::parse(text).map_err(failed)?;
    let result = check::check(&root, environment).map_err(failed)?;
    Ok(Program {
        root,
        text: text.to_owned(),
        result,
    })
}

impl Program {
    /// What the expression gives, as far as that can be known.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates with these variables.
    ///
    /// # Errors
    /// What went wrong inside, or that the budget is used up.
    pub fn evaluate<'a>(
        &'a self,
        variables: &[(&str, Value<'a>)],
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        eval::evaluate(&self.root, variables, budget)
    }
}

#[cfg(test)]
mod tests;
