//! Whom a flight feeds while it arrives, and to whom it sends the others: a crowd of nodes hangs as a tree
//! on the one that asks the origin, and none of them sends more than a few copies.

use std::collections::BTreeMap;

use coralline_sources::PeerKey;

use crate::guard::is_public;
use crate::limits::{
    FED_AT_ONCE, MAX_CHAIN, MAX_FOLLOWERS, MAX_NAMED, MAX_PLACES_OF_ADDRESS, MAX_PLACES_OF_ONE,
    MIN_FOLLOWERS,
};

/// The peers that one flight feeds.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    /// Nodes between this one and the origin.
    depth: u8,
    places: BTreeMap<u64, Place>,
    next: u64,
}

#[derive(Debug)]
struct Place {
    who: PeerKey,
    /// How often others were sent there.
    named: u32,
}

impl Followers {
    /// The source has so many nodes before it.
    pub(crate) const fn set_depth(&mut self, depth: u8) {
        self.depth = depth;
    }

    pub(crate) const fn depth(&self) -> u8 {
        self.depth
    }

    /// Takes in a peer that wants to be fed of a body of this `length`, by its place; or says whom to ask in
    /// place of this node: those fed here, who were named least. One who was `misled`, as those are of no use,
    /// has more places to choose from. Whose former place is not given up yet may have one more.
    pub(crate) fn admit(
        &mut self,
        who: PeerKey,
        length: Option<u64>,
        misled: bool,
    ) -> Result<u64, Vec<PeerKey>> {
        if self.depth >= MAX_CHAIN {
            return Err(Vec::new());
        }
        let (ip, identity) = (who.0.ip(), who.1);
        let of_one = self.count(|other| other.1 == identity);
        let of_address = if is_public(ip) { self.count(|other| other.0.ip() == ip) } else { 0 };
        if of_one >= MAX_PLACES_OF_ONE || of_address >= MAX_PLACES_OF_ADDRESS {
            return Err(Vec::new());
        }
        let places = if misled { MAX_FOLLOWERS } else { places(length) };
        if self.places.len() >= places {
            return Err(self.name());
        }
        self.next += 1;
        self.places.insert(self.next, Place { who, named: 0 });
        Ok(self.next)
    }

    /// The peer at this place is fed no more.
    pub(crate) fn leave(&mut self, place: u64) {
        self.places.remove(&place);
    }

    fn count(&self, which: impl Fn(&PeerKey) -> bool) -> usize {
        self.places.values().filter(|place| which(&place.who)).count()
    }

    fn name(&mut self) -> Vec<PeerKey> {
        let mut least: Vec<_> = self.places.values_mut().collect();
        least.sort_by_key(|place| place.named);
        // The first is where it goes, the others where it may turn if that one is full.
        least.iter_mut().take(1).for_each(|place| place.named += 1);
        least.into_iter().take(MAX_NAMED).map(|place| place.who).collect()
    }
}

/// How many are fed of a body of this length: few of a long one, more of one that is sent in no time.
fn places(length: Option<u64>) -> usize {
    let fit = length.map_or(0, |length| FED_AT_ONCE / length.max(1));
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(MIN_FOLLOWERS, MAX_FOLLOWERS)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use coralline_overlay::Identity;

    use super::*;

    fn peer(number: usize) -> PeerKey {
        let mut identity = [0; 32];
        identity[..8].copy_from_slice(&number.to_be_bytes());
        (([10, 0, 0, 1], 7_400).into(), Identity(identity))
    }

    /// A crowd comes to the first node at once, and each goes where it is sent: the depth of each, and how
    /// many each feeds.
    fn crowd(nodes: usize, length: Option<u64>) -> (Vec<u8>, Vec<usize>) {
        let mut all: Vec<_> = (0..nodes).map(|_| Followers::default()).collect();
        let number = |(_, identity): PeerKey| {
            usize::from_be_bytes(identity.0[..8].try_into().expect("8 octets"))
        };
        let mut waiting: VecDeque<_> = (1..nodes).map(|node| (node, 0)).collect();
        let mut asked = 0;
        while let Some((node, at)) = waiting.pop_front() {
            asked += 1;
            assert!(asked < 20 * nodes, "they go round in circles");
            match all[at].admit(peer(node), length, false) {
                Ok(_) => {
                    let depth = all[at].depth() + 1;
                    all[node].set_depth(depth);
                }
                Err(named) => waiting.push_back((node, number(named[0]))),
            }
        }
        let depths = all.iter().map(Followers::depth).collect();
        (depths, all.iter().map(|followers| followers.places.len()).collect())
    }

    #[test]
    fn a_crowd_hangs_as_a_short_tree_and_nobody_feeds_many() {
        for (nodes, length, deepest, most) in [
            (20, None, 2, MIN_FOLLOWERS),
            (166, Some(50_000_000), 4, MIN_FOLLOWERS),
            (3_000, Some(50_000_000), 6, MIN_FOLLOWERS),
            (166, Some(41_000), 2, 25),
            (60, Some(100), 1, MAX_FOLLOWERS),
        ] {
            let (depths, fed) = crowd(nodes, length);
            assert_eq!(depths.iter().max(), Some(&deepest), "{nodes} nodes");
            assert!(*fed.iter().max().unwrap() <= most, "{nodes} nodes");
        }
    }

    #[test]
    fn who_comes_again_has_one_more_place_and_strangers_with_many_keys_have_few() {
        let mut followers = Followers::default();
        let mut admit = |who, misled| followers.admit(who, None, misled);
        let first = admit(peer(0), false).unwrap();
        let again = admit(peer(0), false).unwrap();
        assert_eq!(admit(peer(0), true), Err(Vec::new()), "by whatever port");
        let at = |last: u8, key| (([44, 0, 0, last], 7_400).into(), peer(key).1);
        assert!(admit(at(1, 1), false).is_ok() && admit(at(1, 2), false).is_ok());
        assert_eq!(admit(at(1, 3), true), Err(Vec::new()), "one address has enough");
        assert_eq!(admit(at(2, 4), false).unwrap_err().len(), MAX_NAMED, "it is full");
        assert!(admit(at(2, 4), true).is_ok(), "it was misled");
        let more = (20..200).filter(|n| admit(peer(*n), true).is_ok()).count();
        assert_eq!(more, MAX_FOLLOWERS - MIN_FOLLOWERS - 1);
        followers.leave(first);
        followers.leave(again);
        assert!(followers.admit(peer(0), None, true).is_ok());
        followers.set_depth(MAX_CHAIN);
        assert_eq!(followers.admit(peer(300), None, true), Err(Vec::new()));
    }
}
