//! The disk tier: what is kept beyond memory, and over restarts.
//!
//! All that is kept is on disk as well; memory has what was asked for lately. Small responses are written
//! after they have landed, one after the other, so that what is removed later does not come back; large
//! ones while they arrive. Nobody waits for the disk but who reads from it, and whatever it refuses is
//! served without it.
//!
//! A variant stands under `URI line-feed generation line-feed what the request said`: no URI holds a line
//! feed. The generation is in the record under the URI itself, so that removing that one removes them all.

mod nodes;
mod sliced;
mod worker;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use coralline_config::Config;
use coralline_disk::{Disk, Object, OpenError, Options, Refused, Stats};
use http::HeaderName;
use http::header::HeaderMap;
use prometheus::IntCounter;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::clock;
use crate::flight::Arriving;
use crate::limits::{
    CLOCK_SLACK, DISK_INDEX_SHARE, DISK_JOBS, DISK_LARGEST_SHARE, DISK_PATIENCE, DISK_QUEUE_SHARE,
    DISK_READ, DISK_READERS, DISK_STREAMS, DISK_WINDOW, DISK_WINDOWS_SHARE, PROOFS_READ,
    STREAM_PIECES,
};
use crate::message::{Body, Chunks, Stored};
use crate::policy::{Variant, said};
use crate::record::Record;
use crate::tier::worker::Worker;

pub(crate) use nodes::{HeldProof, LongProof};

/// The disk, and those who work at it.
#[derive(Clone)]
pub(crate) struct Tier {
    disk: Disk,
    jobs: SyncSender<Job>,
    /// Octets that wait to be written, and how many may.
    queued: Arc<AtomicU64>,
    most_queued: u64,
    /// What is on disk of these is about to change: it counts as gone.
    pending: Pending,
    readers: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Memory for long proofs that are being shown, in KiB.
    proofs: Arc<Semaphore>,
    held_proofs: nodes::Held,
    tidying: Arc<Semaphore>,
    /// Responses that were not written, as the disk had too much to do.
    skipped: IntCounter,
    /// Removals that were asked for, and those of them that would survive a loss of power.
    removals: Arc<AtomicU64>,
    lasting: Arc<AtomicU64>,
}

/// How many jobs wait for each URI.
type Pending = Arc<Mutex<BTreeMap<Arc<str>, usize>>>;

enum Job {
    Keep(Arc<str>, Arc<Stored>),
    /// The response is there: its proof is to be.
    Prove(Arc<str>, Arc<Stored>),
    Remove(Arc<str>),
    Told(oneshot::Sender<()>),
    /// Tells when all removals before it last.
    Last(oneshot::Sender<()>),
}

/// The disk has too much to do: what is there stays as it is.
#[derive(Debug)]
pub(crate) struct Behind;

impl Tier {
    /// Opens the directory `cache` in the state directory; nothing if no disk is to be used. `evicted` is
    /// told the URI of what had to go.
    pub(crate) fn open(
        config: &Config,
        skipped: IntCounter,
        evicted: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Option<Self>, OpenError> {
        let capacity = config.cache.disk.0;
        let directory = config.state_dir.join("cache");
        if capacity == 0 {
            remove_old(&directory)?;
            return Ok(None);
        }
        // What one client may see others on this machine may not.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| OpenError::Io(directory.clone(), error))?;
        let memory = config.cache.memory.0 / DISK_INDEX_SHARE;
        let evicted = move |key: &[u8], _: &[u8]| {
            let uri = key.split(|octet| *octet == b'\n').next().unwrap_or_default();
            evicted(&String::from_utf8_lossy(uri));
        };
        let disk = Disk::open(&directory, Options { capacity, memory }, evicted)?;
        let (jobs, queue) = sync_channel(DISK_JOBS);
        let pending = Pending::default();
        let queued = Arc::new(AtomicU64::new(0));
        let lasting = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            disk: disk.clone(),
            pending: pending.clone(),
            queued: queued.clone(),
            removed: 0,
            lasting: lasting.clone(),
        };
        // It ends with the last sender.
        thread::spawn(move || worker.work(&queue));
        let windows = config.cache.memory.0 / DISK_WINDOWS_SHARE / DISK_WINDOW;
        let streams = usize::try_from(windows).unwrap_or(usize::MAX).clamp(1, DISK_STREAMS);
        let (readers, streams) = (Semaphore::new(DISK_READERS), Semaphore::new(streams));
        let (readers, streams) = (readers.into(), streams.into());
        let most_queued = config.cache.memory.0 / DISK_QUEUE_SHARE;
        let tidying = Semaphore::new(1).into();
        Ok(Some(Self {
            disk,
            jobs,
            queued,
            most_queued,
            pending,
            tidying,
            readers,
            streams,
            proofs: Semaphore::new(PROOFS_READ).into(),
            held_proofs: nodes::Held::default(),
            skipped,
            removals: Arc::default(),
            lasting,
        }))
    }

    /// The largest body that is kept, in octets.
    pub(crate) fn largest(&self) -> u64 {
        self.disk.stats().capacity / DISK_LARGEST_SHARE
    }

    /// Whether something is there for the URI, and will be.
    pub(crate) fn holds(&self, uri: &str) -> bool {
        self.disk.contains(uri.as_bytes()) && !lock(&self.pending).contains_key(uri)
    }

    /// The response that `request` selects for `uri`: a small one whole, a large one to be read on.
    pub(crate) async fn find(&self, uri: &Arc<str>, request: &HeaderMap) -> Option<Arc<Stored>> {
        if !self.holds(uri) {
            return None;
        }
        let place = self.readers.clone().acquire_owned().await.ok()?;
        let (disk, uri, request) = (self.disk.clone(), uri.clone(), request.clone());
        let found = spawn_blocking(move || {
            let _place = place;
            find(&disk, &uri, &request)
        });
        found.await.ok().flatten().map(Arc::new)
    }

    /// Writes a response, some time from now; false if there is too much to write already.
    pub(crate) fn keep(&self, uri: &Arc<str>, stored: &Arc<Stored>) -> bool {
        self.queue_stored(uri, stored, Job::Keep)
    }

    fn queue_stored(
        &self,
        uri: &Arc<str>,
        stored: &Arc<Stored>,
        job: fn(Arc<str>, Arc<Stored>) -> Job,
    ) -> bool {
        let octets = stored.weight();
        let queued = self.queued.fetch_add(octets, Ordering::Relaxed) + octets;
        let fits = queued <= self.most_queued || queued == octets;
        let kept = fits && self.queue(uri, job(uri.clone(), stored.clone())).is_ok();
        if !kept {
            self.queued.fetch_sub(octets, Ordering::Relaxed);
            self.skipped.inc();
        }
        kept
    }

    /// Removes all variants, some time from now, and after all that was to be kept before.
    pub(crate) fn remove(&self, uri: &Arc<str>) -> Result<(), Behind> {
        if !self.disk.contains(uri.as_bytes()) && !lock(&self.pending).contains_key(uri) {
            return Ok(());
        }
        self.queue(uri, Job::Remove(uri.clone()))
    }

    /// Waits until all removals so far would survive a kill and a loss of power; false if the disk does not
    /// see to that in time. Those who wait at once cost the disk as much as one.
    pub(crate) async fn removals_last(&self) -> bool {
        let asked = self.removals.load(Ordering::SeqCst);
        if self.lasting.load(Ordering::SeqCst) >= asked {
            return true;
        }
        let _ = timeout(DISK_PATIENCE, self.told(Job::Last)).await;
        self.lasting.load(Ordering::SeqCst) >= asked
    }

    fn queue(&self, uri: &Arc<str>, job: Job) -> Result<(), Behind> {
        let mut pending = lock(&self.pending);
        let removal = matches!(job, Job::Remove(_));
        self.jobs.try_send(job).map_err(|_| Behind)?;
        // Under the lock: who counts its own has counted those that are done before.
        self.removals.fetch_add(removal.into(), Ordering::SeqCst);
        *pending.entry(uri.clone()).or_default() += 1;
        Ok(())
    }

    /// Waits until all that was to be done is done.
    pub(crate) async fn settle(&self) {
        self.told(Job::Told).await;
    }

    async fn told(&self, job: fn(oneshot::Sender<()>) -> Job) {
        let (told, done) = oneshot::channel();
        let jobs = self.jobs.clone();
        // The queue may be full.
        let _ = spawn_blocking(move || jobs.send(job(told))).await;
        let _ = done.await;
    }

    /// Begins to write a response that is arriving; nothing if the disk has too much to do. Small ones
    /// wait until they are whole.
    pub(crate) async fn stream(&self, uri: &Arc<str>, arriving: &Arriving) -> Option<Stream> {
        let length = arriving.head.length;
        if length.is_some_and(|length| length <= self.disk.slice()) {
            return None;
        }
        let place = self.streams.clone().try_acquire_owned().ok()?;
        let record = Record::of(&arriving.head, &arriving.variant, &arriving.freshness).encode();
        let (pieces, mut queue) = mpsc::channel::<Step>(STREAM_PIECES);
        let (begun, object) = oneshot::channel();
        let (disk, uri, variant) = (self.disk.clone(), uri.clone(), arriving.variant.clone());
        spawn_blocking(move || {
            let _place = place;
            let key = key(&disk, &uri, &variant).ok()?;
            let mut writer = disk.begin(&key, &record, length).ok()?;
            let _ = begun.send(writer.object());
            loop {
                match queue.blocking_recv()? {
                    Step::Piece(piece) => writer.write(&piece).ok()?,
                    Step::End(told) => {
                        let _ = told.send(writer.commit().ok());
                        return Some(());
                    }
                }
            }
        });
        let object = timeout(DISK_PATIENCE, object).await.ok()?.ok()?;
        Some(Stream { pieces, object })
    }

    /// Counts.
    pub(crate) fn stats(&self) -> Stats {
        self.disk.stats()
    }

    /// Evicts ahead of those who write.
    pub(crate) fn tidy(&self) {
        // One that hangs is enough.
        let Ok(place) = self.tidying.clone().try_acquire_owned() else { return };
        let disk = self.disk.clone();
        spawn_blocking(move || {
            disk.tidy();
            drop(place);
        });
    }
}

/// Removes the cache of an earlier run with a disk: it would not know what is purged from now on. What is no
/// cache stays.
fn remove_old(directory: &Path) -> Result<(), OpenError> {
    if !directory.exists() {
        return Ok(());
    }
    match Disk::open(directory, Options { capacity: 0, memory: 0 }, |_, _| ()) {
        Ok(_locked) => {
            tracing::warn!("cache.disk is 0: {} is removed", directory.display());
            let removed = std::fs::remove_dir_all(directory);
            removed.map_err(|error| OpenError::Io(directory.to_owned(), error))
        }
        Err(OpenError::Foreign(..)) => Ok(()),
        Err(error) => Err(error),
    }
}

enum Step {
    Piece(Bytes),
    End(oneshot::Sender<Option<Object>>),
}

/// A response on its way to the disk. Dropped before its end, nothing of it is kept.
pub(crate) struct Stream {
    pieces: mpsc::Sender<Step>,
    object: Option<Object>,
}

impl Stream {
    /// What is on disk of it, as it grows; nothing if its length is not known.
    pub(crate) fn object(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    /// Waits while the disk is behind, for a while; false if it has given up.
    pub(crate) async fn push(&self, piece: Bytes) -> bool {
        let sent = timeout(DISK_PATIENCE, self.pieces.send(Step::Piece(piece))).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// It is whole.
    pub(crate) async fn commit(self) -> Option<Object> {
        let (told, object) = oneshot::channel();
        timeout(DISK_PATIENCE, self.pieces.send(Step::End(told))).await.ok()?.ok()?;
        timeout(DISK_PATIENCE, object).await.ok()?.ok().flatten()
    }
}

/// Octets from `at` on, some blocks of them; nothing if they are not there any more.
pub(crate) async fn read(mut object: Object, at: u64) -> (Option<Bytes>, Object) {
    let again = object.clone();
    let read = spawn_blocking(move || {
        let mut octets = object.read(at).ok();
        while let Some(octets) = octets.as_mut().filter(|octets| octets.len() < DISK_READ) {
            match object.read(at + octets.len() as u64) {
                Ok(more) if !more.is_empty() => octets.extend_from_slice(&more),
                // Whoever comes to the gap will see it.
                _ => break,
            }
        }
        (octets.map(Bytes::from), object)
    });
    read.await.unwrap_or((None, again))
}

fn find(disk: &Disk, uri: &str, request: &HeaderMap) -> Option<Stored> {
    let mut object = disk.get(uri.as_bytes())?;
    let mut record = Record::decode(object.meta())?;
    if let Record::Varies { names, generation } = &record {
        let names = names.iter().map(|name| HeaderName::from_bytes(name.as_bytes()));
        let names: Vec<_> = names.collect::<Result<_, _>>().ok()?;
        object = disk.get(&variant_key(uri, *generation, &said(&names, request)))?;
        record = Record::decode(object.meta())?;
    }
    let Record::Response(response) = record else { return None };
    if !response.suits(request) || response.received() > clock::now() + CLOCK_SLACK {
        return None;
    }
    let body = if object.is_sliced() { Body::on_disk(object) } else { whole(object)?.into() };
    response.stored(uri, body).filter(Stored::is_usable)
}

/// A small object in memory.
fn whole(mut object: Object) -> Option<Chunks> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < object.length() {
        let piece = Bytes::from(object.read(at).ok()?);
        let next = at + piece.len() as u64;
        pieces.push((at, piece));
        at = next;
    }
    Some(Chunks::new(pieces))
}

fn lock(pending: &Pending) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key for a variant, which the record under its URI is made to tell.
fn key(disk: &Disk, uri: &str, variant: &Variant) -> Result<Vec<u8>, Refused> {
    if variant.names.is_empty() {
        return Ok(uri.as_bytes().to_vec());
    }
    let wanted: Vec<_> = variant.names.iter().map(|name| name.as_str().to_owned()).collect();
    let record = disk.get(uri.as_bytes()).and_then(|object| Record::decode(object.meta()));
    let generation = match record {
        Some(Record::Varies { names, generation }) if names == wanted => generation,
        _ => {
            // Never one that was used: versions are not.
            let mark = disk.begin(uri.as_bytes(), &[], Some(0))?;
            let generation = mark.version();
            drop(mark);
            let record = Record::Varies { names: wanted, generation }.encode();
            disk.begin(uri.as_bytes(), &record, Some(0))?.commit()?;
            generation
        }
    };
    Ok(variant_key(uri, generation, &variant.said))
}

fn variant_key(uri: &str, generation: u64, said: &str) -> Vec<u8> {
    format!("{uri}\n{generation:x}\n{said}").into_bytes()
}
