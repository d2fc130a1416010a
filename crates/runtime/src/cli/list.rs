//! `list`: all containers below the root.

use super::args::Flag;
use super::state::{Container, Seen};
use super::{Command, Failure, Global, Outcome, print};

pub const COMMAND: Command = Command {
    name: "list",
    usage: "",
    about: "lists containers started by this runtime with the given root",
    flags: &[
        Flag::value("format", "\"table\" or \"json\" (table)").short("f"),
        Flag::switch("quiet", "container names only").short("q"),
    ],
    words: (0, 0),
    in_order: false,
    run: |global, parsed| {
        let format = parsed.get("format").unwrap_or("table");
        let seen = all(global)?;
        let text = if parsed.has("quiet") {
            seen.iter().map(|one| format!("{}\n", one.id)).collect()
        } else {
            match format {
                "table" => table(&seen),
                "json" => json(&seen)?,
                _ => return Err(Failure::new("invalid format option")),
            }
        };
        print(&text)?;
        Ok(0)
    },
};

fn json(seen: &[Seen]) -> Outcome<String> {
    if seen.is_empty() {
        return Ok("null".into());
    }
    serde_json::to_string(seen).map_err(|e| Failure::new(format!("write the list: {e}")))
}

/// Sorted by name. What another command removes meanwhile is left out.
fn all(global: &Global) -> Outcome<Vec<Seen>> {
    let mut names: Vec<String> = match std::fs::read_dir(&global.root) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !global.root_given => {
            Vec::new()
        }
        Err(error) => {
            return Err(super::failed(format!("list {}", global.root.display()))(
                error,
            ));
        }
    };
    names.sort();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let see = |name: &String| {
        let container = Container::open(global, name).ok()?;
        let mut seen = container.seen().ok()?;
        seen.owner = user_name(&passwd, container.owner());
        Some(seen)
    };
    Ok(names.iter().filter_map(see).collect())
}

fn user_name(passwd: &str, uid: u32) -> String {
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

fn table(seen: &[Seen]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(seen.iter().map(|one| {
        [
            one.id.clone(),
            one.pid.to_string(),
            one.status.to_string(),
            one.bundle.display().to_string(),
            one.created.clone(),
            one.owner.clone(),
        ]
    }));
    // Columns of 12 at least with 3 between them, as runc sets them; the last one ends the line.
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            let longest = rows.iter().map(|row| row[column].chars().count()).max();
            (longest.unwrap_or(0) + 3).max(12)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row[..5].iter().zip(&widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            format!("{line}{}\n", row[5])
        })
        .collect()
}
