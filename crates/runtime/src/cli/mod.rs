//! `wharf runtime …`: runc's command line, with its words, flags and exit codes.
//!
//! Containers live in folders below `--root`, one each: `config.json` (the configuration as it was at the creation),
//! `state.json` (the init process; written last, so that a folder without it is a creation that was cut off) and
//! `start.sock` (the gate, gone once the container runs).

mod args;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod kill;
mod list;
mod log;
mod protect;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod systemd;
mod terminal;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use args::{Flag, Parsed};
use log::Log;

/// Why a command failed: the sentence that the caller gets, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    exit_code: i32,
}

type Outcome<T = i32> = std::result::Result<T, Failure>;

impl Failure {
    fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            exit_code: 1,
        }
    }

    /// Puts words before the message.
    fn after(self, words: &str) -> Failure {
        Failure {
            message: format!("{words}: {}", self.message),
            ..self
        }
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Failure {
        let words = match &error {
            crate::Error::Init { .. } | crate::Error::Vanished => {
                "unable to start container process: "
            }
            _ => "",
        };
        Failure::new(format!("{words}{}", error.chain()))
    }
}

/// For `map_err`: names what was tried.
fn failed<E: Into<std::io::Error>>(operation: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| {
        let error: std::io::Error = error.into();
        Failure::new(format!("{operation}: {}", crate::init::words(&error)))
    }
}

/// For `map_err` of the control group.
fn cgroup_failed(operation: &'static str) -> impl FnOnce(wharf_cgroup::Error) -> Failure {
    move |error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Failure::new(format!("{operation}: {error}{}", cause.unwrap_or_default()))
    }
}

/// What comes before the command.
#[derive(Debug)]
struct Global {
    root: PathBuf,
    /// Named by the caller, who takes it to be there.
    root_given: bool,
    /// Control groups are systemd's to make.
    systemd: bool,
    log: Log,
}

const GLOBAL_FLAGS: &[Flag] = &[
    Flag::switch("debug", "enable debug logging"),
    Flag::value("log", "file that messages are written to (standard error)"),
    Flag::value("log-format", "\"text\" or \"json\" (text)"),
    Flag::value(
        "root",
        "folder of the containers' state (/run/wharf/runtime)",
    ),
    Flag::value("criu", "accepted and ignored: there are no checkpoints"),
    Flag::switch(
        "systemd-cgroup",
        "control groups are made by systemd: cgroupsPath is \"slice:prefix:name\"",
    ),
    Flag::value(
        "rootless",
        "accepted and ignored: an ordinary user is known by its ID",
    ),
    Flag::switch("help", "show help").short("h"),
    Flag::switch("version", "print the version").short("v"),
];

/// A command.
struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    /// Fewest and most words besides flags.
    words: (usize, usize),
    /// Flags after the first word belong to something else.
    in_order: bool,
    run: fn(&Global, &Parsed) -> Outcome,
}

const COMMANDS: &[&Command] = &[
    &checkpoint::CHECKPOINT,
    &create::COMMAND,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &features::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &update::PAUSE,
    &ps::COMMAND,
    &checkpoint::RESTORE,
    &update::RESUME,
    &run::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
];

/// Exit code for a command that does not exist.
const NO_SUCH_COMMAND: i32 = 3;

/// A configuration, if that is what the bytes are.
pub(crate) fn parse_config(bytes: &[u8]) -> Option<oci_spec::runtime::Spec> {
    state::parse_spec_warned(bytes).ok().map(|(spec, _)| spec)
}

/// Runs the command line after `wharf runtime` and returns the exit code. Called before any thread exists, since a
/// process is cloned here without exec; the process's own arguments are used again when it protects its program file.
pub fn main(args: Vec<OsString>) -> i32 {
    let mut log = Log::to_stderr();
    match dispatch(args, &mut log) {
        Ok(code) => code,
        Err(failure) => {
            log.error(&failure.message);
            failure.exit_code
        }
    }
}

fn dispatch(args: Vec<OsString>, log: &mut Log) -> Outcome {
    let args = args::as_text(args)?;
    let parsed = match args::parse(&args, GLOBAL_FLAGS, true) {
        Ok(parsed) => parsed,
        Err(failure) => {
            print(&format!(
                "Incorrect Usage. {}\n\n{}",
                failure.message,
                help()
            ))?;
            return Err(failure);
        }
    };
    if let Some(file) = parsed.get("log") {
        *log = Log::to_file(file, parsed.get("log-format").unwrap_or("text"))?;
    } else if let Some(format) = parsed.get("log-format") {
        *log = Log::to_stderr().with_format(format)?;
    }
    *log = log.clone().verbose(parsed.has("debug"));
    let global = Global {
        root: parsed
            .get("root")
            .map_or_else(crate::default_root, PathBuf::from),
        root_given: parsed.get("root").is_some(),
        systemd: parsed.has("systemd-cgroup"),
        log: log.clone(),
    };
    if parsed.has("version") {
        print(&version())?;
        return Ok(0);
    }
    let Some(name) = parsed.words.first() else {
        print(&help())?;
        return Ok(0);
    };
    if name == "help" || name == "h" || parsed.has("help") {
        print(&help())?;
        return Ok(0);
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Failure {
            message: format!("No help topic for '{name}'"),
            exit_code: NO_SUCH_COMMAND,
        });
    };
    command.call(&global, &parsed.words[1..])
}

impl Command {
    fn call(&self, global: &Global, args: &[String]) -> Outcome {
        let parsed = match args::parse(args, self.flags, self.in_order) {
            Ok(parsed) => parsed,
            Err(failure) => {
                print(&format!(
                    "Incorrect Usage: {}\n\n{}",
                    failure.message,
                    self.help()
                ))?;
                return Err(failure);
            }
        };
        if parsed.has("help") {
            print(&self.help())?;
            return Ok(0);
        }
        let (least, most) = self.words;
        let count = parsed.words.len();
        if count >= least && count <= most {
            return (self.run)(global, &parsed);
        }
        print(&format!("Incorrect Usage.\n\n{}", self.help()))?;
        let wants = match (least, most) {
            (least, most) if least == most => format!("exactly {least} argument(s)"),
            (least, _) if count < least => format!("a minimum of {least} argument(s)"),
            (_, most) => format!("a maximum of {most} argument(s)"),
        };
        Err(Failure::new(format!(
            "{}: \"{}\" requires {wants}",
            program_name(),
            self.name
        )))
    }

    fn help(&self) -> String {
        let program = program_name();
        format!(
            "NAME:\n   {program} {} - {}\n\nUSAGE:\n   {program} {} [command options] {}\n\nOPTIONS:\n{}\n",
            self.name,
            self.about,
            self.name,
            self.usage,
            args::describe(self.flags)
        )
    }
}

/// `runc` for callers who know it by that name, else our own.
fn program_name() -> &'static str {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = std::path::Path::new(&called).file_name();
    if called.is_some_and(|name| name == "runc") {
        "runc"
    } else {
        "wharf runtime"
    }
}

fn version() -> String {
    format!(
        "{} version {}\ncommit: {}\nspec: {}\n",
        program_name(),
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION"),
        features::SPEC_MAX
    )
}

fn help() -> String {
    let commands: String = COMMANDS
        .iter()
        .map(|command| format!("   {:<11} {}\n", command.name, command.about))
        .collect();
    let program = program_name();
    format!(
        "NAME:\n   {program} - Open Container Initiative runtime of Wharf\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         COMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{}\n",
        args::describe(GLOBAL_FLAGS)
    )
}

/// Standard output; a reader that has gone is not a panic.
fn print(text: &str) -> Outcome<()> {
    use std::io::Write;
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(failed("write to standard output"))
}
