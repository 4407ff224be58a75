//! Long proofs: the nodes of one stand by themselves, under the key of the response and its version, which no
//! other has had. Those of a response that has gone are found by nobody, and evicted in time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use coralline_disk::{Disk, Object, Refused};
use coralline_receipt::Proof;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::spawn_blocking;

use super::{Job, Tier};
use crate::message::Stored;

/// What there is of a long proof.
pub(crate) enum LongProof {
    /// Shared by all who are shown it at a time.
    Here(Arc<HeldProof>),
    /// Too many are being read.
    Later,
    Nothing,
}

/// One that was read from disk, and the place in memory that it takes until the end of all that is shown with it.
#[derive(Debug)]
pub(crate) struct HeldProof {
    pub(crate) proof: Arc<Proof>,
    #[expect(dead_code, reason = "it is held, not read")]
    place: OwnedSemaphorePermit,
}

/// Those that are being shown, by version.
pub(super) type Held = Arc<Mutex<BTreeMap<u64, Weak<HeldProof>>>>;

/// No variant has an empty generation.
fn key(object: &Object) -> Vec<u8> {
    let version = format!("\n\n{:x}", object.version());
    [object.key(), version.as_bytes()].concat()
}

/// Writes the nodes, if they are not there.
pub(super) fn keep(disk: &Disk, object: &Object, nodes: &[u8]) -> Result<(), Refused> {
    let key = key(object);
    if disk.contains(&key) {
        return Ok(());
    }
    let mut writer = disk.begin(&key, &[], Some(nodes.len() as u64))?;
    writer.write(nodes)?;
    writer.commit().map(|_| ())
}

impl Tier {
    /// Writes the proof of a response that is there already, some time from now. Where that fails it is
    /// there all the same, and peers are not given it after a restart.
    pub(crate) fn keep_proof(&self, uri: &Arc<str>, stored: &Arc<Stored>) {
        self.queue_stored(uri, stored, Job::Prove);
    }

    /// Whether peers can be shown that it is what its signer has fetched.
    pub(crate) fn has_proof(&self, stored: &Stored) -> bool {
        let object = stored.body.object().filter(|_| stored.receipt_alone().is_some());
        object.is_some_and(|object| self.disk.contains(&key(object)))
    }

    /// The proof of a response of which only the receipt is in memory. One is read at a time: who comes for the
    /// same meanwhile finds it.
    pub(crate) async fn proof(&self, stored: &Stored) -> LongProof {
        let Some((receipt, object)) = stored.receipt_alone().zip(stored.body.object()) else {
            return LongProof::Nothing;
        };
        let (disk, key, proofs) = (self.disk.clone(), key(object), self.proofs.clone());
        let mut held = self.held_proofs.lock().await;
        // The same octets may have been signed again since.
        let same = |held: &Arc<HeldProof>| *held.proof.receipt() == receipt;
        if let Some(held) = held.get(&object.version()).and_then(Weak::upgrade).filter(same) {
            return LongProof::Here(held);
        }
        let read = spawn_blocking(move || {
            let mut nodes = disk.get(&key)?;
            let octets = usize::try_from(nodes.length()).ok()?;
            let Ok(place) = proofs.try_acquire_many_owned(u32::try_from(octets / 1024 + 1).ok()?)
            else {
                return Some(LongProof::Later);
            };
            let mut proof = receipt.encode();
            let begin = proof.len();
            while proof.len() - begin < octets {
                proof.extend(nodes.read((proof.len() - begin) as u64).ok()?);
            }
            let proof = Proof::decode(&proof).ok()?.into();
            Some(LongProof::Here(HeldProof { proof, place }.into()))
        });
        let read = read.await.ok().flatten().unwrap_or(LongProof::Nothing);
        if let LongProof::Here(proof) = &read {
            // No more than there are places for.
            held.retain(|_, held| held.strong_count() > 0);
            held.insert(object.version(), Arc::downgrade(proof));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use coralline_config::Config;
    use coralline_overlay::Key;
    use http::{HeaderMap, StatusCode};
    use prometheus::IntCounter;

    use super::*;
    use crate::message::{Body, Head, ProofOctets};
    use crate::policy::{Freshness, Staleness, Variant};
    use crate::proving::proved;

    fn stored(object: Object, proof: &Proof) -> Stored {
        let (none, now) = (HeaderMap::new(), SystemTime::UNIX_EPOCH);
        let head = Head {
            status: StatusCode::OK,
            headers: none.clone(),
            length: None,
            trailers: none.clone(),
        };
        let variant = Variant::of(Vec::new(), &none, &none);
        let freshness = Freshness {
            received: now,
            initial_age: Duration::ZERO,
            lifetime: Duration::MAX,
            stale: Staleness::default(),
            immutable: false,
            generated: now,
        };
        let body = Body::on_disk(object);
        Stored::new(head, variant, freshness, body, Key::of_name(b"a"))
            .with_kept_proof(Some(ProofOctets::Receipt(proof.receipt().encode())))
    }

    #[tokio::test]
    async fn all_who_are_shown_a_proof_at_a_time_share_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: directory.path().into(), ..Config::default() };
        config.cache.disk.0 = 1 << 30;
        let skipped = IntCounter::new("skipped", "skipped").unwrap();
        let tier = Tier::open(&config, skipped, |_| ()).unwrap().unwrap();
        let body = vec![7; 200_000];
        let mut writer = tier.disk.begin(b"a", &[], Some(body.len() as u64)).unwrap();
        writer.write(&body).unwrap();
        writer.commit().unwrap();
        let object = tier.disk.get(b"a").unwrap();
        let (proof, again) = (proved(&body), proved(&body));
        let nodes = proof.encode().split_off(proof.receipt().encode().len());
        keep(&tier.disk, &object, &nodes).unwrap();
        let (proof, again) = (stored(object.clone(), &proof), stored(object, &again));
        let shown = async |stored| match tier.proof(stored).await {
            LongProof::Here(held) => Some(held),
            LongProof::Later | LongProof::Nothing => None,
        };
        let free = tier.proofs.available_permits();
        let (one, other) = tokio::join!(shown(&proof), shown(&proof));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        let taken = free - tier.proofs.available_permits();
        // The same octets, signed by another.
        let resigned = shown(&again).await.unwrap();
        assert!(!Arc::ptr_eq(&one, &resigned));
        assert_eq!(free - tier.proofs.available_permits(), 2 * taken);
        drop((one, other, resigned));
        assert_eq!(tier.proofs.available_permits(), free);
    }
}
