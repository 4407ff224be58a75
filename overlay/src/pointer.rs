//! The values of the index: pointers to nodes that hold a thing, never the thing itself.

use crate::contact::Contact;

/// How much of it the holder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is arriving; the holder passes on what it has.
    Receiving,
    /// All of it.
    Whole,
}

/// "This node has it." Its time to live travels beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    /// Who has it.
    pub holder: Contact,
    /// How much of it.
    pub state: State,
    /// Its length in bytes, where known.
    pub length: Option<u64>,
    /// Its BLAKE3 root, where known.
    pub root: Option<[u8; 32]>,
}
