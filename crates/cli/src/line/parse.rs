//! Reading flags from a command line, by the rules of POSIX and GNU as Go's pflag applies them.

use super::flag::{Flag, Kind, NONE, check_bool, parse_bool};

/// What was wrong with the line.
#[derive(Debug)]
pub struct Mistake {
    /// What to say.
    pub text: String,
    /// The name that no flag has, for a suggestion.
    pub unknown_flag: Option<String>,
}

impl Mistake {
    /// A mistake without a suggestion.
    pub fn new(text: String) -> Mistake {
        Mistake {
            text,
            unknown_flag: None,
        }
    }
}

/// The flags and words that were given.
#[derive(Debug, Default)]
pub struct Matches {
    declared: Vec<&'static Flag>,
    given: Vec<(&'static str, String)>,
    /// Words that aren't flags.
    pub args: Vec<String>,
    /// Whether help was asked for.
    pub help: bool,
}

impl Matches {
    /// Whether the flag was given.
    pub fn changed(&self, name: &str) -> bool {
        self.given.iter().any(|(flag, _)| *flag == name)
    }

    /// The flag's last value, or its default.
    pub fn text(&self, name: &str) -> &str {
        if let Some((_, value)) = self.given.iter().rev().find(|(flag, _)| *flag == name) {
            return value;
        }
        self.declared
            .iter()
            .find(|flag| flag.long == name)
            .map_or("", |flag| flag.default)
    }

    /// The flag's last value, when given.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .rev()
            .find(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// The switch's state.
    pub fn on(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// The flag's number, or its default, or 0.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Every value of the flag, in order.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.given
            .iter()
            .filter(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Every value of the flag, owned.
    pub fn owned(&self, name: &str) -> Vec<String> {
        self.list(name).into_iter().map(str::to_owned).collect()
    }

    /// Whether any flag was given.
    pub fn any_given(&self) -> bool {
        !self.given.is_empty()
    }

    fn put(&mut self, flag: &'static Flag, value: String) -> Result<(), Mistake> {
        if let Some(check) = flag.check
            && let Err(why) = check(&value)
        {
            return Err(Mistake::new(format!(
                "invalid argument {} for {} flag: {why}",
                super::flag::quote(&value),
                super::flag::quote(&flag.title())
            )));
        }
        if flag.kind == Kind::Csv {
            for part in value.split(',') {
                self.given.push((flag.long, part.to_owned()));
            }
        } else {
            self.given.push((flag.long, value));
        }
        Ok(())
    }
}

/// Reads `words`. When `interspersed` is false, the first word that isn't a flag ends the flags.
pub fn parse(
    groups: &'static [&'static [Flag]],
    interspersed: bool,
    words: &[String],
) -> Result<Matches, Mistake> {
    let declared: Vec<&'static Flag> = groups.iter().flat_map(|group| group.iter()).collect();
    let mut matches = Matches {
        declared,
        ..Matches::default()
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            matches.args.extend(rest.cloned());
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            parse_long(&mut matches, long, &mut rest)?;
        } else if word.len() > 1 && word.starts_with('-') {
            parse_short(&mut matches, &word[1..], &mut rest)?;
        } else {
            matches.args.push(word.clone());
            if !interspersed {
                matches.args.extend(rest.cloned());
                break;
            }
        }
    }
    Ok(matches)
}

fn parse_long(
    matches: &mut Matches,
    word: &str,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<(), Mistake> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(Mistake::new(format!("bad flag syntax: --{word}")));
    }
    let Some(flag) = matches
        .declared
        .iter()
        .find(|flag| flag.long == name)
        .copied()
    else {
        if name == "help" {
            return set_help(matches, value.unwrap_or("true"));
        }
        return Err(Mistake {
            text: format!("unknown flag: --{name}"),
            unknown_flag: Some(name.to_owned()),
        });
    };
    let value = match (value, flag.kind) {
        (Some(value), _) => value.to_owned(),
        (None, Kind::Bool) => "true".to_owned(),
        (None, _) => match rest.next() {
            Some(value) => value.clone(),
            None => return Err(Mistake::new(format!("flag needs an argument: --{name}"))),
        },
    };
    matches.put(flag, value)
}

fn set_help(matches: &mut Matches, value: &str) -> Result<(), Mistake> {
    if let Err(why) = check_bool(value) {
        return Err(Mistake::new(format!(
            "invalid argument {value:?} for \"--help\" flag: {why}"
        )));
    }
    matches.help |= parse_bool(value).unwrap_or(false);
    Ok(())
}

fn parse_short(
    matches: &mut Matches,
    cluster: &str,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<(), Mistake> {
    let mut at = cluster;
    while let Some(letter) = at.chars().next() {
        let tail = &at[letter.len_utf8()..];
        let Some(flag) = matches
            .declared
            .iter()
            .find(|flag| flag.short == letter && letter != NONE)
            .copied()
        else {
            if letter == 'h' {
                matches.help = true;
                return Ok(());
            }
            return Err(Mistake::new(format!(
                "unknown shorthand flag: '{letter}' in -{at}"
            )));
        };
        if let Some(value) = tail.strip_prefix('=')
            && tail.len() > 1
        {
            return matches.put(flag, value.to_owned());
        }
        if flag.kind == Kind::Bool {
            matches.put(flag, "true".to_owned())?;
            at = tail;
            continue;
        }
        if !tail.is_empty() {
            return matches.put(flag, tail.to_owned());
        }
        return match rest.next() {
            Some(value) => matches.put(flag, value.clone()),
            None => Err(Mistake::new(format!(
                "flag needs an argument: '{letter}' in -{at}"
            ))),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::flag::{checked_list, list, number, switch, text};

    const FLAGS: &[&[Flag]] = &[&[
        switch("interactive", 'i', ""),
        switch("tty", 't', ""),
        text("name", NONE, ""),
        number("cpu-shares", 'c', ""),
        list("publish", 'p', ""),
        checked_list("filter", 'f', "filter", crate::line::flag::check_filter, ""),
        text("pull", NONE, "").or("missing"),
    ]];

    fn read(words: &str, interspersed: bool) -> Result<Matches, Mistake> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        parse(FLAGS, interspersed, &words)
    }

    #[test]
    fn clusters_values_and_words() {
        let m = read("-itp80:80 --name=x -p 1:2 image -t --foo", false).unwrap();
        assert!(m.on("interactive") && m.on("tty"));
        assert_eq!(m.list("publish"), ["80:80", "1:2"]);
        assert_eq!(m.text("name"), "x");
        assert_eq!(m.text("pull"), "missing");
        assert_eq!(m.args, ["image", "-t", "--foo"]);
    }

    #[test]
    fn flags_may_follow_words_where_allowed() {
        let m = read("a -t b -- -x", true).unwrap();
        assert!(m.on("tty"));
        assert_eq!(m.args, ["a", "b", "-x"]);
    }

    #[test]
    fn mistakes_in_dockers_words() {
        for (line, said) in [
            ("--nam x", "unknown flag: --nam"),
            ("-iZt", "unknown shorthand flag: 'Z' in -Zt"),
            ("--name", "flag needs an argument: --name"),
            ("-ip", "flag needs an argument: 'p' in -p"),
            (
                "--tty=foo",
                "invalid argument \"foo\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax",
            ),
            (
                "-cx",
                "invalid argument \"x\" for \"-c, --cpu-shares\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "-f bad",
                "invalid argument \"bad\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
            ),
        ] {
            assert_eq!(read(line, true).unwrap_err().text, said, "{line}");
        }
    }

    #[test]
    fn a_switch_can_be_turned_off() {
        assert!(!read("--tty=false", true).unwrap().on("tty"));
        assert!(read("--tty=false", true).unwrap().changed("tty"));
    }
}
