//! Files in memory that fail, run full and stop where a test says.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::disk::{Disk, Options};
use crate::hash::{Seed, nth};
use crate::layout::Geometry;
use crate::storage::{File, Part, Storage};

/// Small sizes: blocks and slices of a few octets, so that tests cross all their borders.
pub(crate) const GEOMETRY: Geometry = Geometry { block: 16, slice: 64, segment: 1024, records: 24 };

/// The world of a test: the files outlive each [`Disk`] that is started on them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faulty(Arc<Mutex<World>>);

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) files: BTreeMap<File, Vec<u8>>,
    /// Operations that change something, so far.
    pub(crate) changes: u64,
    /// The change after which nothing happens any more; half of it does, if it is a write.
    pub(crate) stop_at: Option<u64>,
    /// Octets that fit.
    pub(crate) space: Option<usize>,
    /// A segment whose index file can neither be written nor deleted.
    pub(crate) stuck: Option<u32>,
    /// One in so many reads and changes fails, at random.
    pub(crate) fail_one_in: Option<u64>,
    /// Every read and every write does at most this much.
    pub(crate) at_most: Option<usize>,
    pub(crate) now: Duration,
    calls: u64,
}

impl Faulty {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Starts a disk on what is there.
    pub(crate) fn disk(&self, capacity: u64) -> Disk {
        self.start(capacity).unwrap()
    }

    pub(crate) fn start(&self, capacity: u64) -> io::Result<Disk> {
        self.start_as(capacity, GEOMETRY, Box::new(|_, _| ()))
    }

    pub(crate) fn start_as(
        &self,
        capacity: u64,
        geometry: Geometry,
        evicted: crate::shared::Evicted,
    ) -> io::Result<Disk> {
        let nonce = self.world().changes;
        let options = Options { capacity, memory: 1 << 20 };
        Disk::start(Box::new(self.clone()), options, geometry, Seed(9), nonce, evicted)
    }

    pub(crate) fn later(&self, time: Duration) {
        self.world().now += time;
    }
}

impl World {
    /// Whether the process is still alive, as far as files can tell.
    fn alive(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.stop_at.is_some_and(|stop| self.changes > stop) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        match self.fail_one_in {
            Some(n) if nth(3, self.calls).is_multiple_of(n) => Err(rustix::io::Errno::IO.into()),
            _ => Ok(()),
        }
    }

    /// Begins a change; true if it is the last one, which is done by half.
    fn change(&mut self) -> io::Result<bool> {
        self.changes += 1;
        self.alive()?;
        Ok(self.stop_at == Some(self.changes))
    }

    fn check_stuck(&self, file: File) -> io::Result<()> {
        let stuck = self.stuck == Some(file.segment) && file.part == Part::Index;
        if stuck { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
    }

    fn used(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }
}

impl Storage for Faulty {
    fn list(&self) -> io::Result<Vec<(File, u64)>> {
        let mut world = self.world();
        world.alive()?;
        Ok(world.files.iter().map(|(file, octets)| (*file, octets.len() as u64)).collect())
    }

    fn create(&self, file: File) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        match world.files.insert(file, Vec::new()) {
            None => Ok(()),
            Some(_) => panic!("{file:?} was there"),
        }
    }

    fn read_at(&self, file: File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world();
        world.alive()?;
        let most = world.at_most.unwrap_or(usize::MAX).min(octets.len());
        let data = world.files.get(&file).ok_or(ErrorKind::NotFound)?;
        let data = data.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let count = most.min(data.len());
        octets[..count].copy_from_slice(&data[..count]);
        Ok(count)
    }

    fn write_at(&self, file: File, octets: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world();
        let last = world.change()?;
        world.check_stuck(file)?;
        let (used, space) = (world.used(), world.space.unwrap_or(usize::MAX));
        let mut count = world.at_most.unwrap_or(usize::MAX).min(octets.len());
        if last {
            count /= 2;
        }
        let data = world.files.get_mut(&file).ok_or(ErrorKind::NotFound)?;
        let offset = usize::try_from(offset).unwrap();
        let more = (offset + count).saturating_sub(data.len());
        if used + more > space {
            let free = space.saturating_sub(used);
            count = (data.len() + free).saturating_sub(offset).min(count);
            if count == 0 {
                return Err(rustix::io::Errno::NOSPC.into());
            }
        }
        if data.len() < offset + count {
            data.resize(offset + count, 0);
        }
        data[offset..offset + count].copy_from_slice(&octets[..count]);
        Ok(count)
    }

    fn sync(&self, file: File) -> io::Result<()> {
        let mut world = self.world();
        world.alive()?;
        world.files.get(&file).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.world().alive()
    }

    fn delete(&self, file: File) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.check_stuck(file)?;
        world.files.remove(&file);
        Ok(())
    }

    fn now(&self) -> Duration {
        self.world().now
    }
}
