//! Talking to systemd: over its own socket, which needs no bus, else over the bus.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::{self, Call, ERROR, Message, PREFIX_BYTES, RETURN, SIGNAL, Value, Writer};
use crate::{Error, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// systemd answers at once or is in trouble.
const ANSWER_SECONDS_MAX: u64 = 30;
/// A line of the greeting is short.
const LINE_BYTES_MAX: usize = 512;

/// A connection to systemd's manager.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    /// Others are on it too.
    bus: bool,
    serial: u32,
    /// Ends of jobs that came while an answer was awaited.
    ended: Vec<Message>,
}

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// systemd's answer, with the name of the error.
    Refused { name: String, message: String },
    /// No answer.
    Broken(io::Error),
}

impl CallError {
    /// For the caller of this crate.
    pub fn into_error(self, what: &str) -> Error {
        match self {
            CallError::Refused { name, message } => {
                Error::Unsupported(format!("systemd refuses to {what}: {message} ({name})"))
            }
            CallError::Broken(source) => Error::File {
                operation: format!("have systemd {what}:"),
                path: "org.freedesktop.systemd1".into(),
                source,
            },
        }
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> CallError {
        CallError::Broken(error)
    }
}

type Answer<T> = std::result::Result<T, CallError>;

impl Connection {
    /// Connects to the manager of the system, or of the calling user.
    pub fn open() -> Result<Connection> {
        let mut failure = None;
        for (path, bus) in sockets() {
            match Connection::connect(&path, bus) {
                Ok(connection) => return Ok(connection),
                Err(source) => {
                    let first = Error::File {
                        operation: "talk to systemd through".into(),
                        path,
                        source,
                    };
                    failure.get_or_insert(first);
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::Unsupported(
                "no socket of systemd's is known: XDG_RUNTIME_DIR is not set; use cgroupfs".into(),
            )
        }))
    }

    fn connect(path: &Path, bus: bool) -> io::Result<Connection> {
        let socket = UnixStream::connect(path)?;
        let limit = Some(Duration::from_secs(ANSWER_SECONDS_MAX));
        socket.set_read_timeout(limit)?;
        socket.set_write_timeout(limit)?;
        let mut connection = Connection {
            socket,
            bus,
            serial: 0,
            ended: Vec::new(),
        };
        connection.greet()?;
        connection.subscribe().map_err(|error| match error {
            CallError::Broken(error) => error,
            CallError::Refused { name, message } => io::Error::other(format!("{message} ({name})")),
        })?;
        Ok(connection)
    }

    /// Says who we are; the kernel vouches for it.
    fn greet(&mut self) -> io::Result<()> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        // In one piece, and messages only after the answer: systemd leaves unread what came together with BEGIN.
        let greeting = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n");
        self.socket.write_all(greeting.as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.socket.read_exact(&mut byte)?;
            line.push(byte[0]);
            if line.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        match line.starts_with(b"OK ") {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// From now on the ends of jobs are told.
    fn subscribe(&mut self) -> Answer<()> {
        if self.bus {
            self.call_bus("Hello", "", Writer::default())?;
            let mut rule = Writer::default();
            rule.text(
                "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
            );
            self.call_bus("AddMatch", "s", rule)?;
        }
        self.call("Subscribe", "", Writer::default()).map(drop)
    }

    fn call_bus(&mut self, member: &str, signature: &str, body: Writer) -> Answer<Message> {
        self.ask(&Call {
            destination: Some(BUS),
            path: BUS_PATH,
            interface: BUS,
            member,
            signature,
            body,
        })
    }

    /// Calls a method of the manager.
    pub fn call(&mut self, member: &str, signature: &str, body: Writer) -> Answer<Message> {
        self.ask(&Call {
            destination: self.bus.then_some(SYSTEMD),
            path: MANAGER_PATH,
            interface: MANAGER,
            member,
            signature,
            body,
        })
    }

    fn ask(&mut self, call: &Call<'_>) -> Answer<Message> {
        self.serial += 1;
        self.socket.write_all(&call.encode(self.serial))?;
        loop {
            let message = self.receive()?;
            match message.kind {
                RETURN if message.reply_serial == self.serial => return Ok(message),
                ERROR if message.reply_serial == self.serial => {
                    return Err(CallError::Refused {
                        name: message.error_name,
                        message: message.texts.into_iter().next().unwrap_or_default(),
                    });
                }
                SIGNAL if message.member == "JobRemoved" => self.ended.push(message),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut bytes = vec![0; PREFIX_BYTES];
        self.socket.read_exact(&mut bytes)?;
        let rest = bytes.first_chunk().and_then(wire::rest_length);
        let rest = rest.ok_or(io::ErrorKind::InvalidData)?;
        bytes.resize(PREFIX_BYTES + rest, 0);
        self.socket.read_exact(&mut bytes[PREFIX_BYTES..])?;
        wire::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Calls a method that makes a job, and waits until that is done.
    pub fn run_job(&mut self, member: &str, signature: &str, body: Writer) -> Answer<()> {
        let answer = self.call(member, signature, body)?;
        let job = answer.texts.into_iter().next().unwrap_or_default();
        loop {
            // Job, unit, result.
            let of_job = |message: &Message| message.texts.first() == Some(&job);
            if let Some(at) = self.ended.iter().position(of_job) {
                let texts = self.ended.swap_remove(at).texts;
                let result = texts.into_iter().nth(2).unwrap_or_default();
                return match result.as_str() {
                    "done" => Ok(()),
                    _ => Err(CallError::Refused {
                        name: "JobRemoved".into(),
                        message: format!("the job ended with \"{result}\""),
                    }),
                };
            }
            let message = self.receive()?;
            if message.kind == SIGNAL && message.member == "JobRemoved" {
                self.ended.push(message);
            }
        }
    }

    /// Where a unit's control group is.
    pub fn control_group(&mut self, unit: &str) -> Answer<String> {
        let mut body = Writer::default();
        body.text(unit);
        let path = self.call("GetUnit", "s", body)?.texts;
        let path = path.into_iter().next().unwrap_or_default();
        let interface = match unit.rsplit_once('.') {
            Some((_, "slice")) => "org.freedesktop.systemd1.Slice",
            _ => "org.freedesktop.systemd1.Scope",
        };
        let mut body = Writer::default();
        body.text(interface);
        body.text("ControlGroup");
        let answer = self.ask(&Call {
            destination: self.bus.then_some(SYSTEMD),
            path: &path,
            interface: PROPERTIES,
            member: "Get",
            signature: "ss",
            body,
        })?;
        Ok(answer.texts.into_iter().next().unwrap_or_default())
    }

    /// Makes a unit that lives as long as its processes.
    pub fn start_transient(&mut self, unit: &str, properties: &[(String, Value)]) -> Answer<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties);
        // No further units.
        body.array(8, |_| {});
        self.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    }

    /// Changes a unit until the next boot.
    pub fn set_properties(&mut self, unit: &str, properties: &[(String, Value)]) -> Answer<()> {
        let mut body = Writer::default();
        body.text(unit);
        body.number(1);
        body.properties(properties);
        self.call("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Calls a method whose only argument is a unit.
    pub fn call_unit(&mut self, member: &str, unit: &str) -> Answer<()> {
        let mut body = Writer::default();
        body.text(unit);
        self.call(member, "s", body).map(drop)
    }
}

/// Sockets of the manager that is ours, and whether a bus is behind them.
fn sockets() -> Vec<(PathBuf, bool)> {
    if rustix::process::geteuid().is_root() {
        return vec![
            ("/run/systemd/private".into(), false),
            ("/run/dbus/system_bus_socket".into(), true),
        ];
    }
    let Some(folder) = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())
    else {
        return Vec::new();
    };
    let folder = PathBuf::from(folder);
    vec![
        (folder.join("systemd/private"), false),
        (folder.join("bus"), true),
    ]
}
