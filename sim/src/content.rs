//! Content as nodes send it to each other, with its proof, and what liars make of it. The streams are those of
//! `coralline_receipt`; nothing of them is modelled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coralline_receipt::{
    Decoder, Encoder, Event, PartialProof, Proof, Span, Step, Subject, Wrong, fields_digest,
};
use ed25519_dalek::{Signer, SigningKey};

/// How a node lies about content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentLie {
    /// It turns one bit.
    Flip,
    /// It ends too early, as if that were the end.
    Truncate,
    /// It never begins.
    Silent,
    /// It begins, and then sends hardly anything.
    Drip,
    /// It sends another object, with the true receipt of that.
    Other,
    /// Its receipt is in the name of a node that has not signed it.
    Forge,
}

impl ContentLie {
    /// Every one.
    pub(crate) const ALL: [Self; 6] =
        [Self::Flip, Self::Truncate, Self::Silent, Self::Drip, Self::Other, Self::Forge];
}

/// The octets of the `at`th object: none are like those beside them.
pub(crate) fn body(at: usize, length: usize) -> Vec<u8> {
    let octet = |n: usize| (n.wrapping_mul(31) ^ (n >> 8) ^ at.wrapping_mul(101)).to_le_bytes()[0];
    (0..length).map(octet).collect()
}

pub(crate) fn uri(at: usize) -> String {
    format!("//www.example.org/{at}")
}

/// Objects, and their proofs by whoever signed them.
pub(crate) struct Library {
    length: usize,
    proofs: BTreeMap<(usize, usize), Arc<Proof>>,
}

impl Library {
    pub(crate) fn new(length: usize) -> Self {
        Self { length, proofs: BTreeMap::new() }
    }

    /// The proof of an object by a node that has fetched it from the origin.
    pub(crate) fn signed(&mut self, node: usize, at: usize) -> Arc<Proof> {
        let length = self.length;
        let make = || {
            let key = signing_key(node);
            let sign = |message: &[u8]| key.sign(message).to_bytes();
            let subject = Subject {
                uri: uri(at),
                variant: fields_digest([]),
                status: 200,
                fields: fields_digest([]),
                first: 0,
                length: Some(length as u64),
                time: 0,
                signer: key.verifying_key().to_bytes(),
            };
            let mut proof = PartialProof::begin(subject, sign).expect("the subject is a valid one");
            let whole = proof.update(&body(at, length)) && proof.seal(true, sign);
            Arc::new(proof.finish().filter(|_| whole).expect("all of it is there"))
        };
        self.proofs.entry((node, at)).or_insert_with(make).clone()
    }

    /// What a node sends that has an object by this proof, from its `from`th octet on.
    pub(crate) fn stream(&self, at: usize, proof: &Proof, from: u64) -> Vec<u8> {
        let body = body(at, self.length);
        let (mut encoder, mut octets) =
            (Encoder::new(proof.receipt(), Span::Rest(from)), Vec::new());
        loop {
            match encoder.poll() {
                Step::Octets(some) => octets.extend_from_slice(&some),
                Step::Content(range) => {
                    let range = usize::try_from(range.start).expect("an object is small")
                        ..usize::try_from(range.end).expect("an object is small");
                    octets.extend_from_slice(&body[range.clone()]);
                    encoder.sent(range.len() as u64);
                }
                Step::Wait => encoder.offer(proof.provable()),
                Step::End => return octets,
            }
        }
    }

    /// The same by a liar: what comes in time, and whether it ends.
    pub(crate) fn lie(
        &mut self,
        node: usize,
        lie: ContentLie,
        (at, from): (usize, u64),
        draw: usize,
    ) -> (Vec<u8>, bool) {
        if lie == ContentLie::Silent {
            return (Vec::new(), false);
        }
        let shown = if lie == ContentLie::Other { at + 1 } else { at };
        let proof = self.signed(node, shown);
        let mut octets = self.stream(shown, &proof, from);
        match lie {
            ContentLie::Flip => {
                let place = draw % octets.len();
                octets[place] ^= 1 << (draw % 8);
            }
            ContentLie::Truncate => octets.truncate(draw % octets.len()),
            ContentLie::Drip => octets.truncate(octets.len() / 2),
            ContentLie::Forge => {
                // The frame is its kind, a length, and the receipt.
                let length = proof.receipt().encode().len();
                let mut receipt = proof.receipt().clone();
                receipt.subject.signer = signing_key(node + 1).verifying_key().to_bytes();
                octets[5..][..length].copy_from_slice(&receipt.encode());
            }
            ContentLie::Silent | ContentLie::Other => {}
        }
        (octets, lie != ContentLie::Drip)
    }
}

/// What a node has received of an object.
pub(crate) struct Received {
    /// What was proved so far, to go on with.
    pub(crate) proof: Option<PartialProof>,
    /// Octets that were given to the client.
    pub(crate) delivered: u64,
    /// Those of them that are not the object's.
    pub(crate) wrong: u64,
}

/// How reading a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All of it is here.
    Whole,
    /// It is about something else than was asked for.
    NotAsked,
    /// It is not what its signer has signed.
    Wrong(Wrong),
    /// There is more to come, which does not.
    Stalled,
}

impl Received {
    pub(crate) const fn nothing() -> Self {
        Self { proof: None, delivered: 0, wrong: 0 }
    }

    /// Reads what somebody has sent of the `at`th object, as a proxy does.
    pub(crate) fn read(&mut self, at: usize, length: usize, octets: Vec<u8>, ends: bool) -> Ended {
        let mut decoder = match self.proof.take() {
            Some(proof) => Decoder::resume(proof),
            None => Decoder::new(Span::Rest(0)),
        };
        let ended = self.decode(&mut decoder, (at, length), octets, ends);
        // Of who was wrong at the first word, nothing is kept.
        self.proof = decoder.into_proof().filter(|_| self.delivered > 0);
        ended
    }

    fn decode(
        &mut self,
        decoder: &mut Decoder,
        (at, length): (usize, usize),
        octets: Vec<u8>,
        ends: bool,
    ) -> Ended {
        let truth = body(at, length);
        decoder.handle_octets(Bytes::from(octets));
        loop {
            match decoder.poll() {
                Ok(Some(Event::Receipt(receipt))) if receipt.subject.uri != uri(at) => {
                    return Ended::NotAsked;
                }
                Ok(Some(Event::Receipt(_))) => {}
                Ok(Some(Event::Content(octets))) => {
                    let from = usize::try_from(self.delivered).expect("an object is small");
                    let wrong = octets
                        .iter()
                        .zip(truth[from..].iter().map(Some).chain(std::iter::repeat(None)));
                    self.wrong +=
                        wrong.filter(|(octet, true_one)| Some(*octet) != *true_one).count() as u64;
                    self.delivered += octets.len() as u64;
                }
                Ok(Some(Event::Done)) => return Ended::Whole,
                Ok(None) if !ends => return Ended::Stalled,
                Ok(None) => {
                    return match decoder.handle_end() {
                        Ok(()) => Ended::Whole,
                        Err(wrong) => Ended::Wrong(wrong),
                    };
                }
                Err(wrong) => return Ended::Wrong(wrong),
            }
        }
    }
}

/// Of a node, by its number.
fn signing_key(node: usize) -> SigningKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&node.to_le_bytes());
    SigningKey::from_bytes(&seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 40_000;

    #[test]
    fn the_truth_is_read_and_no_lie_delivers_a_wrong_octet() {
        let mut library = Library::new(LENGTH);
        let proof = library.signed(1, 3);
        let truth = library.stream(3, &proof, 0);
        let mut received = Received::nothing();
        assert_eq!(received.read(3, LENGTH, truth, true), Ended::Whole);
        assert_eq!((received.delivered, received.wrong), (LENGTH as u64, 0));
        for lie in ContentLie::ALL {
            for draw in [0, 5, 77, 300, 500, 17_000, 39_999] {
                let (octets, ends) = library.lie(2, lie, (3, 0), draw);
                let mut received = Received::nothing();
                let ended = received.read(3, LENGTH, octets, ends);
                assert_ne!(ended, Ended::Whole, "{lie:?} {draw}");
                assert_eq!(received.wrong, 0, "{lie:?} {draw}");
                // And it goes on with the truth, whoever else has signed it.
                let from = received.proof.as_ref().map_or(0, |_| received.delivered);
                let rest = library.stream(3, &proof, from);
                assert_eq!(received.read(3, LENGTH, rest, true), Ended::Whole, "{lie:?} {draw}");
                assert_eq!((received.delivered, received.wrong), (LENGTH as u64, 0), "{lie:?}");
            }
        }
    }
}
