//! What an asker has learnt of earlier answers: pointers that led nowhere, and who gave them.

use crate::contact::Identity;
use crate::id::NodeId;
use crate::limits::MAX_EXCEPT;
use crate::pointer::Pointer;

/// Answers that were of no use. Nobody can tell a pointer that has become stale, or was invented, but
/// by following it; so whoever has followed all pointers of an answer in vain asks again with the
/// answer excepted ([`crate::Overlay::get_except`]): the search passes its holders by, and does not
/// believe its giver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Except {
    pub(crate) holders: Vec<Identity>,
    pub(crate) givers: Vec<NodeId>,
}

impl Except {
    pub(crate) const NONE: Self = Self { holders: Vec::new(), givers: Vec::new() };

    /// Adds an answer: its pointers, and the `by` of its outcome. Beyond [`MAX_EXCEPT`] of either
    /// nothing is added.
    pub fn add(&mut self, pointers: &[Pointer], by: Option<NodeId>) {
        for pointer in pointers {
            add(&mut self.holders, pointer.holder.identity);
        }
        by.into_iter().for_each(|by| add(&mut self.givers, by));
    }

    /// Whether nothing is excepted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.givers.is_empty()
    }

    /// Whether a pointer to this holder was of no use.
    pub(crate) fn is_useless(&self, holder: &Identity) -> bool {
        self.holders.contains(holder)
    }

    /// Whether this node's pointers were of no use.
    pub(crate) fn is_doubted(&self, giver: &NodeId) -> bool {
        self.givers.contains(giver)
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, new: T) {
    if list.len() < MAX_EXCEPT && !list.contains(&new) {
        list.push(new);
    }
}
