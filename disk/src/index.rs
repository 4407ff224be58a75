//! What is on disk, by id: a place for each record. All of it is in memory.

use std::collections::BTreeMap;

use crate::limits::MAX_HITS;
use crate::line::Kind;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// Octets of the whole record.
    pub(crate) length: u32,
}

/// A place, what lies there, and how often it was read: 12 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    segment: u32,
    offset: u32,
    /// From the lowest bit: length (24 bits), kind (2), hits (2).
    packed: u32,
}

/// Bits of the length of a record.
pub(crate) const LENGTH_BITS: u32 = 24;
const HITS_SHIFT: u32 = LENGTH_BITS + 2;

impl Entry {
    pub(crate) fn new(place: Place, kind: Kind) -> Self {
        debug_assert!(place.length < 1 << LENGTH_BITS, "a record is little more than a slice");
        let kind = match kind {
            Kind::Whole => 0,
            Kind::Sliced => 1,
            Kind::Slice => 2,
        };
        let packed = place.length | kind << LENGTH_BITS;
        Self { segment: place.segment, offset: place.offset, packed }
    }

    pub(crate) fn place(self) -> Place {
        let length = self.packed & ((1 << LENGTH_BITS) - 1);
        Place { segment: self.segment, offset: self.offset, length }
    }

    pub(crate) fn kind(self) -> Kind {
        match self.packed >> LENGTH_BITS & 3 {
            0 => Kind::Whole,
            1 => Kind::Sliced,
            _ => Kind::Slice,
        }
    }

    pub(crate) fn hits(self) -> u8 {
        (self.packed >> HITS_SHIFT & 3) as u8
    }

    pub(crate) fn with_hits(self, hits: u8) -> Self {
        let hits = u32::from(hits.min(MAX_HITS)) << HITS_SHIFT;
        Self { packed: self.packed & ((1 << HITS_SHIFT) - 1) | hits, ..self }
    }
}

/// All records.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: BTreeMap<u64, Entry>,
    /// The ids that were put into each segment; some may since have gone or moved.
    members: BTreeMap<u32, Vec<u64>>,
    heads: u64,
    octets: u64,
}

impl Index {
    /// An index of these, each id once, in the order of ids: a tree built so has full leaves.
    pub(crate) fn of(entries: Vec<(u64, Entry)>) -> Self {
        let mut members: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let (mut heads, mut octets) = (0, 0);
        for (id, entry) in &entries {
            members.entry(entry.segment).or_default().push(*id);
            heads += u64::from(entry.kind().is_head());
            octets += u64::from(entry.place().length);
        }
        members.values_mut().for_each(Vec::shrink_to_fit);
        Self { entries: entries.into_iter().collect(), members, heads, octets }
    }

    pub(crate) fn get(&self, id: u64) -> Option<Entry> {
        self.entries.get(&id).copied()
    }

    /// The entry, and one more hit.
    pub(crate) fn hit(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.get_mut(&id)?;
        *entry = entry.with_hits(entry.hits() + 1);
        Some(*entry)
    }

    /// Puts an entry in; returns the one that it replaces.
    pub(crate) fn insert(&mut self, id: u64, entry: Entry) -> Option<Entry> {
        self.members.entry(entry.segment).or_default().push(id);
        self.heads += u64::from(entry.kind().is_head());
        self.octets += u64::from(entry.place().length);
        let old = self.entries.insert(id, entry)?;
        self.forget(old);
        Some(old)
    }

    /// Takes an entry out, if it is (still) at `place`, or wherever it is.
    pub(crate) fn remove(&mut self, id: u64, place: Option<Place>) -> Option<Entry> {
        let entry = self.get(id)?;
        if place.is_some_and(|place| place != entry.place()) {
            return None;
        }
        self.entries.remove(&id);
        self.forget(entry);
        Some(entry)
    }

    /// What is alive in a segment, in the order of offsets.
    pub(crate) fn members(&self, segment: u32) -> Vec<(u64, Entry)> {
        let ids = self.members.get(&segment).map_or(&[][..], Vec::as_slice);
        let alive = |id: &u64| Some((*id, self.get(*id)?));
        let mut alive: Vec<_> =
            ids.iter().filter_map(alive).filter(|(_, entry)| entry.segment == segment).collect();
        alive.sort_unstable_by_key(|(_, entry)| entry.offset);
        // A record that was put twice into the same segment is there once.
        alive.dedup_by_key(|(_, entry)| entry.offset);
        alive
    }

    /// Segments in which something was put.
    pub(crate) fn segments(&self) -> Vec<u32> {
        self.members.keys().copied().collect()
    }

    /// No more will be put into this segment.
    pub(crate) fn seal(&mut self, segment: u32) {
        if let Some(ids) = self.members.get_mut(&segment) {
            ids.shrink_to_fit();
        }
    }

    /// Takes out all that is in a segment, and forgets the segment.
    pub(crate) fn remove_segment(&mut self, segment: u32) {
        for (id, _) in self.members(segment) {
            self.remove(id, None);
        }
        self.members.remove(&segment);
    }

    /// Records.
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Records that are heads.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Octets of all records.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    fn forget(&mut self, entry: Entry) {
        self.heads -= u64::from(entry.kind().is_head());
        self.octets -= u64::from(entry.place().length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(segment: u32, offset: u32, length: u32) -> Entry {
        Entry::new(Place { segment, offset, length }, Kind::Whole)
    }

    #[test]
    fn an_entry_is_small_and_holds_all() {
        assert_eq!(size_of::<Entry>(), 12);
        for kind in [Kind::Whole, Kind::Sliced, Kind::Slice] {
            for hits in 0..=MAX_HITS {
                let place = Place { segment: 1 << 31, offset: u32::MAX, length: (1 << 24) - 1 };
                let entry = Entry::new(place, kind).with_hits(hits);
                assert_eq!((entry.place(), entry.kind(), entry.hits()), (place, kind, hits));
                assert_eq!(entry.with_hits(200).hits(), MAX_HITS);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_with_segments(
            changes in prop::collection::vec((0..20u64, 0..4u32, 0..3), 0..200),
        ) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for (n, (id, segment, what)) in (0..).zip(changes) {
                match what {
                    0 => {
                        let entry = entry(segment, n, n);
                        prop_assert_eq!(index.insert(id, entry), model.insert(id, entry));
                    }
                    1 => prop_assert_eq!(index.remove(id, None), model.remove(&id)),
                    _ if n % 8 == 0 => {
                        index.remove_segment(segment);
                        model.retain(|_, entry| entry.segment != segment);
                    }
                    _ => {
                        let hit = index.hit(id);
                        if let (Some(entry), Some(hit)) = (model.get_mut(&id), hit) {
                            prop_assert_eq!(hit.place(), entry.place());
                            *entry = hit;
                        }
                    }
                }
                let octets: u64 = model.values().map(|e: &Entry| u64::from(e.place().length)).sum();
                prop_assert_eq!((index.len(), index.octets()), (model.len() as u64, octets));
                prop_assert_eq!(index.heads(), index.len());
            }
            let again = Index::of(model.iter().map(|(id, entry)| (*id, *entry)).collect());
            for segment in 0..4 {
                let mut expect: Vec<_> = model.iter().map(|(id, entry)| (*id, *entry)).collect();
                expect.retain(|(_, entry)| entry.segment == segment);
                expect.sort_by_key(|(_, entry)| entry.place().offset);
                prop_assert_eq!(&index.members(segment), &expect);
                prop_assert_eq!(&again.members(segment), &expect);
            }
        }
    }
}
