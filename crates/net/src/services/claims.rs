//! Who has which address and port: of two services that claim the same, the first has it until it gives it up.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::base;
use super::program::Program;
use crate::nftables::Element;

/// Set and key of an element that only one service can have.
type FrontKey = (Cow<'static, str>, Vec<u8>);

/// All claims.
#[derive(Default)]
pub(super) struct Claims {
    owners: HashMap<FrontKey, String>,
    waiting: HashMap<FrontKey, BTreeSet<String>>,
}

fn front_key(element: &Element) -> Option<FrontKey> {
    let is_front = [
        base::FRONTS4,
        base::FRONTS6,
        base::NODE4,
        base::NODE6,
        base::CLUSTER4,
        base::CLUSTER6,
    ]
    .contains(&element.set.as_ref());
    is_front.then(|| (element.set.clone(), element.key.clone()))
}

impl Claims {
    /// Takes what nobody has, and leaves the rest out of the program.
    pub(super) fn claim(&mut self, name: &str, program: &mut Program) {
        program.elements.retain(|element| {
            let Some(key) = front_key(element) else {
                return true;
            };
            match self.owners.get(&key) {
                Some(owner) => {
                    tracing::warn!(service = name, %owner, "an address and port of the service is another's already");
                    self.waiting.entry(key).or_default().insert(name.to_owned());
                    false
                }
                None => {
                    self.owners.insert(key, name.to_owned());
                    true
                }
            }
        });
    }

    /// Gives up what a program has, and leaves out of it what it never had. Returns who waits for any of it.
    pub(super) fn release(&mut self, name: &str, program: &mut Program) -> BTreeSet<String> {
        let mut heirs = BTreeSet::new();
        program.elements.retain(|element| {
            let Some(key) = front_key(element) else {
                return true;
            };
            let waiting = self.waiting.get_mut(&key);
            let is_own = self.owners.get(&key).is_some_and(|owner| owner == name);
            if is_own {
                self.owners.remove(&key);
                heirs.extend(waiting.into_iter().flat_map(|names| names.iter().cloned()));
            } else if let Some(names) = waiting {
                names.remove(name);
                if names.is_empty() {
                    self.waiting.remove(&key);
                }
            }
            is_own
        });
        heirs
    }
}
