//! What every command has at hand: the daemon, the user's configuration, the terminal and the three streams.

use std::io::{self, Read, Write};

use crate::config::Config;
use crate::failure::Failure;
use crate::wire::Client;
use crate::wire::endpoint::{DEFAULT_SOCKET, Endpoint};

/// One run of the command line.
pub struct Session<'a> {
    client: Client,
    connected: bool,
    default_host: bool,
    start_daemon: &'a dyn Fn() -> io::Result<()>,
    /// The user's configuration.
    pub config: Config,
    /// The command as typed, such as `wharf container ls`.
    pub path: String,
    /// `-D`.
    pub debug: bool,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// A session with the daemon at `host`, or at the default place.
    pub fn new(
        host: Option<String>,
        config: Config,
        start_daemon: &'a dyn Fn() -> io::Result<()>,
    ) -> Result<Session<'a>, Failure> {
        let default_host = host.is_none();
        let endpoint = Endpoint::parse(host.as_deref().unwrap_or(DEFAULT_SOCKET))?;
        let version = std::env::var("DOCKER_API_VERSION").unwrap_or_default();
        let version = version.trim().trim_start_matches('v');
        let prefix = if version.is_empty() {
            String::new()
        } else {
            format!("/v{version}")
        };
        Ok(Session {
            client: Client::new(endpoint, prefix),
            connected: false,
            default_host,
            start_daemon,
            config,
            path: String::new(),
            debug: false,
        })
    }

    /// The daemon. The first call connects, and starts a daemon where that is wanted.
    pub fn client(&mut self) -> Result<&mut Client, Failure> {
        if !self.connected {
            let stream = match self.client.connect() {
                Ok(stream) => stream,
                Err(failure) if self.may_start(&failure) => {
                    self.warn(&format!(
                        "No daemon at {}: starting one in the background.",
                        self.client.endpoint
                    ));
                    (self.start_daemon)().map_err(|error| {
                        Failure::said(format!("the daemon could not be started: {error}"))
                    })?;
                    self.client.connect()?
                }
                Err(failure) => return Err(failure),
            };
            self.client.adopt(stream);
            self.connected = true;
        }
        Ok(&mut self.client)
    }

    /// A second client of the same daemon, for a thread of its own.
    pub fn another_client(&self) -> Client {
        Client::new(
            self.client.endpoint.clone(),
            self.client.version_prefix.clone(),
        )
    }

    fn may_start(&self, failure: &Failure) -> bool {
        let nobody = matches!(failure, Failure::Connect { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused));
        nobody && self.default_host && rustix::process::geteuid().is_root()
    }

    /// Writes to standard output.
    pub fn out(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(Failure::Stream)
    }

    /// Writes a line to standard output.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.out(format!("{text}\n").as_bytes())
    }

    /// Writes a line to standard error; a closed one is nobody's loss.
    pub fn warn(&self, text: &str) {
        let _ = io::stderr()
            .lock()
            .write_all(format!("{text}\n").as_bytes());
    }

    /// Asks the question that `prune` commands ask. Anything but yes is no.
    pub fn confirm(&self, question: &str) -> Result<bool, Failure> {
        self.out(format!("{question} [y/N] ").as_bytes())?;
        Ok(read_line()?.trim().eq_ignore_ascii_case("y"))
    }
}

/// Reads a line from standard input, byte by byte so that nothing after it is taken.
pub fn read_line() -> Result<String, Failure> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    let mut input = io::stdin().lock();
    while line.len() < 64 * 1024
        && input.read(&mut byte).map_err(Failure::Stream)? == 1
        && byte[0] != b'\n'
    {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line)
        .trim_end_matches('\r')
        .to_owned())
}

/// Goes through `names`, printing each that went well; errors are printed and remembered as exit code 1.
pub fn each(
    session: &mut Session<'_>,
    names: &[String],
    mut act: impl FnMut(&mut Session<'_>, &str) -> Result<Option<String>, Failure>,
) -> Result<i32, Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    for name in names {
        match act(session, name) {
            Ok(Some(text)) => session.line(&text)?,
            Ok(None) => {}
            Err(
                failure @ (Failure::Connect { .. } | Failure::Denied { .. } | Failure::Stream(_)),
            ) => {
                return Err(failure);
            }
            Err(failure) => failures.push(failure),
        }
    }
    for failure in &failures {
        session.warn(&failure.to_string());
    }
    Ok(i32::from(!failures.is_empty()))
}
