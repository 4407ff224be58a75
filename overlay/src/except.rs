//! What an asker has learnt of earlier answers: pointers that led nowhere, and who gave them.

use crate::contact::Identity;
use crate::id::NodeId;
use crate::limits::{MAX_EXCEPT, MAX_PASSED};
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

    /// Its holders alone: whoever decides a claim names the useless ones too, and is to be believed.
    pub(crate) fn of_holders(self) -> Self {
        Self { givers: Vec::new(), ..self }
    }

    /// Its holders as they go over the wire; of more than fit, the latest.
    pub(crate) fn passed(&self) -> Passed {
        let latest = self.holders.iter().rev().take(MAX_PASSED);
        Passed::new(&latest.map(Passed::tag).collect::<Vec<_>>())
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

/// The holders that a claim passes by, by the first 64 bits of their identities: whoever draws
/// another identity with the same bits is passed by as well, and that is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Passed {
    count: u8,
    tags: [u64; MAX_PASSED],
}

impl Passed {
    /// Of these tags, the first that fit.
    pub(crate) fn new(some: &[u64]) -> Self {
        let mut passed = Self::default();
        for (place, tag) in passed.tags.iter_mut().zip(some) {
            *place = *tag;
            passed.count += 1;
        }
        passed
    }

    pub(crate) fn tags(&self) -> &[u64] {
        &self.tags[..self.count.into()]
    }

    pub(crate) fn contains(&self, holder: &Identity) -> bool {
        self.tags().contains(&Self::tag(holder))
    }

    fn tag(holder: &Identity) -> u64 {
        let first = holder.0.first_chunk().expect("an identity has 32 octets");
        u64::from_be_bytes(*first)
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, new: T) {
    if list.len() < MAX_EXCEPT && !list.contains(&new) {
        list.push(new);
    }
}
