//! COPY and ADD: from the selections of sources to files in a prepared snapshot.

use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::instruction::{Copy, Source};
use crate::place::{Marks, Owner, Root};
use crate::tree::{Entry, Kind, Selection, Tree};
use crate::{Error, archive, io, owner};

/// More sources in one instruction are refused.
const SOURCES_MAX: usize = 100_000;

/// A COPY whose variables are expanded.
pub(crate) struct Request {
    pub copy: Copy,
    pub working_dir: String,
    pub tree: Arc<Tree>,
    /// Keeps the owners of the source (from an image, without `--chown`).
    pub keeps_owners: bool,
}

/// One thing to copy, found and hashed.
enum Item {
    Selected(Selection),
    Text { name: String, text: String },
}

/// What will be copied.
pub(crate) struct Found {
    request: Request,
    items: Vec<Item>,
    /// `file:…`, `dir:…` or `multi:…`, as history shows it.
    pub digest: String,
}

fn keyword(copy: &Copy) -> &'static str {
    if copy.is_add { "ADD" } else { "COPY" }
}

/// Finds the sources and hashes them. Blocks.
pub(crate) fn find(request: Request) -> Result<Found, Error> {
    let keyword = keyword(&request.copy);
    let (mut items, mut digests) = (Vec::new(), Vec::new());
    for source in &request.copy.sources {
        match source {
            Source::Heredoc(heredoc) => {
                let hash = hex::encode(Sha256::digest(heredoc.text.as_bytes()));
                digests.push(format!("file:{}", hash_of(&[&heredoc.name, &hash])));
                items.push(Item::Text {
                    name: heredoc.name.clone(),
                    text: heredoc.text.clone(),
                });
            }
            Source::Path(path) => {
                for selection in request.tree.select(keyword, path)? {
                    let kind = if selection.is_folder() { "dir" } else { "file" };
                    let hash = request.tree.digest(&selection, request.keeps_owners)?;
                    digests.push(format!("{kind}:{hash}"));
                    items.push(Item::Selected(selection));
                }
            }
        }
        if items.len() > SOURCES_MAX {
            return Err(Error::Invalid(format!(
                "{keyword} failed: more than {SOURCES_MAX} sources"
            )));
        }
    }
    let digest = match digests.as_slice() {
        [] => {
            return Err(Error::Invalid(format!(
                "{keyword} failed: no source files were specified"
            )));
        }
        [one] => one.clone(),
        several => {
            let several: Vec<&str> = several.iter().map(String::as_str).collect();
            format!("multi:{}", hash_of(&several))
        }
    };
    if items.len() > 1 && !request.copy.target.ends_with('/') {
        return Err(Error::Invalid(format!(
            "When using {keyword} with more than one source file, the destination must be a directory and end with a /"
        )));
    }
    Ok(Found {
        request,
        items,
        digest,
    })
}

fn hash_of(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join(",").as_bytes()))
}

impl Found {
    /// What history says.
    pub fn comment(&self) -> String {
        let copy = &self.request.copy;
        let chown = copy.chown.as_ref().map(|owner| format!("--chown={owner}"));
        let chmod = copy.chmod.as_ref().map(|mode| format!("--chmod={mode} "));
        format!(
            "{} {}{}{} in {} ",
            keyword(copy),
            chmod.unwrap_or_default(),
            chown.unwrap_or_default(),
            self.digest,
            copy.target
        )
    }

    /// Writes everything below a mounted root. Blocks.
    pub fn write(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let root = Root::new(root);
        let copy = &self.request.copy;
        let owner = match &copy.chown {
            Some(text) => Some(owner::parse(text, &root)?),
            None if self.request.keeps_owners => None,
            None => Some(Owner::default()),
        };
        let mode = copy.chmod.as_deref().map(owner::parse_mode).transpose()?;
        let marks = Marks { owner, mode };
        let target = Path::new("/")
            .join(&self.request.working_dir)
            .join(&copy.target);
        for item in &self.items {
            match item {
                Item::Selected(selection) => {
                    self.write_selection(&root, selection, &target, marks)?
                }
                Item::Text { name, text } => self.write_text(&root, name, text, &target, marks)?,
            }
        }
        Ok(())
    }

    fn write_selection(
        &self,
        root: &Root<'_>,
        selection: &Selection,
        target: &Path,
        marks: Marks,
    ) -> Result<(), Error> {
        let tree = &self.request.tree;
        let Some(top) = selection.entries.first() else {
            return Ok(());
        };
        if selection.is_folder() {
            return root.copy_folder(tree, selection, target, marks);
        }
        let name = selection.name.to_string_lossy();
        if self.request.copy.is_add && top.kind == Kind::File {
            let mut file = tree.open_file(selection, top)?;
            if archive::is_archive(&mut file, &name)? {
                root.make_folders(target, marks.owner.unwrap_or_default())?;
                let below = target.strip_prefix("/").unwrap_or(target);
                wharf_image::extract(&mut file, root.fd(), below)?;
                return Ok(());
            }
        }
        let target = self.file_target(root, target, Path::new(&selection.name));
        root.copy_file(&mut || tree.open_file(selection, top), top, &target, marks)
    }

    fn write_text(
        &self,
        root: &Root<'_>,
        name: &str,
        text: &str,
        target: &Path,
        marks: Marks,
    ) -> Result<(), Error> {
        let now = jiff::Timestamp::now();
        let entry = Entry {
            path: PathBuf::new(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified_s: now.as_second(),
            modified_ns: i64::from(now.subsec_nanosecond()),
            inode: 0,
            shared: None,
        };
        let mut source = || {
            let write = || {
                use std::io::Seek as _;
                let memory = rustix::fs::memfd_create("heredoc", rustix::fs::MemfdFlags::CLOEXEC)?;
                let mut file = std::fs::File::from(memory);
                file.write_all(text.as_bytes())?;
                file.rewind()?;
                Ok::<_, std::io::Error>(file)
            };
            write().map_err(io("keep a heredoc in memory"))
        };
        let target = self.file_target(root, target, Path::new(name));
        root.copy_file(&mut source, &entry, &target, marks)
    }

    /// Into a folder where the target is one, or says so with its last character.
    fn file_target(&self, root: &Root<'_>, target: &Path, name: &Path) -> PathBuf {
        let text = &self.request.copy.target;
        let last = text.rsplit('/').next().unwrap_or_default();
        if matches!(last, "" | "." | "..") || root.is_folder(target) {
            target.join(name)
        } else {
            target.to_owned()
        }
    }
}
