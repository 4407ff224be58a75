//! Long proofs: the nodes of one stand by themselves, under the key of the response and its version, which no
//! other has had. Those of a response that has gone are found by nobody, and evicted in time.

use std::sync::Arc;

use coralline_disk::{Disk, Object, Refused};
use coralline_receipt::Proof;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::{Job, Tier};
use crate::message::Stored;

/// What there is of a long proof.
pub(crate) enum LongProof {
    /// It takes this place in memory until the end of what is shown with it.
    Here(Arc<Proof>, OwnedSemaphorePermit),
    /// Too many are being read.
    Later,
    Nothing,
}

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

    /// The proof of a response of which only the receipt is in memory.
    pub(crate) async fn proof(&self, stored: &Stored) -> LongProof {
        let Some((receipt, object)) = stored.receipt_alone().zip(stored.body.object()) else {
            return LongProof::Nothing;
        };
        let (disk, key, proofs) = (self.disk.clone(), key(object), self.proofs.clone());
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
            Some(LongProof::Here(Proof::decode(&proof).ok()?.into(), place))
        });
        read.await.ok().flatten().unwrap_or(LongProof::Nothing)
    }
}
