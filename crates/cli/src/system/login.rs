//! `login` and `logout`.

use std::io::Read;

use serde_json::Value;

use super::credentials::{self, Credentials, HUB, host_of};
use crate::failure::Failure;
use crate::line::command::PROGRAM;
use crate::line::parse::Matches;
use crate::session::{Session, read_line};
use crate::terminal;
use crate::wire::Request;

fn server(matches: &Matches) -> String {
    match matches.args.first().map(String::as_str) {
        None | Some("" | "docker.io" | "index.docker.io" | "registry-1.docker.io") => {
            HUB.to_owned()
        }
        Some(given) => host_of(given).to_owned(),
    }
}

/// `login`.
pub fn login(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let server = server(matches);
    let mut wanted = Credentials {
        username: matches.text("username").to_owned(),
        ..Credentials::default()
    };
    if matches.changed("password") {
        session.warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if matches.on("password-stdin") {
            return Err(Failure::said(
                "--password and --password-stdin are mutually exclusive",
            ));
        }
        wanted.password = matches.text("password").to_owned();
    }
    if matches.on("password-stdin") {
        if wanted.username.is_empty() {
            return Err(Failure::said(
                "the --password-stdin option requires --username to be set",
            ));
        }
        let mut text = String::new();
        std::io::stdin()
            .take(1 << 20)
            .read_to_string(&mut text)
            .map_err(Failure::Stream)?;
        wanted.password = text
            .trim_end_matches('\n')
            .trim_end_matches('\r')
            .to_owned();
    }
    if wanted.username.is_empty() && wanted.password.is_empty() {
        // What is known already is tried first.
        if let Some(known) = credentials::find(&session.config, &server)?
            && authenticate(session, &server, &known).is_ok()
        {
            session.warn(&format!(
                "Authenticating with existing credentials... [Username: {}]\n\n Info -> To login with a different account, run '{PROGRAM} logout' followed by '{PROGRAM} login'\n\n",
                known.username
            ));
            session.line("Login Succeeded")?;
            return Ok(0);
        }
    }
    ask(session, &mut wanted)?;
    let answer = authenticate(session, &server, &wanted)?;
    if let Some(token) = answer["IdentityToken"]
        .as_str()
        .filter(|token| !token.is_empty())
    {
        wanted.identity_token = token.to_owned();
        wanted.password = String::new();
    }
    let known_before = session.config.auth(&server).is_some();
    if credentials::store(&mut session.config, &server, &wanted)? && !known_before {
        session.warn(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            session.config.path().display()
        ));
    }
    session.line(
        answer["Status"]
            .as_str()
            .filter(|text| !text.is_empty())
            .unwrap_or("Login Succeeded"),
    )?;
    Ok(0)
}

fn ask(session: &mut Session<'_>, wanted: &mut Credentials) -> Result<(), Failure> {
    if !wanted.username.is_empty() && !wanted.password.is_empty() {
        return Ok(());
    }
    if !terminal::input() {
        return Err(Failure::said(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    if wanted.username.is_empty() {
        session.out(b"Username: ")?;
        wanted.username = read_line()?.trim().to_owned();
        if wanted.username.is_empty() {
            return Err(Failure::said("Error: Non-null Username Required"));
        }
    }
    if wanted.password.is_empty() {
        session.out(b"Password: ")?;
        let silent = terminal::silent();
        let password = read_line();
        drop(silent);
        session.out(b"\n")?;
        wanted.password = password?;
        if wanted.password.is_empty() {
            return Err(Failure::said("Error: Password Required"));
        }
    }
    Ok(())
}

fn authenticate(
    session: &mut Session<'_>,
    server: &str,
    wanted: &Credentials,
) -> Result<Value, Failure> {
    session
        .client()?
        .json(Request::post("/auth").json(&wanted.json(server)))
}

/// `logout`.
pub fn logout(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let server = server(matches);
    session.line(&format!("Removing login credentials for {server}"))?;
    let forms = [
        server.clone(),
        format!("https://{server}"),
        format!("http://{server}"),
    ];
    for form in forms.iter().take(if server == HUB { 1 } else { 3 }) {
        if let Err(failure) = credentials::erase(&mut session.config, form) {
            session.warn(&format!(
                "WARNING: could not erase credentials:\n{form}: {failure}"
            ));
        }
    }
    Ok(0)
}
