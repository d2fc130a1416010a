//! `$(NAME)` in commands, arguments, values and sub paths.

/// Replaces every reference that `look_up` knows; others stay as they are, and `$$` stands for one `$`.
pub(crate) fn expand(text: &str, look_up: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match look_up(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |text, wanted| {
            let known = |name: &str| (name == "A").then(|| "1".to_owned());
            assert_eq!(expand(text, known), wanted, "{text}");
        };
        check("x$(A)y", "x1y");
        check("$$(A)", "$(A)");
        check("$(B)$(A)", "$(B)1");
        check("$(A", "$(A");
        check("$A$", "$A$");
        check("$$$(A)", "$1");
        check("", "");
    }
}
