//! `build`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::build_context::Context;
use super::ignore::Ignore;
use super::reference::Reference;
use crate::failure::{Failure, os_words};
use crate::line::parse::Matches;
use crate::opts::{env, resources};
use crate::session::Session;
use crate::show::progress::Display;
use crate::system::credentials;
use crate::terminal;
use crate::wire::Request;
use crate::wire::query::Query;

/// Most bytes of a Dockerfile that comes from elsewhere.
const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;

/// `build`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let quiet = matches.on("quiet");
    let prepared = prepare(matches)
        .map_err(|why| Failure::said(format!("unable to prepare context: {why}")))?;
    if let Some(path) = matches.given("iidfile") {
        // A stale ID must not be taken for this build's.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::file("remove", path)(error));
            }
            _ => {}
        }
    }
    let query = query(session, matches, &prepared.dockerfile)?;
    let auth = credentials::all_header(&session.config);
    let (reader, packer) = prepared.stream().map_err(Failure::Stream)?;
    let mut counted = Progress {
        from: reader,
        bytes: 0,
        shown: 0,
        live: terminal::output() && !quiet,
        quiet,
    };
    let request = Request::post(query.to_path("/build"))
        .header("X-Registry-Config", auth)
        .body(&mut counted, "application/x-tar");
    let answer = session.client()?.stream(request);
    drop(counted);
    if let Some(packer) = packer
        && let Ok(Err(error)) = packer.join()
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(Failure::said(format!(
            "error sending the context: {}",
            os_words(&error)
        )));
    }
    show(session, matches, answer?.body, quiet)
}

fn show(
    session: &mut Session<'_>,
    matches: &Matches,
    body: impl Read,
    quiet: bool,
) -> Result<i32, Failure> {
    let mut id = String::new();
    let mut aux = |value: &Value| {
        if let Some(text) = value["ID"].as_str() {
            id = text.to_owned();
        }
    };
    let mut text = Vec::new();
    let result = if quiet {
        Display::new(&mut text, false).run(body, |_, value| aux(value))
    } else {
        Display::new(io::stdout(), terminal::output()).run(body, |_, value| aux(value))
    };
    if let Err(failure) = result {
        if quiet {
            session.warn(String::from_utf8_lossy(&text).trim_end());
        }
        return Err(failure);
    }
    if quiet {
        let last = String::from_utf8_lossy(&text).trim().to_owned();
        id = if last.is_empty() { id } else { last };
        session.line(&id)?;
    }
    if let Some(path) = matches.given("iidfile") {
        if id.is_empty() {
            return Err(Failure::said(format!(
                "server did not provide an image ID. Cannot write {path}"
            )));
        }
        std::fs::write(path, &id).map_err(Failure::file("write", path))?;
    }
    Ok(0)
}

/// What is sent, and what the Dockerfile is called in it.
enum Source {
    Folder(Box<Context>),
    Archive(Box<dyn Read>),
}

struct Prepared {
    source: Source,
    dockerfile: String,
}

type Packer = std::thread::JoinHandle<io::Result<()>>;

impl Prepared {
    fn stream(self) -> io::Result<(Box<dyn Read>, Option<Packer>)> {
        match self.source {
            Source::Archive(from) => Ok((from, None)),
            Source::Folder(context) => {
                let (reader, writer) = io::pipe()?;
                let to = io::BufWriter::with_capacity(64 * 1024, writer);
                let packer = std::thread::spawn(move || context.write(to));
                Ok((Box::new(reader), Some(packer)))
            }
        }
    }
}

fn prepare(matches: &Matches) -> Result<Prepared, String> {
    let place = matches.args[0].as_str();
    let file = matches.text("file");
    if place == "-" {
        if file == "-" {
            return Err(
                "invalid argument: can't use stdin for both build context and dockerfile".into(),
            );
        }
        return from_stdin(file);
    }
    let remote = ["http://", "https://", "git://", "git@", "github.com/"];
    if remote.iter().any(|prefix| place.starts_with(prefix)) {
        return Err(format!(
            "{place}: a context is a local folder or an archive on STDIN; fetch it first"
        ));
    }
    let root = match std::fs::metadata(place) {
        Ok(about) if about.is_dir() => {
            std::fs::canonicalize(place).map_err(|error| os_words(&error))?
        }
        Ok(_) => {
            return Err(format!(
                "context must be a directory: {}",
                absolute(place).display()
            ));
        }
        Err(_) => return Err(format!("path {place:?} not found")),
    };
    let (dockerfile, extra) = find_dockerfile(&root, file)?;
    let ignore = read_ignore(&root, &dockerfile, extra.is_none())?;
    let name = match &extra {
        Some((name, _)) => name.clone(),
        None => dockerfile,
    };
    Ok(Prepared {
        source: Source::Folder(Box::new(Context {
            root,
            ignore,
            extra,
        })),
        dockerfile: name,
    })
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// An archive, or a lone Dockerfile, on standard input.
fn from_stdin(file: &str) -> Result<Prepared, String> {
    let mut head = vec![0u8; 512];
    let mut have = 0;
    let mut input = io::stdin();
    while have < head.len() {
        match input
            .read(&mut head[have..])
            .map_err(|error| os_words(&error))?
        {
            0 => break,
            count => have += count,
        }
    }
    head.truncate(have);
    let is_archive = head.get(257..262) == Some(b"ustar")
        || [
            &[0x1f, 0x8b][..],
            b"BZh",
            &[0xfd, b'7', b'z', b'X', b'Z'],
            &[0x28, 0xb5, 0x2f, 0xfd],
        ]
        .iter()
        .any(|magic| head.starts_with(magic));
    if is_archive {
        let dockerfile = if file.is_empty() { "Dockerfile" } else { file };
        let from = io::Cursor::new(head).chain(input);
        return Ok(Prepared {
            source: Source::Archive(Box::new(from)),
            dockerfile: dockerfile.to_owned(),
        });
    }
    if !file.is_empty() && file != "-" {
        return Err(
            "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles".into(),
        );
    }
    input
        .take(DOCKERFILE_BYTES_MAX)
        .read_to_end(&mut head)
        .map_err(|error| os_words(&error))?;
    if head.is_empty() {
        return Err("the Dockerfile on stdin is empty".into());
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(head.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "Dockerfile", head.as_slice())
        .and_then(|()| archive.into_inner())
        .map(|bytes| Prepared {
            source: Source::Archive(Box::new(io::Cursor::new(bytes))),
            dockerfile: "Dockerfile".into(),
        })
        .map_err(|error| os_words(&error))
}

/// The Dockerfile's name in the context; with its text when it comes from elsewhere.
type Found = (String, Option<(String, Vec<u8>)>);

fn find_dockerfile(root: &Path, file: &str) -> Result<Found, String> {
    let elsewhere = || format!(".dockerfile.{:08x}", std::process::id());
    if file == "-" {
        let mut text = Vec::new();
        io::stdin()
            .take(DOCKERFILE_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|error| os_words(&error))?;
        return Ok((elsewhere(), Some((elsewhere(), text))));
    }
    let path = match file {
        "" => {
            let usual = root.join("Dockerfile");
            let lower = root.join("dockerfile");
            if !usual.exists() && lower.exists() {
                lower
            } else {
                usual
            }
        }
        given => absolute(given),
    };
    let real = std::fs::canonicalize(&path).map_err(|error| {
        format!(
            "unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            path.display(),
            os_words(&error)
        )
    })?;
    match real.strip_prefix(root) {
        Ok(inside) => Ok((inside.to_string_lossy().into_owned(), None)),
        Err(_) => {
            let text = std::fs::read(&real).map_err(|error| {
                format!(
                    "unable to open Dockerfile: open {}: {}",
                    real.display(),
                    os_words(&error)
                )
            })?;
            Ok((elsewhere(), Some((elsewhere(), text))))
        }
    }
}

fn read_ignore(root: &Path, dockerfile: &str, inside: bool) -> Result<Ignore, String> {
    let mut name = ".dockerignore".to_owned();
    let own = format!("{dockerfile}.dockerignore");
    if inside && root.join(&own).exists() {
        name = own;
    }
    let text = match std::fs::read_to_string(root.join(&name)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ignore::default()),
        Err(error) => return Err(format!("error reading {name}: {}", os_words(&error))),
    };
    let mut ignore =
        Ignore::parse(&text).map_err(|why| format!("error checking context: {why}"))?;
    // The daemon needs both, whatever the patterns say.
    ignore.always_keep(&name);
    if inside {
        ignore.always_keep(dockerfile);
    }
    Ok(ignore)
}

fn query(session: &Session<'_>, matches: &Matches, dockerfile: &str) -> Result<Query, Failure> {
    let mut query = Query::new();
    for tag in matches.list("tag") {
        let reference = Reference::parse(tag).map_err(Failure::Said)?;
        query = query.add("t", &reference.familiar());
    }
    for option in matches.list("security-opt") {
        query = query.add("securityopt", option);
    }
    let ulimits: Result<Vec<Value>, String> = matches
        .list("ulimit")
        .into_iter()
        .map(resources::ulimit)
        .collect();
    let json_list = |items: Vec<&str>| {
        if items.is_empty() {
            String::new()
        } else {
            json!(items).to_string()
        }
    };
    let query = query
        .add("dockerfile", dockerfile)
        .on("q", matches.on("quiet"))
        .on("nocache", matches.on("no-cache"))
        .add("rm", if matches.on("rm") { "1" } else { "0" })
        .on("forcerm", matches.on("force-rm"))
        .on("pull", matches.on("pull"))
        .on("squash", matches.on("squash"))
        .some("target", matches.text("target"))
        .some("networkmode", matches.text("network"))
        .some("platform", &matches.text("platform").to_lowercase())
        .some("extrahosts", &matches.list("add-host").join(","))
        .add("buildargs", &build_arguments(session, matches).to_string())
        .add(
            "labels",
            &env::labels(&[], &matches.list("label"))?.to_string(),
        )
        .some("cachefrom", &json_list(matches.list("cache-from")))
        .add(
            "ulimits",
            &json!(ulimits.map_err(Failure::Said)?).to_string(),
        )
        .add("version", "1");
    Ok(bounds(query, matches))
}

/// `--build-arg`. A bare name takes the caller's value; without one it stays unset.
fn build_arguments(session: &Session<'_>, matches: &Matches) -> Value {
    let mut arguments = Map::new();
    for (name, value) in session.config.proxies("default") {
        arguments.insert(name, value.into());
    }
    for text in matches.list("build-arg") {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.into()),
            None => (text, std::env::var(text).map_or(Value::Null, Value::from)),
        };
        arguments.insert(name.to_owned(), value);
    }
    Value::Object(arguments)
}

/// Bounds on the steps' containers.
fn bounds(query: Query, matches: &Matches) -> Query {
    let size = |name: &str| match resources::bytes(matches, name) {
        0 => String::new(),
        bytes => bytes.to_string(),
    };
    let nonzero = |name: &str| {
        if matches.number(name) == 0 {
            ""
        } else {
            matches.text(name)
        }
    };
    query
        .some("cgroupparent", matches.text("cgroup-parent"))
        .some("cpusetcpus", matches.text("cpuset-cpus"))
        .some("cpusetmems", matches.text("cpuset-mems"))
        .some("cpushares", nonzero("cpu-shares"))
        .some("cpuquota", nonzero("cpu-quota"))
        .some("cpuperiod", nonzero("cpu-period"))
        .some("memory", &size("memory"))
        .some("memswap", &size("memory-swap"))
        .some("shmsize", &size("shm-size"))
}

/// Says how much of the context was sent: as it goes on a terminal, at its end elsewhere.
struct Progress {
    from: Box<dyn Read>,
    bytes: u64,
    shown: u64,
    live: bool,
    quiet: bool,
}

impl Progress {
    /// Bytes between two lines on a terminal.
    const STEP: u64 = 512 * 1024;

    fn show(&self, end: &str) {
        use io::Write;
        let clear = if self.live { "\x1b[2K\r" } else { "" };
        let size = crate::units::human_size(self.bytes as f64);
        let text = format!("{clear}Sending build context to Docker daemon  {size}{end}");
        let _ = io::stdout()
            .lock()
            .write_all(text.as_bytes())
            .and_then(|()| io::stdout().flush());
    }
}

impl Read for Progress {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.bytes += count as u64;
        if self.quiet {
            return Ok(count);
        }
        if count == 0 {
            self.show(if self.live { "\r\n" } else { "\n" });
            self.quiet = true;
        } else if self.live && self.bytes - self.shown >= Progress::STEP {
            self.shown = self.bytes;
            self.show("\r");
        }
        Ok(count)
    }
}
