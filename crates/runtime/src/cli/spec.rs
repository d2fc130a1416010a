//! `spec`: writes a configuration to begin with.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;

use super::args::{Flag, Parsed};
use super::{Command, Failure, Global, Outcome, failed};

pub const COMMAND: Command = Command {
    name: "spec",
    usage: "",
    about: "create a new specification file",
    flags: &[
        Flag::value(
            "bundle",
            "folder to write config.json to (the working folder)",
        )
        .short("b"),
        Flag::switch("rootless", "for an ordinary user's container"),
    ],
    words: (0, 0),
    in_order: false,
    run: spec,
};

fn spec(_: &Global, parsed: &Parsed) -> Outcome {
    let bundle = parsed.get("bundle").unwrap_or(".");
    let path = Path::new(bundle).join("config.json");
    let file = File::options().write(true).create_new(true).open(&path);
    let mut file = match file {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::new("File config.json exists. Remove it first"));
        }
        other => other.map_err(failed(format!("create {}", path.display())))?,
    };
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let spec = if parsed.has("rootless") {
        crate::default_spec::rootless_spec()
    } else {
        crate::default_spec()
    };
    spec.serialize(&mut serde_json::Serializer::with_formatter(
        &mut text, indent,
    ))
    .map_err(|e| Failure::new(format!("write the configuration: {e}")))?;
    file.write_all(&text)
        .map_err(failed(format!("write {}", path.display())))?;
    Ok(0)
}
