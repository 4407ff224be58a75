//! Noise_IK_25519_ChaChaPoly_BLAKE2s by `snow`, with keys that follow from Ed25519 identities.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::contact::Identity;
use crate::keys::{Keys, x25519_public};
use crate::transport::datagram::{InitPayload, MESSAGE_2, SessionId};
use crate::transport::limits::MAX_DATAGRAM;

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// Binds the handshake to this protocol, so that no other use of a key can be mistaken for it.
const PROLOGUE: &[u8] = b"coralline overlay v1";

/// Makes handshakes in the name of one node.
#[derive(Debug)]
pub(crate) struct Noise {
    keys: Keys,
    params: NoiseParams,
}

/// A first message that was read; the second is yet to be written.
#[derive(Debug)]
pub(crate) struct Accepted {
    handshake: HandshakeState,
    pub(crate) identity: Identity,
    pub(crate) remote: SessionId,
    pub(crate) plaintext: Vec<u8>,
}

/// A first message that was sent; the second is yet to be read.
#[derive(Debug)]
pub(crate) struct Initiated {
    handshake: HandshakeState,
}

impl Noise {
    pub(crate) fn new(keys: Keys) -> Self {
        let params = PATTERN.parse().expect("the pattern's name is one that snow knows");
        Self { keys, params }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Writes message 1 to `peer`; nothing if that identity is none. `plaintext` has room in an Init.
    pub(crate) fn initiate(
        &self,
        seed: [u8; 32],
        peer: &Identity,
        session: SessionId,
        plaintext: &[u8],
    ) -> Option<(Initiated, Vec<u8>)> {
        let remote = x25519_public(peer)?;
        let secret = self.keys.x25519_secret();
        let mut handshake = self
            .builder(seed, &secret)
            .remote_public_key(&remote)
            .and_then(Builder::build_initiator)
            .expect("keys of the right size make an initiator");
        let payload = InitPayload { identity: self.keys.identity(), session, plaintext }.encode();
        let mut message = vec![0; MAX_DATAGRAM];
        // A hostile identity can make the exchange fail, so this is no invariant.
        let length = handshake.write_message(&payload, &mut message).ok()?;
        message.truncate(length);
        Some((Initiated { handshake }, message))
    }

    /// Reads message 1; nothing if it is not meant for this node, forged, or from somebody whose
    /// identity is not that of the static key which the message proves.
    pub(crate) fn accept(&self, seed: [u8; 32], message: &[u8]) -> Option<Accepted> {
        let secret = self.keys.x25519_secret();
        let mut handshake = self
            .builder(seed, &secret)
            .build_responder()
            .expect("keys of the right size make a responder");
        let mut payload = vec![0; MAX_DATAGRAM];
        let length = handshake.read_message(message, &mut payload).ok()?;
        let payload = InitPayload::parse(payload.get(..length)?)?;
        let proved = x25519_public(&payload.identity)?;
        if handshake.get_remote_static() != Some(&proved[..]) {
            return None;
        }
        Some(Accepted {
            identity: payload.identity,
            remote: payload.session,
            plaintext: payload.plaintext.to_vec(),
            handshake,
        })
    }

    fn builder<'a>(&self, seed: [u8; 32], secret: &'a [u8; 32]) -> Builder<'a> {
        Builder::with_resolver(self.params.clone(), Box::new(Seeded(seed)))
            .local_private_key(secret)
            .and_then(|builder| builder.prologue(PROLOGUE))
            .expect("each is set once")
    }
}

impl Accepted {
    /// Writes message 2, which carries `plaintext`.
    pub(crate) fn respond(
        mut self,
        session: SessionId,
        plaintext: &[u8],
    ) -> Option<(StatelessTransportState, Vec<u8>)> {
        let payload = [&session.0.to_be_bytes(), plaintext].concat();
        let mut message = vec![0; MESSAGE_2 + payload.len()];
        let length = self.handshake.write_message(&payload, &mut message).ok()?;
        message.truncate(length);
        Some((self.handshake.into_stateless_transport_mode().ok()?, message))
    }
}

impl Initiated {
    /// Reads message 2: the responder's session and plaintext. A forged one leaves this as it was.
    pub(crate) fn read(&mut self, message: &[u8]) -> Option<(SessionId, Vec<u8>)> {
        let mut payload = vec![0; MAX_DATAGRAM];
        let length = self.handshake.read_message(message, &mut payload).ok()?;
        payload.truncate(length);
        let (session, plaintext) = payload.split_first_chunk()?;
        Some((SessionId(u64::from_be_bytes(*session)), plaintext.to_vec()))
    }

    /// The keys of the session, once message 2 was read.
    pub(crate) fn finish(self) -> Option<StatelessTransportState> {
        self.handshake.into_stateless_transport_mode().ok()
    }
}

/// The default primitives, but randomness from a seed, so that a run can be repeated exactly.
struct Seeded([u8; 32]);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom(ChaCha20Rng::from_seed(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SeededRandom(ChaCha20Rng);

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u8) -> Noise {
        Noise::new(Keys::from_seed(&[seed; 32]))
    }

    #[test]
    fn the_first_two_messages_carry_request_and_answer() {
        let (a, b) = (noise(1), noise(2));
        let (mut initiated, message) =
            a.initiate([3; 32], &b.keys.identity(), SessionId(4), b"request").unwrap();
        let accepted = b.accept([5; 32], &message).unwrap();
        assert_eq!(accepted.identity, a.keys.identity());
        assert_eq!((accepted.remote, &accepted.plaintext[..]), (SessionId(4), &b"request"[..]));
        let (b_keys, message) = accepted.respond(SessionId(6), b"answer").unwrap();

        let mut forged = message.clone();
        forged[40] ^= 1;
        assert_eq!(initiated.read(&forged), None);
        assert_eq!(initiated.read(&message), Some((SessionId(6), b"answer".to_vec())));
        let a_keys = initiated.finish().unwrap();
        let (mut sealed, mut opened) = (vec![0; 64], vec![0; 64]);
        let length = a_keys.write_message(7, b"more", &mut sealed).unwrap();
        let length = b_keys.read_message(7, &sealed[..length], &mut opened).unwrap();
        assert_eq!(&opened[..length], b"more");
    }

    #[test]
    fn nobody_speaks_in_the_name_of_another() {
        let (a, b, victim) = (noise(1), noise(2), noise(3));
        let payload = InitPayload {
            identity: victim.keys.identity(),
            session: SessionId(4),
            plaintext: b"store",
        };
        let secret = a.keys.x25519_secret();
        let remote = x25519_public(&b.keys.identity()).unwrap();
        let mut handshake = a
            .builder([5; 32], &secret)
            .remote_public_key(&remote)
            .and_then(Builder::build_initiator)
            .unwrap();
        let mut message = vec![0; MAX_DATAGRAM];
        let length = handshake.write_message(&payload.encode(), &mut message).unwrap();
        assert!(b.accept([6; 32], &message[..length]).is_none());
    }

    #[test]
    fn a_message_for_somebody_else_is_refused() {
        let (a, b, other) = (noise(1), noise(2), noise(3));
        let (_, message) = a.initiate([3; 32], &b.keys.identity(), SessionId(4), b"").unwrap();
        assert!(other.accept([5; 32], &message).is_none());
        assert!(b.accept([5; 32], &message[..60]).is_none());
    }

    #[test]
    fn the_same_seed_gives_the_same_octets() {
        let (a, b) = (noise(1), noise(2));
        let of = |seed| a.initiate([seed; 32], &b.keys.identity(), SessionId(4), b"x").unwrap().1;
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
