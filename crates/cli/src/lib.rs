//! The `wharf` command: the same words, flags, tables and templates as Docker's client, talking to the daemon's
//! HTTP API over its socket.
//!
//! Flags are read by [`line`], by the rules of Go's pflag: what a line means, and what is said about one that means
//! nothing, has to be the same to the byte. HTTP is spoken by [`wire`], blocking, without a runtime: a command makes
//! a few requests one after another, and `run` has a budget of milliseconds.
#![forbid(unsafe_code)]

mod cluster;
mod config;
mod container;
mod failure;
mod image;
mod line;
mod network;
mod opts;
mod session;
mod show;
mod system;
mod template;
mod terminal;
mod tree;
mod units;
mod volume;
mod wire;

use std::io::Write;

use config::Config;
use failure::Failure;
use line::command::{PROGRAM, dispatch};
use line::parse::{Matches, parse};
use line::{help, suggest};
use session::Session;

/// Runs the command line (without the program's name) and returns the exit code.
///
/// `start_daemon` starts a daemon in the background and returns once its socket listens; it is called when no
/// daemon listens on the default socket and the user is root.
pub fn main(args: Vec<String>, start_daemon: &dyn Fn() -> std::io::Result<()>) -> i32 {
    let failure = match run(&args, start_daemon) {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    if let Some(text) = failure.text() {
        let mut err = std::io::stderr().lock();
        // Nobody reads standard error; the exit code still says it.
        let _ = err.write_all(format!("{}\n", text.trim_end_matches('\n')).as_bytes());
    }
    failure.code()
}

fn run(args: &[String], start_daemon: &dyn Fn() -> std::io::Result<()>) -> Result<i32, Failure> {
    const GLOBALS: &[&[line::flag::Flag]] = &[tree::GLOBAL];
    let globals = parse(GLOBALS, false, args).map_err(|mistake| {
        let hint = mistake.unknown_flag.as_deref().map(|name| suggest::flag(GLOBALS, name)).unwrap_or_default();
        Failure::Exit {
            code: 125,
            text: format!(
                "{}\n{hint}\nUsage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]\n\nRun '{PROGRAM} --help' for more information",
                mistake.text
            ),
        }
    })?;
    check_globals(&globals)?;
    let config = Config::load(globals.given("config"))?;
    let mut session = Session::new(host(&globals)?, config, start_daemon)?;
    session.debug = globals.on("debug");
    if globals.on("version") {
        let version = env!("CARGO_PKG_VERSION");
        session.line(&format!(
            "Wharf version {version}, build {}",
            system::version::build()
        ))?;
        return Ok(0);
    }
    let asked_help = globals.help || globals.args.is_empty() || globals.args[0] == "help";
    if asked_help {
        let mut words: Vec<String> = globals
            .args
            .iter()
            .filter(|word| *word != "help")
            .cloned()
            .collect();
        if words.is_empty() {
            session.out(
                help::program(tree::COMMON, tree::GROUPS, tree::OTHERS, tree::GLOBAL).as_bytes(),
            )?;
            return Ok(0);
        }
        words.push("--help".into());
        return dispatch(&mut session, PROGRAM, &tree::all(), &words);
    }
    dispatch(&mut session, PROGRAM, &tree::all(), &globals.args)
}

fn check_globals(globals: &Matches) -> Result<(), Failure> {
    let level = globals.text("log-level");
    if !matches!(
        level,
        "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic" | "trace"
    ) {
        return Err(Failure::said(format!(
            "Unable to parse logging level: {level}"
        )));
    }
    if !matches!(globals.text("context"), "" | "default") {
        return Err(Failure::said(format!(
            "context {:?}: context not found",
            globals.text("context")
        )));
    }
    if globals.on("tls") || globals.on("tlsverify") {
        return Err(Failure::said(
            "TLS to the daemon is not offered; reach its socket through ssh or a TLS tunnel",
        ));
    }
    Ok(())
}

/// The daemon's address from the flag, or from the environment.
fn host(globals: &Matches) -> Result<Option<String>, Failure> {
    let given = globals.list("host");
    if given.len() > 1 {
        return Err(Failure::said("Specify only one -H"));
    }
    if let Some(host) = given.first() {
        return Ok(Some((*host).to_owned()));
    }
    let from_environment = ["WHARF_HOST", "DOCKER_HOST"]
        .iter()
        .filter_map(|name| std::env::var(name).ok());
    Ok(from_environment
        .map(|host| host.trim().to_owned())
        .find(|host| !host.is_empty()))
}
