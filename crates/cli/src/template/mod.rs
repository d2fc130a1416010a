//! Go's text templates, as far as formats on a command line use them: the whole language of actions, the built-in
//! functions, and the few that Docker adds.
//!
//! A template is lexed ([`lex`]), parsed to a tree ([`parse`], [`tree`]) and evaluated ([`eval`]) against
//! [`value::Value`]s. The words of errors are those that scripts know from Docker.

pub mod compare;
pub mod eval;
pub mod functions;
pub mod json;
pub mod lex;
pub mod parse;
pub mod print;
pub mod printf;
pub mod tabwriter;
pub mod tree;
pub mod value;

#[cfg(test)]
mod tests;

use value::Value;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    tree: tree::Tree,
    /// Functions that change texts leave them alone, as in a table's heading.
    pub heading: bool,
}

impl Template {
    /// Parses `text`. The error is Go's, starting with `template: `.
    pub fn parse(text: &str) -> Result<Template, String> {
        Ok(Template {
            tree: parse::parse(text)?,
            heading: false,
        })
    }

    /// Evaluates the template for `dot`. On an error the second value says what; the first is what was written
    /// before it.
    pub fn run(&self, dot: &Value) -> (String, Option<String>) {
        let mut out = String::new();
        let mode = eval::Mode {
            strict_keys: false,
            heading: self.heading,
        };
        let result = eval::run(mode, &self.tree, dot, &mut out);
        (out, result.err())
    }

    /// Evaluates the template, or says why not.
    pub fn render(&self, dot: &Value) -> Result<String, String> {
        match self.run(dot) {
            (out, None) => Ok(out),
            (_, Some(error)) => Err(error),
        }
    }
}

impl Template {
    /// Evaluates the template with missing keys as errors.
    pub fn render_strict(&self, dot: &Value) -> Result<String, String> {
        let mut out = String::new();
        let strict = eval::Mode {
            strict_keys: true,
            heading: self.heading,
        };
        eval::run(strict, &self.tree, dot, &mut out).map(|()| out)
    }
}
