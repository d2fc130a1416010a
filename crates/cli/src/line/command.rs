//! A command as data, and the way from the words on the line to the function that does it.

use super::flag::Flag;
use super::help;
use super::parse::{self, Matches, Mistake};
use super::suggest;
use crate::failure::Failure;
use crate::session::Session;

/// The program's name in texts.
pub const PROGRAM: &str = "wharf";

/// How many words a command takes besides its flags.
#[derive(Debug, Clone, Copy)]
pub enum Words {
    /// None.
    None,
    /// Exactly so many.
    Exact(usize),
    /// So many or more.
    Least(usize),
    /// At most so many.
    Most(usize),
    /// From, to.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// What a command does.
pub type Run = fn(&mut Session<'_>, &Matches) -> Result<i32, Failure>;

/// One command, or a group of commands.
#[derive(Debug)]
pub struct Command {
    /// Its word.
    pub name: &'static str,
    /// Other words for it.
    pub aliases: &'static [&'static str],
    /// What follows its word in the usage line.
    pub usage: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Number of words taken.
    pub words: Words,
    /// Its flags, in groups that several commands share.
    pub flags: &'static [&'static [Flag]],
    /// Whether flags may follow words.
    pub interspersed: bool,
    /// Its function; groups have none.
    pub run: Option<Run>,
    /// Commands below a group.
    pub children: &'static [&'static Command],
    /// Every full name, for the help.
    pub known_as: &'static str,
    /// Not listed.
    pub hidden: bool,
}

impl Command {
    /// A command with the usual settings.
    pub const fn new(
        name: &'static str,
        usage: &'static str,
        words: Words,
        run: Run,
        about: &'static str,
    ) -> Command {
        Command {
            name,
            aliases: &[],
            usage,
            about,
            words,
            flags: &[],
            interspersed: true,
            run: Some(run),
            children: &[],
            known_as: "",
            hidden: false,
        }
    }

    /// A group of commands.
    pub const fn group(
        name: &'static str,
        about: &'static str,
        children: &'static [&'static Command],
    ) -> Command {
        Command {
            name,
            aliases: &[],
            usage: "COMMAND",
            about,
            words: Words::Any,
            flags: &[],
            interspersed: true,
            run: None,
            children,
            known_as: "",
            hidden: false,
        }
    }

    /// With flags.
    pub const fn flags(mut self, flags: &'static [&'static [Flag]]) -> Command {
        self.flags = flags;
        self
    }

    /// With other words.
    pub const fn aliases(
        mut self,
        aliases: &'static [&'static str],
        known_as: &'static str,
    ) -> Command {
        self.aliases = aliases;
        self.known_as = known_as;
        self
    }

    /// Flags end at the first word.
    pub const fn flags_first(mut self) -> Command {
        self.interspersed = false;
        self
    }

    fn called(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }
}

/// Finds the command among `commands` and runs it with the words that follow. `path` is what was typed so far.
pub fn dispatch(
    session: &mut Session<'_>,
    path: &str,
    commands: &[&'static Command],
    words: &[String],
) -> Result<i32, Failure> {
    let Some((word, rest)) = words.split_first() else {
        return Ok(0);
    };
    let Some(command) = commands.iter().find(|c| c.called(word)) else {
        return Err(unknown_command(path, commands, word));
    };
    let path = format!("{path} {word}");
    if command.run.is_none() {
        return dispatch_group(session, &path, command, rest);
    }
    let matches = match parse::parse(command.flags, command.interspersed, rest) {
        Ok(matches) => matches,
        Err(mistake) => return Err(say_mistake(&path, command, mistake)),
    };
    if matches.help {
        session.out(help::command(&path, command).as_bytes())?;
        return Ok(0);
    }
    check_words(&path, command, matches.args.len())?;
    session.path = path;
    match command.run {
        Some(run) => run(session, &matches),
        None => Ok(0),
    }
}

fn dispatch_group(
    session: &mut Session<'_>,
    path: &str,
    command: &'static Command,
    rest: &[String],
) -> Result<i32, Failure> {
    match rest.first().map(String::as_str) {
        None | Some("--help" | "-h" | "help") => {
            session.out(help::command(path, command).as_bytes())?;
            Ok(0)
        }
        Some(flag) if flag.starts_with('-') && flag.len() > 1 => {
            let mistake = match parse::parse(&[], false, rest) {
                Err(mistake) => mistake,
                Ok(_) => Mistake::new(format!("unknown flag: {flag}")),
            };
            let text = format!(
                "{}\n\nUsage:  {path}\n\nRun '{path} --help' for more information",
                mistake.text
            );
            Err(Failure::Exit { code: 125, text })
        }
        Some(word) if !command.children.iter().any(|c| c.called(word)) => {
            let hint = suggest::command(command.children, word);
            let text = format!(
                "{PROGRAM}: unknown command: {path} {word}\n{hint}\nUsage:  {path}\n\nRun '{path} --help' for more information"
            );
            Err(Failure::Exit { code: 1, text })
        }
        Some(_) => dispatch(session, path, command.children, rest),
    }
}

fn unknown_command(path: &str, commands: &[&'static Command], word: &str) -> Failure {
    let hint = suggest::command(commands, word);
    Failure::Exit {
        code: 1,
        text: format!(
            "{PROGRAM}: unknown command: {path} {word}\n{hint}\nRun '{path} --help' for more information"
        ),
    }
}

fn say_mistake(path: &str, command: &Command, mistake: Mistake) -> Failure {
    let hint = match &mistake.unknown_flag {
        Some(name) => suggest::flag(command.flags, name),
        None => String::new(),
    };
    Failure::Exit {
        code: 125,
        text: format!(
            "{}\n{hint}\nUsage:  {path} {}\n\nRun '{path} --help' for more information",
            mistake.text,
            command.usage.replace("\n\t", &format!("\n\t{path} "))
        ),
    }
}

fn check_words(path: &str, command: &Command, given: usize) -> Result<(), Failure> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (fits, what) = match command.words {
        Words::None => (given == 0, "accepts no arguments".to_owned()),
        Words::Exact(n) => (given == n, format!("requires {n} {}", plural(n))),
        Words::Least(n) => (given >= n, format!("requires at least {n} {}", plural(n))),
        Words::Most(n) => (given <= n, format!("requires at most {n} {}", plural(n))),
        Words::Between(a, b) => (
            (a..=b).contains(&given),
            format!("requires at least {a} and at most {b} {}", plural(b)),
        ),
        Words::Any => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    let see = if matches!(command.words, Words::Least(_)) {
        "See"
    } else {
        "Run"
    };
    let usage = command.usage.replace("\n\t", &format!("\n\t{path} "));
    Err(Failure::Exit {
        code: 1,
        text: format!(
            "{PROGRAM}: '{path}' {what}\n\nUsage:  {path} {usage}\n\n{see} '{path} --help' for more information"
        ),
    })
}
