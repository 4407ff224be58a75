//! What is kept: whole responses in memory, bounded by bytes.

use std::sync::Arc;

use coralline_overlay::Key;
use http::header::HeaderMap;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::budget::Budget;
use crate::message::{Stored, Variant};
use crate::policy::variant;

/// The store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    entries: Cache<Arc<str>, Entry>,
    capacity: u64,
}

/// Under a URI: the response, or what its variants differ in; each variant then has an entry of its own.
#[derive(Debug, Clone)]
enum Entry {
    Response(Arc<Stored>),
    Varies(Arc<[http::HeaderName]>),
}

impl Store {
    /// A store of `capacity` octets. A response that leaves it counts in `budget` until its last reader has
    /// gone; `evicted` is told of each that had to go, with its URI and its key in the index.
    pub(crate) fn new(
        capacity: u64,
        budget: Budget,
        evicted: impl Fn(&str, Key) + Send + Sync + 'static,
    ) -> Self {
        // moka counts weights in 32 bits.
        let capacity = capacity.min(u64::from(u32::MAX) / 2);
        let entries = Cache::builder()
            .max_capacity(capacity)
            // A flash crowd is recent before it is frequent: TinyLFU would turn a large new object
            // away for small old ones, after it was announced to the network.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|uri: &Arc<str>, entry: &Entry| {
                let weight = uri.len() as u64
                    + match entry {
                        Entry::Response(stored) => stored.weight(),
                        Entry::Varies(_) => crate::limits::ENTRY_OVERHEAD,
                    };
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |key: Arc<Arc<str>>, entry, cause| {
                let Entry::Response(stored) = entry else { return };
                stored.pin(&budget);
                if cause == RemovalCause::Size {
                    evicted(key.split('\n').next().unwrap_or_default(), stored.index_key);
                }
            })
            .build();
        Self { entries, capacity }
    }

    /// The largest body that is kept, in octets.
    pub(crate) fn largest(&self) -> u64 {
        self.capacity
    }

    /// The response to `request` for `uri`, and the key under which it is, or would be, kept.
    pub(crate) fn find(
        &self,
        uri: &Arc<str>,
        request: &HeaderMap,
    ) -> (Arc<str>, Option<Arc<Stored>>) {
        match self.entries.get(uri) {
            Some(Entry::Response(stored)) if stored.variant.suits(request) => {
                (uri.clone(), Some(stored))
            }
            Some(Entry::Varies(names)) => {
                let key = variant_key(uri, &variant(&names, request));
                let stored = match self.entries.get(&key) {
                    Some(Entry::Response(stored)) => Some(stored),
                    _ => None,
                };
                (key, stored)
            }
            _ => (uri.clone(), None),
        }
    }

    /// Keeps a response; one that was there before for the same request is replaced.
    pub(crate) fn insert(&self, uri: &Arc<str>, stored: Arc<Stored>) {
        let Variant { names, said } = &stored.variant;
        if names.is_empty() {
            self.entries.insert(uri.clone(), Entry::Response(stored));
        } else {
            self.entries.insert(uri.clone(), Entry::Varies(names.as_slice().into()));
            self.entries.insert(variant_key(uri, said), Entry::Response(stored));
        }
    }

    /// Forgets the response to this URI, or the list of its variants.
    pub(crate) fn remove(&self, uri: &Arc<str>) {
        self.entries.invalidate(uri);
    }

    /// Whether anything is kept for the URI.
    pub(crate) fn holds(&self, uri: &str) -> bool {
        self.entries.contains_key(uri)
    }

    /// Lets evictions that are due happen; called now and then, since moka puts them off.
    pub(crate) fn tidy(&self) {
        self.entries.run_pending_tasks();
    }

    /// Responses (and lists of variants) kept, and octets.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.entries.entry_count(), self.entries.weighted_size())
    }

    /// The index keys of all that is kept.
    pub(crate) fn index_keys(&self) -> Vec<Key> {
        let key = |entry| match entry {
            Entry::Response(stored) => Some(stored.index_key),
            Entry::Varies(_) => None,
        };
        self.entries.iter().filter_map(|(_, entry)| key(entry)).collect()
    }
}

/// No URI holds a line feed, so no URI is taken for a variant.
fn variant_key(uri: &str, said: &str) -> Arc<str> {
    format!("{uri}\n{said}").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::message::{Chunks, Head};
    use crate::policy::Freshness;

    fn stored(vary: &[&'static str], request: &HeaderMap, body: &[u8]) -> Arc<Stored> {
        let head = Head { status: StatusCode::OK, headers: HeaderMap::new(), length: None };
        let names = vary.iter().map(|name| http::HeaderName::from_static(name)).collect();
        let freshness = Freshness {
            received: SystemTime::UNIX_EPOCH,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
            must_revalidate: false,
        };
        let body = Chunks::new([(0, Bytes::copy_from_slice(body))]);
        let key = Key::of_name(b"x");
        Arc::new(Stored::new(head, Variant::of(names, request), freshness, body, key))
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
        let body = |request| store.find(&uri, &request).1.map(|s| s.body.piece(0, 9).unwrap());
        for language in ["de", "en"] {
            let entry = stored(&["accept-language"], &asking(language), language.as_bytes());
            store.insert(&uri, entry);
        }
        assert_eq!(body(asking("de")).unwrap(), "de");
        assert_eq!(body(asking("en")).unwrap(), "en");
        assert_eq!(body(asking("fr")), None);
        assert_ne!(store.find(&uri, &asking("fr")).0, store.find(&uri, &asking("de")).0);
        store.insert(&uri, stored(&[], &asking("de"), b"all"));
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
            store.insert(&uri, stored(&[], &HeaderMap::new(), &[0; 2000]));
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
                budget.used() == expect
            })
        };
        assert!(settled(read.as_ref().map_or(0, |stored| stored.weight())), "{}", budget.used());
        drop(read);
        assert!(settled(0), "{}", budget.used());
    }
}
