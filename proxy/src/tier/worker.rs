//! The thread that writes what has landed, and removes, in the order in which it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use coralline_disk::{Disk, Refused};

use super::{Job, Pending, key, lock, nodes};
use crate::message::Stored;
use crate::record::Record;

/// What the thread works on.
pub(super) struct Worker {
    pub(super) disk: Disk,
    pub(super) pending: Pending,
    pub(super) queued: Arc<AtomicU64>,
    /// Removals that are done.
    pub(super) removed: u64,
    pub(super) lasting: Arc<AtomicU64>,
}

impl Worker {
    /// Works until nobody can queue anything more.
    pub(super) fn work(mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            match job {
                Job::Keep(uri, stored) => {
                    let kept = keep(&self.disk, &uri, &stored);
                    // What the disk refuses it counts itself. What it has then is an older one.
                    if matches!(kept, Err(refused) if refused != Refused::Replaced) {
                        remove(&self.disk, &uri);
                    }
                    self.queued.fetch_sub(stored.weight(), Ordering::Relaxed);
                    done(&self.pending, &uri);
                }
                Job::Prove(uri, stored) => {
                    // What is there is as good, whatever comes of this.
                    let _ = keep(&self.disk, &uri, &stored);
                    self.queued.fetch_sub(stored.weight(), Ordering::Relaxed);
                    done(&self.pending, &uri);
                }
                Job::Remove(uri) => {
                    remove(&self.disk, &uri);
                    self.removed += 1;
                    done(&self.pending, &uri);
                }
                Job::Told(told) => _ = told.send(()),
                Job::Last(told) => {
                    let behind = self.lasting.load(Ordering::SeqCst) < self.removed;
                    if behind && self.disk.sync().is_ok() {
                        self.lasting.store(self.removed, Ordering::SeqCst);
                    }
                    let _ = told.send(());
                }
            }
        }
    }
}

fn done(pending: &Pending, uri: &Arc<str>) {
    let mut pending = lock(pending);
    if let Some(count) = pending.get_mut(uri) {
        *count -= 1;
        if *count == 0 {
            pending.remove(uri);
        }
    }
}

fn remove(disk: &Disk, uri: &str) {
    if let Err(error) = disk.remove(uri.as_bytes()) {
        tracing::error!(%uri, %error, "removed, but it may be back after a restart");
    }
}

fn keep(disk: &Disk, uri: &str, stored: &Stored) -> Result<(), Refused> {
    let record = Record::response(stored).encode();
    if let Some(object) = stored.body.object() {
        if let Some(octets) = stored.proof_nodes() {
            // Without them the receipt proves nothing, and does no harm.
            let _ = nodes::keep(disk, object, &octets);
        }
        return object.with_meta(&record).map(|_| ());
    }
    let chunks = stored.body.chunks().expect("a body is in memory or on disk");
    let key = key(disk, uri, &stored.variant)?;
    let mut writer = disk.begin(&key, &record, Some(chunks.len()))?;
    let mut at = 0;
    while let Some(piece) = chunks.piece(at, chunks.len()) {
        at += piece.len() as u64;
        writer.write(&piece)?;
    }
    writer.commit().map(|_| ())
}
