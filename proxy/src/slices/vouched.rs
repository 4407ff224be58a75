//! Slices that came alone, with a receipt of their own: nobody knows the root of the whole yet.
//!
//! Who fetches a slice from the origin signs it as a content by itself: *for this URI and variant, the origin
//! has answered 206 with these fields, Content-Range among them, and these octets.* So a receipt says which octets
//! these are, of how many, and of which version (by the validator among the fields). It says nothing of
//! others, nor that two slices belong together but by the same validator, as a client that joins parts has it
//! (RFC 9110, section 15.3.7.3). As its status is 206, nobody takes it for the receipt of a short whole.
//!
//! A slice is given on under the fields with which it came, as long as these are fresh. Its nodes are not kept:
//! they are hashed again from its octets, which takes less than reading them. Receipts are kept in memory
//! alone: after a restart what is held in part is for this node's clients.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use coralline_disk::Object;
use coralline_overlay::Key;
use coralline_receipt::{Proof, Rebuild, Receipt, Span};
use http::header::RANGE;
use tokio::task::spawn_blocking;

use super::plan::{bytes, octets, slice_at};
use super::read::Sliced;
use super::slice::Shows;
use super::{Place, slice_key};
use crate::Proxy;
use crate::admit::Asked;
use crate::announce::Announcement;
use crate::body::ResponseBody;
use crate::clock;
use crate::conditional::{Selected, if_range, select};
use crate::digests::Digests;
use crate::flight::Arriving;
use crate::limits::{MIN_ANNOUNCED_TTL, WHOLE_TTL};
use crate::message::Stored;
use crate::peer::{Proved, prove};
use crate::purge::Verdict;
use crate::reason::Failure;
use crate::request::Answer;
use crate::respond::Forward;
use crate::scope::tags;
use crate::serve_peer::joined;
use crate::tier::read;

/// What shows a slice that is held to be what its signer fetched.
#[derive(Debug)]
pub(super) struct Vouched {
    /// The response with which it came, as if it were the whole.
    pub(super) told: Arc<Arriving>,
    pub(super) receipt: Receipt,
    pub(super) key: Key,
}

/// What there is of a slice for a peer.
pub(crate) enum ForPeer {
    Proved(Box<Answer>),
    /// Nothing yet; it is worth asking again.
    Later,
    Nothing,
}

impl Proxy {
    /// The first slice of the range that a peer asks for, of something that is held in part.
    pub(crate) async fn give_slice(
        self: &Arc<Self>,
        asked: &mut Asked,
        stored: &Arc<Stored>,
    ) -> ForPeer {
        let Some(object) = stored.body.object().filter(|_| !asked.has_before) else {
            return ForPeer::Nothing;
        };
        let (head, length) = (&stored.head, object.length());
        let selected =
            select(&asked.selecting, asked.is_get(), head.status, &head.headers, Some(length));
        let Selected::Range(from, end) = selected else { return ForPeer::Nothing };
        let number = slice_at(from);
        let slice = octets(number, length);
        if from != slice.start || end < slice.end {
            return ForPeer::Nothing;
        }
        let answers = &self.metrics.answers;
        let (told, proved, count) = match self.slices.find(object, number) {
            Place::Disk => {
                let Some(vouched) = self.slices.vouched.get(&(object.version(), number)) else {
                    return ForPeer::Nothing;
                };
                let Ok(proof) = Rebuild::new(vouched.receipt.clone()) else {
                    return ForPeer::Nothing;
                };
                let digests = Digests::default();
                let rebuilt = rebuilt(proof, digests, object.clone(), slice.clone());
                let Ok(proof) = rebuilt.await else {
                    return ForPeer::Nothing;
                };
                (vouched.told.clone(), Proved::Whole(proof), &answers.stored)
            }
            Place::Arriving(arriving) => match arriving.shown().await {
                Shows::Proved(told, proving) => {
                    (told, Proved::Slice(arriving, proving), &answers.arriving)
                }
                Shows::Undecided | Shows::Origin => return ForPeer::Later,
                Shows::Nothing => return ForPeer::Nothing,
            },
            Place::Nowhere => {
                self.forget_slice(object, number);
                return ForPeer::Nothing;
            }
        };
        if !self.may_be_given(asked, &told) {
            return ForPeer::Nothing;
        }
        asked.selecting.insert(RANGE, bytes(slice.start, slice.end));
        let Some(sliced) = Sliced::new(self, stored, None, (slice.start, slice.end)) else {
            return ForPeer::Nothing;
        };
        let body = ResponseBody::sliced(sliced, slice.end - slice.start);
        let source = told.source;
        let status = joined(Forward::UriMiss, source);
        let body = |_: &_| Some([body].into());
        let response = self.compose(asked, &told.head, &told.freshness, &[], status, body);
        let response = response.map(|response| self.counted_for_peer(response));
        match response.and_then(|response| prove(response, Span::Rest(0), proved)) {
            Some(response) => {
                count.inc();
                ForPeer::Proved((source, response).into())
            }
            None => ForPeer::Nothing,
        }
    }

    /// The response with which a slice came suits the request, and is still good.
    fn may_be_given(&self, asked: &Asked, told: &Arriving) -> bool {
        let generated = told.freshness.generated;
        let purged = self.purges.verdict(&asked.uri, generated, || tags(&told.head.headers));
        told.variant.suits(&asked.headers)
            && told.freshness.remaining(clock::now()).is_some()
            && if_range(&asked.selecting, &told.head.headers)
            && purged == Verdict::Untouched
    }

    /// It was evicted: nobody is to come for it any more.
    fn forget_slice(&self, object: &Object, number: u32) {
        let vouched = self.slices.vouched.remove(&(object.version(), number));
        if let Some(vouched) = vouched {
            let index = self.index.clone();
            tokio::spawn(async move { index.withdraw(vouched.key).await });
        }
    }

    /// Keeps the receipt of a slice that is on disk, and tells the index that it is.
    pub(super) fn keep_receipt(
        &self,
        uri: &Arc<str>,
        of: (u64, u32),
        told: Arc<Arriving>,
        receipt: Receipt,
        claim: Option<(Announcement, bool)>,
    ) {
        let key = slice_key(uri, of.1);
        let fresh = told.freshness.remaining(clock::now()).unwrap_or_default();
        self.slices.vouched.insert(of, Arc::new(Vouched { told, receipt, key }));
        if let Some((claim, _)) = claim.filter(|_| fresh >= MIN_ANNOUNCED_TTL) {
            claim.kept(fresh.min(WHOLE_TTL).min(self.index.max_ttl()));
        }
    }
}

/// Why octets on disk are not what was said of them.
pub(super) enum Flaw {
    /// They are not all there.
    Lost,
    /// The receipt is of others.
    Content,
    /// The receipt is of these, and the fields of others.
    Digest(Failure),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("a part of it is not on disk any more"),
            Self::Content => f.write_str("the parts together are not what was signed"),
            Self::Digest(failure) => failure.fmt(f),
        }
    }
}

/// The proof of these octets on disk, if they are what the receipt says, and of these digests.
pub(super) async fn rebuilt(
    mut proof: Rebuild,
    mut digests: Digests,
    mut object: Object,
    octets: Range<u64>,
) -> Result<Arc<Proof>, Flaw> {
    let mut at = octets.start;
    while at < octets.end {
        let (piece, again) = read(object, at).await;
        object = again;
        let mut piece = piece.filter(|piece| !piece.is_empty()).ok_or(Flaw::Lost)?;
        piece.truncate(usize::try_from(octets.end - at).unwrap_or(usize::MAX));
        at += piece.len() as u64;
        let hashed = spawn_blocking(move || {
            proof.update(&piece);
            digests.update(&piece);
            (proof, digests)
        });
        (proof, digests) = hashed.await.map_err(|_| Flaw::Lost)?;
    }
    let proof = proof.finish().map_err(|_| Flaw::Content)?;
    digests.finish().map_err(Flaw::Digest)?;
    Ok(Arc::new(proof))
}

#[cfg(test)]
mod tests {
    use coralline_disk::{Disk, Options};
    use http::HeaderMap;

    use super::*;
    use crate::digests::REPR_DIGEST;
    use crate::proving::proved;

    #[tokio::test]
    async fn octets_on_disk_are_held_against_receipt_and_digest() {
        const TRUE: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        const FALSE: &str = "sha-256=:AAAAqy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let body = b"{\"hello\": \"world\"}\n";
        let directory = tempfile::tempdir().unwrap();
        let options = Options { capacity: 1 << 28, memory: 1 << 20 };
        let disk = Disk::open(directory.path(), options, |_, _| ()).unwrap();
        let mut writer = disk.begin(b"a", &[], Some(body.len() as u64)).unwrap();
        writer.write(body).unwrap();
        let object = writer.commit().unwrap();
        let check = async |signed: &[u8], digest: &str, end: u64| {
            let mut headers = HeaderMap::new();
            headers.insert(REPR_DIGEST, digest.parse().unwrap());
            let proof = Rebuild::new(proved(signed).receipt().clone()).unwrap();
            rebuilt(proof, Digests::of(&headers), object.clone(), 0..end).await
        };
        let all = body.len() as u64;
        assert!(check(body, TRUE, all).await.is_ok());
        assert!(matches!(check(body, FALSE, all).await, Err(Flaw::Digest(_))));
        assert!(matches!(check(b"something else", TRUE, all).await, Err(Flaw::Content)));
        assert!(matches!(check(body, TRUE, all + 1).await, Err(Flaw::Lost)));
    }
}
