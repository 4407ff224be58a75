//! Reading a body slice by slice, from wherever each is.

use std::sync::Arc;

use bytes::Bytes;
use coralline_disk::Object;

use super::plan::{octets, slice_at};
use super::slice::{Next, Slice};
use super::{Place, Reading, Wanted, changed};
use crate::Proxy;
use crate::admit::Asked;
use crate::conditional::{Selected, select};
use crate::limits::SLICE_TRIES;
use crate::message::{Stored, part};
use crate::reason::{Failure, Reason};
use crate::tier::read;

/// One who reads octets `at..end` of a body that is on disk, as far as it is.
pub(crate) struct Sliced {
    proxy: Arc<Proxy>,
    stored: Arc<Stored>,
    /// How to ask for what is not there; nothing for one who may not.
    wanted: Option<Arc<Wanted>>,
    object: Object,
    at: u64,
    end: u64,
    here: Here,
    /// Failures since the last octet.
    failures: u32,
    #[expect(dead_code, reason = "it is held, not read")]
    reading: Reading,
}

/// Where the slice is in which the reader stands.
enum Here {
    Unknown,
    Disk(u32),
    Arriving(u32, Arc<Slice>),
}

impl Sliced {
    /// Nothing if the body is in memory.
    pub(crate) fn new(
        proxy: &Arc<Proxy>,
        stored: &Arc<Stored>,
        wanted: Option<Arc<Wanted>>,
        (at, end): (u64, u64),
    ) -> Option<Self> {
        let object = stored.body.object().filter(|_| stored.body.chunks().is_none())?.clone();
        let wanted = wanted.filter(|_| stored.may_be_completed());
        let reading = proxy.slices.reader(object.version());
        let (proxy, stored, here) = (proxy.clone(), stored.clone(), Here::Unknown);
        Some(Self { proxy, stored, wanted, object, at, end, here, failures: 0, reading })
    }

    /// The next octets; nothing at the end.
    ///
    /// # Errors
    /// What lacks could not be fetched, or is of another version by now.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        while self.at < self.end {
            match self.step().await {
                Ok(Some(octets)) => {
                    let octets = part(self.at, &octets, self.at, self.end);
                    self.at += octets.len() as u64;
                    self.failures = 0;
                    return Some(Ok(octets));
                }
                Ok(None) => {}
                Err(failure) => {
                    self.here = Here::Unknown;
                    self.failures += 1;
                    if failure.again || self.failures >= SLICE_TRIES {
                        return Some(Err(failure));
                    }
                }
            }
        }
        None
    }

    /// Octets, or one step nearer to them.
    async fn step(&mut self) -> Result<Option<Bytes>, Failure> {
        let number = slice_at(self.at);
        match &self.here {
            Here::Arriving(here, slice) if *here == number => {
                let start = octets(number, self.object.length()).start;
                let within = usize::try_from(self.at - start).expect("a slice fits memory");
                match slice.next(within).await {
                    Next::Octets(octets) => return Ok(Some(octets)),
                    Next::OnDisk => self.here = Here::Disk(number),
                    Next::Failed(failure) => return Err(failure),
                }
            }
            Here::Disk(here) if *here == number => {
                let (octets, object) = read(self.object.clone(), self.at).await;
                self.object = object;
                return octets.ok_or_else(lost).map(Some);
            }
            _ => self.here = self.enter(number)?,
        }
        Ok(None)
    }

    /// Sees to what comes next, and finds this slice.
    fn enter(&self, number: u32) -> Result<Here, Failure> {
        let slices = &self.proxy.slices;
        if let Some(wanted) = &self.wanted {
            let wanted_slices = number..slice_at(self.end - 1).saturating_add(1);
            // What is known to have changed is not asked for again.
            let outdated = slices.is_outdated(self.object.version());
            if !outdated
                && let Some(run) = slices.board(&self.object, wanted_slices, &wanted.origin)?
            {
                self.proxy.clone().start_run(run, wanted.clone(), self.stored.clone());
            }
        }
        match slices.find(&self.object, number) {
            Place::Disk => Ok(Here::Disk(number)),
            Place::Arriving(slice) => Ok(Here::Arriving(number, slice)),
            Place::Nowhere if slices.is_outdated(self.object.version()) => Err(changed()),
            Place::Nowhere => Err(lost()),
        }
    }
}

/// It was evicted, or is damaged, since it was looked up.
fn lost() -> Failure {
    Failure::new(
        Reason::ProxyInternalError,
        "a part of the stored response is not on disk any more",
    )
}

/// Something of what the request selects is not held.
pub(crate) fn lacks(asked: &Asked, stored: &Stored) -> bool {
    let Some(object) = stored.body.object().filter(|_| stored.body.chunks().is_none()) else {
        return false;
    };
    if !asked.is_get() {
        return false;
    }
    let (head, length) = (&stored.head, object.length());
    let ranges = match select(&asked.selecting, true, head.status, &head.headers, Some(length)) {
        Selected::Full => vec![(0, length)],
        Selected::Range(from, end) => vec![(from, end)],
        Selected::Ranges(ranges) => ranges,
        Selected::NotModified | Selected::Unsatisfiable(_) => Vec::new(),
    };
    let lacks = |number| !object.has(octets(number, length).start);
    ranges.iter().any(|(from, end)| (slice_at(*from)..=slice_at(end - 1)).any(lacks))
}
