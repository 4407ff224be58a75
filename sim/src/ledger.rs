//! What is true in a world, against which answers are held at every step.

use std::collections::BTreeMap;
use std::time::Duration;

use coralline_overlay::{Instant, Key, limits::QUERY_TIME};

/// Complaints that are kept: the first ones tell most.
const MAX_VIOLATIONS: usize = 16;
/// How long after its time to live a pointer may still be met: seconds are rounded up on each of a
/// put's steps, and an answer is on its way for up to a query's time.
const GRACE: Duration = QUERY_TIME.saturating_add(Duration::from_secs(3));
/// How much longer than its time a query may take: the clock's grain.
const GRAIN: Duration = Duration::from_millis(1);

/// Who says to hold what, who won which claim, and what was wrong.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    holds: BTreeMap<Key, BTreeMap<usize, Hold>>,
    pub(crate) shown: Shown,
    /// Claims won while another winner was alive and within its time.
    pub(crate) double_claims: u64,
    violations: Vec<String>,
}

/// What a node has said to hold.
#[derive(Debug, Clone, Copy)]
struct Hold {
    life: u32,
    until: Instant,
    won: bool,
    /// It still holds it; withdrawn things may be met for a while.
    current: bool,
}

/// Pointers that gets and claims have given to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// All of them.
    pub all: u64,
    /// Their holder is dead, has been since, or has withdrawn them.
    pub stale: u64,
    /// Their holder never said so.
    pub junk: u64,
}

impl Ledger {
    /// `node` says, by a put or a claim, that it holds `key`.
    pub(crate) fn announced(&mut self, key: Key, node: usize, life: u32, until: Instant) {
        let hold = self.holds.entry(key).or_default().entry(node);
        let hold = hold.or_insert(Hold { life, until, won: false, current: true });
        hold.won &= hold.life == life;
        *hold = Hold { life, until: until.max(hold.until), won: hold.won, current: true };
    }

    pub(crate) fn withdrawn(&mut self, key: Key, node: usize) {
        if let Some(hold) = self.holds.get_mut(&key).and_then(|holds| holds.get_mut(&node)) {
            hold.current = false;
            hold.won = false;
        }
    }

    /// `node` has won a claim. `life_of` gives the life of a node, if it is alive.
    pub(crate) fn won(
        &mut self,
        now: Instant,
        key: Key,
        node: usize,
        life_of: impl Fn(usize) -> Option<u32>,
    ) {
        let holds = self.holds.entry(key).or_default();
        let rival = holds.iter().any(|(other, hold)| {
            *other != node && hold.won && hold.until > now && life_of(*other) == Some(hold.life)
        });
        self.double_claims += u64::from(rival);
        if let Some(hold) = holds.get_mut(&node) {
            hold.won = true;
        }
    }

    /// A query has shown pointers to these nodes; none stands for an address without a node.
    /// Whether at least one is good.
    pub(crate) fn show(
        &mut self,
        now: Instant,
        key: &Key,
        holders: impl Iterator<Item = Option<usize>>,
        liars: bool,
        life_of: impl Fn(usize) -> Option<u32>,
    ) {
        for holder in holders {
            self.shown.all += 1;
            let hold = holder.and_then(|at| Some((at, *self.holds.get(key)?.get(&at)?)));
            match hold {
                None => {
                    self.shown.junk += 1;
                    if !liars {
                        self.violation(now, &format!("{key}: {holder:?} never said to hold it"));
                    }
                }
                Some((at, hold)) if now > hold.until + GRACE => {
                    self.shown.stale += 1;
                    let late = now.since(hold.until);
                    let what =
                        format!("{key}: a pointer to {at} has outlived its time by {late:?}");
                    self.violation(now, &what);
                }
                Some((at, hold)) => {
                    let stale = !hold.current || life_of(at) != Some(hold.life);
                    self.shown.stale += u64::from(stale);
                }
            }
        }
    }

    /// A query has ended, after `took` if it was under way.
    pub(crate) fn ended(&mut self, now: Instant, node: usize, took: Option<Duration>) {
        match took {
            None => self.violation(now, &format!("node {node}: a query ended that was not open")),
            Some(took) if took > QUERY_TIME + GRAIN => {
                self.violation(now, &format!("node {node}: a query took {took:?}"));
            }
            Some(_) => {}
        }
    }

    /// What broke an invariant, the first ones.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    fn violation(&mut self, now: Instant, what: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(format!("after {:?}: {what}", now.since(Instant::default())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = coralline_overlay::Id([7; 20]);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn pointers_are_good_stale_or_junk() {
        let mut ledger = Ledger::default();
        ledger.announced(KEY, 1, 1, at(20));
        ledger.announced(KEY, 2, 1, at(20));
        ledger.withdrawn(KEY, 2);
        let alive = |_| Some(1);
        ledger.show(at(5), &KEY, [Some(1), Some(2)].into_iter(), false, alive);
        assert_eq!(ledger.shown, Shown { all: 2, stale: 1, junk: 0 });
        ledger.show(at(5), &KEY, [Some(1)].into_iter(), false, |_| Some(2));
        assert_eq!(ledger.shown.stale, 2, "of an earlier life");
        assert!(ledger.violations().is_empty());
        ledger.show(at(60), &KEY, [Some(1)].into_iter(), false, alive);
        ledger.show(at(5), &KEY, [None].into_iter(), true, alive);
        assert_eq!(ledger.violations().len(), 1, "liars may invent, but nothing outlives its time");
        ledger.show(at(5), &KEY, [Some(3)].into_iter(), false, alive);
        assert_eq!(ledger.violations().len(), 2);
    }

    #[test]
    fn two_winners_are_one_too_many_while_the_first_lives() {
        let mut ledger = Ledger::default();
        for node in [1, 2, 3] {
            ledger.announced(KEY, node, 1, at(20));
        }
        ledger.won(at(1), KEY, 1, |_| Some(1));
        ledger.won(at(2), KEY, 1, |_| Some(1));
        assert_eq!(ledger.double_claims, 0, "its own");
        ledger.won(at(3), KEY, 2, |node| (node != 1).then_some(1));
        assert_eq!(ledger.double_claims, 0, "the first has died");
        ledger.won(at(4), KEY, 3, |_| Some(1));
        assert_eq!(ledger.double_claims, 1);
    }
}
