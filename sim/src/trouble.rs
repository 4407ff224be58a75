//! What may go wrong in a world, and the state of its wires.

use std::time::Duration;

use coralline_overlay::inspect::Lie;
use serde::Deserialize;

/// One change for the worse or, the last, for the better. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trouble {
    /// This share of datagrams is lost.
    Loss {
        /// Of all datagrams.
        share: f64,
    },
    /// The first nodes and the others cannot reach each other.
    Part {
        /// Of all nodes, on the one side.
        share: f64,
    },
    /// These pairs cannot reach each other, though both reach third ones.
    Blocked {
        /// Of all pairs.
        share: f64,
    },
    /// One of these pairs does not hear the other.
    OneWay {
        /// Of all ordered pairs.
        share: f64,
    },
    /// Nodes die as by `kill -9`.
    Kill {
        /// Of the living.
        share: f64,
    },
    /// The dead start again.
    Return {
        /// Of the dead.
        share: f64,
        /// From the contacts they had saved, without seeds; else from seeds alone.
        saved: bool,
    },
    /// Each node lives for a time drawn from an exponential distribution, is away for another, and
    /// returns.
    Churn {
        /// Median life, in seconds.
        median_life_s: u64,
        /// Median absence, in seconds.
        median_absence_s: u64,
        /// As for [`Trouble::Return`].
        saved: bool,
    },
    /// Nodes begin to lie.
    Lie {
        /// Of the nodes that are honest.
        share: f64,
        /// How.
        lie: Falsehood,
    },
    /// All wires are whole, churn has ended, the dead start again from what they had saved; liars
    /// stay liars.
    Heal,
}

/// How nodes lie: the names of [`Lie`] in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Falsehood {
    /// [`Lie::Full`]
    Full,
    /// [`Lie::Empty`]
    Empty,
    /// [`Lie::Junk`]
    Junk,
    /// [`Lie::Size`]
    Size,
}

impl From<Falsehood> for Lie {
    fn from(falsehood: Falsehood) -> Self {
        match falsehood {
            Falsehood::Full => Self::Full,
            Falsehood::Empty => Self::Empty,
            Falsehood::Junk => Self::Junk,
            Falsehood::Size => Self::Size,
        }
    }
}

/// How long nodes live and stay away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Churn {
    pub(crate) median_life: Duration,
    pub(crate) median_absence: Duration,
    pub(crate) saved: bool,
}

/// Which datagrams the wires carry.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Wires {
    pub(crate) loss: f64,
    /// Nodes below it cannot reach the others, nor they them.
    pub(crate) cut: usize,
    pub(crate) blocked: f64,
    pub(crate) one_way: f64,
    /// Decides which pairs are blocked.
    pub(crate) seed: u64,
}

impl Wires {
    /// Whether `to` can hear `from` at all.
    pub(crate) fn reach(&self, from: usize, to: usize) -> bool {
        let same_side = (from < self.cut) == (to < self.cut);
        let chance = |a, b, salt| unit(mix(self.seed ^ salt, a, b));
        let blocked = self.blocked > 0.0 && chance(from.min(to), from.max(to), 1) < self.blocked;
        let deaf = self.one_way > 0.0 && chance(from, to, 2) < self.one_way;
        same_side && !blocked && !deaf
    }
}

/// A number that depends on all three, evenly spread (SplitMix64's finisher).
const fn mix(seed: u64, a: usize, b: usize) -> u64 {
    let mut z = seed ^ (a as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = z.rotate_left(31) ^ (b as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unit(bits: u64) -> f64 {
    let top = u32::try_from(bits >> 32).expect("32 bits are left");
    f64::from(top) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wires_are_blocked_in_the_share_that_was_asked_for() {
        let wires = Wires { blocked: 0.1, seed: 7, ..Wires::default() };
        let blocked = |a, b| !wires.reach(a, b);
        let pairs = (0..200).flat_map(|a| (0..a).map(move |b| (a, b)));
        assert!(pairs.clone().all(|(a, b)| blocked(a, b) == blocked(b, a)), "both ways");
        let count = pairs.filter(|(a, b)| blocked(*a, *b)).count();
        assert!((1_700..2_300).contains(&count), "{count} of 19,900");
        let triangle = (0..50).any(|c| blocked(0, 1) || (!blocked(0, c) && blocked(1, c)));
        assert!(triangle, "reachability is not transitive");
    }

    #[test]
    fn one_way_wires_differ_by_direction() {
        let wires = Wires { one_way: 0.1, seed: 7, ..Wires::default() };
        let pairs = (0..200_usize).flat_map(|a| (0..a).map(move |b| (a, b)));
        let odd = pairs.filter(|(a, b)| wires.reach(*a, *b) != wires.reach(*b, *a)).count();
        assert!((3_100..4_100).contains(&odd), "{odd}: 2 * 0.1 * 0.9 of 19,900");
    }

    #[test]
    fn a_part_ends_at_its_border() {
        let wires = Wires { cut: 3, ..Wires::default() };
        assert!(wires.reach(0, 2) && wires.reach(3, 9) && !wires.reach(2, 3) && !wires.reach(3, 2));
    }
}
