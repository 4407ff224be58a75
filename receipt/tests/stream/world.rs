//! Signers, bodies, and both ends of a stream.

use bytes::Bytes;
use coralline_receipt::{
    Decoder, Encoder, Event, PartialProof, Proof, Provable, Receipt, Span, Step, Subject, Wrong,
};
use ed25519_dalek::{Signer, SigningKey};

pub(crate) fn body(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn subject(seed: u8, uri: &str, length: Option<u64>) -> Subject {
    Subject {
        uri: uri.into(),
        variant: [0; 32],
        status: 200,
        fields: [0; 32],
        first: 0,
        length,
        time: 0,
        signer: key(seed).verifying_key().to_bytes(),
    }
}

/// A node that fetches `//a.example/` from the origin and signs it.
pub(crate) fn signing(length: Option<u64>) -> PartialProof {
    PartialProof::begin(subject(1, "//a.example/", length), sign).unwrap()
}

pub(crate) fn sign(message: &[u8]) -> [u8; 64] {
    key(1).sign(message).to_bytes()
}

/// The proof of all of a body.
pub(crate) fn proof(body: &[u8]) -> Proof {
    let mut proof = signing(None);
    assert!(proof.update(body) && proof.seal(true, sign));
    proof.finish().unwrap()
}

/// What `encoder` sends of `body` until it waits or ends; true if it has ended.
pub(crate) fn send(
    encoder: &mut Encoder,
    from: Provable<'_>,
    body: &[u8],
    to: &mut Vec<u8>,
) -> bool {
    // It waits where the last offer led nowhere.
    let mut offered = None;
    loop {
        match encoder.poll() {
            Step::Octets(octets) => to.extend_from_slice(&octets),
            Step::Content(range) => {
                // In halves, as it may come.
                let half = range.start + (range.end - range.start).div_ceil(2);
                to.extend_from_slice(&body[range.start as usize..half as usize]);
                encoder.sent(half - range.start);
            }
            Step::Wait if offered == Some(to.len()) => return false,
            Step::Wait => {
                encoder.offer(from);
                offered = Some(to.len());
            }
            Step::End => return true,
        }
    }
}

/// The whole stream of what is proved.
pub(crate) fn stream(receipt: &Receipt, from: Provable<'_>, body: &[u8], span: Span) -> Vec<u8> {
    let (mut encoder, mut octets) = (Encoder::new(receipt, span), Vec::new());
    assert!(send(&mut encoder, from, body, &mut octets), "all of it is there");
    octets
}

pub(crate) fn whole_stream(body: &[u8]) -> Vec<u8> {
    let proof = proof(body);
    stream(proof.receipt(), proof.provable(), body, Span::Rest(0))
}

/// One end of a stream, and what came out of it.
pub(crate) struct Reader {
    pub(crate) decoder: Decoder,
    pub(crate) content: Vec<u8>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) done: bool,
}

impl Reader {
    pub(crate) fn new(decoder: Decoder) -> Self {
        Self { decoder, content: Vec::new(), receipt: None, done: false }
    }

    pub(crate) fn feed(&mut self, octets: &[u8]) -> Result<(), Wrong> {
        self.decoder.handle_octets(Bytes::copy_from_slice(octets));
        while let Some(event) = self.decoder.poll()? {
            assert!(!self.done, "nothing comes after the end");
            match event {
                Event::Receipt(receipt) => self.receipt = Some(*receipt),
                Event::Content(content) => {
                    assert!(self.receipt.is_some() && !content.is_empty());
                    self.content.extend_from_slice(&content);
                }
                Event::Done => self.done = true,
            }
        }
        Ok(())
    }

    /// All of a stream, in pieces, and its end.
    pub(crate) fn read(&mut self, octets: &[u8], step: usize) -> Result<(), Wrong> {
        octets.chunks(step).try_for_each(|piece| self.feed(piece))?;
        self.decoder.handle_end()
    }
}

/// What is read from the beginning of a stream, and how that ended.
pub(crate) fn read(octets: &[u8], step: usize, span: Span) -> (Vec<u8>, Result<(), Wrong>) {
    let mut reader = Reader::new(Decoder::new(span));
    let result = reader.read(octets, step);
    (reader.content, result)
}
