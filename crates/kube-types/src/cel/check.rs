//! What an expression is about, before it runs: names that are not there, fields that a schema lacks, operands that don't
//! go together. Where a type can't be known, everything is let pass: evaluation finds it.

use std::fmt;

use super::ast::{Expr, Fold, FoldKind, Node, Operator};
use super::eval::unescape;
use super::lexer::Mistake;
use super::library;
use crate::schema::{Format, Kind, Schema};

/// The variables that expressions may speak of.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'e> {
    /// Names and their types.
    pub variables: &'e [(&'e str, Type)],
}

/// The type of an expression.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Type {
    /// Anything.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Box<Type>),
    /// By texts.
    Map(Box<Type>),
    /// Of these fields.
    Object(Schema),
    Optional(Box<Type>),
}

impl Type {
    /// The type of what a schema describes.
    pub fn of(schema: &Schema) -> Type {
        match (schema.format, schema.kind) {
            (Format::IntOrString | Format::Quantity, _) => Type::Dyn,
            (Format::DateTime | Format::MicroTime, _) => Type::Timestamp,
            (Format::Byte, _) => Type::Bytes,
            (_, Kind::String) => match schema
                .limits
                .as_ref()
                .and_then(|limits| limits["format"].as_str())
            {
                Some("date") => Type::Timestamp,
                Some("duration") => Type::Duration,
                _ => Type::String,
            },
            (_, Kind::Integer) => Type::Int,
            (_, Kind::Number) => Type::Double,
            (_, Kind::Boolean) => Type::Bool,
            (_, Kind::Array) => {
                let items = schema.items.as_ref().map_or(Type::Dyn, Type::of);
                Type::List(Box::new(items))
            }
            (_, Kind::Object) => match &schema.additional {
                Some(values) if schema.properties.is_empty() => {
                    Type::Map(Box::new(Type::of(values)))
                }
                _ if schema.properties.is_empty() && schema.preserve_unknown => Type::Dyn,
                _ => Type::Object(schema.clone()),
            },
            (_, Kind::Any) => Type::Dyn,
        }
    }

    /// Whether a value of this type can be a boolean.
    pub fn can_be_bool(&self) -> bool {
        matches!(self, Type::Bool | Type::Dyn)
    }

    /// Whether a value of this type can be a text.
    pub fn can_be_string(&self) -> bool {
        matches!(self, Type::String | Type::Dyn)
    }

    fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Double)
    }

    /// Whether values of both can be equal.
    fn fits(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Dyn | Type::Null, _) | (_, Type::Dyn | Type::Null) => true,
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.fits(b),
            (Type::Optional(a), Type::Optional(b)) => a.fits(b),
            (Type::Object(_) | Type::Map(_), Type::Object(_) | Type::Map(_)) => true,
            (a, b) if a.is_number() && b.is_number() => true,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Dyn => "dyn",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "timestamp",
            Type::Duration => "duration",
            Type::List(items) => return write!(f, "list({items})"),
            Type::Map(values) => return write!(f, "map(string, {values})"),
            Type::Optional(inner) => return write!(f, "optional_type({inner})"),
            Type::Object(_) => "object",
        })
    }
}

/// The type of an expression.
pub fn check(root: &Node, environment: &Environment<'_>) -> Result<Type, Mistake> {
    let variables = environment.variables.iter();
    let mut checker = Checker {
        scope: variables
            .map(|(name, of)| ((*name).to_owned(), of.clone()))
            .collect(),
    };
    checker.check(root)
}

struct Checker {
    /// Innermost last.
    scope: Vec<(String, Type)>,
}

type Checked = Result<Type, Mistake>;

fn undeclared(at: usize, name: &str) -> Mistake {
    (
        at,
        format!("undeclared reference to '{name}' (in container '')"),
    )
}

fn no_overload(at: usize, function: &str, args: &[&Type]) -> Mistake {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
    let args = args.join(", ");
    (
        at,
        format!("found no matching overload for '{function}' applied to '({args})'"),
    )
}

impl Checker {
    fn check(&mut self, node: &Node) -> Checked {
        Ok(match &node.expr {
            Expr::Null => Type::Null,
            Expr::Bool(_) => Type::Bool,
            Expr::Int(_) => Type::Int,
            Expr::Uint(_) => Type::Uint,
            Expr::Double(_) => Type::Double,
            Expr::String(_) => Type::String,
            Expr::Bytes(_) => Type::Bytes,
            Expr::Ident(name) => self.ident(node.at, name)?,
            Expr::Select {
                operand,
                field,
                optional,
            } => {
                let operand = self.check(operand)?;
                let found = select(node.at, &operand, field)?;
                match found {
                    Type::Optional(_) => found,
                    found if *optional => Type::Optional(Box::new(found)),
                    found => found,
                }
            }
            Expr::Has { operand, field } => {
                let operand = self.check(operand)?;
                select(node.at, &operand, field)?;
                Type::Bool
            }
            Expr::Index {
                operand,
                index,
                optional,
            } => {
                let operand = self.check(operand)?;
                let index = self.check(index)?;
                let found = at(node.at, &operand, &index)?;
                match optional {
                    true => Type::Optional(Box::new(found)),
                    false => found,
                }
            }
            Expr::Call {
                function,
                target,
                args,
            } => self.call(node.at, function, target.as_deref(), args)?,
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.check(left)?, self.check(right)?);
                binary(node.at, *operator, &left, &right)?
            }
            Expr::Not(operand) => self.boolean(node.at, "!_", operand)?,
            Expr::Negate(operand) => self.check(operand)?,
            Expr::Conditional(parts) => {
                self.boolean(node.at, "_?_:_", &parts[0])?;
                let (then, otherwise) = (self.check(&parts[1])?, self.check(&parts[2])?);
                if !then.fits(&otherwise) {
                    return Err(no_overload(
                        node.at,
                        "_?_:_",
                        &[&Type::Bool, &then, &otherwise],
                    ));
                }
                then
            }
            Expr::List(items) => self.list(items)?,
            Expr::Map(entries) => self.map(entries)?,
            Expr::Object { name, fields } => self.object(node.at, name, fields)?,
            Expr::Fold(fold) => self.fold(node.at, fold)?,
        })
    }

    fn ident(&self, at: usize, name: &str) -> Checked {
        if let Some((_, of)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return Ok(of.clone());
        }
        match library::type_of_name(name) {
            Some(_) => Ok(Type::Dyn),
            None => Err(undeclared(at, name)),
        }
    }

    fn boolean(&mut self, at: usize, function: &str, operand: &Node) -> Checked {
        let of = self.check(operand)?;
        if of.can_be_bool() {
            Ok(Type::Bool)
        } else {
            Err(no_overload(at, function, &[&of]))
        }
    }

    fn list(&mut self, items: &[(Node, bool)]) -> Checked {
        let mut common: Option<Type> = None;
        for (item, optional) in items {
            let of = match (self.check(item)?, optional) {
                (Type::Optional(inner), true) => *inner,
                (of, _) => of,
            };
            common = Some(match common {
                Some(known) if !known.fits(&of) => Type::Dyn,
                Some(known) => known,
                None => of,
            });
        }
        Ok(Type::List(Box::new(common.unwrap_or(Type::Dyn))))
    }

    fn map(&mut self, entries: &[(Node, Node, bool)]) -> Checked {
        for (key, value, _) in entries {
            self.check(key)?;
            self.check(value)?;
        }
        Ok(Type::Map(Box::new(Type::Dyn)))
    }

    /// An object of a named type: `Object` and what is below it, or `JSONPatch`, where there are these.
    fn object(&mut self, at: usize, name: &str, fields: &[(String, Node, bool)]) -> Checked {
        let (root, _) = name.split_once('.').unwrap_or((name, ""));
        let there = self.scope.iter().any(|(known, _)| known == root);
        if !there || !matches!(root, "Object" | "JSONPatch") || name.starts_with("JSONPatch.") {
            return Err(undeclared(at, name));
        }
        for (field, value, _) in fields {
            let field = unescape(field);
            let found = self.check(value)?;
            if root == "Object" {
                named_as(value, &format!("{name}.{field}"))?;
                continue;
            }
            let fits = match field.as_ref() {
                "op" | "path" | "from" => found.can_be_string(),
                "value" => true,
                _ => return Err((value.at, format!("undefined field '{field}'"))),
            };
            if !fits {
                let text = format!(
                    "expected type of field '{field}' is 'string' but provided type is '{found}'"
                );
                return Err((value.at, text));
            }
        }
        Ok(Type::Dyn)
    }

    fn call(&mut self, at: usize, function: &str, target: Option<&Node>, args: &[Node]) -> Checked {
        let target = target.map(|target| self.check(target)).transpose()?;
        let args: Vec<Type> = args
            .iter()
            .map(|arg| self.check(arg))
            .collect::<Result<_, _>>()?;
        let known: &[&str] = if target.is_some() {
            &library::METHODS
        } else {
            &library::FUNCTIONS
        };
        if !known.contains(&function) {
            return Err(undeclared(at, function));
        }
        let first = target.as_ref().or(args.first());
        let fails = match (function, first) {
            ("size", Some(of)) => matches!(
                of,
                Type::Int | Type::Uint | Type::Double | Type::Bool | Type::Null
            ),
            ("startsWith" | "endsWith" | "matches" | "contains", Some(of)) => !of.can_be_string(),
            _ => false,
        };
        if fails {
            let all: Vec<&Type> = target.iter().chain(&args).collect();
            return Err(no_overload(at, function, &all));
        }
        Ok(result(function, first))
    }

    fn fold(&mut self, place: usize, fold: &Fold) -> Checked {
        let range = self.check(&fold.range)?;
        let is_optional = matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap);
        let (index, item) = match &range {
            Type::Dyn => (Type::Dyn, Type::Dyn),
            Type::List(items) if !is_optional => (Type::Int, (**items).clone()),
            Type::Map(values) if !is_optional => (Type::String, (**values).clone()),
            Type::Object(_) if !is_optional => (Type::String, Type::Dyn),
            Type::Optional(inner) if is_optional => (Type::Dyn, (**inner).clone()),
            other => {
                let must = "(must be list, map, or dynamic)";
                return Err((
                    place,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension {must}"
                    ),
                ));
            }
        };
        let is_map = matches!(range, Type::Map(_) | Type::Object(_));
        let outside = self.scope.len();
        match fold.variables.as_slice() {
            [one] if is_map => self.scope.push((one.clone(), index)),
            [one] => self.scope.push((one.clone(), item.clone())),
            [one, two, ..] => self
                .scope
                .extend([(one.clone(), index), (two.clone(), item.clone())]),
            [] => {}
        }
        let filter = fold
            .filter
            .as_ref()
            .map(|filter| self.boolean(filter.at, "filter", filter));
        let body = self.check(&fold.body);
        self.scope.truncate(outside);
        filter.transpose()?;
        let body = body?;
        let wants_bool = matches!(
            fold.kind,
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne | FoldKind::Filter
        );
        if wants_bool && !body.can_be_bool() {
            return Err(no_overload(fold.body.at, "_&&_", &[&Type::Bool, &body]));
        }
        Ok(match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Type::Bool,
            FoldKind::Filter => match range {
                Type::Map(_) | Type::Object(_) => Type::List(Box::new(Type::String)),
                other => other,
            },
            FoldKind::Map | FoldKind::TransformList => Type::List(Box::new(body)),
            FoldKind::TransformMap => Type::Map(Box::new(body)),
            FoldKind::OptMap => Type::Optional(Box::new(body)),
            FoldKind::OptFlatMap => body,
        })
    }
}

fn select(at: usize, operand: &Type, field: &str) -> Checked {
    match operand {
        Type::Dyn => Ok(Type::Dyn),
        Type::Map(values) => Ok((**values).clone()),
        Type::Optional(inner) => select(at, inner, field).map(|of| Type::Optional(Box::new(of))),
        Type::Object(schema) => {
            let field = unescape(field);
            match schema.child(&field) {
                Some(child) => Ok(Type::of(child)),
                None if schema.preserve_unknown && schema.properties.is_empty() => Ok(Type::Dyn),
                None => Err((at, format!("undefined field '{field}'"))),
            }
        }
        other => Err((
            at,
            format!("type '{other}' does not support field selection"),
        )),
    }
}

fn at(place: usize, operand: &Type, index: &Type) -> Checked {
    match (operand, index) {
        (Type::Dyn, _) => Ok(Type::Dyn),
        (Type::Optional(inner), index) => at(place, inner, index),
        (Type::List(items), Type::Int | Type::Uint | Type::Double | Type::Dyn) => {
            Ok((**items).clone())
        }
        (Type::Map(values), Type::String | Type::Dyn | Type::Int | Type::Bool | Type::Uint) => {
            Ok((**values).clone())
        }
        (operand, index) => Err(no_overload(place, "_[_]", &[operand, index])),
    }
}

/// Objects in a field must be of the type that the field's place has, in lists and on both sides of a condition too.
fn named_as(value: &Node, wanted: &str) -> Result<(), Mistake> {
    match &value.expr {
        Expr::Object { name, .. } if name != wanted && name.starts_with("Object") => Err((
            value.at,
            format!(
                "unexpected type name {name:?}, expected {wanted:?}, which matches field name path from root Object type"
            ),
        )),
        Expr::List(items) => items
            .iter()
            .try_for_each(|(item, _)| named_as(item, wanted)),
        Expr::Conditional(parts) => {
            named_as(&parts[1], wanted)?;
            named_as(&parts[2], wanted)
        }
        _ => Ok(()),
    }
}

fn binary(place: usize, operator: Operator, left: &Type, right: &Type) -> Checked {
    let fails = || no_overload(place, operator.name(), &[left, right]);
    match operator {
        Operator::And | Operator::Or if left.can_be_bool() && right.can_be_bool() => Ok(Type::Bool),
        Operator::And | Operator::Or => Err(fails()),
        Operator::Equal | Operator::NotEqual if left.fits(right) => Ok(Type::Bool),
        Operator::Equal | Operator::NotEqual => Err(fails()),
        Operator::In => match right {
            Type::Dyn | Type::Map(_) | Type::Object(_) => Ok(Type::Bool),
            Type::List(items) if items.fits(left) => Ok(Type::Bool),
            _ => Err(fails()),
        },
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let has_order = |of: &Type| {
                !matches!(
                    of,
                    Type::Null | Type::List(_) | Type::Map(_) | Type::Object(_)
                )
            };
            if left.fits(right) && has_order(left) && has_order(right) {
                Ok(Type::Bool)
            } else {
                Err(fails())
            }
        }
        _ => arithmetic(left, right).ok_or_else(fails),
    }
}

fn arithmetic(left: &Type, right: &Type) -> Option<Type> {
    match (left, right) {
        (Type::Dyn, _) | (_, Type::Dyn) => Some(Type::Dyn),
        (Type::Timestamp, Type::Timestamp) => Some(Type::Duration),
        (Type::Timestamp, Type::Duration) | (Type::Duration, Type::Timestamp) => {
            Some(Type::Timestamp)
        }
        (Type::Bool | Type::Null | Type::Map(_) | Type::Object(_), _) => None,
        (left, right) if left.is_number() || right.is_number() => {
            (std::mem::discriminant(left) == std::mem::discriminant(right)).then(|| left.clone())
        }
        (left, right) => left.fits(right).then(|| left.clone()),
    }
}

/// What functions give, as far as it is always the same.
fn result(function: &str, first: Option<&Type>) -> Type {
    match function {
        "size" | "int" | "asInteger" | "sign" | "compareTo" | "family" | "prefixLength"
        | "lastIndexOf" | "indexOf" | "major" | "minor" | "patch" | "getFullYear" | "getMonth"
        | "getDate" | "getDayOfMonth" | "getDayOfWeek" | "getDayOfYear" | "getHours"
        | "getMinutes" | "getSeconds" | "getMilliseconds" => Type::Int,
        "uint" => Type::Uint,
        "double" | "asApproximateFloat" => Type::Double,
        "string" | "lowerAscii" | "upperAscii" | "trim" | "charAt" | "substring" | "replace"
        | "join" | "format" | "find" | "reverse" | "getScheme" | "getHost" | "getHostname"
        | "getPort" | "getEscapedPath" | "strings.quote" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "jsonpatch.escapeKey" => Type::String,
        "split" | "findAll" => Type::List(Box::new(Type::String)),
        "bool"
        | "contains"
        | "startsWith"
        | "endsWith"
        | "matches"
        | "isQuantity"
        | "isURL"
        | "isIP"
        | "isCIDR"
        | "isSemver"
        | "ip.isCanonical"
        | "sets.contains"
        | "sets.equivalent"
        | "sets.intersects"
        | "isSorted"
        | "isInteger"
        | "isLessThan"
        | "isGreaterThan"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "containsIP"
        | "containsCIDR"
        | "hasValue" => Type::Bool,
        "optional.of" | "optional.ofNonZeroValue" => {
            Type::Optional(Box::new(first.cloned().unwrap_or(Type::Dyn)))
        }
        "value" | "orValue" => match first {
            Some(Type::Optional(inner)) => (**inner).clone(),
            _ => Type::Dyn,
        },
        "or" => first.cloned().unwrap_or(Type::Dyn),
        "min" | "max" | "sum" => match first {
            Some(Type::List(items)) => (**items).clone(),
            _ => Type::Dyn,
        },
        _ => Type::Dyn,
    }
}
