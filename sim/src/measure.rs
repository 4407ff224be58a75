//! A workload of puts, gets and claims, and the figures that come of it.

use std::fmt;
use std::time::Duration;

use coralline_overlay::{Key, Outcome, QueryId};

use crate::world::World;

/// How long what is put here lives: longer than any measurement.
const TTL: Duration = Duration::from_secs(3_600);
/// Queries are started this far apart.
const PACE: Duration = Duration::from_millis(5);

/// What came of the queries of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many were made.
    pub made: usize,
    /// How many did what they should: a get found, a put was stored, a claim has one winner.
    pub good: usize,
    /// Steps to where it was found, one entry a get that found.
    pub hops: Vec<u8>,
    /// Times taken.
    pub took: Vec<Duration>,
}

impl Tally {
    /// The share of good ones, 0 to 1; 1 if none were made.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn share(&self) -> f64 {
        if self.made == 0 { 1.0 } else { self.good as f64 / self.made as f64 }
    }

    /// The time that a share of `percent` took at the most.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.took, percent)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_millis();
        let share = 100.0 * self.share();
        write!(f, "{:>6} {share:>8.2} {:>7} {:>7} {:>7}", self.made, ms(50), ms(95), ms(99))?;
        if self.hops.is_empty() {
            return write!(f, "{:>7} {:>7}", "-", "-");
        }
        write!(f, "{:>7} {:>7}", percentile(&self.hops, 50), percentile(&self.hops, 99))
    }
}

/// The key of the `at`th thing of a workload.
#[must_use]
pub fn key(workload: &str, at: usize) -> Key {
    Key::of_name(format!("{workload}/{at}").as_bytes())
}

/// Puts `count` keys from nodes drawn by chance.
pub fn puts(world: &mut World, workload: &str, count: usize) -> Tally {
    each(world, count, |world, at| {
        let node = world.any_node(None);
        vec![(node, world.put(node, key(workload, at), TTL).ok())]
    })
    .tally(|outcomes| matches!(outcomes, [Some(Outcome::Stored { copies: 1.. })]))
}

/// Gets `count` keys that were put, from nodes drawn by chance.
pub fn gets(world: &mut World, workload: &str, count: usize) -> Tally {
    each(world, count, |world, at| {
        let node = world.any_node(None);
        vec![(node, world.get(node, key(workload, at)).ok())]
    })
    .tally(|outcomes| {
        matches!(outcomes, [Some(Outcome::Found { pointers, .. })] if !pointers.is_empty())
    })
}

/// Gets `count` keys that nobody has put; hops are those until that was certain.
pub fn misses(world: &mut World, workload: &str, count: usize) -> Tally {
    each(world, count, |world, at| {
        let node = world.any_node(None);
        vec![(node, world.get(node, key(workload, at)).ok())]
    })
    .tally(|outcomes| {
        matches!(outcomes, [Some(Outcome::Found { pointers, .. })] if pointers.is_empty())
    })
}

/// Claims `count` keys that nobody has, each from one node drawn by chance.
pub fn claims(world: &mut World, workload: &str, count: usize) -> Tally {
    each(world, count, |world, at| {
        let node = world.any_node(None);
        vec![(node, world.claim(node, key(workload, at), TTL).ok())]
    })
    .tally(|outcomes| matches!(outcomes, [Some(Outcome::Claimed)]))
}

/// For each of `count` keys lets `rivals` nodes claim it at the same moment. Good is exactly one
/// winner, and all others sent to it.
pub fn races(world: &mut World, workload: &str, count: usize, rivals: usize) -> Tally {
    each(world, count, |world, at| {
        let mut nodes = Vec::new();
        while nodes.len() < rivals {
            let node = world.any_node(None);
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let claim = |node| (node, world.claim(node, key(workload, at), TTL).ok());
        nodes.into_iter().map(claim).collect()
    })
    .tally(|outcomes| {
        let is = |outcome: &&Option<Outcome>| matches!(outcome, Some(Outcome::Claimed));
        let held = |outcome: &&Option<Outcome>| matches!(outcome, Some(Outcome::Held { .. }));
        outcomes.iter().filter(is).count() == 1
            && outcomes.iter().filter(held).count() == outcomes.len() - 1
    })
}

/// Octets of plaintext that a node sends in a second, over all living nodes, while `time` passes.
pub fn idle_rate(world: &mut World, nodes: usize, time: Duration) -> u64 {
    let sent = |world: &World| -> u64 {
        (0..nodes).filter_map(|node| world.stats(node)).map(|stats| stats.bytes_out).sum()
    };
    let before = sent(world);
    world.run(time);
    (sent(world) - before) / nodes as u64 / time.as_secs().max(1)
}

/// The outcomes and times of a batch, one entry a key.
struct Batch(Vec<Vec<(Option<Outcome>, Duration)>>);

fn each(
    world: &mut World,
    count: usize,
    mut start: impl FnMut(&mut World, usize) -> Vec<(usize, Option<QueryId>)>,
) -> Batch {
    let mut started = Vec::new();
    for at in 0..count {
        started.push(start(world, at));
        world.run(PACE);
    }
    world.settle();
    let mut end = |(node, query): (usize, Option<QueryId>)| {
        let finished = query.and_then(|query| world.finished(node, query));
        let took = finished.as_ref().map_or(Duration::ZERO, |finished| finished.took);
        (finished.map(|finished| finished.outcome), took)
    };
    Batch(started.into_iter().map(|group| group.into_iter().map(&mut end).collect()).collect())
}

impl Batch {
    fn tally(self, good: impl Fn(&[Option<Outcome>]) -> bool) -> Tally {
        let mut tally = Tally { made: self.0.len(), ..Tally::default() };
        for group in self.0 {
            let (outcomes, took): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            tally.good += usize::from(good(&outcomes));
            tally.took.extend(took);
            for outcome in outcomes {
                if let Some(Outcome::Found { hops, .. }) = outcome {
                    tally.hops.push(hops);
                }
            }
        }
        tally
    }
}

fn percentile<T: Copy + Ord + Default>(values: &[T], percent: usize) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}
