//! Which clusters this node is in: it joins, leaves and founds them by round trips that it has
//! measured itself (Coral, NSDI 2004, section 5). Without I/O, and without a view of the messages.
//!
//! A cluster is a random number that its members carry in every message. Nobody runs it: each node
//! looks around now and then and goes where most of those that it knows are near. What others claim
//! of a cluster's size counts only as far as it has met members itself.

use std::collections::BTreeMap;
use std::time::Duration;

use coralline_config::Rules;

use crate::level::Level;
use crate::limits::{MATURE_AGE, MAX_CLAIMS, MAX_LEVELS, SAMPLES, TRUST_FACTOR};
use crate::time::Instant;

/// The number of a cluster. Two of thousands may draw the same; round trips tell them apart.
pub(crate) type ClusterId = u32;

/// The clusters of a node, that of level 1 first; 0 beyond the last level.
pub(crate) type Memberships = [ClusterId; MAX_LEVELS];

/// What a node says of one of its clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ring {
    pub(crate) id: ClusterId,
    pub(crate) age_s: u32,
    /// How many members it knows, itself included.
    pub(crate) size: u16,
}

/// What a node says of all of its clusters, that of level 1 first; without number where it has
/// none.
pub(crate) type Rings = [Ring; MAX_LEVELS];

/// This node's clusters, and what is said of others.
#[derive(Debug)]
pub(crate) struct Clusters {
    own: Vec<Own>,
    rules: Rules,
    /// What members of other clusters say, by level; the one heard of longest ago first. Sizes are
    /// about the median of what they say.
    claims: Vec<(u8, Ring)>,
}

#[derive(Debug)]
struct Own {
    id: ClusterId,
    founded: Instant,
    /// What age it had when it was joined.
    age: Duration,
    bound: Duration,
    size: u16,
}

/// How a cluster looks from here.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    seen: u32,
    within: u32,
}

impl Clusters {
    /// A cluster of its own at each level; `bounds` are round trips, the nearest level first.
    pub(crate) fn new(
        now: Instant,
        bounds: &[Duration],
        rules: Rules,
        draw: impl FnMut() -> u32,
    ) -> Self {
        let mut draw = draw;
        let own = bounds.iter().rev().take(MAX_LEVELS).map(|bound| Own {
            id: draw().max(1),
            founded: now,
            age: Duration::ZERO,
            bound: *bound,
            size: 1,
        });
        Self { own: own.collect(), rules, claims: Vec::new() }
    }

    /// The nearest level.
    pub(crate) fn nearest(&self) -> Level {
        Level(u8::try_from(self.own.len()).expect("levels are few"))
    }

    /// The round trips up to which a node may be in the cluster of the nearest level.
    pub(crate) fn nearest_bound(&self) -> Duration {
        self.own.last().map_or(Duration::ZERO, |own| own.bound)
    }

    pub(crate) fn memberships(&self) -> Memberships {
        std::array::from_fn(|at| self.own.get(at).map_or(0, |own| own.id))
    }

    /// What every message says.
    pub(crate) fn rings(&self, now: Instant) -> Rings {
        std::array::from_fn(|at| {
            self.own.get(at).map_or_else(Ring::default, |own| {
                let age = own.age + now.since(own.founded);
                let age_s = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
                Ring { id: own.id, age_s, size: own.size }
            })
        })
    }

    /// A node has said this of its clusters.
    pub(crate) fn heard(&mut self, rings: &Rings) {
        for (at, own) in self.own.iter().enumerate() {
            let ring = rings[at];
            if ring.id == 0 || ring.id == own.id {
                continue;
            }
            let known = self.claims.iter().position(|claim| is_of(claim, at, ring.id));
            let said = known.map_or(1, |known| self.claims[known].1.size);
            if known.is_some() || self.claims.len() >= MAX_CLAIMS {
                self.claims.remove(known.unwrap_or(0));
            }
            let ring = Ring { size: toward(said, ring.size), ..ring };
            self.claims.push((u8::try_from(at).expect("levels are few"), ring));
        }
    }

    /// What was said last of a cluster of others.
    fn claim(&self, at: usize, id: ClusterId) -> Option<&Ring> {
        self.claims.iter().find(|claim| is_of(claim, at, id)).map(|(_, ring)| ring)
    }

    /// Reconsiders all levels, given the clusters of each known node and the shortest round trip to
    /// it. Gives the levels at which this node has moved.
    pub(crate) fn review(
        &mut self,
        now: Instant,
        known: &[(Memberships, Option<Duration>)],
        mut draw: impl FnMut() -> u32,
    ) -> Vec<Level> {
        let mut moved = Vec::new();
        for at in 0..self.own.len() {
            let tallies = self.tallies(at, known);
            let id = self.own[at].id;
            let members = known.iter().filter(|(clusters, _)| clusters[at] == id).count();
            self.own[at].size = u16::try_from(members + 1).unwrap_or(u16::MAX);
            let best = self.best(at, &tallies);
            let here = tallies.get(&id).copied().unwrap_or_default();
            let next = match best {
                Some(better) if self.is_lost(here) || self.is_better(now, at, better, here) => {
                    better.0
                }
                _ if self.is_lost(here) => draw().max(1),
                _ => continue,
            };
            let age = self.claim(at, next).map_or(0, |ring| ring.age_s);
            let own = &mut self.own[at];
            (own.id, own.founded, own.age) = (next, now, Duration::from_secs(age.into()));
            own.size = 1;
            self.claims.retain(|claim| !is_of(claim, at, next));
            moved.push(Level(u8::try_from(at + 1).expect("levels are few")));
        }
        moved
    }

    fn tallies(
        &self,
        at: usize,
        known: &[(Memberships, Option<Duration>)],
    ) -> BTreeMap<ClusterId, Tally> {
        let mut tallies = BTreeMap::<_, Tally>::new();
        for (clusters, rtt) in known {
            let Some(rtt) = rtt.filter(|_| clusters[at] != 0) else { continue };
            let tally = tallies.entry(clusters[at]).or_default();
            tally.seen += 1;
            tally.within += u32::from(rtt <= self.own[at].bound);
        }
        tallies
    }

    /// The best of the other clusters that would do, with its weight.
    fn best(&self, at: usize, tallies: &BTreeMap<ClusterId, Tally>) -> Option<(ClusterId, f64)> {
        let others = tallies.iter().filter(|(id, _)| **id != self.own[at].id);
        let weigh = |(id, tally): (&ClusterId, &Tally)| {
            let claimed = self.claim(at, *id).map_or(1, |ring| ring.size).max(1);
            let enough = tally.seen >= SAMPLES.min(claimed.into());
            let size = u32::from(claimed).min(tally.seen * TRUST_FACTOR).max(tally.seen);
            (enough && tally.percent() >= self.rules.accept_percent)
                .then(|| (*id, f64::from(size) * f64::from(tally.percent()) / 100.0))
        };
        others.filter_map(weigh).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// Whether most members are too far away.
    fn is_lost(&self, here: Tally) -> bool {
        here.seen > 0 && here.percent() <= self.rules.abandon_percent
    }

    /// Coral's rule against oscillation: the larger wins if it is so by far, else the lower number.
    /// How far grows with age, so that what has settled stays.
    fn is_better(&self, now: Instant, at: usize, other: (ClusterId, f64), here: Tally) -> bool {
        let own = &self.own[at];
        let share = if here.seen == 0 { 1.0 } else { f64::from(here.percent()) / 100.0 };
        let gain = (other.1 / (f64::from(own.size) * share)).log2();
        let is_mature = own.age + now.since(own.founded) >= MATURE_AGE;
        let by_far = if is_mature { 1.0 } else { 0.5 };
        gain > by_far || (gain >= -by_far && !is_mature && other.0 < own.id)
    }
}

/// A step from what was believed of a size to what is claimed: a quarter at the most, so that many
/// small steps come to rest near the median of all claims, however large the few forged ones are.
fn toward(believed: u16, claimed: u16) -> u16 {
    let step = believed / 4;
    claimed.clamp(believed - step, believed.saturating_add(step + 1))
}

fn is_of(claim: &(u8, Ring), at: usize, id: ClusterId) -> bool {
    usize::from(claim.0) == at && claim.1.id == id
}

impl Tally {
    fn percent(self) -> u32 {
        (self.within * 100).checked_div(self.seen).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    /// One level of 60 ms, and the cluster 50.
    fn clusters() -> Clusters {
        Clusters::new(at(0), &[60 * MS], Rules::default(), || 50)
    }

    fn known(members: &[(ClusterId, u32)]) -> Vec<(Memberships, Option<Duration>)> {
        let one = |(id, ms): &(ClusterId, u32)| ([*id, 0, 0, 0], Some(*ms * MS));
        members.iter().map(one).collect()
    }

    fn claim(clusters: &mut Clusters, id: ClusterId, size: u16) {
        let mut rings = Rings::default();
        rings[0] = Ring { id, age_s: 9, size };
        clusters.heard(&rings);
    }

    fn check(claims: &[(ClusterId, u16)], members: &[(ClusterId, u32)], expect: ClusterId) {
        let mut clusters = clusters();
        claims.iter().for_each(|(id, size)| claim(&mut clusters, *id, *size));
        clusters.review(at(300), &known(members), || 99);
        assert_eq!(clusters.memberships()[0], expect, "{claims:?} {members:?}");
    }

    #[test]
    fn lonely_ones_meet_under_the_lower_number() {
        check(&[(40, 1)], &[(40, 10)], 40);
        check(&[(60, 1)], &[(60, 10)], 50);
        check(&[(40, 1)], &[(40, 61)], 50);
    }

    #[test]
    fn the_larger_wins_if_four_in_five_of_it_are_near() {
        let near = [(60, 10), (60, 20), (60, 30), (60, 40)];
        check(&[(60, 9)], &near, 60);
        check(&[(60, 9)], &[&near[..], &[(60, 90)]].concat(), 60);
        check(&[(60, 9)], &[&near[..], &[(60, 90), (60, 90)]].concat(), 50);
    }

    #[test]
    fn a_claimed_size_counts_only_as_far_as_members_were_met() {
        let here: Vec<_> = (0..30).map(|_| (50, 10)).collect();
        check(&[(60, 60_000)], &[&here[..], &[(60, 10)]].concat(), 50);
        check(&[(60, 60_000)], &[&here[..], &[(60, 10); 3]].concat(), 50);
    }

    #[test]
    fn one_liar_in_four_moves_a_size_by_little() {
        let mut clusters = clusters();
        for _ in 0..50 {
            [20, 22, u16::MAX, 24].iter().for_each(|size| claim(&mut clusters, 60, *size));
        }
        let size = clusters.claim(0, 60).unwrap().size;
        assert!((18..=30).contains(&size), "{size}");
    }

    #[test]
    fn where_most_are_far_nobody_stays() {
        check(&[], &[(50, 10), (50, 90)], 99);
        check(&[], &[(50, 10), (50, 20), (50, 90)], 50);
        check(&[(70, 2)], &[(50, 90), (50, 90), (70, 9), (70, 9)], 70);
    }

    #[test]
    fn what_is_settled_stays() {
        let mut clusters = clusters();
        claim(&mut clusters, 40, 4);
        let members = known(&[(50, 9), (50, 9), (50, 9), (40, 9), (40, 9), (40, 9)]);
        let moved = clusters.review(at(2 * 3_600), &members, || 99);
        assert_eq!((moved, clusters.memberships()[0]), (Vec::new(), 50));
    }

    #[test]
    fn claims_are_bounded() {
        let mut clusters = clusters();
        (100..100 + 3 * 64).for_each(|id| claim(&mut clusters, id, 1));
        assert!(clusters.claims.len() <= MAX_CLAIMS);
    }
}
