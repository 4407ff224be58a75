//! What a node signs of a response that it fetched from the origin.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::limits::{MAX_RECEIPT, MAX_SIZE, MAX_URI};
use crate::wrong::Wrong;

/// What is signed, before the rest of it: no other use of a node's key shares this.
const CONTEXT: &[u8] = b"coralline receipt v1: signed tree head\0";
/// The first octet of a receipt.
const FORMAT: u8 = 1;
/// For a length that is not known.
const UNKNOWN: u64 = u64::MAX;
/// Octets of a [`TreeHead`].
pub(crate) const TREE_HEAD: usize = 8 + 1 + 32 + 64;

/// What a receipt is about: all that is known once the head of a response is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The target URI, as the cache knows it; at most [`MAX_URI`] octets.
    pub uri: String,
    /// Digest of what the request said in the fields that Vary names; see [`crate::fields_digest`].
    pub variant: [u8; 32],
    /// The status code.
    pub status: u16,
    /// Digest of the response's fields as they are stored; see [`crate::fields_digest`].
    pub fields: [u8; 32],
    /// Where in the representation the content begins, in octets: 0 but for a part that was fetched alone.
    pub first: u64,
    /// Octets of the content, where that is known.
    pub length: Option<u64>,
    /// When the origin made the response, in milliseconds since 1970.
    pub time: u64,
    /// The Ed25519 public key of who fetched it.
    pub signer: [u8; 32],
}

/// The tree over the first octets of the content, signed (RFC 9162, section 4.10, has the name).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// How many octets.
    pub size: u64,
    /// They are all of the content.
    pub whole: bool,
    /// Their BLAKE3 hash.
    pub root: [u8; 32],
    /// The signer's, over subject, size, `whole` and root.
    pub signature: [u8; 64],
}

/// The word of one node for a response, or for the beginning of one that it is still receiving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it is about.
    pub subject: Subject,
    /// What it says of the content.
    pub head: TreeHead,
}

impl Subject {
    /// It is about the same, whoever has signed it.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        Self { signer: other.signer, ..self.clone() } == *other
    }

    /// What stands for it under a signature.
    pub(crate) fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }

    fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(MAX_RECEIPT - MAX_URI + self.uri.len());
        let uri = u16::try_from(self.uri.len()).expect("a URI is within MAX_URI");
        octets.push(FORMAT);
        octets.extend_from_slice(&uri.to_le_bytes());
        octets.extend_from_slice(self.uri.as_bytes());
        octets.extend_from_slice(&self.variant);
        octets.extend_from_slice(&self.status.to_le_bytes());
        octets.extend_from_slice(&self.fields);
        octets.extend_from_slice(&self.first.to_le_bytes());
        octets.extend_from_slice(&self.length.unwrap_or(UNKNOWN).to_le_bytes());
        octets.extend_from_slice(&self.time.to_le_bytes());
        octets.extend_from_slice(&self.signer);
        octets
    }

    fn decode(octets: &mut &[u8]) -> Option<Self> {
        let [format] = take(octets)?;
        let uri = usize::from(u16::from_le_bytes(take(octets)?));
        if format != FORMAT || uri > MAX_URI {
            return None;
        }
        let (uri, rest) = octets.split_at_checked(uri)?;
        *octets = rest;
        let subject = Self {
            uri: std::str::from_utf8(uri).ok()?.to_owned(),
            variant: take(octets)?,
            status: u16::from_le_bytes(take(octets)?),
            fields: take(octets)?,
            first: u64::from_le_bytes(take(octets)?),
            length: Some(u64::from_le_bytes(take(octets)?)).filter(|length| *length != UNKNOWN),
            time: u64::from_le_bytes(take(octets)?),
            signer: take(octets)?,
        };
        subject.is_valid().then_some(subject)
    }

    /// It is within the limits.
    pub(crate) fn is_valid(&self) -> bool {
        let length = self.length.unwrap_or(0);
        let fits = length <= MAX_SIZE && self.first <= MAX_SIZE - length;
        fits && self.uri.len() <= MAX_URI && self.length != Some(UNKNOWN)
    }
}

impl TreeHead {
    /// Signs for who fetched the subject: `sign` makes the Ed25519 signature of its key.
    pub(crate) fn sign(
        subject: &[u8; 32],
        size: u64,
        whole: bool,
        root: [u8; 32],
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Self {
        let head = Self { size, whole, root, signature: [0; 64] };
        Self { signature: sign(&head.message(subject)), ..head }
    }

    /// Whether `signer` has signed it for the subject with this digest.
    pub(crate) fn verify(&self, signer: &VerifyingKey, subject: &[u8; 32]) -> Result<(), Wrong> {
        let signature = Signature::from_bytes(&self.signature);
        let verified = signer.verify_strict(&self.message(subject), &signature);
        verified.map_err(|_| Wrong::Signature)
    }

    fn message(&self, subject: &[u8; 32]) -> Vec<u8> {
        let size = self.size.to_le_bytes();
        [CONTEXT, subject, &size, &[u8::from(self.whole)], &self.root].concat()
    }

    pub(crate) fn encode(&self) -> [u8; TREE_HEAD] {
        let mut octets = [0; TREE_HEAD];
        octets[..8].copy_from_slice(&self.size.to_le_bytes());
        octets[8] = u8::from(self.whole);
        octets[9..41].copy_from_slice(&self.root);
        octets[41..].copy_from_slice(&self.signature);
        octets
    }

    pub(crate) fn decode(octets: &mut &[u8]) -> Option<Self> {
        let size = u64::from_le_bytes(take(octets)?);
        let whole = match take(octets)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let head = Self { size, whole, root: take(octets)?, signature: take(octets)? };
        (size <= MAX_SIZE).then_some(head)
    }

    /// It says nothing that the subject or the empty content contradict.
    pub(crate) fn fits(&self, subject: &Subject) -> bool {
        let length = subject.length.unwrap_or(self.size);
        let size = if self.whole { length == self.size } else { length >= self.size };
        size && (self.size > 0 || self.root == *blake3::hash(&[]).as_bytes())
    }
}

impl Receipt {
    /// The octets, at most [`MAX_RECEIPT`]: two equal receipts have the same.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = self.subject.encode();
        octets.extend_from_slice(&self.head.encode());
        octets
    }

    /// Reads what [`Self::encode`] wrote; who signed it is not looked at.
    ///
    /// # Errors
    /// [`Wrong::Malformed`].
    pub fn decode(octets: &[u8]) -> Result<Self, Wrong> {
        let mut rest = octets;
        let receipt = Self::read(&mut rest).filter(|_| rest.is_empty());
        receipt.ok_or(Wrong::Malformed)
    }

    pub(crate) fn read(octets: &mut &[u8]) -> Option<Self> {
        let subject = Subject::decode(octets)?;
        let head = TreeHead::decode(octets)?;
        Some(Self { subject, head }).filter(|receipt| receipt.head.fits(&receipt.subject))
    }

    /// The same octets under another subject, for who has asked the origin again and heard that they have
    /// not changed.
    ///
    /// # Errors
    /// [`Wrong::Malformed`] if this is not about the whole, or the subject has another length;
    /// [`Wrong::Signature`] if the subject names no key.
    pub fn renewed(
        &self,
        subject: Subject,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, Wrong> {
        key(&subject)?;
        let TreeHead { size, whole, root, .. } = self.head;
        let other_length = subject.length.is_some_and(|length| length != size);
        if !whole || !subject.is_valid() || other_length {
            return Err(Wrong::Malformed);
        }
        let head = TreeHead::sign(&subject.digest(), size, true, root, sign);
        Ok(Self { subject, head })
    }

    /// Whether it was signed by the key that it names. Whose word that is worth is for the caller to know.
    ///
    /// # Errors
    /// [`Wrong::Signature`].
    pub fn verify(&self) -> Result<(), Wrong> {
        self.head.verify(&key(&self.subject)?, &self.subject.digest())
    }
}

pub(crate) fn key(subject: &Subject) -> Result<VerifyingKey, Wrong> {
    VerifyingKey::from_bytes(&subject.signer).map_err(|_| Wrong::Signature)
}

pub(crate) fn take<const N: usize>(octets: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = octets.split_first_chunk()?;
    *octets = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;

    fn signed(seed: u8, change: impl FnOnce(&mut Subject, &mut u64, &mut bool)) -> Receipt {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let mut subject = Subject {
            uri: "//a.example/b".into(),
            variant: [1; 32],
            status: 200,
            fields: [2; 32],
            first: 0,
            length: Some(5),
            time: 1_700_000_000_000,
            signer: key.verifying_key().to_bytes(),
        };
        let (mut size, mut whole) = (5, true);
        change(&mut subject, &mut size, &mut whole);
        let sign = |message: &[u8]| key.sign(message).to_bytes();
        let head = TreeHead::sign(&subject.digest(), size, whole, [3; 32], sign);
        Receipt { subject, head }
    }

    #[test]
    fn a_receipt_comes_back_and_verifies() {
        let receipt = signed(7, |_, _, _| ());
        let octets = receipt.encode();
        assert!(octets.len() <= MAX_RECEIPT);
        assert_eq!(Receipt::decode(&octets), Ok(receipt.clone()));
        assert_eq!(receipt.verify(), Ok(()));
        let longest = signed(7, |subject, _, _| subject.uri = "x".repeat(MAX_URI)).encode();
        assert!(longest.len() <= MAX_RECEIPT && Receipt::decode(&longest).is_ok());
    }

    #[test]
    fn no_octet_may_change() {
        let octets = signed(7, |_, _, _| ()).encode();
        for at in 0..octets.len() {
            for bit in 0..8 {
                let mut other = octets.clone();
                other[at] ^= 1 << bit;
                let taken = Receipt::decode(&other).and_then(|receipt| receipt.verify());
                assert!(taken.is_err(), "bit {bit} of octet {at}");
            }
        }
        for cut in 0..octets.len() {
            assert!(Receipt::decode(&octets[..cut]).is_err());
        }
        assert!(Receipt::decode(&[&octets[..], &[0]].concat()).is_err());
    }

    #[test]
    fn nobody_signs_for_another() {
        let (one, other) = (signed(7, |_, _, _| ()), signed(8, |_, _, _| ()));
        let forged = Receipt { head: other.head, ..one.clone() };
        assert_eq!(forged.verify(), Err(Wrong::Signature));
        // The neutral element, under which one signature fits everything.
        let mut weak = one;
        weak.subject.signer = [0; 32];
        weak.subject.signer[0] = 1;
        weak.head.signature = [0; 64];
        weak.head.signature[0] = 1;
        assert_eq!(weak.verify(), Err(Wrong::Signature));
    }

    #[test]
    fn what_contradicts_itself_is_none() {
        let check = |change: &dyn Fn(&mut Subject, &mut u64, &mut bool), good| {
            let receipt = signed(7, |subject, size, whole| change(subject, size, whole));
            assert_eq!(Receipt::decode(&receipt.encode()).is_ok(), good, "{receipt:?}");
        };
        check(&|_, size, whole| (*size, *whole) = (4, false), true);
        check(&|subject, _, _| subject.length = None, true);
        check(&|_, size, _| *size = 4, false);
        check(&|_, size, whole| (*size, *whole) = (6, false), false);
        check(&|subject, _, _| subject.first = u64::MAX - 1, false);
        check(&|subject, size, _| (subject.length, *size) = (None, MAX_SIZE + 1), false);
        // The hash of nothing is known to all.
        check(&|subject, size, _| (subject.length, *size) = (Some(0), 0), false);
    }

    proptest! {
        #[test]
        fn any_octets_are_a_receipt_or_refused(octets: Vec<u8>) {
            let with_format = [&[FORMAT, 0, 0][..], &octets].concat();
            for octets in [octets, with_format] {
                if let Ok(receipt) = Receipt::decode(&octets) {
                    prop_assert_eq!(receipt.encode(), octets);
                    let _ = receipt.verify();
                }
            }
        }
    }
}
