//! What `cp` makes of its two paths, by the rules of Docker (which are those of Unix `cp -a`, for archives).

use std::path::{Path, PathBuf};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
pub enum Side {
    /// `-`: a tar archive on standard input or output.
    Stream,
    /// A path here.
    Local(String),
    /// A path in a container.
    Container(String, String),
}

/// `container:path`, `path` or `-`. A path that starts with `/` or `.` is here, colons or not.
pub fn side(text: &str) -> Side {
    if text == "-" {
        return Side::Stream;
    }
    if text.starts_with('/') || text.starts_with('.') {
        return Side::Local(text.to_owned());
    }
    match text.split_once(':') {
        Some((container, path)) if !container.is_empty() && !container.contains('/') => {
            Side::Container(container.to_owned(), path.to_owned())
        }
        _ => Side::Local(text.to_owned()),
    }
}

/// Whether the path says that it is a folder: it ends in `/` or `/.`.
pub fn says_folder(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.") || path == "."
}

/// Whether the contents are meant and not the folder: it ends in `/.`.
pub fn means_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// Last part of a path; `/` for the root.
pub fn base(path: &str) -> String {
    let cleaned = clean(path);
    match cleaned.rsplit('/').next() {
        Some("") | None => "/".into(),
        Some(last) => last.to_owned(),
    }
}

/// The path without `.`, `..` and doubled slashes.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A folder.
    Folder,
    /// Something else.
    File,
}

/// Where an archive is unpacked, and under which name its root entry goes there.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Folder that exists.
    pub folder: String,
    /// The archive's first name and what it becomes; none when nothing is renamed.
    pub rename: Option<(String, String)>,
}

/// Decides where `source` (a folder or not) goes. The error is Docker's.
pub fn plan(source: &str, source_is_folder: bool, to: &str, found: Found) -> Result<Plan, String> {
    // The daemon calls the root of `x/.` "./", and that of `x` "x".
    let name = match source_is_folder && means_contents(source) {
        true => ".".to_owned(),
        false => base(source),
    };
    let parent = |path: &str| {
        let cleaned = clean(path);
        Path::new(&cleaned)
            .parent()
            .map_or("/".into(), |p| match p.to_str() {
                Some("") | None => ".".to_owned(),
                Some(p) => p.to_owned(),
            })
    };
    match found {
        Found::Folder => Ok(Plan {
            folder: to.to_owned(),
            rename: None,
        }),
        Found::File if source_is_folder => Err("cannot copy directory".into()),
        Found::File if says_folder(to) => Err("not a directory".into()),
        Found::File => Ok(Plan {
            folder: parent(to),
            rename: Some((name, base(to))),
        }),
        Found::Nothing if !source_is_folder && says_folder(to) => Err("no such directory".into()),
        Found::Nothing => Ok(Plan {
            folder: parent(to),
            rename: Some((name, base(to))),
        }),
    }
}

/// The name of an archive's entry after the renaming of its root.
pub fn renamed(entry: &Path, rename: Option<&(String, String)>) -> PathBuf {
    let Some((from, to)) = rename else {
        return entry.to_path_buf();
    };
    let entry = entry.strip_prefix("./").unwrap_or(entry);
    if from == "." {
        return Path::new(to).join(entry);
    }
    if from == "/" {
        return Path::new(to).join(entry.strip_prefix("/").unwrap_or(entry));
    }
    match entry.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from(to),
        Ok(rest) => Path::new(to).join(rest),
        Err(_) => entry.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(side("a:/x"), Side::Container("a".into(), "/x".into()));
        assert_eq!(side("./a:/x"), Side::Local("./a:/x".into()));
        assert_eq!(side("x"), Side::Local("x".into()));
        assert_eq!(side("-"), Side::Stream);
        assert_eq!(clean("/a/./b//../c/"), "/a/c");
        assert_eq!(base("a/b/."), "b");
    }

    #[test]
    fn plans() {
        let plan = |source: &str, folder, to: &str, found| {
            super::plan(source, folder, to, found).map(|p| (p.folder, p.rename))
        };
        let name = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(
            plan("/etc/passwd", false, "/tmp", Found::Folder),
            Ok(("/tmp".into(), None))
        );
        assert_eq!(
            plan("/etc/passwd", false, "/tmp/pw", Found::Nothing),
            Ok(("/tmp".into(), name("passwd", "pw")))
        );
        assert_eq!(
            plan("/etc/passwd", false, "pw", Found::File),
            Ok((".".into(), name("passwd", "pw")))
        );
        assert_eq!(
            plan("/etc", true, "/tmp", Found::Folder),
            Ok(("/tmp".into(), None))
        );
        assert_eq!(
            plan("/etc/.", true, "/tmp", Found::Folder),
            Ok(("/tmp".into(), None))
        );
        assert_eq!(
            plan("/etc", true, "/tmp/new", Found::Nothing),
            Ok(("/tmp".into(), name("etc", "new")))
        );
        assert_eq!(
            plan("/a", false, "/nodir/", Found::Nothing),
            Err("no such directory".into())
        );
        assert_eq!(
            plan("/a", true, "/file", Found::File),
            Err("cannot copy directory".into())
        );
        assert_eq!(
            plan("/a", false, "/file/", Found::File),
            Err("not a directory".into())
        );
    }

    #[test]
    fn entries_are_renamed() {
        let rename = Some(("etc".to_owned(), "new".to_owned()));
        assert_eq!(
            renamed(Path::new("etc/"), rename.as_ref()),
            PathBuf::from("new")
        );
        assert_eq!(
            renamed(Path::new("etc/a/b"), rename.as_ref()),
            PathBuf::from("new/a/b")
        );
        assert_eq!(
            renamed(Path::new("etcx"), rename.as_ref()),
            PathBuf::from("etcx")
        );
        let contents = Some((".".to_owned(), "new".to_owned()));
        assert_eq!(
            renamed(Path::new("./a/b"), contents.as_ref()),
            PathBuf::from("new/a/b")
        );
        assert_eq!(
            renamed(Path::new("./"), contents.as_ref()),
            PathBuf::from("new/")
        );
    }
}
