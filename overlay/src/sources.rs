//! Where stored values come from, so that nobody fills the index whatever number of identities it
//! draws: values are counted by neighbourhood.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::{Prefix, prefix};
use crate::contact::{Contact, Identity};
use crate::id::Key;
use crate::time::Instant;

/// What counts as one holder: a /24, or a /48 of IPv6; private and loopback holders are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Prefix(Prefix),
    Holder(Identity),
}

/// A value by the time of its end.
pub(crate) type Place = (Instant, Key, Identity);

/// The values of each source.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    places: BTreeMap<Source, BTreeSet<Place>>,
    sizes: BTreeSet<(usize, Source)>,
}

impl Source {
    pub(crate) fn of(holder: &Contact) -> Self {
        prefix(holder.addr.ip()).map_or(Self::Holder(holder.identity), Self::Prefix)
    }
}

impl Sources {
    /// How many values a source has.
    pub(crate) fn count(&self, source: &Source) -> usize {
        self.places.get(source).map_or(0, BTreeSet::len)
    }

    /// Of the largest source, how many it has and which ends first.
    pub(crate) fn largest(&self) -> Option<(usize, Place)> {
        let (size, source) = self.sizes.last()?;
        Some((*size, *self.places.get(source)?.first()?))
    }

    pub(crate) fn insert(&mut self, source: Source, place: Place) {
        let size = self.count(&source);
        if self.places.entry(source).or_default().insert(place) {
            self.sizes.remove(&(size, source));
            self.sizes.insert((size + 1, source));
        }
    }

    pub(crate) fn remove(&mut self, source: Source, place: &Place) {
        let Some(places) = self.places.get_mut(&source) else { return };
        let size = places.len();
        if !places.remove(place) {
            return;
        }
        if places.is_empty() {
            self.places.remove(&source);
        }
        self.sizes.remove(&(size, source));
        if size > 1 {
            self.sizes.insert((size - 1, source));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.sizes.len(), self.places.len());
        self.sizes.iter().map(|(size, _)| size).sum()
    }
}
