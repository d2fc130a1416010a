//! The context of a build as a tar archive, made while it is sent.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::ignore::Ignore;

/// What goes into the archive.
#[derive(Debug)]
pub struct Context {
    /// Folder whose contents are sent.
    pub root: PathBuf,
    /// What is left out.
    pub ignore: Ignore,
    /// A Dockerfile from elsewhere, under a name that is in nobody's way.
    pub extra: Option<(String, Vec<u8>)>,
}

/// Folders below folders; deeper ones are refused.
const DEPTH_MAX: usize = 4096;

impl Context {
    /// Writes the archive.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        archive.follow_symlinks(false);
        let mut links = Links::default();
        self.folder(&mut archive, &mut links, "", 0)?;
        if let Some((name, bytes)) = &self.extra {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(0);
            header.set_entry_type(tar::EntryType::Regular);
            archive.append_data(&mut header, name, bytes.as_slice())?;
        }
        archive.into_inner()?.flush()
    }

    fn folder<W: Write>(
        &self,
        archive: &mut tar::Builder<W>,
        links: &mut Links,
        below: &str,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!(
                "{below}: folders are nested too deeply"
            )));
        }
        let mut names: Vec<_> = fs::read_dir(self.root.join(below))?
            .map(|entry| entry.map(|e| e.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        for name in names {
            let name = name
                .to_str()
                .ok_or_else(|| io::Error::other(format!("{name:?}: name is not UTF-8")))?;
            let path = if below.is_empty() {
                name.to_owned()
            } else {
                format!("{below}/{name}")
            };
            let about = match fs::symlink_metadata(self.root.join(&path)) {
                Ok(about) => about,
                // Gone since the folder was read: it was never part of the context.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let out = self.ignore.leaves_out(&path);
            if about.is_dir() {
                if !out {
                    self.entry(archive, links, &path, &about)?;
                }
                if !out || self.ignore.may_keep_below(&path) {
                    self.folder(archive, links, &path, depth + 1)?;
                }
            } else if !out && !about.file_type().is_socket() {
                self.entry(archive, links, &path, &about)?;
            }
        }
        Ok(())
    }

    fn entry<W: Write>(
        &self,
        archive: &mut tar::Builder<W>,
        links: &mut Links,
        path: &str,
        about: &fs::Metadata,
    ) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(about);
        // Permissions only: the kind of the file has its own field, and the daemon hashes this one.
        header.set_mode(about.mode() & 0o7777);
        // The daemon gives everything to root; who owned it here says nothing there.
        header.set_uid(0);
        header.set_gid(0);
        let file = self.root.join(path);
        if about.is_dir() {
            header.set_size(0);
            return archive.append_data(&mut header, format!("{path}/"), io::empty());
        }
        if about.file_type().is_symlink() {
            header.set_size(0);
            return archive.append_link(&mut header, path, fs::read_link(&file)?);
        }
        if !about.is_file() {
            return Ok(());
        }
        if let Some(first) = links.seen(about, path) {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            return archive.append_link(&mut header, path, first);
        }
        let source = fs::File::open(&file)?;
        let size = about.len();
        header.set_size(size);
        // The file may change while it is read; the archive must have what its header says.
        archive.append_data(&mut header, path, source.take(size).chain(Zeros).take(size))
    }
}

/// Endless zero bytes.
struct Zeros;

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }
}

/// Files that have several names.
#[derive(Debug, Default)]
struct Links(std::collections::HashMap<(u64, u64), String>);

impl Links {
    /// The first name under which the file was sent, if this isn't it.
    fn seen(&mut self, about: &fs::Metadata, path: &str) -> Option<PathBuf> {
        if about.nlink() < 2 {
            return None;
        }
        match self.0.entry((about.dev(), about.ino())) {
            std::collections::hash_map::Entry::Occupied(first) => {
                Some(Path::new(first.get()).to_path_buf())
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(path.to_owned());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_not_sent() {
        let folder = std::env::temp_dir().join(format!("wharf-cli-context-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir_all(folder.join("x")).unwrap();
        fs::write(folder.join("Dockerfile"), "FROM x").unwrap();
        fs::write(folder.join("a/b/kept"), "k").unwrap();
        fs::write(folder.join("a/left"), "l").unwrap();
        fs::write(folder.join("x/left"), "l").unwrap();
        std::os::unix::fs::symlink("a", folder.join("link")).unwrap();
        let ignore = Ignore::parse("*\n!a/b/kept\n!link\n!Dockerfile").unwrap();
        let context = Context {
            root: folder.clone(),
            ignore,
            extra: Some((".dockerfile.1".into(), b"FROM y".to_vec())),
        };
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(names, ["Dockerfile", "a/b/kept", "link", ".dockerfile.1"]);
    }
}
