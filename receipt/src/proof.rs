//! All that shows content to be what its signer says: the receipt, and the nodes of the tree.

use std::cmp::Ordering;
use std::ops::Range;

use ed25519_dalek::VerifyingKey;

use crate::limits::{GROUP, MAX_SIZE};
use crate::receipt::{Receipt, Subject, TreeHead, key};
use crate::tree::{Group, Hash, Pair, Tree, View, groups, node_count, root};
use crate::wrong::Wrong;

/// The proof of a body that is arriving: at the node that fetches it and signs, or at one that receives it
/// with its proof. It takes 64 octets of memory for each 16 KiB, twice that for moments.
#[derive(Clone)]
pub struct PartialProof {
    receipt: Receipt,
    signer: VerifyingKey,
    /// Of the subject.
    digest: Hash,
    tree: Tree,
    /// What stands for the last group of the head, where all of the head is here.
    edge: Option<Hash>,
    /// What was proved down to the last group that is here, where more of the head is to come.
    path: Vec<Pair>,
    /// Octets that can be proved under the head.
    proved: u64,
}

/// The proof of a whole body. It takes 64 octets for each 16 KiB, 0.4 %.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    receipt: Receipt,
    nodes: Box<[Hash]>,
    edge: Option<Hash>,
}

/// What can be proved to others at this moment.
#[derive(Clone, Copy)]
pub struct Provable<'a> {
    pub(crate) head: &'a TreeHead,
    pub(crate) view: View<'a>,
    /// How many octets.
    pub(crate) size: u64,
}

impl PartialProof {
    /// Begins for who fetches the subject and signs: `sign` makes the Ed25519 signature of its key.
    ///
    /// # Errors
    /// [`Wrong::Malformed`] if the subject is none that a receipt may have, [`Wrong::Signature`] if its
    /// signer is no key.
    pub fn begin(subject: Subject, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Self, Wrong> {
        if !subject.is_valid() {
            return Err(Wrong::Malformed);
        }
        let head = TreeHead::sign(&subject.digest(), 0, false, Tree::default().root(), sign);
        Self::of(Receipt { subject, head })
    }

    /// Begins for who receives it.
    pub(crate) fn of(receipt: Receipt) -> Result<Self, Wrong> {
        let (signer, digest) = (key(&receipt.subject)?, receipt.subject.digest());
        let (tree, edge, path, proved) = (Tree::default(), None, Vec::new(), 0);
        Ok(Self { receipt, signer, digest, tree, edge, path, proved })
    }

    /// Adds octets that came from the origin; false, and nothing added, if they are more than
    /// [`MAX_SIZE`], or than the subject says.
    #[must_use]
    pub fn update(&mut self, octets: &[u8]) -> bool {
        let size = self.tree.size() + octets.len() as u64;
        let fits = size <= self.receipt.subject.length.unwrap_or(MAX_SIZE);
        if fits {
            self.tree.update(octets);
        }
        fits
    }

    /// Octets that others cannot be shown yet, as nothing is signed of them.
    #[must_use]
    pub fn unsigned(&self) -> u64 {
        self.tree.size().saturating_sub(self.receipt.head.size)
    }

    /// Signs all that is here; `whole` if that is all there is. False, and nothing signed, if the subject
    /// says that it is more.
    #[must_use]
    pub fn seal(&mut self, whole: bool, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> bool {
        let size = self.tree.size();
        if whole && self.receipt.subject.length.is_some_and(|length| length != size) {
            return false;
        }
        let head = TreeHead::sign(&self.digest, size, whole, self.tree.root(), sign);
        self.seal_with(head);
        true
    }

    /// The head is of all that is here.
    fn seal_with(&mut self, head: TreeHead) {
        self.edge = self.tree.edge();
        self.path.clear();
        (self.receipt.head, self.proved) = (head, head.size);
    }

    /// The same octets under another subject, for who goes on at the origin where another's word ended.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn taken_over(
        self,
        subject: Subject,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, Wrong> {
        let (size, root) = (self.tree.size(), self.tree.root());
        if !subject.is_valid() || subject.length.is_some_and(|length| length < size) {
            return Err(Wrong::Malformed);
        }
        let head = TreeHead::sign(&subject.digest(), size, false, root, sign);
        let mut taken = Self { tree: self.tree, ..Self::of(Receipt { subject, head })? };
        taken.seal_with(head);
        Ok(taken)
    }

    /// What it is about, and the last that was signed of it.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Octets that can be shown to others.
    #[must_use]
    pub fn proved(&self) -> u64 {
        self.proved
    }

    /// Octets of memory that its nodes take.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.tree.memory()
    }

    /// What can be proved to others now.
    #[must_use]
    pub fn provable(&self) -> Provable<'_> {
        let Receipt { head, .. } = &self.receipt;
        let (nodes, groups) = (self.tree.nodes(), groups(head.size));
        let view = View { nodes, groups, edge: self.edge, path: &self.path };
        Provable { head, view, size: self.proved }
    }

    /// The proof of the whole; nothing if it is not whole, or not signed as such.
    #[must_use]
    pub fn finish(self) -> Option<Proof> {
        let Self { receipt, tree, edge, .. } = self;
        let whole = receipt.head.whole && receipt.head.size == tree.size();
        whole.then(|| Proof { receipt, nodes: tree.into_nodes(), edge })
    }

    // For the decoder.

    pub(crate) fn size(&self) -> u64 {
        self.tree.size()
    }

    pub(crate) fn verify(&self, head: &TreeHead) -> Result<(), Wrong> {
        if *head == self.receipt.head {
            return Ok(());
        }
        head.verify(&self.signer, &self.digest)?;
        head.fits(&self.receipt.subject).then_some(()).ok_or(Wrong::Contradiction)
    }

    /// Goes on under a verified receipt, which is of the same subject but for who has signed it. Where it is
    /// another's, nothing can be shown to others until that one's word reaches as far as what is here. A
    /// wrong one changes nothing.
    pub(crate) fn go_on_under(&mut self, receipt: Receipt) -> Result<(), Wrong> {
        let (head, size) = (receipt.head, self.tree.size());
        if !self.receipt.subject.is_same_content(&receipt.subject) {
            return Err(Wrong::Other);
        }
        let contradicts = match head.size.cmp(&size) {
            Ordering::Less => head.whole,
            Ordering::Equal => head.root != self.tree.root(),
            Ordering::Greater => false,
        };
        if contradicts {
            return Err(Wrong::Contradiction);
        }
        if receipt.subject != self.receipt.subject {
            self.signer = key(&receipt.subject)?;
            self.digest = receipt.subject.digest();
            self.receipt = receipt;
            (self.edge, self.proved) = (None, 0);
            self.path.clear();
        }
        if head.size == size {
            self.seal_with(head);
        }
        Ok(())
    }

    /// A node of a head that stands for these groups, all of which are here, says what they are.
    pub(crate) fn agrees(&self, over: Range<u64>, node: &Hash) -> bool {
        self.tree.node(over) == *node
    }

    /// Octets under a running signature, or none at the end of all; wrong ones change nothing.
    pub(crate) fn run(
        &mut self,
        octets: &[u8],
        whole: bool,
        signature: [u8; 64],
    ) -> Result<(), Wrong> {
        let most = self.receipt.subject.length.unwrap_or(MAX_SIZE);
        if self.tree.size() + octets.len() as u64 > most {
            return Err(Wrong::Content);
        }
        let mark = self.tree.mark();
        self.tree.update(octets);
        let (size, root) = (self.tree.size(), self.tree.root());
        let head = TreeHead { size, whole, root, signature };
        match self.verify(&head) {
            Ok(()) => self.seal_with(head),
            Err(wrong) => {
                self.tree.rewind(mark);
                return Err(wrong);
            }
        }
        Ok(())
    }

    /// The last group as if these octets were added to it.
    pub(crate) fn extended(&self, octets: &[u8]) -> Group {
        self.tree.extended(octets)
    }

    /// A group that was proved under a verified head, along this path.
    pub(crate) fn extend(&mut self, group: Group, head: &TreeHead, path: &[Pair]) {
        self.tree.extend(group);
        if self.tree.size() == head.size {
            return self.seal_with(*head);
        }
        (self.receipt.head, self.edge, self.proved) = (*head, None, self.tree.size());
        self.path.clear();
        self.path.extend_from_slice(path);
    }

    /// All that came is what the last head says.
    pub(crate) fn is_consistent(&self) -> bool {
        let TreeHead { size, root, .. } = self.receipt.head;
        self.tree.size() == size && self.tree.root() == root
    }
}

impl Proof {
    /// Of a tree that is what the receipt says.
    pub(crate) fn of(receipt: Receipt, tree: Tree) -> Self {
        let edge = tree.edge();
        Self { receipt, nodes: tree.into_nodes(), edge }
    }

    /// The receipt of the whole.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// What can be proved to others: all of it.
    #[must_use]
    pub fn provable(&self) -> Provable<'_> {
        let Receipt { head, .. } = &self.receipt;
        let groups = groups(head.size);
        let view = View { nodes: &self.nodes, groups, edge: self.edge, path: &[] };
        Provable { head, view, size: head.size }
    }

    /// The same under another subject; see [`Receipt::renewed`].
    ///
    /// # Errors
    /// As there.
    pub fn renewed(
        &self,
        subject: Subject,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, Wrong> {
        Ok(Self { receipt: self.receipt.renewed(subject, sign)?, ..self.clone() })
    }

    /// Octets of memory that its nodes take.
    #[must_use]
    pub fn memory(&self) -> u64 {
        size_of_val(&*self.nodes) as u64
    }

    /// The octets to keep beside the content: the receipt, then the nodes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = self.receipt.encode();
        octets.extend(self.edge.iter().chain(&self.nodes).flatten());
        octets
    }

    /// Reads what [`Self::encode`] wrote. Neither the signature nor all nodes are looked at: who is shown them
    /// does that.
    ///
    /// # Errors
    /// [`Wrong::Malformed`]; [`Wrong::Content`] if the nodes are not those of the root.
    pub fn decode(mut octets: &[u8]) -> Result<Self, Wrong> {
        let receipt = Receipt::read(&mut octets).ok_or(Wrong::Malformed)?;
        let head = receipt.head;
        let (hashes, rest) = octets.as_chunks::<32>();
        let has_edge = usize::from(head.size > GROUP);
        let expected = node_count(head.size) + has_edge as u64;
        if !head.whole || !rest.is_empty() || hashes.len() as u64 != expected {
            return Err(Wrong::Malformed);
        }
        let (edge, nodes) = hashes.split_at(has_edge);
        let proof = Self { receipt, nodes: nodes.into(), edge: edge.first().copied() };
        let top = proof.edge.and_then(|_| {
            let view = proof.provable().view;
            view.children(&(0..view.groups))
        });
        if top.is_some_and(|(left, right)| root(&left, &right) != head.root) {
            return Err(Wrong::Content);
        }
        Ok(proof)
    }
}
