//! `create`, and the half of `run` that is the same: the request, and the image when it isn't here.

use std::io::Write;

use serde::Deserialize;
use serde_json::json;

use crate::failure::Failure;
use crate::image::reference::Reference;
use crate::line::parse::Matches;
use crate::opts::create::{Wanted, wanted};
use crate::session::Session;
use crate::terminal;
use crate::wire::Request;
use crate::wire::query::Query;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Created {
    id: String,
    warnings: Option<Vec<String>>,
}

/// `create`.
pub fn run(session: &mut Session<'_>, matches: &Matches) -> Result<i32, Failure> {
    let wanted = read_flags(session, matches)?;
    let id = create(session, matches, &wanted)?;
    session.line(&id)?;
    Ok(0)
}

/// The flags' meaning; what is wrong with them is said as Docker does.
pub fn read_flags(session: &Session<'_>, matches: &Matches) -> Result<Wanted, Failure> {
    wanted(matches, session.config.proxies("default")).map_err(|failure| see_help(session, failure))
}

/// A failure that ends with a pointer to the help, exit code 125.
pub fn see_help(session: &Session<'_>, failure: Failure) -> Failure {
    if matches!(failure, Failure::Stream(_)) {
        return failure;
    }
    see_help_with(session, &failure, 125)
}

/// The same with another exit code.
pub fn see_help_with(session: &Session<'_>, failure: &Failure, code: i32) -> Failure {
    let text = format!(
        "{}: {failure}\n\nRun '{} --help' for more information",
        crate::line::command::PROGRAM,
        session.path
    );
    Failure::Exit { code, text }
}

/// Creates the container, pulling its image when that is wanted or needed. Returns the ID.
pub fn create(
    session: &mut Session<'_>,
    matches: &Matches,
    wanted: &Wanted,
) -> Result<String, Failure> {
    create_or_say(session, matches, wanted).map_err(|failure| see_help(session, failure))
}

fn create_or_say(
    session: &mut Session<'_>,
    matches: &Matches,
    wanted: &Wanted,
) -> Result<String, Failure> {
    let pull = matches.text("pull");
    if !matches!(pull, "always" | "missing" | "never") {
        return Err(Failure::said(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    let mut id_file = IdFile::open(matches.text("cidfile"))?;
    let reference = image_reference(&wanted.image)?;
    let mut body = wanted.body.clone();
    if matches.on("tty")
        && let Some((rows, columns)) = terminal::size()
        && let Some(host) = body.get_mut("HostConfig")
    {
        host["ConsoleSize"] = json!([rows, columns]);
    }
    let platform = matches.text("platform");
    if let Some(reference) = &reference
        && pull == "always"
    {
        pull_image(session, reference, platform, matches.on("quiet"))?;
    }
    let path = Query::new()
        .some("name", matches.text("name"))
        .some("platform", platform)
        .to_path("/containers/create");
    let mut answer = session
        .client()?
        .call(Request::post(path.clone()).json(&body));
    if let (Err(failure), Some(reference)) = (&answer, &reference)
        && failure.not_found()
        && failure.to_string().contains("No such image")
        && pull == "missing"
    {
        if !matches.on("quiet") {
            session.warn(&format!(
                "Unable to find image '{}' locally",
                reference.familiar()
            ));
        }
        pull_image(session, reference, platform, matches.on("quiet"))?;
        answer = session.client()?.call(Request::post(path).json(&body));
    }
    let created: Created = answer?.json()?;
    for warning in created.warnings.iter().flatten() {
        session.warn(&format!("WARNING: {warning}"));
    }
    id_file.write(&created.id)?;
    Ok(created.id)
}

/// The image's whole name; none for an ID.
fn image_reference(image: &str) -> Result<Option<Reference>, Failure> {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex(image) || image.strip_prefix("sha256:").is_some_and(hex) {
        return Ok(None);
    }
    let mut reference = Reference::parse(image).map_err(Failure::Said)?;
    // A tag beside a digest says nothing more: the digest decides.
    if reference.digest.is_none() {
        reference = reference.tagged();
    }
    Ok(Some(reference))
}

fn pull_image(
    session: &mut Session<'_>,
    reference: &Reference,
    platform: &str,
    quiet: bool,
) -> Result<(), Failure> {
    let display = if quiet {
        crate::image::pull::To::Nothing
    } else {
        crate::image::pull::To::Stderr
    };
    crate::image::pull::pull(session, reference, false, platform, display)
}

/// The file of `--cidfile`: made before the container, so that nobody else's is overwritten, and removed again when
/// there is nothing to write.
struct IdFile {
    path: String,
    file: Option<std::fs::File>,
    written: bool,
}

impl IdFile {
    fn open(path: &str) -> Result<IdFile, Failure> {
        if path.is_empty() {
            return Ok(IdFile {
                path: String::new(),
                file: None,
                written: true,
            });
        }
        match std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
        {
            Ok(file) => Ok(IdFile {
                path: path.to_owned(),
                file: Some(file),
                written: false,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::said(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )))
            }
            Err(error) => Err(Failure::said(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::failure::os_words(&error)
            ))),
        }
    }

    fn write(&mut self, id: &str) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            file.write_all(id.as_bytes())
                .map_err(Failure::file("write", &self.path))?;
            self.written = true;
        }
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
