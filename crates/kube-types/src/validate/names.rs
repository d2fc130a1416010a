//! The forms of names, labels, ports and paths, each with the message that says what is wrong.
//!
//! Every function returns the faults of a text; none for a good one.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

fn is_lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// `first` and last byte of the given sorts, everything between of `middle`.
fn shaped(text: &str, first: fn(u8) -> bool, middle: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [one] => first(*one),
        [a, rest @ .., z] => first(*a) && last(*z) && rest.iter().all(|b| middle(*b)),
    }
}

fn is_label(text: &str) -> bool {
    shaped(
        text,
        is_lower_or_digit,
        |b| is_lower_or_digit(b) || b == b'-',
        is_lower_or_digit,
    )
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// `must be no more than N characters`.
pub fn max_length(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// `must be between LOW and HIGH, inclusive`.
pub fn range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A message with examples and the pattern that the original checks with.
pub fn pattern(message: &str, regex: &str, examples: &[&str]) -> String {
    let mut out = message.to_owned();
    if examples.is_empty() {
        return format!("{out} (regex used for validation is '{regex}')");
    }
    out.push_str(" (e.g. ");
    for (index, example) in examples.iter().enumerate() {
        if index > 0 {
            out.push_str(" or ");
        }
        out.push_str(&format!("'{example}', "));
    }
    out.push_str(&format!("regex used for validation is '{regex}')"));
    out
}

/// RFC 1123 label: at most 63 of a-z, 0-9 and '-'.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !is_label(text) {
        faults.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            pattern(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    faults
}

/// RFC 1123 subdomain: labels with dots between them, at most 253 characters.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if !is_subdomain(text) {
        faults.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            &format!("{LABEL}(\\.{LABEL})*"),
            &["example.com"],
        ));
    }
    faults
}

/// RFC 1035 label: as an RFC 1123 label, but a letter comes first.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    let fits = shaped(
        text,
        |b| b.is_ascii_lowercase(),
        |b| is_lower_or_digit(b) || b == b'-',
        is_lower_or_digit,
    );
    if !fits {
        faults.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    faults
}

/// `*.` and a subdomain.
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        faults.push(pattern(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{LABEL}(\\.{LABEL})*"),
            &["*.example.com"],
        ));
    }
    faults
}

fn is_name_part(text: &str) -> bool {
    let outer = |b: u8| b.is_ascii_alphanumeric();
    shaped(
        text,
        outer,
        |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b),
        outer,
    )
}

/// The key of a label: a name, with a subdomain and '/' before it or not.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|f| format!("prefix part {f}")),
                );
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                pattern(
                    QUALIFIED,
                    QUALIFIED_PATTERN,
                    &["MyName", "my.name", "123-abc"]
                )
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", max_length(63)));
    }
    if !is_name_part(name) {
        let message = pattern(
            QUALIFIED,
            QUALIFIED_PATTERN,
            &["MyName", "my.name", "123-abc"],
        );
        faults.push(format!("name part {message}"));
    }
    faults
}

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// The value of a label: at most 63 characters; may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(max_length(63));
    }
    if !text.is_empty() && !is_name_part(text) {
        faults.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

/// A name that is one step of a path.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        _ => path_segment_prefix(text),
    }
}

/// The beginning of a name that is one step of a path.
pub fn path_segment_prefix(text: &str) -> Vec<String> {
    let contained = ['/', '%'].iter().filter(|c| text.contains(**c));
    contained
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// The key of an entry of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(max_length(253));
    }
    if text.is_empty()
        || !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        faults.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    faults.extend(leads_up(text));
    faults
}

fn leads_up(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an environment variable: printable ASCII but '='.
pub fn environment_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.is_empty() {
        faults.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        faults.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    faults
}

/// A C identifier.
pub fn c_identifier(text: &str) -> Vec<String> {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if shaped(text, first, rest, rest) {
        return Vec::new();
    }
    vec![pattern(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// A port's number.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65_535).contains(&port) {
        Vec::new()
    } else {
        vec![range(1, 65_535)]
    }
}

/// A port's name, as IANA_SVC_NAME.
pub fn port_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 15 {
        faults.push(max_length(15));
    }
    let mut unless = |ok: bool, fault: &str| {
        if !ok {
            faults.push(fault.to_owned());
        }
    };
    unless(
        !text.is_empty() && text.bytes().all(|b| is_lower_or_digit(b) || b == b'-'),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    unless(
        text.bytes().any(|b| b.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    unless(!text.contains("--"), "must not contain consecutive hyphens");
    unless(
        !text.starts_with('-') && !text.ends_with('-'),
        "must not begin or end with a hyphen",
    );
    faults
}

/// A number and a percent sign.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![pattern(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![pattern(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A user's or group's number.
pub fn user_id(id: i64) -> Vec<String> {
    if (0..=i64::from(i32::MAX)).contains(&id) {
        Vec::new()
    } else {
        vec![range(0, i64::from(i32::MAX))]
    }
}

/// What a prefix of generated names may be: a trailing '-' is let pass because letters follow it.
pub fn generated(rule: fn(&str) -> Vec<String>, prefix: &str) -> Vec<String> {
    match prefix.strip_suffix('-') {
        Some(_) if prefix.len() > 1 => rule(&format!("{}a", &prefix[..prefix.len() - 1])),
        _ => rule(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_have_no_faults_and_bad_ones_do() {
        type Rule = fn(&str) -> Vec<String>;
        let check = |rule: Rule, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(rule(text), Vec::<String>::new(), "{text}");
            }
            for text in bad {
                assert!(!rule(text).is_empty(), "{text}");
            }
        };
        let long = "a".repeat(64);
        let label_bad = ["", "A", "-a", "a-", "a_b", "a.b", "ä", long.as_str()];
        check(dns1123_label, &["a", "0", "a-b", "1-2-3"], &label_bad);
        check(dns1035_label, &["a", "a-1"], &["", "1a", "a-", "-", "a.b"]);
        check(
            dns1123_subdomain,
            &["a", "a.b", "1.2-3.c"],
            &["", ".", "a.", ".a", "a..b", "A.b", "a_b"],
        );
        check(
            wildcard_subdomain,
            &["*.a.b"],
            &["*", "*a.b", "a.*", "*.*.a"],
        );
        check(
            qualified_name,
            &["a", "A_b.c-9", "x.y/Z"],
            &["", "/a", "a/", "a/b/c", "X/a", "-a", "a-"],
        );
        check(
            label_value,
            &["", "a", "A_b.c"],
            &["-a", "a b", long.as_str()],
        );
        check(
            port_name,
            &["http", "a-1"],
            &["", "1", "-a", "a--b", "HTTP", "averyveryverylong"],
        );
        check(
            config_map_key,
            &["a", ".a", "A_b-c.d"],
            &["", ".", "..", "..a", "a/b"],
        );
        check(environment_name, &["a", "a.b", "1 2"], &["", "a=b", "ä"]);
        check(percent, &["1%", "100%"], &["", "%", "1", "-1%"]);
    }

    #[test]
    fn a_dotted_label_is_told_so() {
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }
}
