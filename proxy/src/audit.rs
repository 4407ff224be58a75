//! Audits: a few of the responses that came from peers are fetched again from their origin, and what was signed of
//! them is held against what the origin says now.
//!
//! A contradiction is the same strong validator with other octets, twice the same ones. Its signer is not believed
//! for a while, this response of it is forgotten, and the other nodes are told. They do not believe it either: anybody
//! can say of a true receipt that it is a lie, and an origin may give each of two nodes something else under one tag.
//! What they hear makes them look for themselves, more often than at others.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coralline_overlay::{Identity, MAX_CONTENT};
use coralline_receipt::{PartialProof, Receipt, Subject};
use http::header::{AUTHORIZATION, COOKIE, HeaderMap};
use http::{Method, StatusCode};
use moka::sync::Cache;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::Proxy;
use crate::conditional::strong_validator;
use crate::fetch::Job;
use crate::fields::Mode;
use crate::limits::{
    AUDIT_PATIENCE, AUDIT_PAUSE, MAX_AUDITED, MAX_AUDITS, MAX_EVIDENCE, MAX_SUSPECTS,
    SUSPECT_MEMORY, SUSPECT_SHARE,
};
use crate::message::{Source, Stored};
use crate::target::Target;

/// The kind of a message to the whole network that carries evidence: a receipt, and the BLAKE3 root that the
/// sender has found.
const EVIDENCE: u8 = b'e';

/// What is known against signers, and whose responses are to be looked at.
pub(crate) struct Audits {
    /// One in so many is audited; none if it is 0.
    one_in: u32,
    waiting: mpsc::Sender<Audit>,
    suspects: Cache<Identity, ()>,
    evidence: Mutex<VecDeque<Evidence>>,
    draws: (RandomState, AtomicU64),
}

/// One that is to be done.
pub(crate) struct Audit {
    uri: Arc<str>,
    target: Target,
    /// Of the request, as the origin sees it.
    headers: HeaderMap,
    mode: Mode,
    stored: Arc<Stored>,
    receipt: Receipt,
}

/// Two receipts for one response that cannot both be true: that of a node that has signed what is not so, and that
/// of this node for what its origin says. Anybody can see that each was signed.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Who has signed it: an Ed25519 public key.
    pub signer: [u8; 32],
    /// Of what.
    pub uri: String,
    /// Its receipt, in octets.
    pub signed: Vec<u8>,
    /// This node's.
    pub observed: Vec<u8>,
}

/// What came of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Agreed,
    Contradicted,
    /// The origin did not answer, or has something else by now.
    Undecided,
}

impl Audits {
    pub(crate) fn new(one_in: u32) -> (Self, mpsc::Receiver<Audit>) {
        let (waiting, audits) = mpsc::channel(MAX_AUDITS);
        let suspects =
            Cache::builder().max_capacity(MAX_SUSPECTS).time_to_live(SUSPECT_MEMORY).build();
        let draws = (RandomState::new(), AtomicU64::new(0));
        (Self { one_in, waiting, suspects, evidence: Mutex::default(), draws }, audits)
    }

    /// Looks at a response that has come whole, if its turn has come. Never at one that may be somebody's own.
    pub(crate) fn consider(&self, job: &Job, source: Source, stored: &Arc<Stored>) {
        let known = [AUTHORIZATION, COOKIE].iter().any(|name| job.headers.contains_key(name));
        let (head, body) = (&stored.head, &stored.body);
        let fits = matches!(source, Source::Peer(_))
            && head.status == StatusCode::OK
            && body.len() <= MAX_AUDITED
            && strong_validator(&head.headers).is_some();
        let Some(proof) = stored.proof().filter(|_| fits && !known) else { return };
        let receipt = proof.receipt().clone();
        if !self.is_drawn(Identity(receipt.subject.signer)) {
            return;
        }
        // What does not fit is not looked at: nobody waits for it.
        let _ = self.waiting.try_send(Audit {
            uri: job.uri.clone(),
            target: job.target.clone(),
            headers: job.headers.clone(),
            mode: job.mode,
            stored: stored.clone(),
            receipt,
        });
    }

    /// No signer can know beforehand.
    fn is_drawn(&self, signer: Identity) -> bool {
        let one_in = match self.suspects.contains_key(&signer) {
            true => self.one_in.min(SUSPECT_SHARE),
            false => self.one_in,
        };
        let (random, count) = &self.draws;
        let draw = random.hash_one(count.fetch_add(1, Ordering::Relaxed));
        one_in > 0 && draw.is_multiple_of(u64::from(one_in))
    }

    /// What was found, the latest first.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        let kept = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }

    fn keep(&self, signed: &Receipt, observed: &Receipt) {
        let evidence = Evidence {
            signer: signed.subject.signer,
            uri: signed.subject.uri.clone(),
            signed: signed.encode(),
            observed: observed.encode(),
        };
        let mut kept = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(MAX_EVIDENCE - 1);
        kept.push_front(evidence);
    }

    /// Somebody says that this is a lie. That it was signed at all is certain.
    fn hear(&self, content: &[u8]) {
        let receipt = content.split_last_chunk::<32>();
        let receipt = receipt.and_then(|(receipt, _)| Receipt::decode(receipt).ok());
        if let Some(receipt) = receipt.filter(|receipt| receipt.verify().is_ok()) {
            self.suspects.insert(Identity(receipt.subject.signer), ());
        }
    }
}

/// Audits one after the other, not too fast, and listens to what others have found. Ends with the proxy.
pub(crate) async fn run(proxy: Weak<Proxy>, mut audits: mpsc::Receiver<Audit>) {
    let Some(mut heard) = proxy.upgrade().map(|proxy| proxy.index.broadcasts()) else { return };
    let listening = async {
        while let Some(message) = heard.next().await {
            let Some(proxy) = proxy.upgrade() else { return };
            if message.kind == EVIDENCE {
                proxy.audits.hear(&message.content);
            }
        }
    };
    let auditing = async {
        while let Some(audit) = audits.recv().await {
            let Some(proxy) = proxy.upgrade() else { return };
            let finding = proxy.audit(&audit).await;
            let counters = &proxy.metrics.audits;
            match finding {
                Finding::Agreed => counters.agreed.inc(),
                Finding::Contradicted => counters.contradicted.inc(),
                Finding::Undecided => counters.undecided.inc(),
            }
            drop(proxy);
            sleep(AUDIT_PAUSE).await;
        }
    };
    tokio::join!(listening, auditing);
}

impl Proxy {
    async fn audit(&self, audit: &Audit) -> Finding {
        let Some(observed) = self.observed(audit).await else { return Finding::Undecided };
        if observed.head.root == audit.receipt.head.root {
            return Finding::Agreed;
        }
        // An origin may have something else each time under one tag.
        let again = self.observed(audit).await;
        if again.is_none_or(|again| again.head.root != observed.head.root) {
            return Finding::Undecided;
        }
        let signer = Identity(audit.receipt.subject.signer);
        tracing::warn!(?signer, uri = %audit.uri, "a node has signed what the origin does not say");
        self.peers.distrust(signer);
        self.forget(&audit.uri);
        let content = [&audit.receipt.encode()[..], &observed.head.root].concat();
        if content.len() <= MAX_CONTENT {
            let _ = self.index.broadcast(EVIDENCE, &content).await;
        }
        self.audits.keep(&audit.receipt, &observed);
        Finding::Contradicted
    }

    /// What the origin says now, signed; nothing where that is about something else, or too long.
    async fn observed(&self, audit: &Audit) -> Option<Receipt> {
        timeout(AUDIT_PATIENCE, self.fetched_again(audit)).await.ok()?
    }

    async fn fetched_again(&self, audit: &Audit) -> Option<Receipt> {
        let mut headers = audit.headers.clone();
        self.signature.sign(&mut headers, audit.mode);
        let asked = self.origin.ask(&Method::GET, &audit.target, &headers, None).await;
        let mut upstream = asked.ok()?;
        let (now, then) = (&upstream.head, &audit.stored.head);
        let same = strong_validator(&now.headers) == strong_validator(&then.headers);
        if now.status != then.status || !same {
            upstream.body.discard();
            return None;
        }
        let signer = self.index.local().identity.0;
        let subject = Subject { signer, length: None, ..audit.receipt.subject.clone() };
        let sign = |message: &[u8]| self.index.sign(message);
        let mut proof = PartialProof::begin(subject, sign).ok()?;
        let mut length = 0;
        while let Some(octets) = upstream.body.next(self.stall_timeout).await {
            let octets = octets.ok()?;
            length += octets.len() as u64;
            if length > MAX_AUDITED || !proof.update(&octets) {
                return None;
            }
        }
        let whole = proof.seal(true, sign);
        proof.finish().filter(|_| whole).map(|proof| proof.receipt().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_drawn_and_of_suspects_more() {
        let drawn = |one_in: u32, is_suspect: bool| {
            let (audits, _) = Audits::new(one_in);
            let signer = Identity([1; 32]);
            if is_suspect {
                audits.suspects.insert(signer, ());
            }
            (0..10_000).filter(|_| audits.is_drawn(signer)).count()
        };
        assert_eq!((drawn(0, false), drawn(0, true), drawn(1, false)), (0, 0, 10_000));
        assert!((50..160).contains(&drawn(100, false)));
        assert!((50..160).contains(&drawn(10_000, true)), "one in {SUSPECT_SHARE}");
        assert_eq!(drawn(1, true), 10_000);
    }

    #[test]
    fn what_nobody_has_signed_makes_nobody_suspect() {
        let (audits, _) = Audits::new(1);
        for content in [&b""[..], &[0; 32], &[7; 400]] {
            audits.hear(content);
        }
        audits.suspects.run_pending_tasks();
        assert_eq!(audits.suspects.entry_count(), 0);
    }
}
