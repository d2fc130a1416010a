//! `x-kubernetes-validations`: rules at the parts of a custom kind's schema, and at changes of its objects.

use serde_json::Value as Json;

use super::ast::{Expr, Node};
use super::{Budget, Environment, EvalError, Program, Type, Value, compile};
use crate::field::{FieldError, FieldErrorKind, Path};
use crate::schema::{ListType, Schema};

/// The rules of a schema, where there are any; parts without any below them are left out.
#[derive(Debug)]
pub struct Rules {
    schema: Schema,
    /// As errors name the value: `object`, `integer`.
    type_name: String,
    rules: Vec<Rule>,
    properties: Vec<(String, Rules)>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
}

#[derive(Debug)]
struct Rule {
    program: Program,
    message: String,
    message_expression: Option<Program>,
    kind: FieldErrorKind,
    field_path: Option<String>,
    /// Speaks of what was before: holds for changes only.
    is_transition: bool,
    /// `oldSelf` is an optional value, and may be none.
    optional_old: bool,
}

const KEYWORD: &str = "x-kubernetes-validations";

/// What is wrong with the rules of an `openAPIV3Schema`.
pub fn verify_rules(open_api_v3: &Json, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    build(open_api_v3, true, path, &mut errors);
    errors
}

impl Rules {
    /// The rules of an `openAPIV3Schema`, those that make no sense left out; nothing when there is none.
    pub fn of(open_api_v3: &Json) -> Option<Rules> {
        build(open_api_v3, true, &Path::ROOT, &mut Vec::new())
    }

    /// What an object breaks; `old` is what it replaces.
    pub fn validate(&self, object: &Json, old: Option<&Json>) -> Vec<FieldError> {
        let mut run = Run {
            budget: Budget::of_object(),
            errors: Vec::new(),
        };
        run.visit(self, object, old, Path::ROOT);
        run.errors
    }
}

/// Compiles the rules of a schema and of all below it. Its depth is bounded by that of the JSON it came from.
fn build(
    raw: &Json,
    is_root: bool,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) -> Option<Rules> {
    let schema = if is_root {
        Schema::custom(raw)
    } else {
        Schema::part(raw)
    };
    let mut rules = Vec::new();
    for (index, rule) in raw[KEYWORD].as_array().into_iter().flatten().enumerate() {
        let list = path.field(KEYWORD);
        let place = list.index(index);
        match compile_rule(rule, &schema, &place) {
            Ok(rule) => rules.push(rule),
            Err(error) => errors.push(*error),
        }
    }
    let mut properties = Vec::new();
    for (name, part) in raw["properties"].as_object().into_iter().flatten() {
        let list = path.field("properties");
        let below = build(part, false, &list.key(name), errors);
        properties.extend(below.map(|below| (name.clone(), below)));
    }
    let mut part = |name: &str| {
        let below = raw[name]
            .is_object()
            .then(|| build(&raw[name], false, &path.field(name), errors));
        below.flatten().map(Box::new)
    };
    let (items, additional) = (part("items"), part("additionalProperties"));
    let is_empty =
        rules.is_empty() && properties.is_empty() && items.is_none() && additional.is_none();
    (!is_empty).then(|| Rules {
        type_name: raw["type"].as_str().unwrap_or("object").to_owned(),
        schema,
        rules,
        properties,
        items,
        additional,
    })
}

fn compile_rule(raw: &Json, schema: &Schema, path: &Path<'_>) -> Result<Rule, Box<FieldError>> {
    let rule = raw["rule"].as_str().unwrap_or_default().trim();
    if rule.is_empty() {
        let error = FieldError::required(&path.field("rule"), "rule is not specified");
        return Err(error.into());
    }
    let program = expression(raw, "rule", schema, path)?;
    if !program.result().can_be_bool() {
        let detail = "compilation failed: cel expression must evaluate to a bool";
        return Err(FieldError::invalid(&path.field("rule"), rule, detail).into());
    }
    let message_expression = match raw.get("messageExpression") {
        Some(_) => Some(expression(raw, "messageExpression", schema, path)?),
        None => None,
    };
    if let Some(program) = &message_expression
        && !program.result().can_be_string()
    {
        let detail = "messageExpression compilation failed: must evaluate to a string";
        let place = path.field("messageExpression");
        return Err(FieldError::invalid(&place, program.text(), detail).into());
    }
    let message = raw["message"]
        .as_str()
        .map(str::trim)
        .filter(|message| !message.is_empty());
    Ok(Rule {
        is_transition: mentions(&program.root, "oldSelf"),
        message: message.map_or_else(|| format!("failed rule: {rule}"), str::to_owned),
        program,
        message_expression,
        kind: kind(raw, path)?,
        field_path: raw["fieldPath"].as_str().map(str::to_owned),
        optional_old: raw["optionalOldSelf"] == true,
    })
}

/// One of the expressions of a rule, about a value of this schema and what it was before.
fn expression(
    raw: &Json,
    field: &str,
    schema: &Schema,
    path: &Path<'_>,
) -> Result<Program, Box<FieldError>> {
    let own = Type::of(schema);
    let old = if raw["optionalOldSelf"] == true {
        Type::Optional(Box::new(own.clone()))
    } else {
        own.clone()
    };
    let variables = [("self", own), ("oldSelf", old)];
    let text = raw[field].as_str().unwrap_or_default();
    compile(
        text,
        &Environment {
            variables: &variables,
        },
    )
    .map_err(|error| {
        let detail = format!("compilation failed: {error}");
        FieldError::invalid(&path.field(field), text, detail).into()
    })
}

/// What kind of error a broken rule is.
fn kind(raw: &Json, path: &Path<'_>) -> Result<FieldErrorKind, Box<FieldError>> {
    const KINDS: [(&str, FieldErrorKind); 4] = [
        ("FieldValueDuplicate", FieldErrorKind::Duplicate),
        ("FieldValueForbidden", FieldErrorKind::Forbidden),
        ("FieldValueInvalid", FieldErrorKind::Invalid),
        ("FieldValueRequired", FieldErrorKind::Required),
    ];
    let Some(reason) = raw["reason"].as_str() else {
        return Ok(FieldErrorKind::Invalid);
    };
    let known = KINDS.iter().find(|(name, _)| *name == reason);
    known.map(|(_, kind)| *kind).ok_or_else(|| {
        let valid = KINDS.map(|(name, _)| name);
        FieldError::not_supported(&path.field("reason"), reason, &valid).into()
    })
}

/// Whether an expression speaks of a variable.
fn mentions(node: &Node, name: &str) -> bool {
    let within = |node: &Node| mentions(node, name);
    match &node.expr {
        Expr::Ident(known) => known == name,
        Expr::Select { operand, .. } | Expr::Has { operand, .. } => within(operand),
        Expr::Index { operand, index, .. } => within(operand) || within(index),
        Expr::Call { target, args, .. } => {
            target.as_deref().is_some_and(within) || args.iter().any(within)
        }
        Expr::Binary(_, left, right) => within(left) || within(right),
        Expr::Not(operand) | Expr::Negate(operand) => within(operand),
        Expr::Conditional(parts) => parts.iter().any(within),
        Expr::List(items) => items.iter().any(|(item, _)| within(item)),
        Expr::Map(entries) => entries
            .iter()
            .any(|(key, value, _)| within(key) || within(value)),
        Expr::Fold(fold) => {
            within(&fold.range) || within(&fold.body) || fold.filter.as_ref().is_some_and(within)
        }
        _ => false,
    }
}

struct Run {
    budget: Budget,
    errors: Vec<FieldError>,
}

impl Run {
    fn visit(&mut self, rules: &Rules, value: &Json, old: Option<&Json>, path: Path<'_>) {
        if value.is_null() {
            return;
        }
        let is_same = old == Some(value);
        for rule in &rules.rules {
            // What was wrong before and is not touched stays as it is.
            let applies = match (rule.is_transition, old) {
                (false, _) => !is_same,
                (true, Some(_)) => true,
                (true, None) => rule.optional_old,
            };
            if applies && !self.budget.is_empty() {
                self.apply(rules, rule, value, old, path);
            }
        }
        if is_same {
            return;
        }
        for (name, below) in &rules.properties {
            if let Some(part) = value.get(name) {
                self.visit(
                    below,
                    part,
                    old.and_then(|old| old.get(name)),
                    path.field(name),
                );
            }
        }
        if let (Some(below), Json::Object(entries)) = (&rules.additional, value) {
            let own = entries
                .iter()
                .filter(|(name, _)| !rules.schema.properties.contains_key(*name));
            for (name, part) in own {
                self.visit(
                    below,
                    part,
                    old.and_then(|old| old.get(name)),
                    path.key(name),
                );
            }
        }
        if let (Some(below), Json::Array(items)) = (&rules.items, value) {
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| same_item(&rules.schema, old, item));
                self.visit(below, item, before, path.index(index));
            }
        }
    }

    fn apply(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        value: &Json,
        old: Option<&Json>,
        path: Path<'_>,
    ) {
        let before = old.map(|old| Value::of(old, Some(&rules.schema)));
        let before = match (rule.optional_old, before) {
            (true, before) => before.map_or_else(Value::none, Value::some),
            (false, before) => before.unwrap_or(Value::Null),
        };
        let variables = [
            ("self", Value::of(value, Some(&rules.schema))),
            ("oldSelf", before),
        ];
        let mut portion = self.budget.portion();
        let outcome = rule.program.evaluate(&variables, &mut portion);
        let detail = match outcome {
            Ok(Value::Bool(true)) => {
                self.budget.give_back(portion);
                return;
            }
            Ok(Value::Bool(false)) => {
                let detail = self.message(rule, &variables, &mut portion);
                self.budget.give_back(portion);
                self.errors.push(broken(rules, rule, value, detail, path));
                return;
            }
            Ok(other) => format!(
                "rule gives a {} and no bool: {}",
                other.type_name(),
                rule.program.text()
            ),
            Err(EvalError::Budget) => {
                "validation failed due to running out of cost budget, no further validation \
                                       rules will be run"
                    .to_owned()
            }
            Err(error) => format!("{error} evaluating rule: {}", rule.program.text().trim()),
        };
        self.budget.give_back(portion);
        self.errors
            .push(FieldError::invalid(&path, rules.type_name.as_str(), detail));
    }

    fn message(
        &mut self,
        rule: &Rule,
        variables: &[(&str, Value<'_>)],
        portion: &mut Budget,
    ) -> String {
        let Some(program) = &rule.message_expression else {
            return rule.message.clone();
        };
        // A message that can't be made is no reason to let the object pass, nor to say nothing.
        match program.evaluate(variables, portion) {
            Ok(Value::String(text)) if !text.trim().is_empty() && !text.contains('\n') => {
                text.trim().to_owned()
            }
            _ => rule.message.clone(),
        }
    }
}

/// A rule that doesn't hold: a scalar is shown, an object or list is not.
fn broken(rules: &Rules, rule: &Rule, value: &Json, detail: String, path: Path<'_>) -> FieldError {
    let named = rule
        .field_path
        .as_deref()
        .unwrap_or_default()
        .trim_start_matches('.');
    let place = if named.is_empty() {
        path
    } else {
        path.field(named)
    };
    match rule.kind {
        FieldErrorKind::Forbidden => FieldError::forbidden(&place, detail),
        FieldErrorKind::Required => FieldError::required(&place, detail),
        FieldErrorKind::Duplicate => FieldError::duplicate(&place, value.clone()),
        _ => {
            let mut error = FieldError::invalid(&place, value.clone(), detail);
            if matches!(rules.type_name.as_str(), "object" | "array") {
                error.value = None;
            }
            error
        }
    }
}

/// The item of an old list that an item is a new version of: by its keys; in other lists there is none.
fn same_item<'a>(list: &Schema, old: &'a Json, item: &Json) -> Option<&'a Json> {
    if list.list_type != ListType::Map {
        return None;
    }
    let same = |before: &&Json| {
        list.list_keys
            .iter()
            .all(|key| before.get(key) == item.get(key))
    };
    old.as_array()?.iter().find(same)
}
