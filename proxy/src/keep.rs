//! What is kept, in memory and on disk, as one.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::Proxy;
use crate::admit::Asked;
use crate::clock;
use crate::limits::DISK_PATIENCE;
use crate::message::Stored;
use crate::purge::{Force, Full, Verdict, schemeless};
use crate::scope::Scope;
use crate::store::{Change, Revised};
use crate::tier::Tier;

impl Proxy {
    /// What is held for the request, as far as it was not purged, and the key under which it is fetched.
    /// What memory has not may be on disk.
    pub(crate) async fn held(&self, asked: &Asked) -> (Arc<str>, Option<Arc<Stored>>) {
        let (key, found) = self.in_memory(asked);
        let Some(tier) = self.tier.as_ref().filter(|_| found.is_none()) else {
            return (key, found);
        };
        let epoch = self.store.epoch();
        let Some(stored) = tier.find(&asked.uri, &asked.headers).await else { return (key, None) };
        let judged = self.judged(asked, stored.clone());
        if judged.is_some() {
            self.store.restore(&asked.uri, &stored, epoch);
        }
        (self.store.find(&asked.uri, &asked.headers).0, judged)
    }

    /// The same, without the disk.
    pub(crate) fn in_memory(&self, asked: &Asked) -> (Arc<str>, Option<Arc<Stored>>) {
        let (key, found) = self.store.find(&asked.uri, &asked.headers);
        let Some(stored) = found else { return (key, None) };
        if !stored.is_usable() {
            // A part of it has left the disk.
            self.store.update(&asked.uri, |other| {
                if other.is_usable() { Change::Keep } else { Change::Remove }
            });
            return (key, None);
        }
        (key, self.judged(asked, stored))
    }

    fn judged(&self, asked: &Asked, stored: Arc<Stored>) -> Option<Arc<Stored>> {
        match self.purges.of(&asked.uri, &stored) {
            Verdict::Untouched => Some(stored),
            Verdict::Stale => Some(Arc::new(stored.outdated(clock::now()))),
            Verdict::Gone => {
                self.revise(&asked.uri, |other| match self.purges.of(&asked.uri, other) {
                    Verdict::Gone => Change::Remove,
                    _ => Change::Keep,
                });
                None
            }
        }
    }

    /// Keeps a response, in place of the one before.
    pub(crate) fn keep(&self, uri: &Arc<str>, stored: &Arc<Stored>) {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.insert(uri, stored);
        if let Some(tier) = &self.tier
            && !tier.keep(uri, stored)
        {
            // What is there is an older one.
            self.forget_on_disk(tier, uri, before(stored));
        }
    }

    /// Forgets all responses to this URI.
    pub(crate) fn forget(&self, uri: &Arc<str>) {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        // The disk first: what is read from it before this is not put back into memory after it.
        if let Some(tier) = &self.tier {
            self.forget_on_disk(tier, uri, clock::now());
        }
        self.store.remove(uri);
        self.withdraw(uri);
    }

    /// `until` is a time that all on disk is older than, and what takes its place is not.
    fn forget_on_disk(&self, tier: &Tier, uri: &Arc<str>, until: SystemTime) {
        if tier.remove(uri).is_err() {
            // The disk cannot keep up.
            self.rule_out(&Scope::Uri(schemeless(uri).to_owned()), until);
        }
    }

    /// Purges, for this run; for later ones once [`purges_written`](Self::purges_written) says so.
    pub(crate) fn rule(&self, scope: &Scope, force: Force, now: SystemTime) -> Result<(), Full> {
        if self.purges.add(scope, force, now).is_err() {
            match &self.tier {
                None => self.purges.forget(self.store.oldest().unwrap_or(now)),
                // What is on disk may be of any age: more is purged than was asked for, and not less.
                Some(_) => self.purges.halve(),
            }
            self.purges.add(scope, force, now)?;
        }
        if let Some(log) = &self.purge_log {
            log.note(scope, force, now);
        }
        Ok(())
    }

    /// Waits until the purges so far would survive a loss of power; false if the disk does not take them.
    pub(crate) async fn purges_written(&self) -> bool {
        let Some(log) = self.purge_log.clone() else { return true };
        let purges = self.purges.clone();
        let written = async move {
            let turn = log.turn.clone().acquire_owned().await.ok()?;
            let write = move || {
                let _turn = turn;
                log.write(&purges)
            };
            spawn_blocking(write).await.ok()?.ok()
        };
        timeout(DISK_PATIENCE, written).await.is_ok_and(|written| written.is_some())
    }

    /// Waits until what was forgotten so far stays forgotten, also over a kill or a loss of power; false if
    /// the disk does not see to it in time.
    pub(crate) async fn forgotten(&self) -> bool {
        let removed = match &self.tier {
            Some(tier) => tier.removals_last().await,
            None => true,
        };
        self.purges_written().await && removed
    }

    fn rule_out(&self, scope: &Scope, until: SystemTime) {
        if self.rule(scope, Force::Hard, until).is_err() {
            tracing::error!(
                ?scope,
                "what is on disk could not be removed; remove the cache directory"
            );
        }
    }

    /// Changes what is kept for the URI.
    pub(crate) fn revise(&self, uri: &Arc<str>, decide: impl Fn(&Stored) -> Change) {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let Revised { new, removed, left } = self.store.update(uri, decide);
        if removed && left.is_empty() {
            self.withdraw(uri);
        }
        let Some(tier) = &self.tier else { return };
        if removed {
            self.forget_on_disk(tier, uri, clock::now());
        }
        for stored in if removed { left } else { new } {
            if !tier.keep(uri, &stored) {
                self.forget_on_disk(tier, uri, before(&stored));
            }
        }
    }

    /// Forgets those of an origin, whose URIs begin with `origin`, that belong to one of the groups.
    pub(crate) fn forget_groups(&self, origin: &str, groups: &[String]) {
        self.store.remove_groups(origin, groups);
        if self.tier.is_some() {
            // What is only on disk is not searched: a rule finds it when it is asked for.
            groups
                .iter()
                .for_each(|group| self.rule_out(&Scope::group(origin, group), clock::now()));
        }
    }

    /// Whether anything is kept for the URI.
    pub(crate) fn keeps(&self, uri: &str) -> bool {
        self.store.holds(uri) || self.tier.as_ref().is_some_and(|tier| tier.holds(uri))
    }

    /// The largest body that is kept, in octets.
    pub(crate) fn largest(&self) -> u64 {
        let on_disk = self.tier.as_ref().map_or(0, |tier| tier.largest());
        self.store.largest().max(on_disk)
    }
}

/// A moment before the origin made it.
fn before(stored: &Stored) -> SystemTime {
    stored
        .freshness
        .generated
        .checked_sub(Duration::from_nanos(1))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
