//! Removing images: names, images, parents nobody needs; Docker's rules and words.

use std::time::Duration;

use crate::images::{children, names_of};
use crate::store::State;
use crate::{Error, Images, Reference, Removed, Result};

/// Names the container that needs an image, and whether it runs.
type InUse<'a> = &'a dyn Fn(&str) -> Option<(String, bool)>;

/// Chains made by a build that ended without an image are kept this long by a prune.
const FRESH: Duration = Duration::from_secs(3600);

impl Images {
    /// Removes a name, and the image with its layers where it was the last one. `in_use` names the container
    /// that needs the image with this ID, and whether it runs: running ones can't be forced.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        in_use: InUse<'_>,
    ) -> Result<Vec<Removed>> {
        let id = self.resolve_id(name)?;
        let names = self.inner.read(|state| names_of(state, &id));
        let mut removed = Vec::new();
        let by_name = !is_id(&id, name);
        if by_name {
            if !force && is_single(&names) {
                self.refuse_used_reference(name, &id, in_use)?;
            }
            let reference = Reference::parse(name)?.or_latest();
            let left = self.untag(&reference, &names, &mut removed)?;
            if !left.is_empty() {
                return Ok(removed);
            }
        } else {
            if !force && names.len() > 1 && !is_single(&names) {
                return Err(unable(
                    &id,
                    "must be forced",
                    "image is referenced in multiple repositories",
                ));
            }
            if force || is_single(&names) {
                self.check_removal(&id, force, in_use)?;
                for reference in &names {
                    self.untag(reference, std::slice::from_ref(reference), &mut removed)?;
                }
            }
        }
        let mut chains = Vec::new();
        let result = self.delete(
            &id,
            &Deletion {
                force,
                prune_parents,
                quiet: by_name,
                in_use,
            },
            &mut removed,
            &mut chains,
        );
        self.inner.collect(Some(&chains))?;
        result.map(|()| removed)
    }

    fn refuse_used_reference(&self, name: &str, id: &str, in_use: InUse<'_>) -> Result<()> {
        let Some((container, _)) = in_use(id) else {
            return Ok(());
        };
        Err(Error::Conflict(format!(
            "unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
            short(&container),
            short(id)
        )))
    }

    /// Removes one name; names by digest alone go with the last tag of their repository. Returns what is left.
    fn untag(
        &self,
        reference: &Reference,
        names: &[Reference],
        removed: &mut Vec<Removed>,
    ) -> Result<Vec<Reference>> {
        let mut gone = vec![match &reference.digest {
            Some(digest) => reference.by_digest(digest),
            None => reference.clone(),
        }];
        let mut left: Vec<Reference> = names
            .iter()
            .filter(|name| !gone.contains(name))
            .cloned()
            .collect();
        let of_repository = |name: &&Reference| name.name() == reference.name();
        if reference.digest.is_none()
            && left
                .iter()
                .filter(of_repository)
                .all(|name| name.digest.is_some())
        {
            gone.extend(left.iter().filter(of_repository).cloned());
            left.retain(|name| name.name() != reference.name());
        }
        let _writing = self.inner.writing();
        let mut all = self.inner.read(|state| state.names.clone());
        for name in &gone {
            all.remove(&name.to_string());
            removed.push(Removed::Untagged(name.familiar()));
        }
        self.write_names(all, true)?;
        Ok(left)
    }

    /// Docker's conflicts: hard ones can't be forced, soft ones can.
    fn check_removal(&self, id: &str, force: bool, in_use: InUse<'_>) -> Result<()> {
        if !self.inner.read(|state| children(state, id)).is_empty() {
            return Err(unable(
                id,
                "cannot be forced",
                "image has dependent child images",
            ));
        }
        match in_use(id) {
            Some((container, true)) => {
                let why = format!(
                    "image is being used by running container {}",
                    short(&container)
                );
                Err(unable(id, "cannot be forced", &why))
            }
            Some((container, false)) if !force => {
                let why = format!(
                    "image is being used by stopped container {}",
                    short(&container)
                );
                Err(unable(id, "must be forced", &why))
            }
            _ => Ok(()),
        }
    }

    fn delete(
        &self,
        id: &str,
        how: &Deletion<'_>,
        removed: &mut Vec<Removed>,
        chains: &mut Vec<String>,
    ) -> Result<()> {
        let (named, has_children) = self
            .inner
            .read(|state| (is_named(state, id), !children(state, id).is_empty()));
        if let Err(conflict) = self.check_removal(id, how.force, how.in_use) {
            // Only a name was to go; that the image itself has to stay is no failure.
            let used = (how.in_use)(id).is_some();
            return if how.quiet && (named || has_children || used) {
                Ok(())
            } else {
                Err(conflict)
            };
        }
        if named {
            return if how.quiet {
                Ok(())
            } else {
                Err(unable(
                    id,
                    "must be forced",
                    "image is referenced in one or more repositories",
                ))
            };
        }
        let stored = self.stored(id)?;
        {
            let _writing = self.inner.writing();
            let path = self.image_path(id);
            std::fs::remove_file(&path)
                .or_else(crate::layers::absent)
                .map_err(crate::error::io_at("remove", &path))?;
            self.inner.change(|state| state.images.remove(id));
        }
        removed.push(Removed::Deleted(id.to_owned()));
        chains.extend(stored.chains.last().cloned());
        let parent = stored
            .record
            .parent
            .clone()
            .filter(|parent| self.inner.read(|state| state.images.contains_key(parent)));
        match parent {
            Some(parent) if how.prune_parents => {
                let how = Deletion {
                    force: false,
                    prune_parents: true,
                    quiet: true,
                    in_use: how.in_use,
                };
                if self.inner.read(|state| is_named(state, &parent)) {
                    Ok(())
                } else {
                    self.delete(&parent, &how, removed, chains)
                }
            }
            _ => Ok(()),
        }
    }

    /// Removes untagged images that nothing needs (`all`: also tagged ones not in use). Returns what went
    /// and the bytes freed.
    pub fn prune(&self, all: bool, in_use: &dyn Fn(&str) -> bool) -> Result<(Vec<Removed>, u64)> {
        let heads = self.inner.read(|state| {
            let ids = state
                .images
                .keys()
                .filter(|id| children(state, id).is_empty());
            ids.filter(|id| all || !is_named(state, id))
                .cloned()
                .collect::<Vec<_>>()
        });
        let mut removed = Vec::new();
        let mut chains = Vec::new();
        let used = |id: &str| in_use(id).then(|| (String::new(), true));
        for id in heads {
            if in_use(&id) {
                continue;
            }
            let names = self.inner.read(|state| names_of(state, &id));
            for reference in &names {
                self.untag(reference, std::slice::from_ref(reference), &mut removed)?;
            }
            let how = Deletion {
                force: false,
                prune_parents: true,
                quiet: true,
                in_use: &used,
            };
            self.delete(&id, &how, &mut removed, &mut chains)?;
        }
        self.inner
            .change(|state| state.fresh.retain(|_, made| made.elapsed() < FRESH));
        let freed_bytes = self.inner.collect(None)?;
        Ok((removed, freed_bytes))
    }
}

/// How an image is to go.
struct Deletion<'a> {
    force: bool,
    prune_parents: bool,
    /// Conflicts are a reason to stop, not a failure.
    quiet: bool,
    in_use: InUse<'a>,
}

/// Whether a name given by a person means the ID itself.
fn is_id(id: &str, name: &str) -> bool {
    id == name
        || (!name.is_empty()
            && id
                .trim_start_matches("sha256:")
                .starts_with(name.trim_start_matches("sha256:")))
}

/// One name, or one tag and the digests of the same repository.
fn is_single(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| name.digest.is_none()).count();
    let Some(first) = names.first() else {
        return false;
    };
    tags <= 1 && names.iter().all(|name| name.name() == first.name())
}

fn is_named(state: &State, id: &str) -> bool {
    state.names.values().any(|target| target == id)
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

fn unable(id: &str, force: &str, why: &str) -> Error {
    Error::Conflict(format!("unable to delete {} ({force}) - {why}", short(id)))
}
