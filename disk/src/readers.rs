//! Who reads a version of an object that is kept in slices. What replaces it, or removes it, leaves the slices
//! where they are until the last reader has gone: a download goes on with the version it began with, as far
//! as nothing of it is evicted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::shared::Shared;

/// The versions that are being read: as many at most as there are readers.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    versions: Mutex<BTreeMap<u64, Version>>,
}

#[derive(Debug, Default)]
struct Version {
    readers: usize,
    /// It was replaced or removed.
    replaced: bool,
}

impl Readers {
    fn versions(&self) -> MutexGuard<'_, BTreeMap<u64, Version>> {
        self.versions.lock().expect("no holder of this lock panics")
    }

    /// This version was replaced or removed. True if nobody reads it: its slices are the caller's to drop.
    pub(crate) fn replace(&self, version: u64) -> bool {
        let mut versions = self.versions();
        let read = versions.get_mut(&version).map(|version| version.replaced = true);
        read.is_none()
    }
}

/// One reader of a version, and those that read by clones of its object.
pub(crate) struct Reading {
    shared: Arc<Shared>,
    key: Arc<[u8]>,
    version: u64,
    slices: u32,
}

impl Reading {
    pub(crate) fn new(shared: &Arc<Shared>, key: &Arc<[u8]>, version: u64, slices: u32) -> Self {
        shared.readers.versions().entry(version).or_default().readers += 1;
        Self { shared: shared.clone(), key: key.clone(), version, slices }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut versions = self.shared.readers.versions();
        let Some(version) = versions.get_mut(&self.version) else { return };
        version.readers -= 1;
        if version.readers > 0 {
            return;
        }
        let replaced = version.replaced;
        versions.remove(&self.version);
        drop(versions);
        if replaced {
            self.shared.drop_slices(&self.key, self.version, self.slices);
        }
    }
}
