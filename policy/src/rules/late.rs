//! Peer classes that came after rule sets were built.
//!
//! A rule set is built once and speaks of the classes that there are at that time. A pod with labels that nobody had before may
//! make a class of its own; it says itself what the older sets say about it. So a class and a set know each other
//! through the younger of the two, and neither has to be built again for the other.

use super::{PortRules, SetIndex};

/// What rule sets that are older than a class say about peers of it.
#[derive(Debug, Default)]
pub(crate) struct LateClass {
    /// In order of the sets.
    rules: Vec<(SetIndex, PortRules)>,
}

impl LateClass {
    /// Of the rules of each set that names the class, in order of the sets.
    pub(crate) fn new(rules: Vec<(SetIndex, PortRules)>) -> LateClass {
        debug_assert!(rules.is_sorted_by_key(|(set, _)| *set));
        LateClass { rules }
    }

    /// The rules of `set` for peers of the class.
    #[inline]
    pub(super) fn of_set(&self, set: SetIndex) -> Option<&PortRules> {
        let found = self.rules.binary_search_by_key(&set, |(set, _)| *set);
        found.ok().map(|position| &self.rules[position].1)
    }

    /// Sets that name the class.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }
}
