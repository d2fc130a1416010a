//! A copy of the committed state as a database file of its own.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable};

use crate::record::{LOG, META, META_REVISION, OBJECTS};
use crate::{Error, Result, Revision};

/// Copies one consistent state of the database to a file that appears under its name only when it is whole.
pub fn write(database: &Database, source: &Path, to: &Path) -> Result<Revision> {
    let part = part_of(to);
    let revision = copy(database, &part).map_err(|error| Error::Snapshot {
        path: part.clone(),
        source: Box::new(error),
    });
    let finished = revision.and_then(|revision| {
        std::fs::rename(&part, to).map_err(|source| Error::File {
            operation: "rename the snapshot to",
            path: to.to_owned(),
            source,
        })?;
        sync_folder(to)?;
        Ok(revision)
    });
    if finished.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    tracing::debug!(from = %source.display(), to = %to.display(), "snapshot");
    finished
}

fn part_of(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    to.with_file_name(name)
}

fn copy(database: &Database, to: &Path) -> std::result::Result<Revision, redb::Error> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let from = database.begin_read()?;
    let target = Database::create(to)?;
    let transaction = target.begin_write()?;
    let revision = {
        let mut objects = transaction.open_table(OBJECTS)?;
        for row in from.open_table(OBJECTS)?.iter()? {
            let (key, value) = row?;
            objects.insert(key.value(), value.value())?;
        }
        let mut log = transaction.open_table(LOG)?;
        for row in from.open_table(LOG)?.iter()? {
            let (revision, value) = row?;
            log.insert(revision.value(), value.value())?;
        }
        let mut meta = transaction.open_table(META)?;
        for row in from.open_table(META)?.iter()? {
            let (name, value) = row?;
            meta.insert(name.value(), value.value())?;
        }
        meta.get(META_REVISION)?.map_or(0, |value| value.value())
    };
    transaction.commit()?;
    Ok(revision)
}

fn sync_folder(file: &Path) -> Result<()> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| Error::File {
            operation: "sync the folder",
            path: folder.to_owned(),
            source,
        })
}
