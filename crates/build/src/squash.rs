//! `--squash`: the layers that a build added, merged into one.

use std::collections::HashMap;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use wharf_image::{ChainId, Image, Images};

use crate::Error;
use crate::config::{Document, Entry};
use crate::place::{Marks, Root};
use crate::step::make_layer;
use crate::tree::{self, Kind, Selection, Tree};

/// Replaces all layers above the first `base` ones by one. Blocks. Returns the new image's ID.
pub(crate) fn squash(images: &Images, image: &Image, base: usize) -> Result<String, Error> {
    let mut document = Document::parse(&image.config_bytes)?;
    let diff_ids = document.diff_ids();
    let Some(top) = image.top.as_ref().filter(|_| diff_ids.len() > base) else {
        return Ok(image.id.clone());
    };
    let chain = chain_of(&diff_ids[..base]);
    let tree = Tree::image(images.mount_read_only(top)?)?;
    let mut new = everything(&tree)?;
    let mut old = match &chain {
        Some(chain) => everything(&Tree::image(images.mount_read_only(chain)?)?)?.entries,
        None => Vec::new(),
    };
    let before: HashMap<PathBuf, tree::Entry> = old
        .drain(..)
        .map(|entry| (entry.path.clone(), entry))
        .collect();
    let mut gone: HashMap<&PathBuf, &tree::Entry> = before.iter().collect();
    for entry in &new.entries {
        gone.remove(&entry.path);
    }
    let gone: Vec<PathBuf> = gone.into_keys().cloned().collect();
    new.entries.retain(|entry| {
        before
            .get(&entry.path)
            .is_none_or(|old| differs(old, entry))
    });
    let layer = make_layer(images, chain.as_ref(), |root| {
        let root = Root::new(root);
        gone.iter().try_for_each(|path| root.remove(path))?;
        root.copy_folder(&tree, &new, std::path::Path::new("/"), Marks::default())
    })?;
    let entry = Entry {
        created: jiff::Timestamp::now().to_string(),
        created_by: String::new(),
        diff_id: (!layer.empty).then(|| layer.diff_id.clone()),
        author: None,
    };
    document.squash(base, &entry);
    Ok(images
        .create(&document.bytes()?, image.parent.as_deref(), None)?
        .id)
}

fn everything(tree: &Tree) -> Result<Selection, Error> {
    let mut found = tree.select("squash", "/")?;
    found
        .pop()
        .ok_or_else(|| Error::Invalid("an image has no root".to_owned()))
}

/// A file that no layer replaced is the same one in both views.
fn differs(old: &tree::Entry, new: &tree::Entry) -> bool {
    let facts = |entry: &tree::Entry| {
        (
            entry.mode,
            entry.uid,
            entry.gid,
            entry.modified_s,
            entry.modified_ns,
        )
    };
    old.kind != new.kind
        || facts(old) != facts(new)
        || (new.kind != Kind::Folder && old.inode != new.inode)
}

/// Name of a stack of layers (image-spec, "Layer ChainID").
fn chain_of(diff_ids: &[String]) -> Option<ChainId> {
    let (first, rest) = diff_ids.split_first()?;
    let chain = rest.iter().fold(first.clone(), |chain, diff_id| {
        let both = format!("{chain} {diff_id}");
        format!("sha256:{}", hex::encode(Sha256::digest(both.as_bytes())))
    });
    Some(ChainId(chain))
}
