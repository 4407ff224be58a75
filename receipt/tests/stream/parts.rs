//! Slices alone, and streams that are gone on with elsewhere.

use coralline_receipt::limits::{GROUP, SLICE};
use coralline_receipt::{Decoder, Encoder, PartialProof, Rebuild, Span, Subject, Wrong};
use ed25519_dalek::Signer;

use crate::world::{Reader, body, key, proof, read, send, sign, signing, stream, subject};

#[test]
fn every_slice_stands_alone() {
    let len = 3 * SLICE as usize + 40_000;
    let (body, proof) = (body(len), proof(&body(len)));
    let slice = SLICE as usize;
    let group = GROUP as usize;
    let edges =
        [0, group, 5 * group, slice, slice + group, 2 * slice, 3 * slice, 3 * slice + group];
    for from in edges {
        for end in edges.into_iter().chain([len, 4 * slice, usize::MAX >> 1]) {
            if end <= from {
                continue;
            }
            let span = Span::Slice(from as u64, end as u64);
            let octets = stream(proof.receipt(), proof.provable(), &body, span);
            let (content, result) = read(&octets, 10_007, span);
            assert_eq!(result, Ok(()), "{from}..{end}");
            assert!(content == body[from..end.min(len)], "{from}..{end}");
            // Another part is not the one that was asked for.
            let other = Span::Slice((from + group) as u64, (end + group) as u64);
            let (content, result) = read(&octets, 10_007, other);
            assert!(result.is_err() && content.is_empty(), "{from}..{end}");
        }
    }
}

#[test]
fn a_slice_of_what_is_still_arriving_is_there_as_far_as_it_came() {
    let body = body(2 * SLICE as usize);
    let mut source = signing(None);
    let span = Span::Slice(SLICE, SLICE + 4 * GROUP);
    let mut encoder = Encoder::new(source.receipt(), span);
    let mut reader = Reader::new(Decoder::new(span));
    let mut at = 0;
    for end in [100, SLICE as usize, SLICE as usize + 20_000, SLICE as usize + 70_000] {
        assert!(source.update(&body[at..end]) && source.seal(false, sign));
        at = end;
        let mut wire = Vec::new();
        send(&mut encoder, source.provable(), &body, &mut wire);
        reader.feed(&wire).unwrap();
        let whole_groups = (at.max(SLICE as usize) - SLICE as usize) / GROUP as usize;
        assert_eq!(reader.content.len(), whole_groups.min(4) * GROUP as usize, "{at}");
    }
    assert!(reader.done);
    assert!(reader.content == body[SLICE as usize..SLICE as usize + 4 * GROUP as usize]);
}

/// A receiver that has the first octets and no source.
fn broken(body: &[u8], at: usize) -> Option<PartialProof> {
    let mut source = signing(None);
    let mut encoder = Encoder::new(source.receipt(), Span::Rest(0));
    let mut wire = Vec::new();
    assert!(source.update(&body[..at]) && source.seal(false, sign));
    send(&mut encoder, source.provable(), body, &mut wire);
    let mut reader = Reader::new(Decoder::new(Span::Rest(0)));
    reader.feed(&wire).unwrap();
    assert!(reader.content == body[..at]);
    reader.decoder.into_proof()
}

#[test]
fn a_stream_goes_on_from_another_source_at_any_octet() {
    let body = body(300_000);
    let proof = proof(&body);
    for at in [0, 1, 16_384, 16_385, 65_536, 131_072, 200_001, 299_999, 300_000] {
        let span = Span::Rest(at as u64);
        let from_whole = stream(proof.receipt(), proof.provable(), &body, span);
        let mut running = signing(None);
        let (mut encoder, mut from_running) = (Encoder::new(running.receipt(), span), Vec::new());
        for piece in body.chunks(50_000) {
            assert!(running.update(piece) && running.seal(false, sign));
            send(&mut encoder, running.provable(), &body, &mut from_running);
        }
        assert!(running.seal(true, sign));
        assert!(send(&mut encoder, running.provable(), &body, &mut from_running));
        for octets in [from_whole, from_running] {
            let mut reader = Reader::new(Decoder::resume(broken(&body, at).unwrap()));
            assert_eq!(reader.read(&octets, 9_999), Ok(()), "{at}");
            assert!(reader.content == body[at..], "{at}");
            assert_eq!(reader.decoder.into_proof().unwrap().finish().unwrap(), proof);
        }
    }
}

#[test]
fn it_goes_on_only_with_the_same() {
    let body = body(100_000);
    let mut other = PartialProof::begin(subject(1, "//b.example/", None), sign).unwrap();
    assert!(other.update(&body) && other.seal(true, sign));
    let octets = stream(other.receipt(), other.provable(), &body, Span::Rest(50_000));
    let mut reader = Reader::new(Decoder::resume(broken(&body, 50_000).unwrap()));
    assert_eq!(reader.read(&octets, 9_999), Err(Wrong::Other));
    assert!(reader.content.is_empty());
    // And what was there is not lost.
    let proof = proof(&body);
    let octets = stream(proof.receipt(), proof.provable(), &body, Span::Rest(50_000));
    let mut reader = Reader::new(Decoder::resume(reader.decoder.into_proof().unwrap()));
    assert_eq!(reader.read(&octets, 9_999), Ok(()));
}

#[test]
fn a_wrong_octet_does_not_spoil_what_came_before() {
    let body = body(300_000);
    let proof = proof(&body);
    let mut source = signing(None);
    let (mut encoder, mut wire) = (Encoder::new(source.receipt(), Span::Rest(0)), Vec::new());
    for piece in body.chunks(40_000) {
        assert!(source.update(piece) && source.seal(false, sign));
        send(&mut encoder, source.provable(), &body, &mut wire);
    }
    for at in [30_000, 50_000, 250_000] {
        let mut octets = wire.clone();
        octets[at] ^= 1;
        let mut reader = Reader::new(Decoder::new(Span::Rest(0)));
        assert!(reader.read(&octets, 1_000).is_err());
        let came = reader.content;
        assert!(came == body[..at / 40_000 * 40_000], "{at}: {}", came.len());
        let span = Span::Rest(came.len() as u64);
        let rest = stream(proof.receipt(), proof.provable(), &body, span);
        let mut reader = Reader::new(Decoder::resume(reader.decoder.into_proof().unwrap()));
        assert_eq!(reader.read(&rest, 1_000), Ok(()));
        assert!([came, reader.content].concat() == body);
    }
}

#[test]
fn who_goes_on_at_the_origin_answers_for_all_of_it() {
    let body = body(200_000);
    for at in [0, 1, 65_536, 100_001] {
        let old = broken(&body, at).unwrap();
        let signer = key(2).verifying_key().to_bytes();
        let subject = Subject { signer, ..old.receipt().subject.clone() };
        let sign = |message: &[u8]| key(2).sign(message).to_bytes();
        let mut taken = old.taken_over(subject, sign).unwrap();
        assert_eq!(taken.proved(), at as u64);
        let (mut encoder, mut wire) = (Encoder::new(taken.receipt(), Span::Rest(0)), Vec::new());
        send(&mut encoder, taken.provable(), &body, &mut wire);
        assert!(taken.update(&body[at..]) && taken.seal(true, sign));
        assert!(send(&mut encoder, taken.provable(), &body, &mut wire));
        assert_eq!(read(&wire, 9_999, Span::Rest(0)), (body.clone(), Ok(())));
    }
}

#[test]
fn what_came_in_slices_is_proved_again_by_its_octets() {
    for len in [1, 16_384, 16_385, 3 * SLICE as usize, 3 * SLICE as usize + 40_000] {
        let (body, proof) = (body(len), proof(&body(len)));
        let again = |octets: &[u8]| {
            let mut rebuild = Rebuild::new(proof.receipt().clone()).unwrap();
            octets.chunks(100_003).for_each(|octets| rebuild.update(octets));
            rebuild.finish()
        };
        assert!(again(&body).unwrap() == proof, "{len}");
        assert!(again(&body[..len - 1]).is_err(), "{len}");
        let mut other = body.clone();
        other[len / 2] ^= 1;
        assert!(again(&other).is_err(), "{len}");
    }
    let mut running = signing(None);
    assert!(running.update(b"begun") && running.seal(false, sign));
    assert!(Rebuild::new(running.receipt().clone()).is_err());
}
