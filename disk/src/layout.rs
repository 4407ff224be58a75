//! The segments: where the next record goes, when there is no room, and which segment then goes.
//!
//! S3-FIFO (Yang et al., SOSP 2023) with segments in place of objects: a small queue for what is new,
//! a large one for what was read again, and ghosts.

use std::collections::BTreeMap;

use crate::index::{Entry, Place};
use crate::limits::{
    BLOCK, COPY_SHARE, FEWEST_SEGMENTS, MAX_SEGMENT, MIN_RECORD, MIN_SEGMENT, PROBATION_SHARE,
    SEGMENTS, SLICE,
};
use crate::line::{LINE, Queue};
use crate::shared::Sizes;

/// Sizes in octets; tests use small ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) block: u32,
    pub(crate) slice: u32,
    pub(crate) segment: u32,
    /// Records that one segment may hold.
    pub(crate) records: u32,
}

impl Geometry {
    /// For this capacity.
    pub(crate) fn of(capacity: u64) -> Self {
        let segment = u32::try_from(capacity / SEGMENTS).unwrap_or(u32::MAX);
        let segment = segment.clamp(MIN_SEGMENT, MAX_SEGMENT);
        Self { block: BLOCK, slice: SLICE, segment, records: segment / MIN_RECORD }
    }
}

/// A pair of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) queue: Queue,
    /// Where the next record goes in the data file.
    pub(crate) end: u32,
    /// Lines in the index file.
    pub(crate) lines: u32,
    /// Records that have been given a place, be they alive or not.
    pub(crate) records: u32,
}

impl Segment {
    fn octets(&self) -> u64 {
        u64::from(self.end) + u64::from(self.lines) * LINE as u64
    }
}

/// All segments. The oldest has the lowest number.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    segments: BTreeMap<u32, Segment>,
    open: [Option<u32>; 2],
    next: u32,
    configured: u64,
    /// The size of segments when all that is configured may be used.
    largest: u32,
    /// What may be used now: less than what is configured when the disk was found full.
    limit: u64,
}

impl Layout {
    /// Goes on with `segments`; the next one is `next`.
    pub(crate) fn new(
        geometry: Geometry,
        capacity: u64,
        segments: BTreeMap<u32, Segment>,
        next: u32,
    ) -> Self {
        // The last of each queue may have room.
        let last = |queue| {
            let last = segments.iter().rev().find(|(_, segment)| segment.queue == queue);
            last.map(|(number, _)| *number)
        };
        let open = [last(Queue::Probation), last(Queue::Main)];
        let (configured, largest, limit) = (capacity, geometry.segment, capacity);
        Self { geometry, segments, open, next, configured, largest, limit }
    }

    /// A place for a record of `length` octets, or `None` if a new segment has to be opened.
    pub(crate) fn reserve(&mut self, queue: Queue, length: u32) -> Option<Place> {
        let number = self.open[queue as usize]?;
        let segment = self.segments.get_mut(&number)?;
        let end = segment.end.checked_add(length)?;
        if end > self.geometry.segment || segment.records >= self.geometry.records {
            return None;
        }
        let offset = segment.end;
        segment.end = end;
        segment.records += 1;
        Some(Place { segment: number, offset, length })
    }

    /// Gives back the end of a reserved place, from `used` octets on, if nothing lies behind it.
    pub(crate) fn give_back(&mut self, place: Place, used: u32) {
        if let Some(segment) = self.segments.get_mut(&place.segment)
            && segment.end == place.offset + place.length
        {
            segment.end = place.offset + used;
        }
    }

    /// The number of the next segment, which is not used again whatever becomes of it; `None` at the end
    /// of all numbers.
    pub(crate) fn next_number(&mut self) -> Option<u32> {
        let number = self.next;
        self.next = number.checked_add(1)?;
        Some(number)
    }

    /// A new segment takes the place of the open one of its queue, which is returned.
    pub(crate) fn opened(&mut self, number: u32, queue: Queue) -> Option<u32> {
        self.segments.insert(number, Segment { queue, end: 0, lines: 1, records: 0 });
        self.open[queue as usize].replace(number)
    }

    pub(crate) fn segment(&self, number: u32) -> Option<Segment> {
        self.segments.get(&number).copied()
    }

    /// A line was written to the segment's index file.
    pub(crate) fn line_added(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.lines += 1;
        }
    }

    pub(crate) fn remove(&mut self, number: u32) {
        self.close(number);
        self.segments.remove(&number);
    }

    /// Nothing more goes into this segment.
    pub(crate) fn close(&mut self, number: u32) {
        self.open.iter_mut().filter(|open| **open == Some(number)).for_each(|open| *open = None);
    }

    /// Whether something has to go before another segment is opened. One segment is kept free for what
    /// is copied while another is evicted.
    pub(crate) fn is_full(&self) -> bool {
        self.octets() + 2 * u64::from(self.geometry.segment) > self.limit
    }

    /// The segment to evict: of what is new while there is more of it than its share, else of the rest.
    pub(crate) fn victim(&self) -> Option<u32> {
        let oldest = |queue| {
            let mut closed = self.segments.iter().filter(|(n, _)| !self.open.contains(&Some(**n)));
            closed.find(|(_, segment)| segment.queue == queue).map(|(number, _)| *number)
        };
        let probation = self.sum(|segment| segment.queue == Queue::Probation);
        let (first, second) = if probation > self.limit / PROBATION_SHARE {
            (Queue::Probation, Queue::Main)
        } else {
            (Queue::Main, Queue::Probation)
        };
        // With nothing else left even what is open goes, as after a capacity that has shrunk.
        let any = || self.segments.keys().next().copied();
        oldest(first).or_else(|| oldest(second)).or_else(any)
    }

    /// Which of a victim's records are copied to the main queue, with the hits that they keep, and
    /// which go.
    pub(crate) fn judge(&self, victim: u32, records: Vec<(u64, Entry)>) -> Verdict {
        let main = self.segment(victim).is_some_and(|segment| segment.queue == Queue::Main);
        let (mut kept, mut gone): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(_, entry)| entry.hits() > 0);
        if main {
            // The most read first; in the order of arrival among equals.
            kept.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.hits()));
        }
        let mut room = if main { self.geometry.segment / COPY_SHARE } else { u32::MAX };
        kept.retain_mut(|(id, entry)| {
            let Some(rest) = room.checked_sub(entry.place().length) else {
                gone.push((*id, *entry));
                return false;
            };
            room = rest;
            // Whoever leaves probation starts afresh (section 4.1 of the paper).
            *entry = entry.with_hits(if main { entry.hits() - 1 } else { 0 });
            true
        });
        Verdict { kept, gone, remembered: !main }
    }

    /// The queue in which a record is.
    pub(crate) fn queue_of(&self, place: Place) -> Queue {
        self.segment(place.segment).map_or(Queue::Probation, |segment| segment.queue)
    }

    /// The disk is full before the capacity is: use less than now.
    pub(crate) fn shrink(&mut self) {
        let less = self.octets().min(self.limit).saturating_sub(u64::from(self.geometry.segment));
        let least = FEWEST_SEGMENTS * u64::from(self.largest.min(MIN_SEGMENT));
        self.limit = less.max(least).min(self.configured);
        self.resize();
    }

    /// There was no trouble for a while: use more, up to what is configured.
    pub(crate) fn grow(&mut self) {
        let more = self.limit.saturating_add(u64::from(self.geometry.segment));
        self.limit = more.min(self.configured);
        self.resize();
    }

    /// New segments are of a size that suits what may be used.
    fn resize(&mut self) {
        let segment = u32::try_from(self.limit / SEGMENTS).unwrap_or(u32::MAX);
        self.geometry.segment = segment.clamp(self.largest.min(MIN_SEGMENT), self.largest);
    }

    /// Octets on disk; what is open counts as it will be when it is full.
    pub(crate) fn octets(&self) -> u64 {
        let open = self.open.iter().flatten().filter_map(|number| self.segment(*number));
        let rest: u64 = open.map(|s| u64::from(self.geometry.segment.saturating_sub(s.end))).sum();
        self.sum(|_| true) + rest
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let (used, capacity) = (self.octets(), self.limit);
        Sizes { used, capacity, segments: self.segments.len() as u64 }
    }

    /// Segments there are.
    pub(crate) fn count(&self) -> usize {
        self.segments.len()
    }

    fn sum(&self, which: impl Fn(&Segment) -> bool) -> u64 {
        self.segments.values().filter(|s| which(s)).map(Segment::octets).sum()
    }
}

/// What becomes of the records of a segment that is evicted.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) kept: Vec<(u64, Entry)>,
    pub(crate) gone: Vec<(u64, Entry)>,
    /// Those that go are remembered.
    pub(crate) remembered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Kind;

    const GEOMETRY: Geometry = Geometry { block: 16, slice: 64, segment: 1000, records: 10 };

    fn layout(segments: &[(u32, Queue)]) -> Layout {
        let full = |queue| Segment { queue, end: 960, lines: 1, records: 10 };
        let segments: BTreeMap<_, _> = segments.iter().map(|(n, q)| (*n, full(*q))).collect();
        let next = segments.keys().last().map_or(0, |n| n + 1);
        Layout::new(GEOMETRY, 20_000, segments, next)
    }

    #[test]
    fn capacity_decides_the_size_of_segments() {
        let check = |capacity: u64, expect| assert_eq!(Geometry::of(capacity).segment, expect);
        check(0, 2 << 20);
        check(128 << 20, 2 << 20);
        check(1 << 30, 16 << 20);
        check(10 << 30, 64 << 20);
        check(u64::MAX, 64 << 20);
    }

    #[test]
    fn places_follow_each_other_and_are_given_back() {
        let mut layout = layout(&[]);
        assert_eq!(layout.reserve(Queue::Probation, 10), None, "nothing is open");
        let number = layout.next_number().unwrap();
        assert_eq!(layout.opened(number, Queue::Probation), None);
        let mut at = |length| layout.reserve(Queue::Probation, length).map(|place| place.offset);
        assert_eq!(at(10), Some(0));
        assert_eq!(at(991), None);
        assert_eq!(at(u32::MAX), None);
        assert_eq!(at(400), Some(10));
        let place = Place { segment: number, offset: 10, length: 400 };
        layout.give_back(place, 100);
        assert_eq!(layout.reserve(Queue::Probation, 5).unwrap().offset, 110);
        layout.give_back(place, 0);
        assert_eq!(layout.reserve(Queue::Probation, 5).unwrap().offset, 115, "it lies behind");
        assert_eq!(layout.reserve(Queue::Main, 5), None);
        let more = (0..20).filter(|_| layout.reserve(Queue::Probation, 1).is_some()).count();
        assert_eq!(more, 6, "ten records in all");
    }

    #[test]
    fn what_is_new_goes_first_beyond_its_share() {
        use Queue::{Main, Probation};
        let check = |segments: &[(u32, Queue)], expect| {
            assert_eq!(layout(segments).victim(), expect, "{segments:?}");
        };
        check(&[], None);
        check(&[(3, Main), (4, Probation), (5, Probation), (6, Probation), (7, Main)], Some(4));
        check(&[(3, Main), (4, Probation), (5, Probation), (7, Main)], Some(3));
        check(&[(3, Probation), (4, Probation), (5, Main)], Some(3));
        check(&[(3, Main), (5, Main)], Some(3));
        check(&[(3, Main), (5, Probation)], Some(3));
    }

    #[test]
    fn what_was_read_is_kept_within_bounds() {
        let records = |hits: &[u8]| {
            let entry = |(n, hits): (u32, &u8)| {
                let place = Place { segment: 1, offset: n * 200, length: 200 };
                (u64::from(n), Entry::new(place, Kind::Whole).with_hits(*hits))
            };
            (0..).zip(hits).map(entry).collect::<Vec<_>>()
        };
        let check = |queue, hits: &[u8], kept: &[(u64, u8)]| {
            let verdict = layout(&[(1, queue), (2, queue)]).judge(1, records(hits));
            let found: Vec<_> = verdict.kept.iter().map(|(id, e)| (*id, e.hits())).collect();
            assert_eq!(found, kept);
            assert_eq!(found.len() + verdict.gone.len(), hits.len());
            assert_eq!(verdict.remembered, queue == Queue::Probation);
        };
        check(Queue::Probation, &[0, 1, 0, 3], &[(1, 0), (3, 0)]);
        check(Queue::Probation, &[1, 1, 1, 1], &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        check(Queue::Main, &[0, 1, 0, 3], &[(3, 2), (1, 0)]);
        check(Queue::Main, &[1, 1, 2, 3], &[(3, 2), (2, 1)]);
    }

    #[test]
    fn less_capacity_has_smaller_segments() {
        let mut layout = Layout::new(Geometry::of(1 << 30), 1 << 30, BTreeMap::new(), 0);
        layout.opened(0, Queue::Probation);
        layout.shrink();
        assert_eq!((layout.limit, layout.geometry.segment), (8 << 20, 2 << 20));
        (0..1000).for_each(|_| layout.grow());
        assert_eq!((layout.limit, layout.geometry.segment), (1 << 30, 16 << 20));
    }

    #[test]
    fn a_full_disk_takes_capacity_and_gives_it_back() {
        let mut layout = layout(&(0..19).map(|n| (n, Queue::Main)).collect::<Vec<_>>());
        assert!(layout.is_full());
        layout.shrink();
        assert_eq!(layout.limit, 18_040);
        for n in 0..19 {
            layout.remove(n);
            layout.shrink();
        }
        assert_eq!(layout.limit, 4_000, "never less than four segments");
        (0..20).for_each(|_| layout.grow());
        assert_eq!(layout.limit, 20_000);
    }
}
