//! A response in parts: its head, and its body once it is whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use coralline_disk::Object;
use coralline_disk::limits::SLICE;
use coralline_overlay::{Key, Level};
use coralline_receipt::{Proof, Receipt};
use http::StatusCode;
use http::header::{DATE, HeaderMap};
use serde::{Deserialize, Serialize};

use crate::admit::Asked;
use crate::budget::{Budget, Reservation};
use crate::conditional::strong_validator;
use crate::limits::{
    ANNOUNCE_RETRY, ENTRY_OVERHEAD, MAX_KEPT_PROOF, PIECE_OVERHEAD, PROOF_OVERHEAD,
};
use crate::policy::{Freshness, Variant, date, groups};

/// Where a response came from. The word is the same in Cache-Status, in metrics and on panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// This node's cache.
    Local,
    /// A peer, found at this level of the index.
    Peer(Level),
    /// The origin.
    Origin,
    /// Nobody: a page or an error of this node's own.
    None,
}

impl Source {
    /// The word.
    #[must_use]
    pub fn word(self) -> String {
        match self {
            Self::Local => "local".into(),
            Self::Peer(level) => format!("peer:{level}"),
            Self::Origin => "origin".into(),
            Self::None => "none".into(),
        }
    }
}

/// Status and fields of a response, as kept: end-to-end fields only.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Length of the body in octets, where it is known.
    pub(crate) length: Option<u64>,
    /// What came after the body; empty for most.
    pub(crate) trailers: HeaderMap,
}

/// A proof as it is at hand. Most that come from disk are never shown to anybody.
#[derive(Debug, Clone)]
enum KeptProof {
    Read(Arc<Proof>),
    Octets(Arc<[u8]>),
    /// Its receipt alone, as octets. The nodes are on disk.
    Receipt(Arc<[u8]>),
}

/// A proof as it stands on disk beside a response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ProofOctets {
    /// All of it.
    Whole(Vec<u8>),
    /// Its receipt: the nodes are long, and stand by themselves.
    Receipt(Vec<u8>),
}

/// A response that is kept. Of its body there may be only some slices.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) head: Head,
    pub(crate) variant: Variant,
    pub(crate) freshness: Freshness,
    pub(crate) body: Body,
    /// When the origin made it: of several that suit a request, the latest counts.
    pub(crate) date: SystemTime,
    /// The groups that it belongs to.
    pub(crate) groups: Box<[String]>,
    /// Where the index knows it.
    pub(crate) index_key: Key,
    /// What peers are shown, if they can be shown it; as octets where it came from disk.
    proof: Option<KeptProof>,
    /// When it is to be announced again, in seconds since 1970; 0 for never announced.
    announce_at: AtomicU64,
    /// The memory that it takes after it has left the store.
    pinned: OnceLock<Reservation>,
}

impl Stored {
    pub(crate) fn new(
        head: Head,
        variant: Variant,
        freshness: Freshness,
        body: impl Into<Body>,
        index_key: Key,
    ) -> Self {
        let body = body.into();
        let head = Head { length: Some(body.len()), ..head };
        let date = date(&head.headers, DATE).unwrap_or(freshness.received);
        let groups = groups(&head.headers).into();
        let (announce_at, pinned) = (AtomicU64::new(0), OnceLock::new());
        let proof = None;
        Self { head, variant, freshness, body, date, groups, index_key, proof, announce_at, pinned }
    }

    /// With what shows it to be what its signer fetched.
    pub(crate) fn with_proof(self, proof: Option<Arc<Proof>>) -> Self {
        Self { proof: proof.map(KeptProof::Read), ..self }
    }

    /// The same, as it was kept on disk.
    pub(crate) fn with_kept_proof(self, octets: Option<ProofOctets>) -> Self {
        let kept = |octets| match octets {
            ProofOctets::Whole(octets) => KeptProof::Octets(octets.into()),
            ProofOctets::Receipt(octets) => KeptProof::Receipt(octets.into()),
        };
        Self { proof: octets.map(kept), ..self }
    }

    pub(crate) fn proof(&self) -> Option<Arc<Proof>> {
        match self.proof.as_ref()? {
            KeptProof::Read(proof) => Some(proof.clone()),
            KeptProof::Octets(octets) => Proof::decode(octets).ok().map(Arc::new),
            KeptProof::Receipt(_) => None,
        }
    }

    /// There is one, whatever of it is here.
    pub(crate) fn has_proof(&self) -> bool {
        self.proof.is_some()
    }

    /// What begins the proof, if the rest of it is on disk alone.
    pub(crate) fn receipt_alone(&self) -> Option<Receipt> {
        match self.proof.as_ref()? {
            KeptProof::Receipt(octets) => Receipt::decode(octets).ok(),
            _ => None,
        }
    }

    /// To be kept on disk beside the response: all of it, or its receipt where it is long and can stand beside
    /// a body that is on disk by itself.
    pub(crate) fn kept_proof(&self) -> Option<ProofOctets> {
        let proof = match self.proof.as_ref()? {
            KeptProof::Octets(octets) => return Some(ProofOctets::Whole(octets.to_vec())),
            KeptProof::Receipt(octets) => return Some(ProofOctets::Receipt(octets.to_vec())),
            KeptProof::Read(proof) => proof,
        };
        if !is_long(proof) {
            return Some(ProofOctets::Whole(proof.encode()));
        }
        self.body.object().map(|_| ProofOctets::Receipt(proof.receipt().encode()))
    }

    /// The octets of a long proof after its receipt, as far as it is here.
    pub(crate) fn proof_nodes(&self) -> Option<Vec<u8>> {
        let Some(KeptProof::Read(proof)) = &self.proof else { return None };
        is_long(proof).then(|| proof.encode().split_off(proof.receipt().encode().len()))
    }

    /// It may answer a request that joined somebody else's (see `Arriving::is_for`); one that stands
    /// in for a failing origin may in any case.
    pub(crate) fn is_for(&self, asked: &Asked, source: Source, waited: bool) -> bool {
        let fresh = self.freshness.remaining(self.freshness.received).is_some();
        self.variant.suits(&asked.headers) && (fresh || waited || source == Source::Local)
    }

    /// What lacks of it can be fetched, as it is certain that it is of the same octets.
    pub(crate) fn may_be_completed(&self) -> bool {
        self.head.status == StatusCode::OK && strong_validator(&self.head.headers).is_some()
    }

    /// It is there, or can be completed.
    pub(crate) fn is_usable(&self) -> bool {
        self.may_be_completed() || self.body.is_whole()
    }

    /// The same octets under other fields.
    pub(crate) fn updated(&self, headers: HeaderMap, freshness: Freshness) -> Self {
        let head = Head { headers, ..self.head.clone() };
        Self::new(head, self.variant.clone(), freshness, self.body.clone(), self.index_key)
    }

    /// The same once more, without its proof.
    pub(crate) fn again(&self) -> Self {
        let again = self.updated(self.head.headers.clone(), self.freshness);
        let until = self.announce_at.load(Ordering::Relaxed);
        Self { announce_at: AtomicU64::new(until), ..again }
    }

    /// The same, no longer fresh.
    pub(crate) fn outdated(&self, now: SystemTime) -> Self {
        let outdated = self.updated(self.head.headers.clone(), self.freshness.outdated(now));
        Self { proof: self.proof.clone(), ..outdated }
    }

    /// What it takes of the memory for stored bodies, in octets.
    pub(crate) fn weight(&self) -> u64 {
        let fields: usize =
            self.head.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 64).sum();
        let proof = self.proof.as_ref().map_or(0, |proof| match proof {
            KeptProof::Read(proof) => proof.memory() + PROOF_OVERHEAD,
            KeptProof::Octets(octets) | KeptProof::Receipt(octets) => octets.len() as u64,
        });
        self.body.weight() + fields as u64 + proof + ENTRY_OVERHEAD
    }

    /// It leaves the store; until its last reader has gone it counts as what is arriving does.
    pub(crate) fn pin(&self, budget: &Budget) {
        self.pinned.get_or_init(|| budget.pin(self.weight()));
    }

    /// The index has its pointer for `ttl` from `now`. One that ends before the response does is put again by
    /// whoever asks for that in the last quarter of its time.
    pub(crate) fn announced(&self, now: SystemTime, ttl: Duration) {
        let lasts = self.freshness.remaining(now).is_none_or(|fresh| fresh <= ttl);
        let at = if lasts { ttl } else { ttl - ttl / 4 };
        self.announce_at.store(seconds(now + at), Ordering::Relaxed);
    }

    /// Takes on the duty to announce it: true for one caller once it is time.
    pub(crate) fn due_for_announcement(&self, now: SystemTime) -> bool {
        let (at, next) = (self.announce_at.load(Ordering::Relaxed), now + ANNOUNCE_RETRY);
        let order = Ordering::Relaxed;
        at <= seconds(now)
            && self.announce_at.compare_exchange(at, seconds(next), order, order).is_ok()
    }
}

/// It does not fit beside the fields of a response.
fn is_long(proof: &Proof) -> bool {
    proof.memory() > MAX_KEPT_PROOF as u64
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A body: in memory, on disk, or both. What is in memory is whole.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    chunks: Option<Chunks>,
    /// A large one, which is on disk by itself.
    object: Option<Object>,
}

impl From<Chunks> for Body {
    fn from(chunks: Chunks) -> Self {
        Self { chunks: Some(chunks), object: None }
    }
}

impl Body {
    pub(crate) fn on_disk(object: Object) -> Self {
        Self { chunks: None, object: Some(object) }
    }

    /// The same, on disk as well.
    pub(crate) fn and_on_disk(chunks: Chunks, object: Object) -> Self {
        Self { chunks: Some(chunks), object: Some(object) }
    }

    pub(crate) fn chunks(&self) -> Option<&Chunks> {
        self.chunks.as_ref()
    }

    pub(crate) fn object(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    pub(crate) fn len(&self) -> u64 {
        let on_disk = || self.object.as_ref().map_or(0, Object::length);
        self.chunks.as_ref().map_or_else(on_disk, Chunks::len)
    }

    /// All of it is there. A look into memory for each slice of what is only on disk.
    pub(crate) fn is_whole(&self) -> bool {
        let Some(object) = self.object.as_ref().filter(|_| self.chunks.is_none()) else {
            return true;
        };
        let slice = usize::try_from(SLICE).expect("a slice fits memory");
        (0..object.length()).step_by(slice).all(|offset| object.has(offset))
    }

    /// What it takes of memory, in octets.
    fn weight(&self) -> u64 {
        self.chunks
            .as_ref()
            .map_or(0, |chunks| chunks.len() + chunks.pieces.len() as u64 * PIECE_OVERHEAD)
    }
}

/// A body in the pieces in which it came. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunks {
    /// Each piece with the offset of its first octet.
    pieces: Arc<[(u64, Bytes)]>,
    len: u64,
}

impl Chunks {
    pub(crate) fn new(pieces: impl IntoIterator<Item = (u64, Bytes)>) -> Self {
        let pieces: Arc<[_]> = pieces.into_iter().collect();
        let len = pieces.last().map_or(0, |(start, bytes)| start + bytes.len() as u64);
        Self { pieces, len }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The octets from `from` to the end of their piece, but not past `end`; nothing at the end.
    pub(crate) fn piece(&self, from: u64, end: u64) -> Option<Bytes> {
        if from >= end.min(self.len) {
            return None;
        }
        let index = self.pieces.partition_point(|(start, _)| *start <= from).checked_sub(1)?;
        let (start, bytes) = &self.pieces[index];
        Some(part(*start, bytes, from, end))
    }
}

/// The octets `from..end` as far as this piece, which begins at `start`, has them.
pub(crate) fn part(start: u64, bytes: &Bytes, from: u64, end: u64) -> Bytes {
    let clamp = |offset: u64| {
        usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len())
    };
    bytes.slice(clamp(from)..clamp(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_a_body_reads_back() {
        let text = b"abcdefghij";
        let pieces = [(0, &text[..3]), (3, &text[3..4]), (4, &text[4..])];
        let chunks = Chunks::new(pieces.map(|(at, bytes)| (at, Bytes::from_static(bytes))));
        for from in 0..=text.len() {
            for end in from..=text.len() {
                let mut read = Vec::new();
                let mut at = from as u64;
                while let Some(piece) = chunks.piece(at, end as u64) {
                    assert!(!piece.is_empty());
                    at += piece.len() as u64;
                    read.extend_from_slice(&piece);
                }
                assert_eq!(read, &text[from..end]);
            }
        }
        assert_eq!(Chunks::default().piece(0, 9), None);
    }
}
