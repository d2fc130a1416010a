//! Short texts as numbers: labels and taints of nodes, topology keys, names of resources and images.
//!
//! Labels of pods are never interned: there is no end to them, and a symbol is never forgotten. What pods want of nodes is.

use std::collections::HashMap;
use std::sync::Arc;

/// A text that was interned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol(u32);

/// The texts.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, Symbol>,
}

impl Symbols {
    /// The symbol of a text, a new one if need be.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        // Four thousand million different labels don't fit in memory: the number never overflows before that.
        let symbol = Symbol(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = Arc::from(text);
        self.texts.push(text.clone());
        self.numbers.insert(text, symbol);
        symbol
    }

    /// The symbol of a text that some node has; what no node has matches none.
    pub(crate) fn known(&self, text: &str) -> Option<Symbol> {
        self.numbers.get(text).copied()
    }

    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        self.texts
            .get(symbol.0 as usize)
            .map_or("", |text| text.as_ref())
    }
}
