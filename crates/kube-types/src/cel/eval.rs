//! Evaluation within a budget.

use std::borrow::Cow;

use super::ast::{Expr, Fold, FoldKind, Node, Operator};
use super::library;
use super::operators;
use super::parse::RESERVED;
use super::value::Value;

/// What may still be spent, in cel-go's units: one for a step, a tenth for each byte of a text that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

/// What one expression may cost.
const CALL_COST_MAX: u64 = 1_000_000;
/// What all rules of one object may cost together.
const OBJECT_COST_MAX: u64 = 10_000_000;
const LIST_COST: u64 = 10;
const MAP_COST: u64 = 30;
/// Going round once.
const ROUND_COST: u64 = 3;

impl Budget {
    /// For one expression.
    pub fn of_call() -> Budget {
        Budget {
            left: CALL_COST_MAX,
        }
    }

    /// For all rules of an object.
    pub fn of_object() -> Budget {
        Budget {
            left: OBJECT_COST_MAX,
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(self) -> bool {
        self.left == 0
    }

    /// Takes a part of this budget for one expression; give it back with [`Budget::give_back`].
    pub fn portion(&mut self) -> Budget {
        let left = self.left.min(CALL_COST_MAX);
        self.left -= left;
        Budget { left }
    }

    /// What a portion did not need.
    pub fn give_back(&mut self, portion: Budget) {
        self.left += portion.left;
    }

    pub(super) fn spend(&mut self, cost: u64) -> Result<()> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::Budget)
            }
        }
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It costs more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
    /// Something in it can't be done.
    #[error("{0}")]
    Failed(String),
}

/// Result of a step.
pub type Result<T> = std::result::Result<T, EvalError>;

impl EvalError {
    pub(super) fn new(message: impl Into<String>) -> EvalError {
        EvalError::Failed(message.into())
    }

    pub(super) fn no_overload() -> EvalError {
        EvalError::new("no such overload")
    }

    fn no_key(key: &str) -> EvalError {
        EvalError::new(format!("no such key: {key}"))
    }
}

pub fn evaluate<'a>(
    root: &'a Node,
    variables: &[(&str, Value<'a>)],
    budget: &mut Budget,
) -> Result<Value<'a>> {
    let scope = variables
        .iter()
        .map(|(name, value)| (Cow::Owned((*name).to_owned()), value.clone()));
    let mut evaluator = Evaluator {
        scope: scope.collect(),
        budget,
    };
    evaluator.eval(root)
}

struct Evaluator<'a, 'b> {
    /// Innermost last.
    scope: Vec<(Cow<'a, str>, Value<'a>)>,
    budget: &'b mut Budget,
}

impl<'a> Evaluator<'a, '_> {
    fn eval(&mut self, node: &'a Node) -> Result<Value<'a>> {
        Ok(match &node.expr {
            Expr::Null => Value::Null,
            Expr::Bool(value) => Value::Bool(*value),
            Expr::Int(value) => Value::Int(*value),
            Expr::Uint(value) => Value::Uint(*value),
            Expr::Double(value) => Value::Double(*value),
            Expr::String(text) => Value::String(Cow::Borrowed(text)),
            Expr::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
            Expr::Ident(name) => self.ident(name)?,
            Expr::Select {
                operand,
                field,
                optional,
            } => {
                let operand = self.eval(operand)?;
                self.budget.spend(1)?;
                self.select(&operand, &unescape(field), *optional)?
            }
            Expr::Has { operand, field } => {
                let operand = self.eval(operand)?;
                self.budget.spend(1)?;
                Value::Bool(has(&operand, &unescape(field))?)
            }
            Expr::Index {
                operand,
                index,
                optional,
            } => {
                let operand = self.eval(operand)?;
                let index = self.eval(index)?;
                self.budget.spend(1)?;
                self.index(&operand, &index, *optional)?
            }
            Expr::Call {
                function,
                target,
                args,
            } => self.call(function, target.as_deref(), args)?,
            Expr::Binary(operator, left, right) => self.binary(*operator, left, right)?,
            Expr::Not(operand) => match self.eval(operand)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => return Err(EvalError::no_overload()),
            },
            Expr::Negate(operand) => operators::negate(&self.eval(operand)?)?,
            Expr::Conditional(parts) => match self.eval(&parts[0])? {
                Value::Bool(true) => self.eval(&parts[1])?,
                Value::Bool(false) => self.eval(&parts[2])?,
                _ => return Err(EvalError::no_overload()),
            },
            Expr::List(items) => self.list(items)?,
            Expr::Map(entries) => self.map(entries)?,
            Expr::Object { fields, .. } => self.object(fields)?,
            Expr::Fold(fold) => self.fold(fold)?,
        })
    }

    fn ident(&mut self, name: &str) -> Result<Value<'a>> {
        self.budget.spend(1)?;
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return Ok(value.clone());
        }
        let of_type = library::type_of_name(name).map(Value::Type);
        of_type.ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
    }

    fn select(&self, operand: &Value<'a>, field: &str, optional: bool) -> Result<Value<'a>> {
        if let Value::Optional(inner) = operand {
            // Optional values hand the question on.
            let found = inner.as_ref().and_then(|inner| inner.field(field));
            return Ok(found.map_or_else(Value::none, Value::some));
        }
        if !operand.is_map() {
            return Err(EvalError::no_overload());
        }
        match (operand.field(field), optional) {
            (Some(value), true) => Ok(Value::some(value)),
            (None, true) => Ok(Value::none()),
            (Some(value), false) => Ok(value),
            (None, false) => Err(EvalError::no_key(field)),
        }
    }

    fn index(&self, operand: &Value<'a>, index: &Value<'a>, optional: bool) -> Result<Value<'a>> {
        if let Value::Optional(inner) = operand {
            let found = inner
                .as_ref()
                .and_then(|inner| at(inner, index).ok().flatten());
            return Ok(found.map_or_else(Value::none, Value::some));
        }
        match (at(operand, index)?, optional) {
            (Some(value), true) => Ok(Value::some(value)),
            (None, true) => Ok(Value::none()),
            (Some(value), false) => Ok(value),
            (None, false) if operand.is_list() => Err(EvalError::new(format!(
                "index out of bounds: {}",
                index.to_text()
            ))),
            (None, false) => Err(EvalError::no_key(&index.to_text())),
        }
    }

    fn call(
        &mut self,
        function: &str,
        target: Option<&'a Node>,
        args: &'a [Node],
    ) -> Result<Value<'a>> {
        let target = target.map(|target| self.eval(target)).transpose()?;
        // What an optional value is replaced by is looked at only when that is needed.
        if let (Some(Value::Optional(inner)), "or" | "orValue", [other]) = (&target, function, args)
        {
            return match inner {
                Some(value) if function == "orValue" => Ok((**value).clone()),
                Some(value) => Ok(Value::Optional(Some(value.clone()))),
                None => self.eval(other),
            };
        }
        let args: Vec<Value<'a>> = args
            .iter()
            .map(|arg| self.eval(arg))
            .collect::<Result<_>>()?;
        let weight: u64 = target.iter().chain(&args).map(Value::weight).sum();
        self.budget.spend(1 + weight)?;
        let value = library::call(function, target.as_ref(), &args)?;
        // What is made counts as well: it can be longer than all it was made of.
        self.budget.spend(value.weight())?;
        Ok(value)
    }

    fn binary(&mut self, operator: Operator, left: &'a Node, right: &'a Node) -> Result<Value<'a>> {
        if matches!(operator, Operator::And | Operator::Or) {
            return self.logical(operator == Operator::Or, left, right);
        }
        let (left, right) = (self.eval(left)?, self.eval(right)?);
        self.budget.spend(1 + left.weight() + right.weight())?;
        operators::apply(operator, &left, &right)
    }

    /// `&&` and `||`: a side that decides makes errors of the other harmless, whichever it is.
    fn logical(&mut self, decides: bool, left: &'a Node, right: &'a Node) -> Result<Value<'a>> {
        let boolean = |value: Result<Value<'a>>| match value {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(_) => Err(EvalError::no_overload()),
            Err(error) => Err(error),
        };
        let first = boolean(self.eval(left));
        if first == Ok(decides) || first == Err(EvalError::Budget) {
            return first.map(Value::Bool);
        }
        match boolean(self.eval(right)) {
            Ok(value) if value == decides => Ok(Value::Bool(value)),
            Err(EvalError::Budget) => Err(EvalError::Budget),
            second => first.and(second).map(Value::Bool),
        }
    }

    fn list(&mut self, items: &'a [(Node, bool)]) -> Result<Value<'a>> {
        self.budget.spend(LIST_COST)?;
        let mut list = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.eval(item)?, optional) {
                (Value::Optional(inner), true) => list.extend(inner.map(|inner| (*inner).clone())),
                (_, true) => return Err(EvalError::no_overload()),
                (value, false) => list.push(value),
            }
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)]) -> Result<Value<'a>> {
        self.budget.spend(MAP_COST)?;
        let mut map: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            if !matches!(
                key,
                Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_)
            ) {
                return Err(EvalError::new(format!(
                    "unsupported key type: {}",
                    key.type_name()
                )));
            }
            let value = match (self.eval(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (_, true) => return Err(EvalError::no_overload()),
                (value, false) => value,
            };
            self.budget.spend(map.len() as u64 / 10)?;
            if map.iter().any(|(known, _)| known.equals(&key)) {
                return Err(EvalError::new(format!(
                    "insert failed: key {} already exists",
                    key.to_text()
                )));
            }
            map.push((key, value));
        }
        Ok(Value::Map(map.into()))
    }

    fn object(&mut self, fields: &'a [(String, Node, bool)]) -> Result<Value<'a>> {
        self.budget.spend(MAP_COST)?;
        let mut map: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(fields.len());
        for (field, value, optional) in fields {
            let value = match (self.eval(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (_, true) => return Err(EvalError::no_overload()),
                (value, false) => value,
            };
            map.push((Value::text(unescape(field)), value));
        }
        Ok(Value::Map(map.into()))
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>> {
        let range = self.eval(&fold.range)?;
        if let Value::Optional(inner) = &range {
            return self.fold_optional(fold, inner.as_deref());
        }
        let rounds = rounds(&range, fold.variables.len())?;
        self.budget.spend(range.size().unwrap_or(0) as u64)?;
        match fold.kind {
            FoldKind::All => self.quantify(fold, rounds, false),
            FoldKind::Exists => self.quantify(fold, rounds, true),
            FoldKind::ExistsOne => {
                let mut count = 0;
                for round in rounds {
                    count += usize::from(self.holds(fold, &fold.body, round)?);
                }
                Ok(Value::Bool(count == 1))
            }
            FoldKind::TransformMap => self.transform_map(fold, rounds),
            FoldKind::Map | FoldKind::Filter | FoldKind::TransformList => {
                self.collect(fold, rounds)
            }
            FoldKind::OptMap | FoldKind::OptFlatMap => Err(EvalError::no_overload()),
        }
    }

    fn fold_optional(&mut self, fold: &'a Fold, inner: Option<&Value<'a>>) -> Result<Value<'a>> {
        let is_flat = match fold.kind {
            FoldKind::OptMap => false,
            FoldKind::OptFlatMap => true,
            _ => return Err(EvalError::no_overload()),
        };
        let Some(inner) = inner else {
            return Ok(Value::none());
        };
        let value = self.within(fold, &fold.body, vec![inner.clone()])?;
        Ok(if is_flat { value } else { Value::some(value) })
    }

    /// Evaluates a part with the variables set.
    fn within(
        &mut self,
        fold: &'a Fold,
        part: &'a Node,
        round: Vec<Value<'a>>,
    ) -> Result<Value<'a>> {
        self.budget.spend(ROUND_COST)?;
        let outside = self.scope.len();
        let names = fold
            .variables
            .iter()
            .map(|name| Cow::Borrowed(name.as_str()));
        self.scope.extend(names.zip(round));
        let value = self.eval(part);
        self.scope.truncate(outside);
        value
    }

    fn holds(&mut self, fold: &'a Fold, part: &'a Node, round: Vec<Value<'a>>) -> Result<bool> {
        match self.within(fold, part, round)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::no_overload()),
        }
    }

    /// `all` and `exists`: one that decides makes errors of others harmless.
    fn quantify(
        &mut self,
        fold: &'a Fold,
        rounds: Vec<Vec<Value<'a>>>,
        decides: bool,
    ) -> Result<Value<'a>> {
        let mut failed = None;
        for round in rounds {
            match self.holds(fold, &fold.body, round) {
                Ok(value) if value == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(EvalError::Budget) => return Err(EvalError::Budget),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn collect(&mut self, fold: &'a Fold, rounds: Vec<Vec<Value<'a>>>) -> Result<Value<'a>> {
        let mut list = Vec::new();
        for round in rounds {
            let item = round.first().cloned();
            let filter = match fold.kind {
                FoldKind::Filter => Some(&fold.body),
                _ => fold.filter.as_ref(),
            };
            if let Some(filter) = filter
                && !self.holds(fold, filter, round.clone())?
            {
                continue;
            }
            match fold.kind {
                FoldKind::Filter => list.extend(item),
                _ => list.push(self.within(fold, &fold.body, round)?),
            }
        }
        Ok(Value::list(list))
    }

    fn transform_map(&mut self, fold: &'a Fold, rounds: Vec<Vec<Value<'a>>>) -> Result<Value<'a>> {
        let mut map = Vec::new();
        for round in rounds {
            if let Some(filter) = &fold.filter
                && !self.holds(fold, filter, round.clone())?
            {
                continue;
            }
            let key = round[0].clone();
            map.push((key, self.within(fold, &fold.body, round)?));
        }
        Ok(Value::Map(map.into()))
    }
}

/// What the variables are in each round.
fn rounds<'a>(range: &Value<'a>, variables: usize) -> Result<Vec<Vec<Value<'a>>>> {
    if range.is_list() {
        let numbered = range.items().into_iter().zip(0_i64..);
        return Ok(match variables {
            1 => numbered.map(|(item, _)| vec![item]).collect(),
            _ => numbered
                .map(|(item, index)| vec![Value::Int(index), item])
                .collect(),
        });
    }
    if range.is_map() {
        let entries = range.entries().into_iter();
        return Ok(match variables {
            1 => entries.map(|(key, _)| vec![key]).collect(),
            _ => entries.map(|(key, value)| vec![key, value]).collect(),
        });
    }
    Err(EvalError::no_overload())
}

fn at<'a>(operand: &Value<'a>, index: &Value<'_>) -> Result<Option<Value<'a>>> {
    if operand.is_map() {
        return Ok(operand.entry(index));
    }
    if !operand.is_list() {
        return Err(EvalError::no_overload());
    }
    let index = match index {
        Value::Int(index) => usize::try_from(*index).ok(),
        Value::Uint(index) => usize::try_from(*index).ok(),
        Value::Double(index) if index.fract() == 0.0 && *index >= 0.0 => Some(*index as usize),
        Value::Double(_) => None,
        _ => return Err(EvalError::no_overload()),
    };
    Ok(index.and_then(|index| operand.item(index)))
}

fn has(operand: &Value<'_>, field: &str) -> Result<bool> {
    match operand {
        Value::Optional(inner) => Ok(inner
            .as_ref()
            .is_some_and(|inner| inner.field(field).is_some())),
        operand if operand.is_map() => Ok(operand.field(field).is_some()),
        _ => Err(EvalError::no_overload()),
    }
}

/// Fields whose names are no names in the language are written in another way: `__namespace__`, `a__dot__b`.
pub fn unescape(field: &str) -> Cow<'_, str> {
    if !field.contains("__") {
        return Cow::Borrowed(field);
    }
    let inner = field
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = inner
        && (RESERVED.contains(&word) || matches!(word, "true" | "false" | "null"))
    {
        return Cow::Borrowed(word);
    }
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find("__") {
        out.push_str(&rest[..at]);
        let after = &rest[at..];
        let found = [
            ("__underscores__", "__"),
            ("__dot__", "."),
            ("__dash__", "-"),
            ("__slash__", "/"),
        ]
        .into_iter()
        .find(|(sign, _)| after.starts_with(sign));
        let (sign, meant) = found.unwrap_or(("__", "__"));
        out.push_str(meant);
        rest = &after[sign.len()..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
