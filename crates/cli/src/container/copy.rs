//! `cp`.

use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use serde_json::Value;

use super::copy_paths::{
    Found, Plan, Side, base, clean, means_contents, plan, renamed, says_folder, side,
};
use crate::failure::{Failure, os_words};
use crate::line::parse::Matches;
use crate::session::Session;
use crate::wire::Request;
use crate::wire::query::{Query, segment};
use crate::{terminal, units};

/// Most links that are followed from one path.
const LINKS_MAX: usize = 40;

/// `cp`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let (from, to) = (&matches.args[0], &matches.args[1]);
    if from.is_empty() {
        return Err(Failure::said("source can not be empty"));
    }
    if to.is_empty() {
        return Err(Failure::said("destination can not be empty"));
    }
    let quiet = match matches.changed("quiet") {
        true => matches.on("quiet"),
        false => !terminal::output(),
    };
    let copied = match (side(from), side(to)) {
        (Side::Container(..), Side::Container(..)) => {
            return Err(Failure::said("copying between containers is not supported"));
        }
        (Side::Container(name, path), to) => from_container(session, matches, &name, &path, &to)?,
        (from, Side::Container(name, path)) => to_container(session, matches, &from, &name, &path)?,
        _ => return Err(Failure::said("must specify at least one container source")),
    };
    if let Some(bytes) = copied.filter(|_| !quiet) {
        session.warn(&format!(
            "Successfully copied {} to {to}",
            units::human_size_3(bytes as f64)
        ));
    }
    Ok(0)
}

/// What is at a path in the container.
struct Stat {
    folder: bool,
    link: Option<String>,
}

fn stat(session: &mut Session<'_>, container: &str, path: &str) -> Result<Stat, Failure> {
    let query = Query::new()
        .add("path", path)
        .to_path(&format!("/containers/{}/archive", segment(container)));
    let reply = session.client()?.call(Request::new("HEAD", query))?;
    read_stat(reply.head.get("x-docker-container-path-stat"))
}

fn read_stat(header: Option<&str>) -> Result<Stat, Failure> {
    // The two highest bits of Go's file mode: folder, and symbolic link.
    const FOLDER: u64 = 1 << 31;
    const LINK: u64 = 1 << 27;
    let bad = || Failure::said("unable to decode container path stat header");
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(header.unwrap_or_default())
        .map_err(|_| bad())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let mode = value["mode"].as_u64().unwrap_or(0);
    let target = value["linkTarget"].as_str().unwrap_or_default().to_owned();
    Ok(Stat {
        folder: mode & FOLDER != 0,
        link: (mode & LINK != 0).then_some(target),
    })
}

fn not_there(container: &str, path: &str) -> impl FnOnce(Failure) -> Failure {
    let text = format!("Could not find the file {path} in container {container}");
    move |failure| match failure {
        Failure::Daemon {
            status: 404,
            message,
        } if message.is_empty() || message.starts_with("request returned") => Failure::Daemon {
            status: 404,
            message: text,
        },
        other => other,
    }
}

fn absolute_inside(path: &str) -> String {
    let mut whole = if path.starts_with('/') {
        clean(path)
    } else {
        clean(&format!("/{path}"))
    };
    if says_folder(path) && whole != "/" {
        whole.push('/');
    }
    if means_contents(path) {
        whole.push('.');
    }
    whole
}

fn from_container(
    session: &mut Session<'_>,
    matches: &Matches,
    container: &str,
    path: &str,
    to: &Side,
) -> Result<Option<u64>, Failure> {
    let mut source = absolute_inside(path);
    if matches.on("follow-link")
        && let Ok(Stat {
            link: Some(target), ..
        }) = stat(session, container, &source)
    {
        source = match target.starts_with('/') {
            true => target,
            false => clean(&format!("{}/../{target}", clean(&source))),
        };
    }
    let query = Query::new()
        .add("path", &source)
        .to_path(&format!("/containers/{}/archive", segment(container)));
    if *to == Side::Stream && terminal::output() {
        return Err(Failure::said(
            "cannot write archive to a terminal: redirect the output or give a path",
        ));
    }
    let mut streaming = session
        .client()?
        .stream(Request::get(query))
        .map_err(not_there(container, &source))?;
    let Side::Local(to) = to else {
        io::copy(&mut streaming.body, &mut io::stdout().lock()).map_err(Failure::Stream)?;
        return Ok(None);
    };
    let about = read_stat(streaming.head.get("x-docker-container-path-stat"))?;
    let found = match std::fs::metadata(to) {
        Ok(about) if about.is_dir() => Found::Folder,
        Ok(_) => Found::File,
        Err(_) => Found::Nothing,
    };
    let plan = plan(&source, about.folder, to, found).map_err(Failure::Said)?;
    if !Path::new(&plan.folder).is_dir() {
        return Err(Failure::said(format!(
            "invalid output path: directory {:?} does not exist",
            plan.folder
        )));
    }
    unpack(streaming.body, &plan).map(Some)
}

/// Unpacks an archive. The library refuses entries that would leave the folder.
fn unpack(from: impl Read, plan: &Plan) -> Result<u64, Failure> {
    let mut counted = Counted { from, bytes: 0 };
    let mut archive = tar::Archive::new(&mut counted);
    archive.set_preserve_permissions(true);
    let folder = Path::new(&plan.folder);
    let failed = |error: io::Error| {
        Failure::said(format!(
            "unpacking into {}: {}",
            folder.display(),
            os_words(&error)
        ))
    };
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        let name = renamed(&name, plan.rename.as_ref());
        if name
            .components()
            .all(|part| matches!(part, std::path::Component::CurDir))
        {
            // The folder itself: it is there.
            continue;
        }
        let target = folder.join(&name);
        let escapes = name
            .components()
            .any(|part| matches!(part, std::path::Component::ParentDir));
        if escapes || name.is_absolute() {
            return Err(Failure::said(format!(
                "archive entry {} leaves the destination",
                name.display()
            )));
        }
        let parent = target.parent().unwrap_or(folder);
        let inside = std::fs::canonicalize(parent)
            .and_then(|p| Ok(p.starts_with(std::fs::canonicalize(folder)?)));
        if !inside.map_err(failed)? {
            return Err(Failure::said(format!(
                "archive entry {} leaves the destination",
                name.display()
            )));
        }
        entry.unpack(&target).map_err(failed)?;
    }
    // The daemon sends the archive's padding as well; the connection is used again only after it.
    io::copy(&mut counted, &mut io::sink()).map_err(failed)?;
    Ok(counted.bytes)
}

struct Counted<R> {
    from: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Where a path in the container leads, and what is there.
fn destination(
    session: &mut Session<'_>,
    container: &str,
    path: &str,
) -> Result<(String, Found), Failure> {
    let mut target = absolute_inside(path);
    let mut found = Found::Nothing;
    for _ in 0..LINKS_MAX {
        match stat(session, container, &target) {
            Ok(Stat {
                link: Some(link), ..
            }) => {
                target = match link.starts_with('/') {
                    true => link,
                    false => clean(&format!("{}/../{link}", clean(&target))),
                };
            }
            Ok(about) => {
                found = if about.folder {
                    Found::Folder
                } else {
                    Found::File
                };
                break;
            }
            // What is wrong with the destination, the daemon says when it gets the archive.
            Err(Failure::Daemon { .. }) => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok((target, found))
}

fn to_container(
    session: &mut Session<'_>,
    matches: &Matches,
    from: &Side,
    container: &str,
    path: &str,
) -> Result<Option<u64>, Failure> {
    let (target, found) = destination(session, container, path)?;
    if *from == Side::Stream {
        if found != Found::Folder {
            return Err(Failure::said(format!(
                "destination \"{container}:{path}\" must be a directory"
            )));
        }
        let mut input = io::stdin().lock();
        upload(session, matches, container, &target, &mut input)?;
        return Ok(None);
    }
    let Side::Local(source) = from else {
        return Ok(None);
    };
    let lstat = |error: io::Error| Failure::said(format!("lstat {source}: {}", os_words(&error)));
    let follow = matches.on("follow-link") || says_folder(source);
    let about = if follow {
        std::fs::metadata(source)
    } else {
        std::fs::symlink_metadata(source)
    }
    .map_err(lstat)?;
    if says_folder(source) && !about.is_dir() {
        return Err(Failure::said(format!("{source}: not a directory")));
    }
    let plan = plan(source, about.is_dir(), &target, found).map_err(Failure::Said)?;
    let name = match &plan.rename {
        Some((_, name)) => name.clone(),
        None if about.is_dir() && means_contents(source) => ".".to_owned(),
        None => base(&absolute_here(source)),
    };
    let (mut reader, writer) = io::pipe().map_err(Failure::Stream)?;
    let source = source.clone();
    let packer = std::thread::spawn(move || pack(&source, &name, follow, writer));
    let mut counted = Counted {
        from: &mut reader,
        bytes: 0,
    };
    let sent = upload(session, matches, container, &plan.folder, &mut counted);
    let bytes = counted.bytes;
    drop(reader);
    match packer.join() {
        Ok(Err(error)) if sent.is_ok() || error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::said(os_words(&error)));
        }
        _ => sent?,
    }
    Ok(Some(bytes))
}

fn absolute_here(path: &str) -> String {
    std::path::absolute(path)
        .ok()
        .and_then(|p| p.to_str().map(str::to_owned))
        .unwrap_or_else(|| path.to_owned())
}

fn pack(source: &str, name: &str, follow: bool, to: io::PipeWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(64 * 1024, to));
    archive.follow_symlinks(false);
    let source = if follow {
        std::fs::canonicalize(source)?
    } else {
        Path::new(source).to_path_buf()
    };
    if std::fs::symlink_metadata(&source)?.is_dir() {
        archive.append_dir_all(name, &source)?;
    } else {
        archive.append_path_with_name(&source, name)?;
    }
    archive
        .into_inner()?
        .into_inner()
        .map_err(|error| error.into_error())?;
    Ok(())
}

fn upload(
    session: &mut Session<'_>,
    matches: &Matches,
    container: &str,
    folder: &str,
    from: &mut dyn Read,
) -> Result<(), Failure> {
    let query = Query::new()
        .add("path", folder)
        .add("noOverwriteDirNonDir", "true")
        .some(
            "copyUIDGID",
            if matches.on("archive") { "true" } else { "" },
        );
    let path = query.to_path(&format!("/containers/{}/archive", segment(container)));
    session
        .client()?
        .call(Request::new("PUT", path).body(from, "application/x-tar"))
        .map(drop)
}
