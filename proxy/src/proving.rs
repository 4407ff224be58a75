//! The proof of what a flight receives: signed here if it comes from the origin, else as its signer made it.
//! Peers are sent what is proved, with the proof, and nothing else.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use coralline_overlay::Handle;
use coralline_receipt::limits::MAX_RUN;
use coralline_receipt::{
    Decoder, Encoder, Event, PartialProof, Proof, Receipt, Subject, Wrong, fields_digest,
};
use http::StatusCode;
use http::header::{ACCEPT_LANGUAGE, CONTENT_RANGE, HeaderMap, HeaderName, VIA};

use crate::Proxy;
use crate::fetch::Job;
use crate::fields::CACHE_STATUS;
use crate::flight::{Arriving, Flight};
use crate::message::{ProofOctets, Source, Stored};
use crate::policy::{said, vary};
use crate::reason::Failure;
use crate::serve_peer::miss;
use crate::slices::Part;
use crate::tier::{HeldProof, LongProof};
use crate::upstream::Upstream;

/// Says in which form a peer's answer proves itself. The length of the content is in the receipt.
pub(crate) const PROOF: HeaderName = HeaderName::from_static("coralline-proof");
/// The form of a part whose receipt is of that part alone.
pub(crate) const FORM_ALONE: &str = "coralline-receipt-1; alone";

/// The proof that grows with a body. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proving {
    state: Arc<Mutex<State>>,
    /// Whose key signs what comes from the origin.
    index: Handle,
}

enum State {
    Signing(Box<PartialProof>),
    Receiving(Box<Decoder>),
    Whole(Arc<Proof>),
    /// Nobody can be shown more of it.
    Gone,
}

impl fmt::Debug for Proving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proving").finish_non_exhaustive()
    }
}

impl Proving {
    /// For what comes from the origin.
    pub(crate) fn signing(index: &Handle, subject: Subject) -> Option<Self> {
        let proof = PartialProof::begin(subject, |message| index.sign(message)).ok()?;
        Some(Self::new(index, State::Signing(Box::new(proof))))
    }

    /// For a part that comes from the origin.
    pub(crate) fn signing_part(
        index: &Handle,
        uri: &str,
        request: &HeaderMap,
        told: &Arriving,
        part: &Part,
    ) -> Option<Self> {
        let signer = index.local().identity.0;
        let subject = subject_of_part(uri, request, told, part);
        Self::signing(index, Subject { signer, ..subject })
    }

    /// For what comes from a peer.
    pub(crate) fn receiving(index: &Handle, decoder: Decoder) -> Self {
        Self::new(index, State::Receiving(Box::new(decoder)))
    }

    fn new(index: &Handle, state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), index: index.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // For who receives.

    /// Adds octets from the origin, and signs as soon as it is worth it. What comes from a peer is there
    /// already.
    pub(crate) fn update(&self, octets: &[u8]) {
        let mut state = self.state();
        let State::Signing(proof) = &mut *state else { return };
        let mut good = proof.update(octets);
        if good && proof.unsigned() >= MAX_RUN {
            good = proof.seal(false, |message| self.index.sign(message));
        }
        if !good {
            *state = State::Gone;
        }
    }

    /// It has become too long to be proved: no peer is shown more of it, and what a peer sends of it is used
    /// no more.
    pub(crate) fn give_up(&self) {
        *self.state() = State::Gone;
    }

    /// What comes is signed here.
    pub(crate) fn is_signing(&self) -> bool {
        matches!(&*self.state(), State::Signing(_))
    }

    /// Something came that nobody can be shown yet.
    pub(crate) fn is_due(&self) -> bool {
        matches!(&*self.state(), State::Signing(proof) if proof.unsigned() > 0)
    }

    /// Signs what is here.
    pub(crate) fn seal(&self) {
        if let State::Signing(proof) = &mut *self.state() {
            let _ = proof.seal(false, |message| self.index.sign(message));
        }
    }

    /// All of it came: the proof to keep, if there is one.
    pub(crate) fn finish(&self) -> Option<Arc<Proof>> {
        let mut state = self.state();
        if let State::Whole(proof) = &*state {
            return Some(proof.clone());
        }
        let proof = match std::mem::replace(&mut *state, State::Gone) {
            State::Signing(mut proof) => {
                let signed = proof.seal(true, |message| self.index.sign(message));
                signed.then(|| proof.finish()).flatten()
            }
            State::Receiving(decoder) => decoder.into_proof().and_then(PartialProof::finish),
            State::Whole(_) | State::Gone => None,
        };
        let proof = proof.map(Arc::new)?;
        *state = State::Whole(proof.clone());
        Some(proof)
    }

    /// The rest, after `at` octets, comes from the origin: from now on this node answers for all of it.
    pub(crate) fn take_over(&self, at: u64) {
        let mut state = self.state();
        if let State::Signing(_) = *state {
            return;
        }
        let State::Receiving(decoder) = std::mem::replace(&mut *state, State::Gone) else { return };
        let signer = self.index.local().identity.0;
        let taken = decoder.into_proof().and_then(|proof| {
            let subject = Subject { signer, ..proof.receipt().subject.clone() };
            proof.taken_over(subject, |message| self.index.sign(message)).ok()
        });
        if let Some(proof) = taken.filter(|proof| proof.proved() == at) {
            *state = State::Signing(Box::new(proof));
        }
    }

    /// To go on with what a peer has proved so far, by the stream of another.
    pub(crate) fn resumed(&self) -> Option<Self> {
        let State::Receiving(decoder) = &*self.state() else { return None };
        let decoder = Decoder::resume(decoder.proof()?.clone());
        Some(Self::receiving(&self.index, decoder))
    }

    /// Both are of the same content, whoever says so.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let both = self.receipt().zip(other.receipt());
        both.is_some_and(|(one, other)| one.subject.is_same_content(&other.subject))
    }

    /// Goes on as `other` does, which is of no use from then on.
    pub(crate) fn replace_by(&self, other: &Self) {
        let state = std::mem::replace(&mut *other.state(), State::Gone);
        *self.state() = state;
    }

    /// Takes in octets from a peer, if there are any, and gives out the next of what they prove.
    pub(crate) fn decode(&self, octets: Option<Bytes>) -> Result<Option<Event>, Wrong> {
        let mut state = self.state();
        let State::Receiving(decoder) = &mut *state else { return Err(Wrong::Truncated) };
        octets.into_iter().for_each(|octets| decoder.handle_octets(octets));
        decoder.poll()
    }

    /// The peer sends no more.
    pub(crate) fn handle_end(&self) -> Result<(), Wrong> {
        match &*self.state() {
            State::Receiving(decoder) => decoder.handle_end(),
            _ => Err(Wrong::Truncated),
        }
    }

    // For who is served.

    /// What can be shown first; nothing if that is nothing.
    pub(crate) fn receipt(&self) -> Option<Receipt> {
        match &*self.state() {
            State::Signing(proof) => Some(proof.receipt().clone()),
            State::Receiving(decoder) => decoder.proof().map(|proof| proof.receipt().clone()),
            State::Whole(proof) => Some(proof.receipt().clone()),
            State::Gone => None,
        }
    }

    /// Offers what can be shown, if need be by another's word than that of `subject`, which changes then;
    /// false if what was shown before is not gone on with.
    pub(crate) fn offer(&self, encoder: &mut Encoder, subject: &mut Subject) -> bool {
        let state = self.state();
        let (receipt, provable) = match &*state {
            State::Signing(proof) => (proof.receipt(), proof.provable()),
            State::Receiving(decoder) => match decoder.proof() {
                Some(proof) => (proof.receipt(), proof.provable()),
                None => return false,
            },
            State::Whole(proof) => (proof.receipt(), proof.provable()),
            State::Gone => return false,
        };
        if receipt.subject == *subject {
            encoder.offer(provable);
        } else if receipt.subject.is_same_content(subject) && encoder.go_on_under(receipt) {
            subject.clone_from(&receipt.subject);
        } else {
            return false;
        }
        true
    }
}

impl Proxy {
    /// Makes it provable to peers: what comes from the origin by this node's word, what comes from a peer by
    /// that of who fetched it.
    pub(crate) fn prove(
        &self,
        flight: &Flight,
        job: &Job,
        arriving: &Arriving,
        upstream: &Upstream,
    ) {
        let proving = match upstream.body.proving() {
            Some(proving) => Some(proving.clone()),
            // What a peer sent without a proof is not vouched for.
            None if job.target.site.is_none() && upstream.source == Source::Origin => {
                let Arriving { head, freshness, .. } = arriving;
                let said = (head.status, &head.headers);
                let (uri, generated) = (&job.uri, freshness.generated);
                let subject = subject(&self.index, uri, &job.headers, said, head.length, generated);
                Proving::signing(&self.index, subject)
            }
            None => None,
        };
        if let Some(proving) = proving {
            flight.prove(proving);
        }
    }

    /// The origin has said that the octets are still the same: from now on that is this node's word.
    pub(crate) fn signed_again(&self, job: &Job, old: &Stored, new: Stored) -> Stored {
        let said = (new.head.status, &new.head.headers);
        let (length, generated) = (Some(new.body.len()), new.freshness.generated);
        let subject = subject(&self.index, &job.uri, &job.headers, said, length, generated);
        let sign = |message: &[u8]| self.index.sign(message);
        if let Some(receipt) = old.receipt_alone() {
            let renewed = receipt.renewed(subject, sign).ok();
            return new.with_kept_proof(renewed.map(|r| ProofOctets::Receipt(r.encode())));
        }
        let renewed = old.proof().and_then(|proof| proof.renewed(subject, sign).ok());
        new.with_proof(renewed.map(Arc::new))
    }

    /// The proof of what is held, for a peer, and the place in memory that it takes meanwhile, if it comes from
    /// disk.
    ///
    /// # Errors
    /// There is none, or none now.
    pub(crate) async fn proof_of(
        &self,
        stored: &Stored,
    ) -> Result<(Arc<Proof>, Option<Arc<HeldProof>>), Failure> {
        if let Some(proof) = stored.proof() {
            return Ok((proof, None));
        }
        let tier = self.tier.as_ref().ok_or_else(miss)?;
        match tier.proof(stored).await {
            LongProof::Here(held) => Ok((held.proof.clone(), Some(held))),
            LongProof::Later => Err(miss().with_status(StatusCode::SERVICE_UNAVAILABLE)),
            LongProof::Nothing => Err(miss()),
        }
    }

    /// Whether a peer that comes for it would get it.
    pub(crate) fn can_prove(&self, stored: &Stored) -> bool {
        match stored.receipt_alone() {
            Some(_) => self.tier.as_ref().is_some_and(|tier| tier.has_proof(stored)),
            None => stored.has_proof(),
        }
    }
}

/// A peer's answer is what its signer has signed, and that is what was asked for.
pub(crate) fn vouched_for(job: &Job, arriving: &Arriving, upstream: &Upstream) -> bool {
    let Some(subject) = upstream.body.receipt().map(|receipt| &receipt.subject) else {
        return false;
    };
    let headers = &arriving.head.headers;
    // One language of several may do for who asked for others too.
    let same_variant = arriving.variant.names.contains(&ACCEPT_LANGUAGE)
        || subject.variant == variant_digest(&job.headers, headers);
    same_variant
        && subject.uri == *job.uri
        && subject.first == 0
        && subject.status == arriving.head.status.as_u16()
        && subject.fields == stored_digest(headers)
}

/// The same of a part: either the receipt is of the whole, or of just this part.
pub(crate) fn vouched_for_part(
    job: &Job,
    arriving: &Arriving,
    upstream: &Upstream,
    part: &Part,
) -> bool {
    let Some(receipt) = upstream.body.receipt() else { return false };
    if receipt.subject.status != PARTIAL {
        return upstream.body.length() == Some(part.total) && vouched_for(job, arriving, upstream);
    }
    let (signer, time) = (receipt.subject.signer, receipt.subject.time);
    let expected = subject_of_part(&job.uri, &job.headers, arriving, part);
    let mut expected = Subject { signer, time, ..expected };
    if arriving.variant.names.contains(&ACCEPT_LANGUAGE) {
        expected.variant = receipt.subject.variant;
    }
    receipt.subject == expected
}

/// The status in the receipt of a part alone.
pub(crate) const PARTIAL: u16 = StatusCode::PARTIAL_CONTENT.as_u16();

/// What a receipt for this part of a response is about; whose it is, is left out.
fn subject_of_part(uri: &str, request: &HeaderMap, told: &Arriving, part: &Part) -> Subject {
    let mut headers = told.head.headers.clone();
    headers.insert(CONTENT_RANGE, part.field());
    Subject {
        uri: uri.to_owned(),
        variant: variant_digest(request, &told.head.headers),
        status: PARTIAL,
        fields: stored_digest(&headers),
        first: part.first,
        length: Some(part.end - part.first),
        time: milliseconds(told.freshness.generated),
        signer: [0; 32],
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a receipt for this response is about.
fn subject(
    index: &Handle,
    uri: &str,
    request: &HeaderMap,
    (status, headers): (StatusCode, &HeaderMap),
    length: Option<u64>,
    generated: SystemTime,
) -> Subject {
    Subject {
        uri: uri.to_owned(),
        variant: variant_digest(request, headers),
        status: status.as_u16(),
        fields: stored_digest(headers),
        first: 0,
        length,
        time: milliseconds(generated),
        signer: index.local().identity.0,
    }
}

/// What the request says in the fields that the response names in Vary; all the same if it names none.
fn variant_digest(request: &HeaderMap, response: &HeaderMap) -> [u8; 32] {
    let said = said(&vary(response).unwrap_or_default(), request);
    fields_digest([("vary", said.as_bytes())])
}

/// All fields that are stored, but for those to which each node on the way adds its own.
fn stored_digest(headers: &HeaderMap) -> [u8; 32] {
    let own = |name: &HeaderName| *name == VIA || *name == CACHE_STATUS;
    let fields = headers.iter().filter(|(name, _)| !own(name));
    fields_digest(fields.map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The proof of this body, by a key of its own.
#[cfg(test)]
pub(crate) fn proved(body: &[u8]) -> Proof {
    use rcgen::SigningKey as _;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let sign = |message: &[u8]| key.sign(message).unwrap().try_into().unwrap();
    let subject = Subject {
        uri: "http://a.test/".into(),
        variant: [0; 32],
        status: 200,
        fields: [0; 32],
        first: 0,
        length: Some(body.len() as u64),
        time: 0,
        signer: key.public_key_raw().try_into().unwrap(),
    };
    let mut proof = PartialProof::begin(subject, sign).unwrap();
    assert!(proof.update(body) && proof.seal(true, sign));
    proof.finish().unwrap()
}
