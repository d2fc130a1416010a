//! Instructions: what each line asks for, checked as far as that is possible without knowing variables.

use crate::dockerfile::{Heredoc, Line};
use crate::{Error, duration, words};

/// A command line as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandLine {
    /// For the shell.
    Shell(String),
    /// To be executed as it is.
    Exec(Vec<String>),
}

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub is_add: bool,
    pub sources: Vec<Source>,
    pub target: String,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
}

/// Where COPY takes something from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Path(String),
    Heredoc(Heredoc),
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Health {
    pub test: Vec<String>,
    pub interval_ns: i64,
    pub timeout_ns: i64,
    pub start_period_ns: i64,
    pub start_interval_ns: i64,
    pub retries: i64,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    From {
        image: String,
        name: Option<String>,
        platform: Option<String>,
    },
    Run {
        command: CommandLine,
        heredocs: Vec<Heredoc>,
    },
    Copy(Copy),
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    Workdir(String),
    User(String),
    Expose(String),
    Volume(Vec<String>),
    Stopsignal(String),
    Healthcheck(Health),
    Shell(Vec<String>),
    Onbuild(String),
    Maintainer(String),
}

/// Reads a line. `file` is the Dockerfile's name, for messages.
pub(crate) fn parse(line: &Line, file: &str) -> Result<Instruction, Error> {
    let result = match line.keyword.as_str() {
        "FROM" => from(line),
        "RUN" => run(line, file),
        "COPY" => copy(line, file, false),
        "ADD" => copy(line, file, true),
        "CMD" => Ok(Instruction::Cmd(command(line, file)?)),
        "ENTRYPOINT" => Ok(Instruction::Entrypoint(command(line, file)?)),
        "ENV" => named_pairs(line, file).map(Instruction::Env),
        "LABEL" => named_pairs(line, file).map(Instruction::Label),
        "ARG" => arg(line),
        "WORKDIR" => one(line).map(Instruction::Workdir),
        "USER" => one(line).map(Instruction::User),
        "STOPSIGNAL" => one(line).map(Instruction::Stopsignal),
        "MAINTAINER" => one(line).map(Instruction::Maintainer),
        "EXPOSE" => at_least_one(line).map(|()| Instruction::Expose(line.rest.clone())),
        "VOLUME" => volume(line, file),
        "HEALTHCHECK" => healthcheck(line, file),
        "SHELL" => shell(line, file),
        "ONBUILD" => onbuild(line),
        other => Err(line.error(format!("unknown instruction: {other}"))),
    }?;
    check_flags(line)?;
    Ok(result)
}

fn check_flags(line: &Line) -> Result<(), Error> {
    let known: &[&str] = match line.keyword.as_str() {
        "FROM" => &["platform"],
        "RUN" => &["mount", "network", "security"],
        "COPY" => &["from", "chown", "chmod", "link", "parents", "exclude"],
        "ADD" => &[
            "chown",
            "chmod",
            "link",
            "checksum",
            "keep-git-dir",
            "exclude",
        ],
        "HEALTHCHECK" => &[
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ],
        _ => &[],
    };
    for (index, (name, value)) in line.flags.iter().enumerate() {
        let seen = line.flags[..index].iter().any(|(other, _)| other == name);
        if !known.contains(&name.as_str()) {
            return Err(line.error(format!("Unknown flag: {name}")));
        }
        if seen {
            return Err(line.error(format!("Duplicate flag specified: {name}")));
        }
        if value.is_none() && !matches!(name.as_str(), "link" | "parents" | "keep-git-dir") {
            return Err(line.error(format!("Missing a value on flag: {name}")));
        }
    }
    Ok(())
}

/// The flag's value; flags that need another builder are refused when the step is executed.
fn flag(line: &Line, name: &str) -> Option<String> {
    let mut flags = line.flags.iter();
    flags
        .find(|(known, _)| known == name)
        .and_then(|(_, value)| value.clone())
}

/// A flag that this builder does not act on would silently change the result.
fn refuse_flags(line: &Line, names: &[&str]) -> Result<(), Error> {
    match line.flags.iter().find(|(name, _)| names.contains(&name.as_str())) {
        Some((name, _)) => Err(line.error(format!(
            "the --{name} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"
        ))),
        None => Ok(()),
    }
}

fn unreadable(file: &str) -> impl Fn(String) -> Error + '_ {
    move |message| Error::Invalid(format!("failed to parse {file}: {message}"))
}

fn at_least_one(line: &Line) -> Result<(), Error> {
    if line.rest.is_empty() {
        return Err(line.error(format!("{} requires at least one argument", line.keyword)));
    }
    Ok(())
}

fn one(line: &Line) -> Result<String, Error> {
    if line.rest.is_empty() {
        return Err(line.error(format!("{} requires exactly one argument", line.keyword)));
    }
    Ok(line.rest.clone())
}

fn named_pairs(line: &Line, file: &str) -> Result<Vec<(String, String)>, Error> {
    at_least_one(line)?;
    let pairs = words::pairs(&line.keyword, &line.rest, line.escape).map_err(unreadable(file))?;
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(line.error(format!("{} names can not be blank", line.keyword)));
    }
    Ok(pairs)
}

fn from(line: &Line) -> Result<Instruction, Error> {
    let words: Vec<&str> = line.rest.split_whitespace().collect();
    let wrong = || line.error("FROM requires either one or three arguments");
    let (image, name) = match words.as_slice() {
        [image] => (image, None),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (image, Some(name.to_lowercase()))
        }
        _ => return Err(wrong()),
    };
    if let Some(name) = &name {
        let first = |c: char| c.is_ascii_lowercase();
        let other = |c: char| first(c) || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if !name.starts_with(first) || !name.chars().all(other) {
            return Err(line.error(format!(
                "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
            )));
        }
    }
    Ok(Instruction::From {
        image: (*image).to_owned(),
        name,
        platform: flag(line, "platform"),
    })
}

fn command(line: &Line, file: &str) -> Result<CommandLine, Error> {
    Ok(match words::json(&line.rest).map_err(unreadable(file))? {
        Some(words) => CommandLine::Exec(words),
        None => CommandLine::Shell(line.rest.clone()),
    })
}

fn run(line: &Line, file: &str) -> Result<Instruction, Error> {
    refuse_flags(line, &["mount", "network", "security"])?;
    Ok(Instruction::Run {
        command: command(line, file)?,
        heredocs: line.heredocs.clone(),
    })
}

fn copy(line: &Line, file: &str, is_add: bool) -> Result<Instruction, Error> {
    refuse_flags(
        line,
        &["link", "parents", "exclude", "checksum", "keep-git-dir"],
    )?;
    let mut paths = match words::json(&line.rest).map_err(unreadable(file))? {
        Some(paths) => paths,
        None => words::split(&line.rest, line.escape),
    };
    let few = if paths.is_empty() {
        Some("no arguments were provided")
    } else if paths.len() == 1 {
        Some("but only one was provided. Destination could not be determined")
    } else {
        None
    };
    if let Some(few) = few {
        return Err(line.error(format!(
            "{} requires at least two arguments, {few}",
            line.keyword
        )));
    }
    let target = paths.pop().unwrap_or_default();
    let mut heredocs = line.heredocs.iter();
    let source = |path: String| match path.strip_prefix("<<").and_then(|_| heredocs.next()) {
        Some(heredoc) => Source::Heredoc(heredoc.clone()),
        None => Source::Path(path),
    };
    Ok(Instruction::Copy(Copy {
        is_add,
        sources: paths.into_iter().map(source).collect(),
        target,
        from: flag(line, "from"),
        chown: flag(line, "chown"),
        chmod: flag(line, "chmod"),
    }))
}

fn arg(line: &Line) -> Result<Instruction, Error> {
    at_least_one(line)?;
    let words = words::split(&line.rest, line.escape);
    let pairs = words.into_iter().map(|word| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word, None),
    });
    let pairs: Vec<_> = pairs.collect();
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(line.error("ARG names can not be blank"));
    }
    Ok(Instruction::Arg(pairs))
}

fn volume(line: &Line, file: &str) -> Result<Instruction, Error> {
    at_least_one(line)?;
    let paths = match words::json(&line.rest).map_err(unreadable(file))? {
        Some(paths) => paths,
        None => line.rest.split_whitespace().map(str::to_owned).collect(),
    };
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(line.error("VOLUME specified can not be an empty string"));
    }
    if paths.is_empty() {
        return Err(line.error("VOLUME requires at least one argument"));
    }
    Ok(Instruction::Volume(paths))
}

fn shell(line: &Line, file: &str) -> Result<Instruction, Error> {
    at_least_one(line)?;
    match words::json(&line.rest).map_err(unreadable(file))? {
        None => Err(line.error("SHELL requires the arguments to be in JSON form")),
        Some(words) if words.is_empty() => Err(line.error("SHELL requires at least one argument")),
        Some(words) => Ok(Instruction::Shell(words)),
    }
}

fn onbuild(line: &Line) -> Result<Instruction, Error> {
    at_least_one(line)?;
    let trigger = line.rest.split_whitespace().next().unwrap_or_default();
    match trigger.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(line.error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        word @ ("FROM" | "MAINTAINER") => {
            Err(line.error(format!("{word} isn't allowed as an ONBUILD trigger")))
        }
        _ => {
            let mut text = line.rest.clone();
            for heredoc in &line.heredocs {
                text.push_str(&format!("\n{}{}", heredoc.text, heredoc.name));
            }
            Ok(Instruction::Onbuild(text))
        }
    }
}

fn healthcheck(line: &Line, file: &str) -> Result<Instruction, Error> {
    at_least_one(line)?;
    let (kind, rest) = line
        .rest
        .split_once(char::is_whitespace)
        .unwrap_or((line.rest.as_str(), ""));
    let rest = rest.trim_start();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if !rest.is_empty() => Err(line.error("HEALTHCHECK NONE takes no arguments")),
        "NONE" => Ok(Instruction::Healthcheck(Health {
            test: vec!["NONE".to_owned()],
            ..Health::default()
        })),
        "CMD" => {
            let command = words::json(rest).map_err(unreadable(file))?;
            let test = match command {
                Some(words) => [vec!["CMD".to_owned()], words].concat(),
                None if rest.is_empty() => Vec::new(),
                None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
            };
            if test.len() < 2 {
                return Err(line.error("Missing command after HEALTHCHECK CMD"));
            }
            probe(line, test).map(Instruction::Healthcheck)
        }
        other => Err(line.error(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    }
}

fn probe(line: &Line, test: Vec<String>) -> Result<Health, Error> {
    let time = |name: &str| -> Result<i64, Error> {
        let Some(text) = flag(line, name).filter(|text| !text.is_empty()) else {
            return Ok(0);
        };
        let ns = duration::parse(&text).map_err(|message| line.error(message))?;
        if ns != 0 && ns < 1_000_000 {
            return Err(line.error(format!("Interval {name:?} cannot be less than 1ms")));
        }
        Ok(ns)
    };
    let retries = match flag(line, "retries").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => match text.parse::<i32>() {
            Ok(count) if count >= 1 => i64::from(count),
            Ok(count) => {
                return Err(line.error(format!("--retries must be at least 1 (not {count})")));
            }
            Err(_) => {
                return Err(line.error(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax"
                )));
            }
        },
    };
    Ok(Health {
        test,
        interval_ns: time("interval")?,
        timeout_ns: time("timeout")?,
        start_period_ns: time("start-period")?,
        start_interval_ns: time("start-interval")?,
        retries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Instruction>, Error> {
        let lines = crate::dockerfile::split(text)?;
        lines.iter().map(|line| parse(line, "Dockerfile")).collect()
    }

    /// The words are those of dockerd 20.10.24, looked up with it.
    const REFUSED: &[(&str, &str)] = &[
        ("FOO x", "unknown instruction: FOO"),
        (
            "COPY x",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("LABEL", "LABEL requires at least one argument"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        (
            "HEALTHCHECK foo",
            "Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
        (
            "HEALTHCHECK --interval=1 CMD x",
            "time: missing unit in duration \"1\"",
        ),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        (
            "ONBUILD ONBUILD RUN x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("SHELL x", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        (
            "VOLUME [\"\"]",
            "VOLUME specified can not be an empty string",
        ),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("ARG", "ARG requires at least one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("COPY --foo=755 a /", "Unknown flag: foo"),
    ];

    #[test]
    fn refuses_in_dockers_words() {
        for (text, expected) in REFUSED {
            match read(&format!("FROM a\n  {text}")) {
                Err(Error::Dockerfile {
                    line,
                    column,
                    message,
                }) => {
                    assert_eq!(
                        (line, column, message.as_str()),
                        (2, 3, *expected),
                        "{text}"
                    )
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        let table = [
            (
                "ENV A",
                "failed to parse Dockerfile: ENV must have two arguments",
            ),
            (
                "COPY [1,2] /q",
                "failed to parse Dockerfile: when using JSON array syntax, arrays must be comprised of strings only",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
        let error = read("FROM a\nFOO").unwrap_err();
        assert_eq!(
            error.to_string(),
            "dockerfile parse error line 2: unknown instruction: FOO"
        );
    }

    #[test]
    fn reads_what_docker_accepts() {
        for text in [
            "CMD",
            "RUN",
            "ENTRYPOINT",
            "ENTRYPOINT []",
            "CMD []",
            "USER a b",
            "from x As Y",
            "RUN [ 1 = 1 ] && x",
        ] {
            read(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        let health = read("HEALTHCHECK --interval=1m30s --retries=3 CMD echo  ok").unwrap();
        let expected = Health {
            test: vec!["CMD-SHELL".into(), "echo  ok".into()],
            interval_ns: 90_000_000_000,
            retries: 3,
            ..Health::default()
        };
        assert_eq!(health, [Instruction::Healthcheck(expected)]);
    }

    /// An independent reading of the grammar, where both accept.
    #[test]
    fn agrees_with_another_parser() {
        let text = "ARG V=1\nFROM --platform=linux/amd64 a:$V AS b\nRUN [\"x\", \"y z\"]\nRUN a \\\n  b\n# c\nCOPY --from=b [\"p q\", \"r\", \"/s/\"]\nCMD [\"sh\"]\nSHELL [\"/bin/sh\",\"-e\"]\nONBUILD RUN x\n";
        let other = parse_dockerfile::parse(text).unwrap();
        let ours = crate::dockerfile::split(text).unwrap();
        assert_eq!(ours.len(), other.instructions.len());
        let mut arrays = 0;
        for (line, theirs) in ours.iter().zip(&other.instructions) {
            match (parse(line, "Dockerfile").unwrap(), theirs) {
                (
                    Instruction::Run {
                        command: CommandLine::Exec(words),
                        ..
                    },
                    parse_dockerfile::Instruction::Run(run),
                ) => {
                    let parse_dockerfile::Command::Exec(array) = &run.arguments else {
                        panic!("{words:?}")
                    };
                    assert!(
                        words
                            .iter()
                            .eq(array.value.iter().map(|w| w.value.as_ref()))
                    );
                    arrays += 1;
                }
                (Instruction::Copy(copy), parse_dockerfile::Instruction::Copy(theirs)) => {
                    assert_eq!(
                        (copy.sources.len(), copy.target.as_str()),
                        (theirs.src.len(), theirs.dest.value.as_ref())
                    );
                    assert_eq!(
                        copy.from.as_deref(),
                        theirs.options[0].value.as_ref().map(|v| v.value.as_ref())
                    );
                    arrays += 1;
                }
                (
                    Instruction::From {
                        image,
                        name,
                        platform,
                    },
                    parse_dockerfile::Instruction::From(from),
                ) => {
                    assert_eq!(image, from.image.value);
                    assert_eq!(
                        name.as_deref(),
                        from.as_.as_ref().map(|(_, n)| n.value.as_ref())
                    );
                    assert_eq!(
                        platform.as_deref(),
                        from.options[0].value.as_ref().map(|v| v.value.as_ref())
                    );
                }
                _ => {}
            }
        }
        assert_eq!(arrays, 2);
    }
}
