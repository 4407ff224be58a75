//! The datagrams on the wire: one octet of kind, then fields of fixed size, then ciphertext.
//!
//! | kind | fields | octets |
//! |---|---|---|
//! | Init | Noise message 1 of {identity 32, session 8, length 2, plaintext, zeros} | 1,200 |
//! | Response | initiator's session 8, Noise message 2 of {session 8, plaintext} | 65 + plaintext |
//! | Data | receiver's session 8, nonce 8, ciphertext | 33 + plaintext |
//! | Reset | session 8 and nonce 8 of the Data that met no session | 17 |
//! | WhoAreYou | nonce 16, zeros | 113 |
//! | IAm | nonce 16, identity 32, Ed25519 signature 64 | 113 |
//!
//! Only Init makes its receiver work or answer at length for a stranger, and no answer is larger than
//! what caused it. Integers are big-endian.

use crate::contact::Identity;
use crate::transport::limits::MAX_DATAGRAM;

/// The end of an AEAD ciphertext, and of each encrypted field of a handshake.
pub(crate) const TAG: usize = 16;
/// An X25519 public key.
const KEY: usize = 32;
/// Octets of Noise message 1 (`e, es, s, ss`, payload) beside its payload.
const MESSAGE_1: usize = KEY + KEY + TAG + TAG;
/// Octets of Noise message 2 (`e, ee, se`, payload) beside its payload.
pub(crate) const MESSAGE_2: usize = KEY + TAG;
/// The length of the payload of every Init: the rest of the datagram.
pub(crate) const INIT_PAYLOAD: usize = MAX_DATAGRAM - 1 - MESSAGE_1;
/// Octets of plaintext that an Init has room for.
pub(crate) const INIT_ROOM: usize = INIT_PAYLOAD - 32 - 8 - 2;
/// Octets that a Response takes beside its plaintext.
pub(crate) const RESPONSE_OVERHEAD: usize = 1 + 8 + MESSAGE_2 + 8;
/// Octets that Data takes beside its plaintext.
pub(crate) const DATA_OVERHEAD: usize = 1 + 8 + 8 + TAG;
/// Octets of WhoAreYou and of IAm alike.
const WHO_ARE_YOU: usize = 1 + 16 + 32 + 64;

/// The first octet: a version in the high half, the kind in the low half.
mod kind {
    pub(super) const INIT: u8 = 0x11;
    pub(super) const RESPONSE: u8 = 0x12;
    pub(super) const DATA: u8 = 0x13;
    pub(super) const RESET: u8 = 0x14;
    pub(super) const WHO_ARE_YOU: u8 = 0x15;
    pub(super) const I_AM: u8 = 0x16;
}

/// Names a session at the side that chose it: random, so that only who saw it can name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// A datagram taken apart; what is encrypted is still so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    Init { noise: &'a [u8] },
    Response { receiver: SessionId, noise: &'a [u8] },
    Data { receiver: SessionId, nonce: u64, ciphertext: &'a [u8] },
    Reset { receiver: SessionId, nonce: u64 },
    WhoAreYou { nonce: [u8; 16] },
    IAm { nonce: [u8; 16], identity: Identity, signature: &'a [u8; 64] },
}

impl<'a> Datagram<'a> {
    /// Takes a datagram apart, or nothing if it is none of ours.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > MAX_DATAGRAM {
            return None;
        }
        let (&kind, rest) = bytes.split_first()?;
        match kind {
            kind::INIT => (bytes.len() == MAX_DATAGRAM).then_some(Self::Init { noise: rest }),
            kind::RESPONSE => {
                let (receiver, noise) = session(rest)?;
                (noise.len() >= MESSAGE_2 + 8).then_some(Self::Response { receiver, noise })
            }
            kind::DATA => {
                let (receiver, rest) = session(rest)?;
                let (nonce, ciphertext) = rest.split_first_chunk()?;
                let nonce = u64::from_be_bytes(*nonce);
                (ciphertext.len() >= TAG).then_some(Self::Data { receiver, nonce, ciphertext })
            }
            kind::RESET => {
                let (receiver, rest) = session(rest)?;
                let nonce = u64::from_be_bytes(rest.try_into().ok()?);
                Some(Self::Reset { receiver, nonce })
            }
            kind::WHO_ARE_YOU if bytes.len() == WHO_ARE_YOU => {
                Some(Self::WhoAreYou { nonce: *rest.first_chunk()? })
            }
            kind::I_AM => {
                let (nonce, rest) = rest.split_first_chunk()?;
                let (identity, signature) = rest.split_first_chunk()?;
                let signature = signature.try_into().ok()?;
                Some(Self::IAm { nonce: *nonce, identity: Identity(*identity), signature })
            }
            _ => None,
        }
    }

    /// Writes the datagram.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_DATAGRAM);
        match *self {
            Self::Init { noise } => {
                out.push(kind::INIT);
                out.extend_from_slice(noise);
            }
            Self::Response { receiver, noise } => {
                out.push(kind::RESPONSE);
                out.extend_from_slice(&receiver.0.to_be_bytes());
                out.extend_from_slice(noise);
            }
            Self::Data { receiver, nonce, ciphertext } => {
                out.push(kind::DATA);
                out.extend_from_slice(&receiver.0.to_be_bytes());
                out.extend_from_slice(&nonce.to_be_bytes());
                out.extend_from_slice(ciphertext);
            }
            Self::Reset { receiver, nonce } => {
                out.push(kind::RESET);
                out.extend_from_slice(&receiver.0.to_be_bytes());
                out.extend_from_slice(&nonce.to_be_bytes());
            }
            Self::WhoAreYou { nonce } => {
                out.push(kind::WHO_ARE_YOU);
                out.extend_from_slice(&nonce);
                out.resize(WHO_ARE_YOU, 0);
            }
            Self::IAm { nonce, identity, signature } => {
                out.push(kind::I_AM);
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&identity.0);
                out.extend_from_slice(signature);
            }
        }
        out
    }
}

fn session(bytes: &[u8]) -> Option<(SessionId, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    Some((SessionId(u64::from_be_bytes(*id)), rest))
}

/// What an Init says under its encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitPayload<'a> {
    /// Who sends it; must belong to the static key that Noise proves.
    pub(crate) identity: Identity,
    /// The session at the sender.
    pub(crate) session: SessionId,
    /// The first message; empty when it had no room.
    pub(crate) plaintext: &'a [u8],
}

impl<'a> InitPayload<'a> {
    /// Reads a decrypted payload.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (identity, rest) = bytes.split_first_chunk()?;
        let (session, rest) = session(rest)?;
        let (length, rest) = rest.split_first_chunk()?;
        let plaintext = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        Some(Self { identity: Identity(*identity), session, plaintext })
    }

    /// Writes the payload, padded to [`INIT_PAYLOAD`]; a plaintext over [`INIT_ROOM`] is a bug.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.plaintext.len()).expect("a plaintext has room in an Init");
        let mut out = Vec::with_capacity(INIT_PAYLOAD);
        out.extend_from_slice(&self.identity.0);
        out.extend_from_slice(&self.session.0.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.plaintext);
        debug_assert!(out.len() <= INIT_PAYLOAD, "a plaintext has room in an Init");
        out.resize(INIT_PAYLOAD, 0);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(datagram: Datagram<'_>, length: usize) {
        let bytes = datagram.encode();
        assert_eq!(bytes.len(), length, "{datagram:?}");
        assert_eq!(Datagram::parse(&bytes), Some(datagram));
        assert_eq!(Datagram::parse(&bytes[..bytes.len() / 2]), None, "{datagram:?} cut");
    }

    #[test]
    fn each_kind_reads_as_it_was_written() {
        let receiver = SessionId(0x0102_0304_0506_0708);
        check(Datagram::Init { noise: &[7; MAX_DATAGRAM - 1] }, MAX_DATAGRAM);
        check(Datagram::Response { receiver, noise: &[7; MESSAGE_2 + 8] }, RESPONSE_OVERHEAD);
        check(Datagram::Data { receiver, nonce: 9, ciphertext: &[7; TAG] }, DATA_OVERHEAD);
        check(Datagram::Reset { receiver, nonce: u64::MAX }, 17);
        check(Datagram::WhoAreYou { nonce: [3; 16] }, WHO_ARE_YOU);
        let i_am =
            Datagram::IAm { nonce: [3; 16], identity: Identity([4; 32]), signature: &[5; 64] };
        check(i_am, WHO_ARE_YOU);
    }

    #[test]
    fn lengths_that_amplify_or_overrun_are_refused() {
        for length in [0, 1, 1_199, 1_201, 9_000] {
            let mut bytes = vec![kind::INIT; length];
            assert_eq!(Datagram::parse(&bytes), None, "Init of {length}");
            bytes.fill(kind::WHO_ARE_YOU);
            assert_eq!(Datagram::parse(&bytes), None, "WhoAreYou of {length}");
        }
        assert_eq!(Datagram::parse(&[kind::RESET; 18]), None);
        assert_eq!(Datagram::parse(&[kind::I_AM; WHO_ARE_YOU + 1]), None);
    }

    #[test]
    fn an_init_payload_whose_length_overruns_is_refused() {
        let payload =
            InitPayload { identity: Identity([1; 32]), session: SessionId(2), plaintext: &[3; 4] };
        let mut bytes = payload.encode();
        assert_eq!(InitPayload::parse(&bytes), Some(payload));
        bytes[40..42].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(InitPayload::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_inverts(
            kind in 0x10_u8..0x18,
            mut bytes in prop::collection::vec(any::<u8>(), 0..1300),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Some(datagram) = Datagram::parse(&bytes) {
                let again = datagram.encode();
                prop_assert_eq!(again.len(), bytes.len());
                prop_assert_eq!(Datagram::parse(&again), Some(datagram));
            }
            let _ = InitPayload::parse(&bytes);
        }
    }
}
