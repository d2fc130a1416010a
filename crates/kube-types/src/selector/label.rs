//! Selecting objects by their labels.

use serde_json::{Map, Value};

use super::lexer::{Token, tokens};
use super::{LENGTH_MAX, SelectorError};
use crate::field::go_quote;
use crate::validate::names::{label_value, qualified_name};

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// What it is compared with.
    pub values: Vec<String>,
}

/// Conditions that all must hold; none select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Requirement {
    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let found = labels
            .and_then(|l| l.get(&self.key))
            .and_then(Value::as_str);
        let compare = |check: fn(&i64, &i64) -> bool| {
            let wanted = self.values.first().and_then(|v| v.parse().ok());
            match (found.and_then(|f| f.parse().ok()), wanted) {
                (Some(found), Some(wanted)) => check(&found, &wanted),
                _ => false,
            }
        };
        match self.operator {
            Operator::In => found.is_some_and(|f| self.values.iter().any(|v| v == f)),
            Operator::NotIn => found.is_none_or(|f| self.values.iter().all(|v| v != f)),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => compare(|a, b| a > b),
            Operator::LessThan => compare(|a, b| a < b),
        }
    }
}

impl LabelSelector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects nothing.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Reads the text form, as `app=web,tier in (a,b),!old`.
    ///
    /// # Errors
    /// The text is no selector, with the original's words.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > LENGTH_MAX {
            return Err(SelectorError(format!(
                "the selector is longer than {LENGTH_MAX} bytes"
            )));
        }
        let mut parser = Parser {
            tokens: tokens(text)?,
            at: 0,
        };
        let requirements = parser
            .requirements()
            .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Reads a `LabelSelector` object. An absent one selects nothing, an empty one everything.
    ///
    /// # Errors
    /// An operator that isn't one.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut out = Self::from_map(selector.get("matchLabels"));
        for expression in crate::object::list(selector, "matchExpressions") {
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        go_quote(other)
                    )));
                }
            };
            let values = crate::object::list(expression, "values")
                .iter()
                .filter_map(Value::as_str);
            out.requirements.push(Requirement {
                key: crate::object::text(expression, "key").to_owned(),
                operator,
                values: values.map(str::to_owned).collect(),
            });
        }
        Ok(out)
    }

    /// Selects what has all these labels; none select everything.
    pub fn from_map(labels: Option<&Value>) -> Self {
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let requirements = labels
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        Self {
            requirements,
            nothing: false,
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object["metadata"]["labels"].as_object())
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, r) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let values = r.values.join(",");
            match (r.operator, r.values.len()) {
                (Operator::In, 1) => write!(f, "{}={values}", r.key)?,
                (Operator::In, _) => write!(f, "{} in ({values})", r.key)?,
                (Operator::NotIn, 1) => write!(f, "{}!={values}", r.key)?,
                (Operator::NotIn, _) => write!(f, "{} notin ({values})", r.key)?,
                (Operator::Exists, _) => f.write_str(&r.key)?,
                (Operator::DoesNotExist, _) => write!(f, "!{}", r.key)?,
                (Operator::GreaterThan, _) => write!(f, "{}>{values}", r.key)?,
                (Operator::LessThan, _) => write!(f, "{}<{values}", r.key)?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        if self.peek() == Token::End {
            return Ok(out);
        }
        loop {
            out.push(self.requirement()?);
            match self.next() {
                Token::End => return Ok(out),
                Token::Comma if matches!(self.peek(), Token::Word(_) | Token::Not) => {}
                Token::Comma => {
                    return Err(format!(
                        "found '{}', expected: identifier after ','",
                        self.peek().text()
                    ));
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == Token::Not;
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        valid_key(key)?;
        let (operator, values) = match self.peek() {
            Token::End | Token::Comma if absent => (Operator::DoesNotExist, Vec::new()),
            Token::End | Token::Comma => (Operator::Exists, Vec::new()),
            other if absent => {
                return Err(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    other.text()
                ));
            }
            _ => self.comparison()?,
        };
        valid_values(key, operator, &values)?;
        Ok(Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    fn comparison(&mut self) -> Result<(Operator, Vec<String>), String> {
        let operator = match self.next() {
            Token::Word("in") => return Ok((Operator::In, self.set()?)),
            Token::Word("notin") => return Ok((Operator::NotIn, self.set()?)),
            Token::Equals | Token::DoubleEquals => Operator::In,
            Token::NotEquals => Operator::NotIn,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        };
        let value = match self.peek() {
            Token::End | Token::Comma => "",
            Token::Word(word) => {
                self.next();
                word
            }
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        Ok((operator, vec![value.to_owned()]))
    }

    fn set(&mut self) -> Result<Vec<String>, String> {
        if self.next() != Token::Open {
            let found = self.tokens.get(self.at - 1).map_or("", Token::text);
            return Err(format!("found '{found}' expected: '('"));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word.to_owned());
                    match self.next() {
                        Token::Comma if self.peek() == Token::Close => values.push(String::new()),
                        Token::Comma => continue,
                        Token::Close => return Ok(values),
                        other => {
                            return Err(format!("found '{}', expected: ',' or ')'", other.text()));
                        }
                    }
                }
                Token::Comma => values.push(String::new()),
                Token::Close => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    ));
                }
            }
        }
    }
}

fn valid_key(key: &str) -> Result<(), String> {
    match qualified_name(key).as_slice() {
        [] => Ok(()),
        faults => Err(format!(
            "key: Invalid value: {}: {}",
            go_quote(key),
            faults.join("; ")
        )),
    }
}

fn valid_values(key: &str, operator: Operator, values: &[String]) -> Result<(), String> {
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        let [value] = values else {
            return Err(
                "values: Invalid value: for 'Gt', 'Lt' operators, exactly one value is required"
                    .to_owned(),
            );
        };
        if value.parse::<i64>().is_err() {
            return Err(format!(
                "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                go_quote(value)
            ));
        }
        return Ok(());
    }
    for (index, value) in values.iter().enumerate() {
        let faults = label_value(value);
        if !faults.is_empty() {
            return Err(format!(
                "values[{index}][{key}]: Invalid value: {}: {}",
                go_quote(value),
                faults.join("; ")
            ));
        }
    }
    Ok(())
}
