//! The form of a stream: a frame with the receipt, then frames of content.
//!
//! | frame | octets |
//! |---|---|
//! | receipt | kind 1; length of the receipt (32 bits, as all numbers little-endian); the receipt |
//! | run | kind 2; length n of the content (32); n octets of content; the signature (512) of a tree head over all content up to here |
//! | tree | kind 3; a tree head; end (64); proof and content up to `end` |
//! | end | kind 4; the signature (512) of the tree head over all content, which is whole |
//!
//! The content of a frame begins where that of the frame before ended. Within a tree frame the nodes from
//! the root down to the groups of its content stand in pre-order: the two chaining values below a node,
//! then what is left of it, then what is right of it, each only if it has such content (this is the
//! combined encoding of Bao, with groups of 16 KiB as leaves, of a part). A tree frame ends at a multiple
//! of 16 KiB, or at the end of its head. A first group of which the receiver has the beginning is sent
//! without that.

use crate::receipt::TREE_HEAD;

/// The name of this form, for a header field.
pub const FORM: &str = "coralline-receipt-1";

pub(crate) const RECEIPT: u8 = 1;
pub(crate) const RUN: u8 = 2;
pub(crate) const TREE: u8 = 3;
pub(crate) const END: u8 = 4;

/// Octets of a tree frame after its kind and before its nodes.
pub(crate) const TREE_FIELDS: usize = TREE_HEAD + 8;
/// Octets of a signature.
pub(crate) const SIGNATURE: usize = 64;
/// Octets of two chaining values.
pub(crate) const PAIR: usize = 64;
