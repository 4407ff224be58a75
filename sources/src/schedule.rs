//! Which slice is asked of which source, and when: decided here, without I/O.
//!
//! | what is asked first | why |
//! |---|---|
//! | what the reader comes to next, in order | it streams |
//! | of the rest, what the fewest sources have | who has it may leave |
//!
//! Each slice goes to the source that is expected to have sent it soonest, by what it has under way for us. One
//! that takes much longer than expected, while another could be asked, is left for that one, and its source
//! is asked only for what nobody else has. A source that breaks is not asked again: it has cost no more than
//! [`MAX_OF_SOURCE`] slices at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coralline_overlay::Instant;

use crate::limits::{LATE_FACTOR, MAX_OF_SOURCE, SLICE_LATE};

/// Some slices and those who may have them. Tell it what has happened, then poll it until it says nothing.
#[derive(Debug)]
pub struct Schedule {
    /// Those that are not here yet.
    slices: BTreeMap<u32, Slice>,
    sources: Vec<Source>,
    /// One past the last slice that the reader comes to next.
    near: u32,
    /// Most that are under way.
    window: usize,
}

#[derive(Debug, Default)]
struct Slice {
    /// Whom it is asked of.
    asked: Option<usize>,
    /// It is being left for another.
    leaving: bool,
    /// Who does not have it.
    lacking: BTreeSet<usize>,
    /// Who took too long for it.
    late: BTreeSet<usize>,
}

#[derive(Debug)]
struct Source {
    /// What it has; nothing for all.
    has: Option<BTreeSet<u32>>,
    /// How long it is expected to take for one.
    usual: Duration,
    /// Since when it is asked for which.
    asked: BTreeMap<u32, Instant>,
    /// It took too long once.
    late: bool,
    broken: bool,
}

/// What is to be done.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask for the slice.
    Ask {
        /// Its number.
        slice: u32,
        /// Of whom, by the number that [`Schedule::add`] gave.
        source: usize,
    },
    /// Wait for it no longer; to be told when that is done.
    Leave {
        /// As above.
        slice: u32,
        /// As above.
        source: usize,
    },
}

/// Why a slice did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The source does not have it.
    Lacks,
    /// The source is of no use.
    Broken,
    /// It was left.
    Left,
}

impl Schedule {
    /// Of `slices`, by their numbers, those before `near` are needed first. No more than `window` are under way.
    #[must_use]
    pub fn new(slices: impl Iterator<Item = u32>, near: u32, window: usize) -> Self {
        let slices = slices.map(|slice| (slice, Slice::default())).collect();
        Self { slices, sources: Vec::new(), near, window }
    }

    /// One more source, which has these or all slices and is expected to take so long for one; its number.
    pub fn add(&mut self, has: Option<BTreeSet<u32>>, usual: Duration) -> usize {
        let asked = BTreeMap::new();
        self.sources.push(Source { has, usual, asked, late: false, broken: false });
        self.sources.len() - 1
    }

    /// The slice is here.
    pub fn handle_done(&mut self, now: Instant, source: usize, slice: u32) {
        let of = &mut self.sources[source];
        let sharing = u32::try_from(of.asked.len().max(1)).unwrap_or(1);
        if let Some(since) = of.asked.remove(&slice) {
            // They came side by side.
            of.usual = (of.usual + now.since(since) / sharing) / 2;
        }
        self.slices.remove(&slice);
    }

    /// The slice did not come.
    pub fn handle_failed(&mut self, source: usize, slice: u32, fault: Fault) {
        let of = &mut self.sources[source];
        of.asked.remove(&slice);
        of.broken |= fault == Fault::Broken;
        let Some(wanted) = self.slices.get_mut(&slice) else { return };
        (wanted.asked, wanted.leaving) = (None, false);
        if fault == Fault::Lacks {
            wanted.lacking.insert(source);
        }
    }

    /// The next thing to do; nothing until something has happened, or it is time to [`wake`](Self::wake).
    pub fn poll(&mut self, now: Instant) -> Option<Step> {
        self.leave(now).or_else(|| self.ask(now))
    }

    /// When a slice will have taken too long.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let due = self.slices.iter().filter_map(|(slice, wanted)| self.due(*slice, wanted));
        due.map(|(_, at)| at).min()
    }

    /// The source of a slice that another might bring, and by when it is to have come.
    fn due(&self, number: u32, slice: &Slice) -> Option<(usize, Instant)> {
        let source = slice.asked.filter(|_| !slice.leaving)?;
        let of = &self.sources[source];
        let since = of.asked.get(&number)?;
        let mut others = 0..self.sources.len();
        others.find(|other| {
            let late = self.is_late(*other, slice);
            *other != source && !late && self.is_free(*other, number, slice)
        })?;
        let usual = of.usual * LATE_FACTOR * u32::try_from(MAX_OF_SOURCE).unwrap_or(1);
        Some((source, *since + usual.max(SLICE_LATE)))
    }

    fn leave(&mut self, now: Instant) -> Option<Step> {
        let late = self.slices.iter().find_map(|(number, slice)| {
            // Of one that broke, what else it was asked for.
            let broken = slice.asked.filter(|of| self.sources[*of].broken && !slice.leaving);
            let late = || self.due(*number, slice).filter(|(_, at)| *at <= now);
            broken.map(|of| (*number, of)).or_else(|| late().map(|(of, _)| (*number, of)))
        });
        let (number, source) = late?;
        self.sources[source].late = true;
        let slice = self.slices.get_mut(&number)?;
        slice.leaving = true;
        slice.late.insert(source);
        Some(Step::Leave { slice: number, source })
    }

    fn ask(&mut self, now: Instant) -> Option<Step> {
        let under_way: usize = self.sources.iter().map(|source| source.asked.len()).sum();
        if under_way >= self.window {
            return None;
        }
        let waiting = self.slices.iter().filter(|(_, slice)| slice.asked.is_none());
        let best = waiting.filter_map(|(number, slice)| {
            let (expected, source) = self.soonest(*number, slice)?;
            let copies = if *number < self.near { 0 } else { self.copies(*number, slice) };
            Some(((copies, *number), expected, source))
        });
        let ((_, number), _, source) = best.min()?;
        self.slices.get_mut(&number)?.asked = Some(source);
        self.sources[source].asked.insert(number, now);
        Some(Step::Ask { slice: number, source })
    }

    /// Who is expected to bring it soonest of those who are not busy; who was late only where nobody else has it.
    fn soonest(&self, number: u32, slice: &Slice) -> Option<((Duration, usize), usize)> {
        let all = 0..self.sources.len();
        // One that is in time is waited for while it is busy.
        let in_time = all
            .clone()
            .any(|source| !self.is_late(source, slice) && self.may_bring(source, number, slice));
        let free = all.filter(|source| {
            !(in_time && self.is_late(*source, slice)) && self.is_free(*source, number, slice)
        });
        let expected = |source: usize| {
            let of = &self.sources[source];
            let before = u32::try_from(of.asked.len()).unwrap_or(u32::MAX);
            (of.usual.saturating_mul(before.saturating_add(1)), of.asked.len())
        };
        free.map(|source| (expected(source), source)).min()
    }

    fn is_late(&self, source: usize, slice: &Slice) -> bool {
        self.sources[source].late || slice.late.contains(&source)
    }

    fn may_bring(&self, source: usize, number: u32, slice: &Slice) -> bool {
        let of = &self.sources[source];
        let has = of.has.as_ref().is_none_or(|has| has.contains(&number));
        has && !of.broken && !slice.lacking.contains(&source)
    }

    /// It has the slice, and may be asked for one more.
    fn is_free(&self, source: usize, number: u32, slice: &Slice) -> bool {
        let busy = self.sources[source].asked.len() >= MAX_OF_SOURCE;
        !busy && self.may_bring(source, number, slice)
    }

    fn copies(&self, number: u32, slice: &Slice) -> usize {
        // None is as rare as the reader's next: so that these come first.
        let all = 0..self.sources.len();
        1 + all.filter(|source| self.may_bring(*source, number, slice)).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn asks(schedule: &mut Schedule, now: Instant) -> Vec<(u32, usize)> {
        let step = |step| match step {
            Step::Ask { slice, source } => (slice, source),
            Step::Leave { .. } => panic!("{step:?}"),
        };
        std::iter::from_fn(|| schedule.poll(now)).map(step).collect()
    }

    #[test]
    fn the_readers_next_come_first_then_the_rarest_each_from_the_soonest() {
        let now = Instant::from_micros(1);
        let mut schedule = Schedule::new(0..8, 2, 5);
        let fast = schedule.add(None, 10 * MS);
        let slow = schedule.add(None, 25 * MS);
        let part = schedule.add(Some([0, 1, 2, 3, 4, 5, 7].into()), 1000 * MS);
        // Slice 6 is the rarest, and each source is asked for as many as it is fast.
        let expect = [(0, fast), (1, fast), (6, slow), (2, fast), (3, fast)];
        assert_eq!(asks(&mut schedule, now), expect);
        schedule.handle_done(now + 10 * MS, fast, 0);
        assert_eq!(asks(&mut schedule, now), [(4, fast)]);
        // One that does not have it is asked for others; one that breaks is not asked any more.
        schedule.handle_failed(slow, 6, Fault::Lacks);
        assert_eq!(asks(&mut schedule, now), [(5, slow)]);
        schedule.handle_failed(slow, 5, Fault::Broken);
        assert_eq!(asks(&mut schedule, now), [(5, part)]);
    }

    #[test]
    fn what_is_late_goes_to_another_and_what_nobody_else_has_is_waited_for() {
        let now = Instant::from_micros(1);
        let mut schedule = Schedule::new(0..3, 1, 4);
        let slow = schedule.add(None, MS);
        let other = schedule.add(Some([0].into()), 50 * MS);
        assert_eq!(asks(&mut schedule, now), [(0, slow), (1, slow), (2, slow)]);
        assert_eq!(schedule.wake(), Some(now + SLICE_LATE));
        let now = now + SLICE_LATE;
        assert_eq!(schedule.poll(now), Some(Step::Leave { slice: 0, source: slow }));
        assert_eq!(schedule.poll(now), None);
        schedule.handle_failed(slow, 0, Fault::Left);
        assert_eq!(asks(&mut schedule, now), [(0, other)]);
        assert_eq!(schedule.wake(), None);
        schedule.handle_failed(other, 0, Fault::Broken);
        assert_eq!(asks(&mut schedule, now), [(0, slow)]);
    }

    #[derive(Debug, Clone)]
    enum Nature {
        Good(u64),
        /// Answers that it has nothing of what is asked.
        Empty,
        /// Breaks with the first slice, after a time.
        Liar(u64),
        /// Never says anything; found out after a time.
        Dead,
        /// So slow that any other is better.
        Slow,
    }

    fn nature() -> impl Strategy<Value = Nature> {
        prop_oneof![
            3 => (1_u64..400).prop_map(Nature::Good),
            1 => Just(Nature::Empty),
            1 => (1_u64..400).prop_map(Nature::Liar),
            1 => Just(Nature::Dead),
            1 => Just(Nature::Slow),
        ]
    }

    proptest! {
        #[test]
        fn all_come_once_if_anybody_has_them(
            natures in prop::collection::vec((nature(), any::<u16>(), 1_u64..300), 1..7),
            count in 1_u32..17,
            near in 0_u32..17,
            window in 1_usize..10,
        ) {
            let mut now = Instant::from_micros(1);
            let mut schedule = Schedule::new(0..count, near, window);
            for (_, has, usual) in &natures {
                // Some have all.
                let some = (0..count).filter(|slice| has >> (slice % 16) & 1 == 1).collect();
                let has = (has % 3 > 0).then_some(some);
                schedule.add(has, MS * u32::try_from(*usual).unwrap());
            }
            // When which slice will have come, or failed to.
            let mut coming: BTreeMap<(Instant, u32), (usize, Result<(), Fault>)> = BTreeMap::new();
            let (mut done, mut times) = (BTreeMap::new(), BTreeMap::new());
            let (mut blamed, mut of) = (BTreeMap::<u32, usize>::new(), vec![0; natures.len()]);
            loop {
                while let Some(step) = schedule.poll(now) {
                    match step {
                        Step::Ask { slice, source } => {
                            *times.entry(slice).or_insert(0) += 1;
                            of[source] += 1;
                            let (after, how) = match natures[source].0 {
                                Nature::Good(ms) => (ms, Ok(())),
                                Nature::Empty => (1, Err(Fault::Lacks)),
                                Nature::Liar(ms) => (ms, Err(Fault::Broken)),
                                Nature::Dead => (3_000, Err(Fault::Broken)),
                                Nature::Slow => (30_000, Ok(())),
                            };
                            let at = now + MS * u32::try_from(after).unwrap();
                            prop_assert!(coming.insert((at, slice), (source, how)).is_none());
                            prop_assert!(coming.len() <= window);
                            let here = coming.values().filter(|(of, _)| *of == source).count();
                            prop_assert!(here <= MAX_OF_SOURCE);
                        }
                        Step::Leave { slice, source } => {
                            let there = coming.len();
                            coming.retain(|(_, other), _| *other != slice);
                            prop_assert_eq!(coming.len() + 1, there);
                            *blamed.entry(slice).or_default() += 1;
                            schedule.handle_failed(source, slice, Fault::Left);
                        }
                    }
                }
                let next = coming.first_key_value().map(|((at, _), _)| *at);
                let Some(next) = next else { break };
                let wake = schedule.wake().filter(|wake| *wake < next);
                now = wake.unwrap_or(next).max(now);
                if wake.is_some() {
                    continue;
                }
                let ((_, slice), (source, how)) = coming.pop_first().unwrap();
                match how {
                    Ok(()) => {
                        schedule.handle_done(now, source, slice);
                        prop_assert!(done.insert(slice, source).is_none());
                    }
                    Err(fault) => {
                        schedule.handle_failed(source, slice, fault);
                        *blamed.entry(slice).or_default() += 1;
                    }
                }
            }
            for slice in 0..count {
                let able = natures.iter().any(|(nature, has, _)| {
                    let has = has % 3 == 0 || has >> (slice % 16) & 1 == 1;
                    has && matches!(nature, Nature::Good(_) | Nature::Slow)
                });
                prop_assert_eq!(done.contains_key(&slice), able, "slice {}", slice);
                let asked = times.get(&slice).copied().unwrap_or(0);
                let blamed = blamed.get(&slice).copied().unwrap_or(0);
                prop_assert_eq!(asked, blamed + usize::from(able), "slice {}", slice);
            }
            prop_assert_eq!(schedule.slices.len() + done.len(), count as usize);
            for ((nature, ..), asked) in natures.iter().zip(of) {
                // One that was left is asked again when nobody else is left.
                let most = match nature {
                    Nature::Liar(_) => MAX_OF_SOURCE,
                    Nature::Dead => 2 * MAX_OF_SOURCE,
                    _ => usize::MAX,
                };
                prop_assert!(asked <= most);
            }
        }
    }
}
