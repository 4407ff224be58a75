//! Objects of which only some slices are on disk.

use std::sync::Arc;

use bytes::Bytes;
use coralline_disk::Object;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Job, Tier, key};
use crate::flight::Arriving;
use crate::limits::DISK_PATIENCE;
use crate::record::Record;

impl Tier {
    /// Puts the head of an object of `length` octets in the place of what is there; nothing if the disk has
    /// too much to do.
    pub(crate) async fn put_head(
        &self,
        uri: &Arc<str>,
        arriving: &Arriving,
        length: u64,
    ) -> Option<Object> {
        // What waits to be written or removed is of before.
        timeout(DISK_PATIENCE, self.settle()).await.ok()?;
        let record = Record::of(&arriving.head, &arriving.variant, &arriving.freshness).encode();
        let (disk, uri, variant) = (self.disk.clone(), uri.clone(), arriving.variant.clone());
        let put = spawn_blocking(move || {
            disk.put_head(&key(&disk, &uri, &variant).ok()?, &record, length).ok()
        });
        timeout(DISK_PATIENCE, put).await.ok()?.ok()?
    }

    /// Writes the slice that begins at `offset`; false if it is not kept.
    pub(crate) async fn write_slice(&self, object: &Object, offset: u64, octets: Bytes) -> bool {
        let (disk, object) = (self.disk.clone(), object.clone());
        let written = spawn_blocking(move || {
            let mut writer = disk.begin_slice(&object, offset)?;
            writer.write(&octets)?;
            writer.commit()
        });
        matches!(timeout(DISK_PATIENCE, written).await, Ok(Ok(Ok(()))))
    }

    /// Removes what is under the URI, some time from now, if the object is still what is there.
    pub(crate) async fn remove_version(&self, uri: &Arc<str>, object: &Object) {
        let (disk, object) = (self.disk.clone(), object.clone());
        let there = spawn_blocking(move || {
            disk.get(object.key()).is_some_and(|found| found.version() == object.version())
        });
        if there.await.is_ok_and(|there| there) {
            // With too much to do it stays, and is found out again.
            let _ = self.queue(uri, Job::Remove(uri.clone()));
        }
    }
}
