//! Named formats: what a text must be like to be a label, a name, a URI.

use super::{EvalError, Result, Url, Value};
use crate::validate::names;

const NAMES: [&str; 14] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
    "base64",
];

/// `format.named("uri")` and `format.uri()`.
pub fn find<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    let known = |name: &str| NAMES.into_iter().find(|known| *known == name);
    match (name, args) {
        ("named", [Value::String(name)]) => {
            Ok(known(name).map_or_else(Value::none, |name| Value::some(Value::Format(name))))
        }
        (name, []) => known(name)
            .map(Value::Format)
            .ok_or_else(EvalError::no_overload),
        _ => Err(EvalError::no_overload()),
    }
}

/// Nothing, or what is wrong with a text.
pub fn validate<'a>(function: &str, format: &str, args: &[Value<'a>]) -> Result<Value<'a>> {
    let ("validate", [Value::String(text)]) = (function, args) else {
        return Err(EvalError::no_overload());
    };
    let faults = faults(format, text);
    if faults.is_empty() {
        return Ok(Value::none());
    }
    Ok(Value::some(Value::list(
        faults.into_iter().map(Value::text).collect(),
    )))
}

fn faults(format: &str, text: &str) -> Vec<String> {
    let unless = |fits: bool, fault: &str| {
        if fits {
            Vec::new()
        } else {
            vec![fault.to_owned()]
        }
    };
    match format {
        "dns1123Label" => names::dns1123_label(text),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1035Label" => names::dns1035_label(text),
        "dns1123LabelPrefix" => names::generated(names::dns1123_label, text),
        "dns1123SubdomainPrefix" => names::generated(names::dns1123_subdomain, text),
        "dns1035LabelPrefix" => names::generated(names::dns1035_label, text),
        "qualifiedName" => names::qualified_name(text),
        "labelValue" => names::label_value(text),
        "uri" => unless(Url::parse(text).is_some(), "invalid URI for request"),
        "uuid" => unless(is_uuid(text), "does not match the UUID format"),
        "byte" | "base64" => unless(
            crate::protobuf::base64_error(text).is_none(),
            "invalid base64",
        ),
        "date" => {
            let time = crate::time::Timestamp::parse(&format!("{text}T00:00:00Z"));
            unless(time.is_some(), "invalid date")
        }
        _ => unless(
            crate::time::Timestamp::parse(text).is_some(),
            "invalid datetime",
        ),
    }
}

fn is_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(|byte| *byte != b'-');
    let count = digits.clone().count();
    count == 32 && digits.into_iter().all(|byte| byte.is_ascii_hexdigit())
}
