//! Figures of receipts on this machine: how fast one core signs and verifies, and what proofs cost.

use bytes::Bytes;
use coralline_receipt::limits::MAX_RUN;
use coralline_receipt::{Decoder, Encoder, Event, PartialProof, Span, Step, Subject, Wrong};
use ed25519_dalek::{Signer, SigningKey};

const MIB: usize = 1 << 20;
/// As an HTTP/2 frame carries them.
const PIECE: usize = 16 << 10;

/// Seconds of the processor that it took, whatever else this machine does.
fn seconds(act: impl FnOnce() -> Result<(), Wrong>) -> Result<f64, Wrong> {
    let used = || {
        let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let ns = text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
        ns.unwrap_or(f64::NAN) / 1e9
    };
    let start = used();
    act()?;
    Ok(used() - start)
}

fn main() -> Result<(), Wrong> {
    let key = SigningKey::from_bytes(&[1; 32]);
    let sign = |message: &[u8]| key.sign(message).to_bytes();
    println!(
        "{:>12} {:>10} {:>12} {:>12} {:>12}",
        "octets", "mode", "sign GB/s", "verify GB/s", "more octets"
    );
    for length in [1_000, 41_000, MIB, 64 * MIB, 1024 * MIB] {
        let body = Bytes::from(vec![7; length]);
        for whole in [false, true] {
            measure(&body, whole, &key, sign)?;
        }
    }
    Ok(())
}

fn measure(
    body: &Bytes,
    whole: bool,
    key: &SigningKey,
    sign: impl Fn(&[u8]) -> [u8; 64] + Copy,
) -> Result<(), Wrong> {
    let length = body.len();
    let rounds = (64 * MIB / length).clamp(1, 2_000);
    let subject = Subject {
        uri: "//www.example.com/a.jpg".into(),
        variant: [0; 32],
        status: 200,
        fields: [0; 32],
        first: 0,
        length: Some(length as u64),
        time: 0,
        signer: key.verifying_key().to_bytes(),
    };
    let mut wire: Vec<Bytes> = Vec::new();
    let signed = seconds(|| {
        for _ in 0..rounds {
            let mut proof = PartialProof::begin(subject.clone(), sign)?;
            let mut encoder = Encoder::new(proof.receipt(), Span::Rest(0));
            wire.clear();
            for at in (0..length).step_by(PIECE) {
                let fits = proof.update(&body[at..length.min(at + PIECE)]);
                debug_assert!(fits);
                if !whole && proof.unsigned() >= MAX_RUN {
                    let signed = proof.seal(false, sign);
                    debug_assert!(signed);
                    send(&mut encoder, &proof, body, &mut wire);
                }
            }
            let signed = proof.seal(true, sign);
            debug_assert!(signed);
            send(&mut encoder, &proof, body, &mut wire);
        }
        Ok(())
    })?;
    let sent: usize = wire.iter().map(Bytes::len).sum();
    let verified = seconds(|| {
        for _ in 0..rounds {
            let mut decoder = Decoder::new(Span::Rest(0));
            for piece in &wire {
                decoder.handle_octets(piece.clone());
                while let Some(event) = decoder.poll()? {
                    debug_assert!(!matches!(event, Event::Done) || decoder.at() == length as u64);
                }
            }
            decoder.handle_end()?;
        }
        Ok(())
    })?;
    let rate = |seconds: f64| (length * rounds) as f64 / seconds / 1e9;
    let mode = if whole { "whole" } else { "running" };
    let (signed, verified, more) = (rate(signed), rate(verified), sent - length);
    let share = more as f64 / length as f64 * 100.0;
    println!("{length:>12} {mode:>10} {signed:>12.2} {verified:>12.2} {more:>12} ({share:.2} %)");
    Ok(())
}

/// As it would come out of a connection: in frames that begin anywhere.
fn send(encoder: &mut Encoder, proof: &PartialProof, body: &Bytes, wire: &mut Vec<Bytes>) {
    let mut waited = false;
    loop {
        match encoder.poll() {
            Step::Octets(octets) => wire.push(octets),
            Step::Content(range) => {
                let place = |at| usize::try_from(at).expect("the body is in memory");
                let (from, end) = (place(range.start), place(range.end));
                // A frame's beginning never is the beginning of a group.
                let end = if from % PIECE == 0 { end.min(from + PIECE / 3) } else { end };
                wire.push(body.slice(from..end));
                encoder.sent((end - from) as u64);
            }
            Step::Wait if waited => return,
            Step::Wait => {
                encoder.offer(proof.provable());
                waited = true;
                continue;
            }
            Step::End => return,
        }
        waited = false;
    }
}
