//! Flags as runc takes them: one dash or two, `--name value` or `--name=value`, before or after the other words.

use std::ffi::OsString;

use super::{Failure, Outcome};

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    name: &'static str,
    short: &'static str,
    about: &'static str,
    takes_value: bool,
}

impl Flag {
    /// On or off.
    pub const fn switch(name: &'static str, about: &'static str) -> Flag {
        Flag {
            name,
            short: "",
            about,
            takes_value: false,
        }
    }

    /// With a value.
    pub const fn value(name: &'static str, about: &'static str) -> Flag {
        Flag {
            takes_value: true,
            ..Flag::switch(name, about)
        }
    }

    /// With a second, short name.
    pub const fn short(self, short: &'static str) -> Flag {
        Flag { short, ..self }
    }
}

/// A command's flags and other words.
#[derive(Debug, Default)]
pub struct Parsed {
    flags: Vec<(&'static str, String)>,
    /// In order.
    pub words: Vec<String>,
}

impl Parsed {
    /// Whether a switch is on.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "false")
    }

    /// The last value given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// All values given, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.flags
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A value that is a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Failure::new(format!(
                        "invalid value \"{text}\" for flag -{name}: not a number in range"
                    ))
                })
            })
            .transpose()
    }

    /// The container's name, which is the first word.
    pub fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// Everything here ends in JSON, which holds text only.
pub fn as_text(args: Vec<OsString>) -> Outcome<Vec<String>> {
    args.into_iter()
        .map(|arg| {
            arg.into_string()
                .map_err(|arg| Failure::new(format!("argument {arg:?} is not UTF-8")))
        })
        .collect()
}

/// Reads a command's arguments. With `in_order` everything from the first word on is words.
pub fn parse(args: &[String], flags: &[Flag], in_order: bool) -> Outcome<Parsed> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let named = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
        let Some(named) = named.filter(|_| arg != "-") else {
            parsed.words.push(arg.clone());
            if in_order {
                break;
            }
            continue;
        };
        if arg == "--" {
            break;
        }
        let (name, given) = match named.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (named, None),
        };
        if matches!(name, "help" | "h") {
            parsed.flags.push(("help", String::new()));
            continue;
        }
        let flag = flags
            .iter()
            .find(|flag| flag.name == name || (!name.is_empty() && flag.short == name))
            .ok_or_else(|| Failure::new(format!("flag provided but not defined: -{name}")))?;
        let value = match given {
            Some(value) => value,
            None if !flag.takes_value => String::new(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| Failure::new(format!("flag needs an argument: -{name}")))?,
        };
        parsed.flags.push((flag.name, value));
    }
    parsed.words.extend(rest.cloned());
    Ok(parsed)
}

/// Help about flags, a line each.
pub fn describe(flags: &[Flag]) -> String {
    let title = |flag: &Flag| {
        let value = if flag.takes_value { " value" } else { "" };
        match flag.short {
            "" => format!("--{}{value}", flag.name),
            short => format!("--{}{value}, -{short}{value}", flag.name),
        }
    };
    flags
        .iter()
        .map(|flag| format!("   {:<28} {}\n", title(flag), flag.about))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::switch("force", "").short("f"),
        Flag::value("bundle", "").short("b"),
    ];

    fn parsed(line: &str, in_order: bool) -> Outcome<Parsed> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args, FLAGS, in_order)
    }

    #[test]
    fn flags_are_taken_before_and_after_words() {
        let found = parsed("x --force -b=/a --bundle /b y", false).unwrap();
        assert!(found.has("force"));
        assert_eq!(found.all("bundle").collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(found.words, ["x", "y"]);
    }

    #[test]
    fn what_a_container_runs_keeps_its_flags() {
        let found = parsed("-f x ls -b --force", true).unwrap();
        assert_eq!(found.words, ["x", "ls", "-b", "--force"]);
        assert_eq!(parsed("-- -f", false).unwrap().words, ["-f"]);
    }

    #[test]
    fn unknown_flags_and_missing_values_are_refused_in_known_words() {
        assert_eq!(
            parsed("--bogus x", false).unwrap_err().message,
            "flag provided but not defined: -bogus"
        );
        assert_eq!(
            parsed("x -b", false).unwrap_err().message,
            "flag needs an argument: -b"
        );
        assert!(!parsed("--force=false x", false).unwrap().has("force"));
    }
}
