//! The proof of a body that came in any order, from its octets.

use crate::proof::Proof;
use crate::receipt::Receipt;
use crate::tree::Tree;
use crate::wrong::Wrong;

/// Makes the proof of a whole body, for who has its receipt and all of its octets, but not the nodes between:
/// the slices came one by one. All octets are hashed again, 5 GB a second.
pub struct Rebuild {
    receipt: Receipt,
    tree: Tree,
}

impl Rebuild {
    /// Begins, with no octet yet.
    ///
    /// # Errors
    /// [`Wrong::Signature`]; [`Wrong::Truncated`] if the receipt is not of a whole.
    pub fn new(receipt: Receipt) -> Result<Self, Wrong> {
        receipt.verify()?;
        if !receipt.head.whole {
            return Err(Wrong::Truncated);
        }
        Ok(Self { receipt, tree: Tree::default() })
    }

    /// The next octets, from the first on. What is more than the receipt says is not looked at.
    pub fn update(&mut self, octets: &[u8]) {
        let room = self.receipt.head.size - self.tree.size();
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        self.tree.update(&octets[..octets.len().min(room)]);
    }

    /// The proof.
    ///
    /// # Errors
    /// [`Wrong::Content`] if these are not the octets that the receipt is of.
    pub fn finish(self) -> Result<Proof, Wrong> {
        let Self { receipt, tree } = self;
        let same = tree.size() == receipt.head.size && tree.root() == receipt.head.root;
        same.then(|| Proof::of(receipt, tree)).ok_or(Wrong::Content)
    }
}
