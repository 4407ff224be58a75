//! The tree over a body that grows at its end (BLAKE3 paper, section 2.1), with groups of chunks as leaves.
//!
//! The chaining values of all complete groups, and of all subtrees of 2^k complete groups, stand in one list
//! in the order in which they become known: 64 octets for each group. The group at the end is never among
//! them, as only what follows tells whether it is the root; so the tree of what is here now is known at any
//! time, and nothing in the list ever changes.

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::limits::{GROUP, MAX_SIZE};

/// A chaining value of BLAKE3, or its hash.
pub(crate) type Hash = [u8; 32];

/// The tree of the octets so far.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    nodes: Vec<Hash>,
    /// Complete groups that are in `nodes`.
    groups: u64,
    /// The group at the end, and how many octets it has: none only if there are none at all.
    tail: Hasher,
    tail_len: u64,
}

impl Tree {
    /// How many octets it is of.
    pub(crate) fn size(&self) -> u64 {
        self.groups * GROUP + self.tail_len
    }

    /// Adds octets to the end. They are no more than [`MAX_SIZE`] in all.
    pub(crate) fn update(&mut self, mut octets: &[u8]) {
        debug_assert!(self.size() + octets.len() as u64 <= MAX_SIZE);
        while !octets.is_empty() {
            self.make_room();
            let room = usize::try_from(GROUP - self.tail_len).expect("a group fits memory");
            let (some, rest) = octets.split_at(room.min(octets.len()));
            self.tail.update(some);
            self.tail_len += some.len() as u64;
            octets = rest;
        }
    }

    /// The group at the end as if `octets` were added to it; they do not go past its end. Nothing changes
    /// until [`Self::extend`].
    pub(crate) fn extended(&self, octets: &[u8]) -> Group {
        let full = self.tail_len == GROUP;
        let (mut hasher, len) = match full {
            true => (group_hasher(self.groups + 1), 0),
            false => (self.tail.clone(), self.tail_len),
        };
        hasher.update(octets);
        Group { index: self.groups + u64::from(full), hasher, len: len + octets.len() as u64 }
    }

    /// Takes over what [`Self::extended`] gave.
    pub(crate) fn extend(&mut self, group: Group) {
        if group.index > self.groups {
            self.make_room();
        }
        debug_assert_eq!(group.index, self.groups, "it is of this tree, as it is");
        (self.tail, self.tail_len) = (group.hasher, group.len);
    }

    /// Puts the last group among the complete ones, if it is.
    fn make_room(&mut self) {
        if self.tail_len < GROUP {
            return;
        }
        let mut node = self.tail.finalize_non_root();
        let (mut index, mut level) = (self.groups, 0);
        self.nodes.push(node);
        while index % 2 == 1 {
            let left = self.nodes[place(level, index - 1)];
            node = merge(&left, &node);
            self.nodes.push(node);
            (index, level) = (index / 2, level + 1);
        }
        self.groups += 1;
        (self.tail, self.tail_len) = (group_hasher(self.groups), 0);
    }

    /// The chaining value of the last group; nothing if it is all there is, as it is the root then.
    pub(crate) fn edge(&self) -> Option<Hash> {
        (self.groups > 0).then(|| self.tail.finalize_non_root())
    }

    /// The BLAKE3 hash of all octets so far.
    pub(crate) fn root(&self) -> Hash {
        let mut right = None;
        let mut over = 0..self.groups + 1;
        let mut lefts = Vec::new();
        while over.end - over.start > 1 {
            let middle = middle(&over);
            lefts.push(self.complete(over.start..middle));
            over.start = middle;
        }
        while let (Some(left), Some(edge)) = (lefts.pop(), right.or_else(|| self.edge())) {
            if lefts.is_empty() {
                return root(&left, &edge);
            }
            right = Some(merge(&left, &edge));
        }
        self.tail.finalize().into()
    }

    /// The node over complete groups that are in the list.
    fn complete(&self, over: Range<u64>) -> Hash {
        let level = (over.end - over.start).trailing_zeros();
        self.nodes[place(level, over.start >> level)]
    }

    /// The node over groups that are all here, as many as a power of two.
    pub(crate) fn node(&self, over: Range<u64>) -> Hash {
        if over.end <= self.groups {
            return self.complete(over);
        }
        if over.end - over.start == 1 {
            return self.tail.finalize_non_root();
        }
        let middle = middle(&over);
        merge(&self.node(over.start..middle), &self.node(middle..over.end))
    }

    /// As it was, to go back to.
    pub(crate) fn mark(&self) -> Mark {
        Mark { groups: self.groups, tail: self.tail.clone(), tail_len: self.tail_len }
    }

    /// Forgets what came since.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        let nodes = 2 * mark.groups - u64::from(mark.groups.count_ones());
        self.nodes.truncate(usize::try_from(nodes).expect("there are as many"));
        (self.groups, self.tail, self.tail_len) = (mark.groups, mark.tail, mark.tail_len);
    }

    /// Octets of memory that the list takes.
    pub(crate) fn memory(&self) -> u64 {
        (self.nodes.capacity() * size_of::<Hash>()) as u64
    }

    pub(crate) fn into_nodes(self) -> Box<[Hash]> {
        self.nodes.into_boxed_slice()
    }

    pub(crate) fn nodes(&self) -> &[Hash] {
        &self.nodes
    }
}

/// A group that may be one of the tree.
pub(crate) struct Group {
    index: u64,
    hasher: Hasher,
    len: u64,
}

impl Group {
    /// A group that stands alone, for who has nothing of what is before it.
    pub(crate) fn alone(index: u64, octets: &[u8]) -> Self {
        let mut hasher = group_hasher(index);
        hasher.update(octets);
        Self { index, hasher, len: octets.len() as u64 }
    }

    /// What stands for it in the tree; the root of it, if it is all there is.
    pub(crate) fn hash(&self, all: bool) -> Hash {
        if all { self.hasher.finalize().into() } else { self.hasher.finalize_non_root() }
    }
}

/// See [`Tree::mark`].
pub(crate) struct Mark {
    groups: u64,
    tail: Hasher,
    tail_len: u64,
}

/// The two nodes below one, each with the groups that it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) over: Range<u64>,
    pub(crate) left: Hash,
    pub(crate) right: Hash,
}

/// The tree of a head, as far as it is known here.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The list, which may be of more octets by now.
    pub(crate) nodes: &'a [Hash],
    /// Groups that the head is of.
    pub(crate) groups: u64,
    /// What stands for the last group, where it is here and not the only one.
    pub(crate) edge: Option<Hash>,
    /// What was proved from the root down to the last group that is here, where that is not the last of all.
    pub(crate) path: &'a [Pair],
}

impl View<'_> {
    /// The nodes below the one that is over these groups, of which there are more than one.
    pub(crate) fn children(&self, over: &Range<u64>) -> Option<(Hash, Hash)> {
        let middle = middle(over);
        Some((self.node(over.start..middle)?, self.node(middle..over.end)?))
    }

    fn node(&self, over: Range<u64>) -> Option<Hash> {
        if over.end < self.groups {
            let level = (over.end - over.start).trailing_zeros();
            if let Some(node) = self.nodes.get(place(level, over.start >> level)) {
                return Some(*node);
            }
        }
        for pair in self.path {
            let middle = middle(&pair.over);
            if over == (pair.over.start..middle) {
                return Some(pair.left);
            }
            if over == (middle..pair.over.end) {
                return Some(pair.right);
            }
        }
        let edge = self.edge.filter(|_| over.end == self.groups)?;
        if over.end - over.start == 1 {
            return Some(edge);
        }
        self.children(&over).map(|(left, right)| merge(&left, &right))
    }
}

/// How many groups so many octets take.
pub(crate) const fn groups(size: u64) -> u64 {
    size.div_ceil(GROUP)
}

/// How many chaining values the list has for so many octets, without the last group.
pub(crate) fn node_count(size: u64) -> u64 {
    let complete = groups(size).saturating_sub(1);
    2 * complete - u64::from(complete.count_ones())
}

/// Where the groups below a node part: the left ones are the most that are a power of two, and not all
/// (BLAKE3 paper, section 2.1).
pub(crate) fn middle(over: &Range<u64>) -> u64 {
    let count = over.end - over.start;
    over.start + count.next_power_of_two() / 2
}

pub(crate) fn merge(left: &Hash, right: &Hash) -> Hash {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

pub(crate) fn root(left: &Hash, right: &Hash) -> Hash {
    merge_subtrees_root(left, right, Mode::Hash).into()
}

/// Where the list has the node over the groups `index << level` and so on, 2^level of them: after all
/// that is complete before its last group, that group, and the nodes between.
fn place(level: u32, index: u64) -> usize {
    let before = ((index + 1) << level) - 1;
    let place = 2 * before - u64::from(before.count_ones()) + u64::from(level);
    usize::try_from(place).expect("the list is in memory")
}

fn group_hasher(index: u64) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(index * GROUP);
    hasher
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "all is small")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    fn check_root(len: usize, step: usize) {
        let body = body(len);
        let mut tree = Tree::default();
        for piece in body.chunks(step) {
            tree.update(piece);
        }
        assert_eq!(tree.size(), len as u64);
        assert_eq!(tree.root(), *blake3::hash(&body).as_bytes(), "{len} octets by {step}");
        assert_eq!(tree.nodes().len() as u64, node_count(len as u64), "{len}");
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let body = body(300_000);
        for at in [0, 1, 16_384, 16_385, 150_000] {
            let mut tree = Tree::default();
            tree.update(&body[..at]);
            let mark = tree.mark();
            tree.update(&body[..90_000]);
            tree.rewind(mark);
            tree.update(&body[at..]);
            assert_eq!(tree.root(), *blake3::hash(&body).as_bytes(), "{at}");
        }
    }

    #[test]
    fn the_root_is_the_hash_of_blake3_at_every_size_that_matters() {
        let group = GROUP as usize;
        for groups in 0..20 {
            for less in [0, 1, 1023, 1024, 1025] {
                let len = (groups * group + group).saturating_sub(less);
                check_root(len, 7_919);
                check_root(len, group);
            }
        }
        check_root(0, 1);
        check_root(1, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_root_does_not_depend_on_the_pieces(len in 0_usize..400_000, step in 1_usize..70_000) {
            check_root(len, step);
        }

        #[test]
        fn a_group_that_is_tried_first_ends_in_the_same_tree(len in 1_usize..200_000, by in 1_usize..40_000) {
            let body = body(len);
            let (mut plain, mut tried) = (Tree::default(), Tree::default());
            plain.update(&body);
            let mut at = 0;
            while at < len {
                let end = (at / GROUP as usize + 1) * GROUP as usize;
                let next = (at + by).min(end).min(len);
                let group = tried.extended(&body[at..next]);
                tried.extend(group);
                at = next;
            }
            prop_assert_eq!(plain.root(), tried.root());
            prop_assert_eq!(plain.nodes(), tried.nodes());
        }
    }
}
