//! What is kept: whole responses in memory, bounded by bytes.
//!
//! Under a URI stand the responses of which requests select one (RFC 9111, section 4.1), the latest first.
//! Every change of that list is one step, so that two that land at once do not undo each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use coralline_overlay::Key;
use http::header::{HeaderMap, HeaderName, VARY};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::budget::Budget;
use crate::limits::MAX_VARIANTS;
use crate::message::Stored;
use crate::policy::said;

type Variants = Arc<[Arc<Stored>]>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    entries: Cache<Arc<str>, Variants>,
    /// Held for a change, which is a look and an insertion.
    changing: Arc<Mutex<()>>,
    budget: Budget,
    capacity: u64,
    epoch: Arc<AtomicU64>,
}

/// What becomes of one kept response.
pub(crate) enum Change {
    Keep,
    Replace(Arc<Stored>),
    Remove,
}

/// What became of all responses to a URI.
#[derive(Default)]
pub(crate) struct Revised {
    /// Those that took the place of others.
    pub(crate) new: Vec<Arc<Stored>>,
    /// Some were removed.
    pub(crate) removed: bool,
    /// All that are left.
    pub(crate) left: Vec<Arc<Stored>>,
}

impl Store {
    /// A store of `capacity` octets. A response that leaves it counts in `budget` until its last reader has
    /// gone; `evicted` is told of each URI that had to go, with its key in the index.
    pub(crate) fn new(
        capacity: u64,
        budget: Budget,
        evicted: impl Fn(&str, Key) + Send + Sync + 'static,
    ) -> Self {
        // moka counts weights in 32 bits.
        let capacity = capacity.min(u64::from(u32::MAX) / 2);
        let pinned_in = budget.clone();
        let entries = Cache::builder()
            .max_capacity(capacity)
            // A flash crowd is recent before it is frequent: TinyLFU would turn a large new object
            // away for small old ones, after it was announced to the network.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|uri: &Arc<str>, variants: &Variants| {
                let variants: u64 = variants.iter().map(|stored| stored.weight()).sum();
                u32::try_from(uri.len() as u64 + variants).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |uri: Arc<Arc<str>>, variants, cause| {
                // What a change of the list leaves out is pinned there.
                if cause == RemovalCause::Replaced {
                    return;
                }
                variants.iter().for_each(|stored| stored.pin(&pinned_in));
                if let (RemovalCause::Size, Some(stored)) = (cause, variants.first()) {
                    evicted(&uri, stored.index_key);
                }
            })
            .build();
        Self { entries, changing: Arc::default(), budget, capacity, epoch: Arc::default() }
    }

    /// The largest body that is kept, in octets.
    pub(crate) fn largest(&self) -> u64 {
        self.capacity
    }

    /// The response that `request` selects for `uri`, and the key under which a fetch of it flies: requests
    /// that select the same share it.
    pub(crate) fn find(
        &self,
        uri: &Arc<str>,
        request: &HeaderMap,
    ) -> (Arc<str>, Option<Arc<Stored>>) {
        let Some(variants) = self.entries.get(uri) else { return (uri.clone(), None) };
        let found = variants.iter().find(|stored| stored.variant.suits(request)).cloned();
        let names = variants.first().map_or(&[][..], |stored| &stored.variant.names);
        let key = if names.is_empty() {
            uri.clone()
        } else {
            // No URI holds a line feed, so no URI is taken for a variant.
            format!("{uri}\n{}", said(names, request)).into()
        };
        (key, found)
    }

    /// The fields that choose among what is held for the URI and fresh: a response that does not vary by
    /// itself is one of those (RFC 9111, section 4.1).
    pub(crate) fn selecting(&self, uri: &Arc<str>, now: SystemTime) -> Vec<HeaderName> {
        let variants = self.entries.get(uri).unwrap_or_default();
        let varies = |stored: &&Arc<Stored>| {
            stored.head.headers.contains_key(VARY) && stored.freshness.remaining(now).is_some()
        };
        variants.iter().find(varies).map_or_else(Vec::new, |stored| stored.variant.names.clone())
    }

    /// Puts back one that was kept before, unless there is one for the same requests, or something was
    /// removed since `epoch`.
    pub(crate) fn restore(&self, uri: &Arc<str>, stored: &Arc<Stored>, epoch: u64) {
        self.change(uri, |before| {
            let mut after = before.to_vec();
            let same = |old: &Arc<Stored>| {
                let (old, new) = (&old.variant, &stored.variant);
                old.names != new.names || old.said == new.said
            };
            if self.epoch() == epoch && !before.iter().any(same) && before.len() < MAX_VARIANTS {
                after.push(stored.clone());
                after.sort_by_key(|stored| std::cmp::Reverse(stored.date));
            }
            after
        });
    }

    /// Counts removals.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Keeps a response; one that was there before for the same requests is replaced.
    pub(crate) fn insert(&self, uri: &Arc<str>, stored: &Arc<Stored>) {
        self.change(uri, |before| {
            let same = |old: &&Arc<Stored>| {
                let (old, new) = (&old.variant, &stored.variant);
                !new.names.is_empty() && !old.names.is_empty() && old.said != new.said
            };
            let mut after: Vec<_> = before.iter().filter(same).cloned().collect();
            after.insert(0, stored.clone());
            after.sort_by_key(|stored| std::cmp::Reverse(stored.date));
            after.truncate(MAX_VARIANTS);
            after
        });
    }

    /// Changes, in one step, what is kept for the URI.
    pub(crate) fn update(&self, uri: &Arc<str>, decide: impl Fn(&Stored) -> Change) -> Revised {
        let mut revised = Revised::default();
        self.change(uri, |before| {
            let mut after: Vec<_> = before
                .iter()
                .filter_map(|stored| match decide(stored) {
                    Change::Keep => Some(stored.clone()),
                    Change::Replace(new) => {
                        revised.new.push(new.clone());
                        Some(new)
                    }
                    Change::Remove => {
                        revised.removed = true;
                        None
                    }
                })
                .collect();
            after.sort_by_key(|stored| std::cmp::Reverse(stored.date));
            revised.left.clone_from(&after);
            if revised.removed {
                self.epoch.fetch_add(1, Ordering::SeqCst);
            }
            after
        });
        revised
    }

    fn change(&self, uri: &Arc<str>, next: impl FnOnce(&[Arc<Stored>]) -> Vec<Arc<Stored>>) {
        let one_at_a_time = self.changing.lock().expect("no holder of this lock panics");
        let before = self.entries.get(uri).unwrap_or_default();
        let after = next(&before);
        let left = |old: &&Arc<Stored>| !after.iter().any(|new| Arc::ptr_eq(old, new));
        before.iter().filter(left).for_each(|old| old.pin(&self.budget));
        if after.is_empty() {
            self.entries.invalidate(uri);
        } else {
            self.entries.insert(uri.clone(), after.into());
        }
        drop(one_at_a_time);
        // What has to go goes now, one by one: a crowd of evictions at once would pin the memory of
        // all that is arriving.
        self.entries.run_pending_tasks();
    }

    /// Forgets all responses to this URI.
    pub(crate) fn remove(&self, uri: &Arc<str>) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let _one_at_a_time = self.changing.lock().expect("no holder of this lock panics");
        self.entries.invalidate(uri);
    }

    /// Forgets those of an origin, whose URIs begin with `origin`, that belong to one of the groups.
    /// Walks through all that is kept: an origin that changes one thing in a group pays for it once.
    pub(crate) fn remove_groups(&self, origin: &str, groups: &[String]) {
        let belongs = |stored: &Stored| stored.groups.iter().any(|group| groups.contains(group));
        for (uri, variants) in &self.entries {
            if uri.starts_with(origin) && variants.iter().any(|stored| belongs(stored)) {
                self.update(
                    &uri,
                    |stored| {
                        if belongs(stored) { Change::Remove } else { Change::Keep }
                    },
                );
            }
        }
    }

    /// When the oldest of all that is kept was generated; it walks through all.
    pub(crate) fn oldest(&self) -> Option<SystemTime> {
        let generated =
            |variants: &Variants| variants.iter().map(|stored| stored.freshness.generated).min();
        self.entries.iter().filter_map(|(_, variants)| generated(&variants)).min()
    }

    /// Whether anything is kept for the URI.
    pub(crate) fn holds(&self, uri: &str) -> bool {
        self.entries.contains_key(uri)
    }

    /// Lets evictions that are due happen; called now and then, since moka puts them off.
    pub(crate) fn tidy(&self) {
        self.entries.run_pending_tasks();
    }

    /// URIs with something kept, and octets.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.entries.entry_count(), self.entries.weighted_size())
    }

    /// The index keys of all that is kept.
    pub(crate) fn index_keys(&self) -> Vec<Key> {
        let key = |variants: Variants| variants.first().map(|stored| stored.index_key);
        self.entries.iter().filter_map(|(_, variants)| key(variants)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::message::{Chunks, Head};
    use crate::policy::{Freshness, Staleness, Variant};

    fn stored(vary: &[&'static str], request: &HeaderMap, body: &[u8]) -> Arc<Stored> {
        let mut headers = HeaderMap::new();
        vary.iter().for_each(|name| {
            headers.append(VARY, name.parse().unwrap());
        });
        let head =
            Head { status: StatusCode::OK, headers, length: None, trailers: HeaderMap::new() };
        let names = vary.iter().map(|name| HeaderName::from_static(name)).collect();
        let freshness = Freshness {
            received: SystemTime::UNIX_EPOCH,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
            stale: Staleness::default(),
            immutable: false,
            generated: SystemTime::UNIX_EPOCH,
        };
        let body = Chunks::new([(0, Bytes::copy_from_slice(body))]);
        let key = Key::of_name(b"x");
        Arc::new(Stored::new(
            head,
            Variant::of(names, request, &HeaderMap::new()),
            freshness,
            body,
            key,
        ))
    }

    fn asking(language: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("accept-language", language.parse().unwrap());
        headers
    }

    #[test]
    fn variants_live_side_by_side() {
        let store = Store::new(1 << 20, Budget::new(0), |_, _| ());
        let uri: Arc<str> = "//a.com/".into();
        let body = |request| {
            store.find(&uri, &request).1.map(|s| s.body.chunks().unwrap().piece(0, 9).unwrap())
        };
        for language in ["de", "en"] {
            let entry = stored(&["accept-language"], &asking(language), language.as_bytes());
            store.insert(&uri, &entry);
        }
        assert_eq!(body(asking("de")).unwrap(), "de");
        assert_eq!(body(asking("en")).unwrap(), "en");
        assert_eq!(body(asking("fr")), None);
        assert_ne!(store.find(&uri, &asking("fr")).0, store.find(&uri, &asking("de")).0);
        store.insert(&uri, &stored(&[], &asking("de"), b"all"));
        assert_eq!(body(asking("fr")).unwrap(), "all");
    }

    #[test]
    fn the_least_recent_goes_first_and_is_told_of() {
        let evicted = Arc::new(Mutex::new(0));
        let count = evicted.clone();
        let budget = Budget::new(0);
        let store = Store::new(10_000, budget.clone(), move |uri, _| {
            assert!(uri.starts_with("//a.com/"));
            *count.lock().unwrap() += 1;
        });
        let mut read = None;
        for n in 0..10 {
            let uri: Arc<str> = format!("//a.com/{n}").into();
            store.insert(&uri, &stored(&[], &HeaderMap::new(), &[0; 2000]));
            store.tidy();
            read = read.or_else(|| store.find(&uri, &HeaderMap::new()).1);
        }
        assert!(store.size().1 <= 10_000);
        assert!(store.find(&"//a.com/9".into(), &HeaderMap::new()).1.is_some());
        assert!(store.find(&"//a.com/0".into(), &HeaderMap::new()).1.is_none());
        assert_eq!(*evicted.lock().unwrap() + store.size().0, 10);
        // The first is gone and still read: its memory counts until it is not. What nobody reads is
        // freed by and by.
        let settled = |expect| {
            (0..1000).any(|_| {
                store.tidy();
                std::thread::sleep(std::time::Duration::from_millis(1));
                budget.used() == expect
            })
        };
        assert!(settled(read.as_ref().map_or(0, |stored| stored.weight())), "{}", budget.used());
        drop(read);
        assert!(settled(0), "{}", budget.used());
    }
}
