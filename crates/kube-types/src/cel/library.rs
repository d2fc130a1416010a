//! The functions there are: the standard ones, texts, lists, and Kubernetes' own.

use std::net::IpAddr;

use regex::RegexBuilder;

use super::eval::{EvalError, Result};
use super::strings::{Semver, Url, parse_duration};
use super::value::Value;
use crate::quantity::Quantity;
use crate::time::Timestamp;

mod formats;
mod network;
mod texts;
mod times;

/// A compiled pattern is no larger.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Names of functions that are called without a target.
pub const FUNCTIONS: [&str; 42] = [
    "size",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "timestamp",
    "duration",
    "type",
    "dyn",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
    "quantity",
    "isQuantity",
    "url",
    "isURL",
    "ip",
    "isIP",
    "cidr",
    "isCIDR",
    "semver",
    "isSemver",
    "ip.isCanonical",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "strings.quote",
    "jsonpatch.escapeKey",
    "format.named",
    "format.dns1123Label",
    "format.dns1123Subdomain",
    "format.dns1035Label",
    "format.qualifiedName",
    "format.labelValue",
    "format.uri",
    "format.uuid",
];

/// Names of functions that are called on a target.
pub const METHODS: [&str; 78] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "format",
    "reverse",
    "isSorted",
    "sum",
    "min",
    "max",
    "find",
    "findAll",
    "getScheme",
    "getHost",
    "getHostname",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "sign",
    "add",
    "sub",
    "isLessThan",
    "isGreaterThan",
    "compareTo",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "containsIP",
    "containsCIDR",
    "ip",
    "masked",
    "prefixLength",
    "major",
    "minor",
    "patch",
    "hasValue",
    "value",
    "or",
    "orValue",
    "validate",
    "flatten",
    "slice",
    "distinct",
    "sort",
    "first",
    "last",
    "dns1123Label",
    "named",
    "quote",
    "getEscapedQuery",
    "isCanonical",
];

/// Words before a dot that are no values but a part of a function's name.
pub fn is_namespace(word: &str) -> bool {
    matches!(
        word,
        "sets" | "optional" | "strings" | "format" | "ip" | "jsonpatch"
    )
}

/// A type by its name in expressions.
pub fn type_of_name(name: &str) -> Option<&'static str> {
    const NAMES: [&str; 9] = [
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
    ];
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .or((name == "type").then_some("type"))
}

/// Calls a function.
pub fn call<'a>(
    function: &str,
    target: Option<&Value<'a>>,
    args: &[Value<'a>],
) -> Result<Value<'a>> {
    match target {
        None => global(function, args),
        Some(target) => method(function, target, args),
    }
}

fn global<'a>(function: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    if let Some(name) = function.strip_prefix("format.") {
        return formats::find(name, args);
    }
    match (function, args) {
        ("optional.none", []) => Ok(Value::none()),
        ("optional.of", [value]) => Ok(Value::some(value.clone())),
        ("optional.ofNonZeroValue", [value]) if is_zero(value) => Ok(Value::none()),
        ("optional.ofNonZeroValue", [value]) => Ok(Value::some(value.clone())),
        ("sets.contains" | "sets.equivalent" | "sets.intersects", [a, b]) => sets(function, a, b),
        ("type", [value]) => Ok(Value::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("size" | "matches" | "contains" | "startsWith" | "endsWith", [target, rest @ ..]) => {
            method(function, target, rest)
        }
        ("jsonpatch.escapeKey", [Value::String(text)]) => {
            Ok(Value::text(text.replace('~', "~0").replace('/', "~1")))
        }
        ("strings.quote", [Value::String(text)]) => Ok(Value::text(crate::field::go_quote(text))),
        (
            "bool" | "int" | "uint" | "double" | "string" | "bytes" | "timestamp" | "duration",
            [value],
        ) => convert(function, value),
        (_, [Value::String(text)]) => parse(function, text),
        _ => Err(EvalError::no_overload()),
    }
}

/// Texts as values of Kubernetes' types, and whether they are.
fn parse<'a>(function: &str, text: &str) -> Result<Value<'a>> {
    let wrong = |why: &str| EvalError::new(why.to_owned());
    match function {
        "quantity" => Quantity::parse(text)
            .map(Value::Quantity)
            .map_err(|e| wrong(&e.to_string())),
        "isQuantity" => Ok(Value::Bool(Quantity::parse(text).is_ok())),
        "url" => {
            let url = Url::parse(text).ok_or_else(|| wrong(&format!("URL parse error during conversion from string: parse {text:?}: invalid URI for request")))?;
            Ok(Value::Url(url.into()))
        }
        "isURL" => Ok(Value::Bool(Url::parse(text).is_some())),
        "semver" => {
            let version =
                Semver::parse(text).ok_or_else(|| wrong(&format!("{text:?} is no version")))?;
            Ok(Value::Semver(version.into()))
        }
        "isSemver" => Ok(Value::Bool(Semver::parse(text).is_some())),
        _ => network::parse(function, text),
    }
}

fn sets<'a>(function: &str, a: &Value<'_>, b: &Value<'_>) -> Result<Value<'a>> {
    if !a.is_list() || !b.is_list() {
        return Err(EvalError::no_overload());
    }
    let (a, b) = (a.items(), b.items());
    let within = |some: &[Value<'_>], all: &[Value<'_>]| {
        some.iter().all(|item| all.iter().any(|k| k.equals(item)))
    };
    Ok(Value::Bool(match function {
        "sets.contains" => within(&b, &a),
        "sets.equivalent" => within(&a, &b) && within(&b, &a),
        _ => a
            .iter()
            .any(|item| b.iter().any(|known| known.equals(item))),
    }))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => {
            true
        }
        Value::Double(value) => *value == 0.0,
        other => other.size() == Some(0),
    }
}

fn convert<'a>(to: &str, value: &Value<'a>) -> Result<Value<'a>> {
    let bad = || {
        EvalError::new(format!(
            "type conversion error from '{}' to '{to}'",
            value.type_name()
        ))
    };
    let range = || EvalError::new("integer overflow");
    Ok(match (to, value) {
        ("int", Value::Int(_)) | ("uint", Value::Uint(_)) | ("double", Value::Double(_)) => {
            value.clone()
        }
        ("bool", Value::Bool(_)) | ("bytes", Value::Bytes(_)) | ("string", Value::String(_)) => {
            value.clone()
        }
        ("timestamp", Value::Timestamp(_)) | ("duration", Value::Duration(_)) => value.clone(),
        ("int", Value::Uint(number)) => Value::Int(i64::try_from(*number).map_err(|_| range())?),
        ("int", Value::Double(number)) if number.abs() < i64::MAX as f64 => {
            Value::Int(number.trunc() as i64)
        }
        ("int", Value::String(text)) => Value::Int(text.parse().map_err(|_| bad())?),
        ("int", Value::Timestamp(time)) => Value::Int(time.seconds),
        ("int", Value::Duration(nanos)) => Value::Int(*nanos),
        ("uint", Value::Int(number)) => Value::Uint(u64::try_from(*number).map_err(|_| range())?),
        ("uint", Value::Double(number)) if *number >= 0.0 && *number < u64::MAX as f64 => {
            Value::Uint(*number as u64)
        }
        ("uint", Value::String(text)) => Value::Uint(text.parse().map_err(|_| bad())?),
        ("double", Value::Int(number)) => Value::Double(*number as f64),
        ("double", Value::Uint(number)) => Value::Double(*number as f64),
        ("double", Value::String(text)) => Value::Double(text.parse().map_err(|_| bad())?),
        ("int" | "uint", Value::Double(_)) => return Err(range()),
        ("bool", Value::String(text)) => match text.as_ref() {
            "true" | "TRUE" | "True" | "t" | "T" | "1" => Value::Bool(true),
            "false" | "FALSE" | "False" | "f" | "F" | "0" => Value::Bool(false),
            _ => return Err(bad()),
        },
        ("bytes", Value::String(text)) => Value::Bytes(text.as_bytes().into()),
        ("timestamp", Value::String(text)) => {
            Value::Timestamp(Timestamp::parse(text).ok_or_else(bad)?)
        }
        ("timestamp", Value::Int(seconds)) => Value::Timestamp(Timestamp::from_seconds(*seconds)),
        ("duration", Value::String(text)) => Value::Duration(parse_duration(text).ok_or_else(bad)?),
        ("duration", Value::Int(nanos)) => Value::Duration(*nanos),
        ("string", Value::Bytes(bytes)) => {
            Value::text(String::from_utf8(bytes.to_vec()).map_err(|_| bad())?)
        }
        ("string", value)
            if !value.is_list()
                && !value.is_map()
                && !matches!(value, Value::Null | Value::Optional(_)) =>
        {
            Value::text(value.to_text())
        }
        _ => return Err(bad()),
    })
}

fn method<'a>(function: &str, target: &Value<'a>, args: &[Value<'a>]) -> Result<Value<'a>> {
    if let ("size", [], Some(size)) = (function, args, target.size()) {
        return Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)));
    }
    match target {
        Value::String(text) => texts::call(function, text, args),
        Value::Optional(inner) => optional(function, inner.as_deref(), args),
        Value::Timestamp(time) => times::of_timestamp(function, *time, args),
        Value::Duration(nanos) => times::of_duration(function, *nanos, args),
        Value::Quantity(quantity) => of_quantity(function, *quantity, args),
        Value::Url(url) => of_url(function, url, args),
        Value::Ip(address) => network::of_ip(function, *address, args),
        Value::Cidr(address, bits) => network::of_cidr(function, *address, *bits, args),
        Value::Semver(version) => of_semver(function, version, args),
        Value::Format(name) => formats::validate(function, name, args),
        target if target.is_list() => of_list(function, target, args),
        _ => Err(EvalError::no_overload()),
    }
}

fn optional<'a>(
    function: &str,
    inner: Option<&Value<'a>>,
    args: &[Value<'a>],
) -> Result<Value<'a>> {
    match (function, inner, args) {
        ("hasValue", inner, []) => Ok(Value::Bool(inner.is_some())),
        ("value", Some(value), []) => Ok(value.clone()),
        ("value", None, []) => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    }
}

fn of_quantity<'a>(function: &str, quantity: Quantity, args: &[Value<'a>]) -> Result<Value<'a>> {
    let amount = |value: &Value<'_>| match value {
        Value::Quantity(other) => Ok(*other),
        Value::Int(other) => Ok(Quantity::from_integer(*other, quantity.notation())),
        _ => Err(EvalError::no_overload()),
    };
    Ok(match (function, args) {
        ("isInteger", []) => Value::Bool(quantity.is_integer()),
        ("asInteger", []) if quantity.is_integer() => Value::Int(quantity.value()),
        ("asInteger", []) => return Err(EvalError::new("cannot convert value to integer")),
        ("asApproximateFloat", []) => Value::Double(quantity.milli_value() as f64 / 1000.0),
        ("sign", []) => Value::Int(quantity.sign() as i64),
        ("add", [other]) => Value::Quantity(quantity + amount(other)?),
        ("sub", [other]) => Value::Quantity(quantity - amount(other)?),
        ("isLessThan", [Value::Quantity(other)]) => Value::Bool(quantity < *other),
        ("isGreaterThan", [Value::Quantity(other)]) => Value::Bool(quantity > *other),
        ("compareTo", [Value::Quantity(other)]) => Value::Int(quantity.cmp(other) as i64),
        _ => return Err(EvalError::no_overload()),
    })
}

fn of_url<'a>(function: &str, url: &Url, args: &[Value<'a>]) -> Result<Value<'a>> {
    if !args.is_empty() {
        return Err(EvalError::no_overload());
    }
    Ok(match function {
        "getScheme" => Value::text(url.scheme.as_str()),
        "getHost" => Value::text(url.host.as_str()),
        "getHostname" => Value::text(url.hostname()),
        "getPort" => Value::text(url.port()),
        "getEscapedPath" => Value::text(url.path.as_str()),
        "getQuery" => {
            let values = url.query_values().into_iter().map(|(name, list)| {
                (
                    Value::text(name),
                    Value::list(list.into_iter().map(Value::text).collect()),
                )
            });
            Value::Map(values.collect::<Vec<_>>().into())
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn of_semver<'a>(function: &str, version: &Semver, args: &[Value<'a>]) -> Result<Value<'a>> {
    let number = |at: usize| Value::Int(i64::try_from(version.numbers[at]).unwrap_or(i64::MAX));
    Ok(match (function, args) {
        ("major", []) => number(0),
        ("minor", []) => number(1),
        ("patch", []) => number(2),
        ("isLessThan", [Value::Semver(other)]) => Value::Bool(*version < **other),
        ("isGreaterThan", [Value::Semver(other)]) => Value::Bool(*version > **other),
        ("compareTo", [Value::Semver(other)]) => Value::Int(version.cmp(other) as i64),
        _ => return Err(EvalError::no_overload()),
    })
}

fn of_list<'a>(function: &str, list: &Value<'a>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let items = list.items();
    let position = |found: Option<usize>| {
        Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
    };
    let best = |wanted: std::cmp::Ordering| {
        let mut items = items.iter();
        let first = items
            .next()
            .ok_or_else(|| EvalError::new(format!("{function} called on empty list")))?;
        items.try_fold(first, |best, item| match item.compare(best) {
            Some(ordering) if ordering == wanted => Ok(item),
            Some(_) => Ok(best),
            None => Err(EvalError::no_overload()),
        })
    };
    Ok(match (function, args) {
        ("isSorted", []) => Value::Bool(
            items.is_sorted_by(|a, b| a.compare(b).is_some_and(std::cmp::Ordering::is_le)),
        ),
        ("sum", []) => {
            let mut items = items.iter();
            let first = items.next().cloned().unwrap_or(Value::Int(0));
            items.try_fold(first, |sum, item| {
                super::operators::apply(super::ast::Operator::Add, &sum, item)
            })?
        }
        ("min", []) => best(std::cmp::Ordering::Less)?.clone(),
        ("max", []) => best(std::cmp::Ordering::Greater)?.clone(),
        ("indexOf", [item]) => position(items.iter().position(|known| known.equals(item))),
        ("lastIndexOf", [item]) => position(items.iter().rposition(|known| known.equals(item))),
        ("join", rest) => texts::join(&items, rest)?,
        ("distinct", []) => {
            let mut kept: Vec<Value<'a>> = Vec::new();
            for item in items {
                if !kept.iter().any(|known| known.equals(&item)) {
                    kept.push(item);
                }
            }
            Value::list(kept)
        }
        _ => return Err(EvalError::no_overload()),
    })
}

/// A pattern, bounded in size; RE2's syntax is this one's.
fn regex(pattern: &str) -> Result<regex::Regex> {
    let built = RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build();
    built.map_err(|error| EvalError::new(format!("error parsing regexp: {error}")))
}

/// Go's `netip.ParseAddr`, less zones and IPv4 in IPv6, as Kubernetes has it.
fn address(text: &str) -> Option<IpAddr> {
    let parsed: IpAddr = text.parse().ok()?;
    match parsed {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => None,
        parsed => Some(parsed),
    }
}
