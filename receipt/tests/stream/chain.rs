//! From the origin's receiver along a chain of nodes, while it is still arriving.

use coralline_receipt::limits::{GROUP, MAX_RUN, SLICE};
use coralline_receipt::{Decoder, Encoder, Span};
use proptest::prelude::*;

use crate::world::{Reader, body, proof, read, send, sign, signing, whole_stream};

#[test]
fn a_whole_body_arrives_whatever_its_size() {
    let (group, slice) = (GROUP as usize, SLICE as usize);
    let sizes =
        [0, 1, 1023, 1024, 1025, group - 1, group, group + 1, 2 * group, 3 * group, 5 * group];
    for len in sizes.into_iter().chain([slice - 1, slice, slice + 1, 2 * slice + 3 * group + 5]) {
        let (body, expect) = (body(len), proof(&body(len)));
        let octets = whole_stream(&body);
        for step in [7_001, group, usize::MAX] {
            let mut reader = Reader::new(Decoder::new(Span::Rest(0)));
            assert_eq!(reader.read(&octets, step), Ok(()), "{len} by {step}");
            assert!(reader.content == body && reader.done, "{len} by {step}");
            let proof = reader.decoder.into_proof().unwrap().finish().unwrap();
            assert_eq!(proof, expect, "{len}");
            let encoded = proof.encode();
            assert_eq!(coralline_receipt::Proof::decode(&encoded), Ok(proof));
        }
        let more = octets.len() - len;
        let bound = 600 + len / group * 64 + (len / slice + 1) * 1_100;
        assert!(more <= bound, "{more} octets more for {len}");
    }
}

#[test]
fn what_has_come_is_passed_on_before_the_next_is_there() {
    let body = body(200_000);
    let mut source = signing(None);
    let mut encoder = Encoder::new(source.receipt(), Span::Rest(0));
    let mut relay = Reader::new(Decoder::new(Span::Rest(0)));
    let mut relayed: Option<Encoder> = None;
    let mut last = Reader::new(Decoder::new(Span::Rest(0)));
    let mut at = 0;
    for step in [0, 1, 10, 5_000, 16_384, 100_000, 3, 65_536] {
        let end = (at + step).min(body.len());
        assert!(source.update(&body[at..end]) && source.seal(false, sign));
        at = end;
        let mut wire = Vec::new();
        assert!(!send(&mut encoder, source.provable(), &body, &mut wire));
        relay.feed(&wire).unwrap();
        assert!(relay.content == body[..at], "{at}");
        let proof = relay.decoder.proof().unwrap();
        let onwards = relayed.get_or_insert_with(|| Encoder::new(proof.receipt(), Span::Rest(0)));
        let mut wire = Vec::new();
        assert!(!send(onwards, proof.provable(), &relay.content, &mut wire));
        last.feed(&wire).unwrap();
        assert!(last.content == body[..at], "{at}");
    }
    assert!(!relay.done && relay.decoder.handle_end().is_err());
}

#[test]
fn a_running_signature_costs_less_than_the_tree() {
    let body = body(1 << 20);
    let mut source = signing(None);
    let mut encoder = Encoder::new(source.receipt(), Span::Rest(0));
    let mut wire = Vec::new();
    for piece in body.chunks(MAX_RUN as usize) {
        assert!(source.update(piece) && source.seal(false, sign));
        send(&mut encoder, source.provable(), &body, &mut wire);
    }
    assert!(source.seal(true, sign));
    assert!(send(&mut encoder, source.provable(), &body, &mut wire));
    let more = wire.len() - body.len();
    assert!(more <= 400 + 16 * 69 + 65, "{more}");
    assert_eq!(read(&wire, 10_000, Span::Rest(0)), (body, Ok(())));
}

/// A node that receives and passes on.
struct Relay {
    reader: Reader,
    encoder: Option<Encoder>,
    /// What is under way to the next.
    wire: Vec<u8>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Any interleaving: the origin sends, signatures are made, nodes pass on or lag behind, and each of
    /// them joined when it joined.
    #[test]
    fn a_chain_of_nodes_ends_with_the_same_proof(
        len in 0_usize..600_000,
        known in any::<bool>(),
        steps in prop::collection::vec((0_u8..10, 1_usize..150_000), 1..60),
    ) {
        let body = body(len);
        let mut source = signing(known.then_some(len as u64));
        let mut source_wire = Vec::new();
        let mut source_encoder = None;
        let mut at = 0;
        let new = |_| Relay {
            reader: Reader::new(Decoder::new(Span::Rest(0))),
            encoder: None,
            wire: Vec::new(),
        };
        let mut relays: Vec<_> = (0..3).map(new).collect();
        // Then everything once more, until all is there.
        let settle = (0..2_000).map(|i| ([0, 1, 2, 3, 4, 5, 6][i % 7], 100_000));
        for (what, count) in steps.into_iter().chain(settle) {
            match what {
                0 => {
                    let end = (at + count).min(len);
                    prop_assert!(source.update(&body[at..end]));
                    at = end;
                }
                1 if !source.receipt().head.whole => prop_assert!(source.seal(at == len, sign)),
                2 => {
                    let encoder = source_encoder
                        .get_or_insert_with(|| Encoder::new(source.receipt(), Span::Rest(0)));
                    send(encoder, source.provable(), &body, &mut source_wire);
                }
                3..=5 => {
                    let i = usize::from(what) - 3;
                    let wire = match i {
                        0 => &mut source_wire,
                        _ => &mut relays[i - 1].wire,
                    };
                    let piece: Vec<_> = wire.drain(..count.min(wire.len())).collect();
                    prop_assert_eq!(relays[i].reader.feed(&piece), Ok(()));
                    prop_assert!(body.starts_with(&relays[i].reader.content));
                }
                6.. => {
                    for relay in &mut relays {
                        let Some(proof) = relay.reader.decoder.proof() else { continue };
                        let encoder = relay.encoder
                            .get_or_insert_with(|| Encoder::new(proof.receipt(), Span::Rest(0)));
                        send(encoder, proof.provable(), &body, &mut relay.wire);
                    }
                }
                _ => {}
            }
        }
        let expect = source.finish().unwrap();
        for relay in relays {
            prop_assert!(relay.reader.done, "{} of {len}", relay.reader.content.len());
            prop_assert!(relay.reader.content == body);
            let proof = relay.reader.decoder.into_proof().unwrap().finish();
            prop_assert_eq!(proof, Some(expect.clone()));
        }
    }
}
