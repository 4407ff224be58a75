//! Streams that lie.

use coralline_receipt::limits::{GROUP, MAX_RUN};
use coralline_receipt::{Decoder, Encoder, PartialProof, Receipt, Span, Wrong};
use ed25519_dalek::Signer;
use proptest::prelude::*;

use crate::world::{
    Reader, body, key, proof, read, send, sign, signing, stream, subject, whole_stream,
};

/// A stream of a body that is signed piece by piece.
fn running_stream(body: &[u8], step: usize) -> Vec<u8> {
    let mut source = signing(None);
    let (mut encoder, mut wire) = (Encoder::new(source.receipt(), Span::Rest(0)), Vec::new());
    for piece in body.chunks(step) {
        assert!(source.update(piece) && source.seal(false, sign));
        send(&mut encoder, source.provable(), body, &mut wire);
    }
    assert!(source.seal(true, sign));
    assert!(send(&mut encoder, source.provable(), body, &mut wire));
    wire
}

/// The stream with one change: nothing wrong comes out, and it is found out within a group.
fn check_change(octets: &[u8], at: usize, body: &[u8]) {
    let mut reader = Reader::new(Decoder::new(Span::Rest(0)));
    let mut fed = 0;
    let mut result = Ok(());
    for piece in octets.chunks(1_000) {
        fed += piece.len();
        result = reader.feed(piece);
        if result.is_err() {
            // And nothing comes after.
            assert_eq!(reader.feed(&[0; 64]), result);
            break;
        }
    }
    let result = result.and_then(|()| reader.decoder.handle_end());
    assert!(result.is_err(), "octet {at}");
    assert!(body.starts_with(&reader.content), "octet {at}");
    // A length that has become longer is found out when so much has come.
    assert!(fed <= at + 1_000 + 200 + MAX_RUN as usize, "octet {at}: after {fed}");
}

#[test]
fn no_octet_of_a_stream_may_change() {
    let small = body(1_300);
    let two_groups = body(GROUP as usize + 900);
    let streams = [(&small, running_stream(&small, 500)), (&two_groups, whole_stream(&two_groups))];
    for (body, octets) in streams {
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1 << (at % 8);
            check_change(&changed, at, body);
        }
    }
}

#[test]
fn a_wrong_octet_is_found_when_its_group_is_complete() {
    let body = body(20 * GROUP as usize);
    let octets = whole_stream(&body);
    let head = octets.len() - body.len();
    for at in (head..octets.len()).step_by(4_001) {
        let mut changed = octets.clone();
        changed[at] ^= 0x80;
        let mut reader = Reader::new(Decoder::new(Span::Rest(0)));
        let upto = (at + GROUP as usize + 400).min(octets.len());
        assert!(reader.feed(&changed[..upto]).is_err(), "{at}");
        assert!(body.starts_with(&reader.content));
    }
}

#[test]
fn a_part_is_never_the_whole() {
    let body = body(GROUP as usize * 3 + 5);
    for octets in [running_stream(&body, 20_000), whole_stream(&body)] {
        for cut in (0..octets.len()).step_by(97).chain(octets.len() - 70..octets.len()) {
            let (content, result) = read(&octets[..cut], 5_000, Span::Rest(0));
            assert_eq!(result, Err(Wrong::Truncated), "{cut}");
            assert!(body.starts_with(&content));
        }
        let more = [&octets[..], &[0]].concat();
        assert_eq!(read(&more, 5_000, Span::Rest(0)).1, Err(Wrong::Malformed));
        let twice = [&octets[..], &octets[..]].concat();
        assert_eq!(read(&twice, 5_000, Span::Rest(0)).1, Err(Wrong::Malformed));
    }
}

/// The frames of a stream that was signed piece by piece.
fn frames(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (stream, Vec::new());
    while !rest.is_empty() {
        let number = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let length = match rest[0] {
            1 => 5 + number(1),
            2 => 5 + number(1) + 64,
            4 => 65,
            _ => panic!("no tree is expected"),
        };
        let (frame, more) = rest.split_at(length);
        frames.push(frame.to_vec());
        rest = more;
    }
    frames
}

#[test]
fn frames_in_another_order_or_of_another_object_are_refused() {
    let body = body(100_000);
    let good = frames(&running_stream(&body, 20_000));
    assert_eq!(read(&good.concat(), 5_000, Span::Rest(0)), (body.clone(), Ok(())));
    let refused = |frames: &[Vec<u8>], upto: usize, what: &str| {
        let (content, result) = read(&frames.concat(), 5_000, Span::Rest(0));
        assert!(result.is_err(), "{what}");
        assert!(content == body[..upto], "{what}: {}", content.len());
    };
    let mut swapped = good.clone();
    swapped.swap(2, 3);
    refused(&swapped, 20_000, "two runs in the wrong order");
    let mut left_out = good.clone();
    left_out.remove(3);
    refused(&left_out, 40_000, "a run left out");
    let mut twice = good.clone();
    twice.insert(2, good[1].clone());
    refused(&twice, 20_000, "a run twice");
    let mut early = good.clone();
    early.remove(5);
    refused(&early, 80_000, "an end that comes early");
    // The same signer has signed another object, with the same octets at the beginning.
    let mut other = PartialProof::begin(subject(1, "//b.example/", None), sign).unwrap();
    let (mut encoder, mut wire) = (Encoder::new(other.receipt(), Span::Rest(0)), Vec::new());
    for piece in body.chunks(20_000) {
        assert!(other.update(piece) && other.seal(false, sign));
        send(&mut encoder, other.provable(), &body, &mut wire);
    }
    let other = frames(&wire);
    let mut mixed = good.clone();
    mixed[3] = other[3].clone();
    refused(&mixed, 40_000, "a run of another object");
    mixed = good.clone();
    mixed[0] = other[0].clone();
    refused(&mixed, 0, "the receipt of another object");
    refused(&good[1..], 0, "no receipt");
    mixed = good.clone();
    mixed.insert(2, good[0].clone());
    refused(&mixed, 20_000, "a second receipt");
}

#[test]
fn a_tree_of_another_object_is_refused() {
    let (one, two) = (body(100_000), [vec![9; 50_000], body(50_000)].concat());
    let (one_stream, proof) = (whole_stream(&one), proof(&two));
    let two_stream = stream(proof.receipt(), proof.provable(), &two, Span::Rest(0));
    let receipt = proof.receipt().encode().len() + 5;
    let mixed = [&one_stream[..receipt], &two_stream[receipt..]].concat();
    // Both are signed; the signer contradicts itself, or so it seems: what comes is of one of them alone.
    let (content, result) = read(&mixed, 5_000, Span::Rest(0));
    assert!(result.is_ok() && content == two || result.is_err() && content.is_empty());
}

#[test]
fn a_receipt_that_the_sender_made_up_is_refused() {
    let body = body(50_000);
    let liar = |message: &[u8]| key(2).sign(message).to_bytes();
    let mut forged = PartialProof::begin(subject(1, "//a.example/", None), liar).unwrap();
    assert!(forged.update(&body) && forged.seal(true, liar));
    let octets = stream(forged.receipt(), forged.provable(), &body, Span::Rest(0));
    let (content, result) = read(&octets, 5_000, Span::Rest(0));
    assert_eq!((content.len(), result), (0, Err(Wrong::Signature)));
    // A true receipt, and then a head of somebody else.
    let good = signing(None);
    let receipt = Receipt { subject: subject(1, "//a.example/", None), head: good.receipt().head };
    let octets = stream(&receipt, forged.provable(), &body, Span::Rest(0));
    let (content, result) = read(&octets, 5_000, Span::Rest(0));
    assert_eq!((content.len(), result), (0, Err(Wrong::Signature)));
}

#[test]
fn a_signer_that_signs_two_bodies_is_found_out_before_the_end() {
    let group = GROUP as usize;
    let (one, two) =
        (body(2 * group), [vec![9; group], body(2 * group)[group..].to_vec()].concat());
    let mut running = signing(None);
    assert!(running.update(&one[..group]) && running.seal(false, sign));
    let (mut encoder, mut wire) = (Encoder::new(running.receipt(), Span::Rest(0)), Vec::new());
    send(&mut encoder, running.provable(), &one, &mut wire);
    let proof = proof(&two);
    assert!(send(&mut encoder, proof.provable(), &two, &mut wire));
    let mut reader = Reader::new(Decoder::new(Span::Rest(0)));
    assert_eq!(reader.read(&wire, 5_000), Err(Wrong::Contradiction));
    assert!(!reader.done);
    // Of another length than the subject says.
    let mut long = PartialProof::begin(subject(1, "//a.example/", Some(10)), sign).unwrap();
    assert!(!long.update(&[0; 11]) && long.update(&[0; 9]) && !long.seal(true, sign));
}

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(
        octets in prop::collection::vec(any::<u8>(), 0..3_000),
        keep in 0_usize..1_000,
        step in 1_usize..500,
        kind in 1_u8..5,
    ) {
        let body = body(900);
        for good in [running_stream(&body, 300), whole_stream(&body)] {
            let keep = keep.min(good.len());
            for mixed in [
                octets.clone(),
                [&good[..keep], &octets].concat(),
                [&good[..keep], &[kind], &octets].concat(),
            ] {
                for span in [Span::Rest(0), Span::Slice(0, 100_000)] {
                    let (content, result) = read(&mixed, step, span);
                    prop_assert!(body.starts_with(&content));
                    prop_assert!(result.is_err() || content == body);
                }
            }
        }
    }
}
