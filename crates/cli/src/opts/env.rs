//! Environment variables and labels, from flags and from files.

use crate::failure::Failure;

/// Variables of the files, then those of the flags. A name without a value takes the caller's, if there is one.
pub fn collect(files: &[&str], given: &[&str]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            let (name, has_value) = match line.split_once('=') {
                Some((name, _)) => (name, true),
                None => (line.as_str(), false),
            };
            if name.is_empty() {
                return Err(Failure::said(format!("no variable name on line '{line}'")));
            }
            if name.contains([' ', '\t']) {
                return Err(Failure::said(format!(
                    "variable '{name}' contains whitespaces"
                )));
            }
            if has_value {
                all.push(line);
            } else if let Ok(value) = std::env::var(name) {
                all.push(format!("{name}={value}"));
            }
        }
    }
    for variable in given {
        if variable.contains('=') {
            all.push((*variable).to_owned());
        } else if let Ok(value) = std::env::var(variable) {
            all.push(format!("{variable}={value}"));
        } else {
            // Without a value here, the name alone removes the image's variable.
            all.push((*variable).to_owned());
        }
    }
    Ok(all)
}

/// Labels of the files, then those of the flags, as a JSON object.
pub fn labels(files: &[&str], given: &[&str]) -> Result<serde_json::Value, Failure> {
    let mut map = serde_json::Map::new();
    let mut texts = Vec::new();
    for file in files {
        texts.extend(lines(file)?);
    }
    texts.extend(given.iter().map(|label| (*label).to_owned()));
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        map.insert(name.to_owned(), value.into());
    }
    Ok(serde_json::Value::Object(map))
}

/// `name=value` pairs as a JSON object.
pub fn pairs(given: &[&str]) -> serde_json::Value {
    let pairs = given.iter().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.into())
    });
    serde_json::Value::Object(pairs.collect())
}

fn lines(file: &str) -> Result<Vec<String>, Failure> {
    let bytes = std::fs::read(file).map_err(Failure::file("open", file))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::said(format!("env file {file} contains invalid utf8 bytes")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
