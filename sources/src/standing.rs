//! What is known of peers from dealing with them: how soon they answer, how fast they send, how often they
//! fail. It says whom to ask first, and whom not at all for a while; and it is forgiven in time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use coralline_overlay::{Contact, Identity, Instant, Pointer, State};

use crate::limits::{
    FORGIVEN_BY_HALF, MAX_STANDINGS, PEER_PENALTY, SILENCE, SLOW_ORIGIN, STANDING_MEMORY,
};

/// A peer: where its content is, and who has to be there. Nobody gets another into disrepute: what is said to
/// be where it is not fails there, and nowhere else.
pub type PeerKey = (SocketAddr, Identity);

/// Where the content of a node is, and who has to be there.
#[must_use]
pub fn key(contact: &Contact) -> PeerKey {
    (SocketAddr::new(contact.addr.ip(), contact.peer_port), contact.identity)
}

/// What came of asking a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dealing {
    /// Its answer began after this time.
    Answered(Duration),
    /// It sent so many octets in this time, which was its own: nobody else held it up.
    Sent(u64, Duration),
    /// It was waited for in vain: the share of a fault that this is.
    Late(f64),
    /// It could not be reached, or broke off.
    Failed,
    /// It sent what it should not have: wrong octets, or an answer that no cache may give. Its key was there,
    /// so that counts for it wherever it is.
    Wrong,
}

/// One peer's.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Until its answer begins, on average.
    answers: Option<Duration>,
    /// Octets a second, on average.
    rate: Option<f64>,
    /// Failures, each worth less as time passes.
    faults: f64,
    /// When the faults were counted.
    at: Instant,
    /// It is not asked until then.
    shunned_until: Option<Instant>,
    /// When it was dealt with last.
    used: Instant,
}

/// The share of a new measurement in an average, as in the smoothed round trip of RFC 6298.
const SHARE: f64 = 1.0 / 8.0;
/// Faults that a wrong answer counts for.
const WRONG: f64 = 8.0;
/// Most that are counted: many transfers may find out at once. Twice as many shut out for no longer.
const MAX_FAULTS: f64 = 2.0 * WRONG;
/// What one fault costs in the order of peers: as much as an answer later by this.
const FAULT_COST: Duration = Duration::from_millis(200);
/// Octets whose sending counts in the order of peers, beside the beginning of the answer.
const TYPICAL: f64 = 65_536.0;

impl Standing {
    const fn new(now: Instant) -> Self {
        Self { answers: None, rate: None, faults: 0.0, at: now, shunned_until: None, used: now }
    }

    fn faults(&self, now: Instant) -> f64 {
        let halves = now.since(self.at).as_secs_f64() / FORGIVEN_BY_HALF.as_secs_f64();
        self.faults * 0.5_f64.powf(halves)
    }

    fn add_faults(&mut self, now: Instant, more: f64) {
        self.faults = (self.faults(now) + more).min(MAX_FAULTS);
        self.at = now;
        if self.faults < 1.0 {
            return;
        }
        // Twice as long for each one that is not yet forgiven.
        let longer = (self.faults - 1.0).exp2();
        let pause = PEER_PENALTY.mul_f64(longer).min(STANDING_MEMORY);
        self.shunned_until = Some(now + pause);
    }

    fn learn(&mut self, now: Instant, dealing: Dealing) {
        let mean = |old: Option<f64>, new: f64| old.map_or(new, |old| old + (new - old) * SHARE);
        self.used = now;
        match dealing {
            Dealing::Answered(after) => {
                let mean = mean(self.answers.map(|time| time.as_secs_f64()), after.as_secs_f64());
                self.answers = Some(Duration::from_secs_f64(mean));
                self.shunned_until = None;
            }
            Dealing::Sent(octets, time) if time.is_zero() || octets == 0 => {}
            #[expect(clippy::cast_precision_loss, reason = "octets of one body are below 2^52")]
            Dealing::Sent(octets, time) => {
                self.rate = Some(mean(self.rate, octets as f64 / time.as_secs_f64()));
            }
            Dealing::Late(share) => self.add_faults(now, share.clamp(0.0, 1.0)),
            Dealing::Failed => self.add_faults(now, 1.0),
            Dealing::Wrong => self.add_faults(now, WRONG),
        }
    }

    fn shuns(&self, now: Instant) -> bool {
        self.shunned_until.is_some_and(|until| now < until)
    }

    fn cost(&self, now: Instant, usual: Duration) -> Duration {
        let sending = self.rate.map_or(0.0, |rate| TYPICAL / rate.max(1.0));
        let sending = Duration::from_secs_f64(sending.min(60.0));
        self.answers.unwrap_or(usual) + sending + FAULT_COST.mul_f64(self.faults(now))
    }
}

/// Those of all peers that were dealt with lately; of more than [`MAX_STANDINGS`], the latest.
#[derive(Debug, Clone, Default)]
pub struct Standings {
    peers: BTreeMap<PeerKey, Standing>,
    /// Those that were wrong, wherever they were. What else they do does not make it good.
    liars: BTreeMap<Identity, Standing>,
}

impl Standings {
    /// Learns from a dealing.
    pub fn learn(&mut self, now: Instant, peer: PeerKey, dealing: Dealing) {
        match dealing {
            Dealing::Wrong => self.learn_lie(now, peer.1),
            _ => place(&mut self.peers, now, peer).learn(now, dealing),
        }
    }

    /// Something that this key has signed is not true, whoever has passed it on.
    pub fn learn_lie(&mut self, now: Instant, signer: Identity) {
        place(&mut self.liars, now, signer).learn(now, Dealing::Wrong);
    }

    /// What this key has signed is not believed now.
    #[must_use]
    pub fn distrusts(&self, now: Instant, signer: Identity) -> bool {
        self.liars.get(&signer).is_some_and(|standing| standing.shuns(now))
    }

    /// A peer has not answered: it broke off, or was waited for in vain. Who had little time has done little; who may
    /// be waiting for a slow origin itself gets more.
    pub fn blame(&mut self, now: Instant, pointer: &Pointer, waited: Duration, broken: bool) {
        let due = match pointer.state {
            State::Whole => SILENCE,
            State::Receiving => SLOW_ORIGIN,
        };
        let dealing = match broken {
            true => Dealing::Failed,
            false => Dealing::Late(waited.as_secs_f64() / due.as_secs_f64()),
        };
        self.learn(now, key(&pointer.holder), dealing);
    }

    /// It failed a while ago, or was wrong a longer while ago: nobody asks it now.
    #[must_use]
    pub fn shuns(&self, now: Instant, peer: PeerKey) -> bool {
        let standings = [self.peers.get(&peer), self.liars.get(&peer.1)];
        standings.into_iter().flatten().any(|standing| standing.shuns(now))
    }

    /// The time that a small answer of this peer is expected to take, with its faults counted in; of one
    /// that is not known, what is `usual` where it is.
    #[must_use]
    pub fn cost(&self, now: Instant, peer: PeerKey, usual: Duration) -> Duration {
        let wrong = self.liars.get(&peer.1).map_or(0.0, |standing| standing.faults(now));
        let cost = self.peers.get(&peer).map_or(usual, |standing| standing.cost(now, usual));
        cost + FAULT_COST.mul_f64(wrong)
    }
}

/// The standing of one, who is dealt with now. Where there are too many, those go that nobody has dealt with for
/// long, and a quarter at least.
fn place<K: Ord + Copy>(all: &mut BTreeMap<K, Standing>, now: Instant, who: K) -> &mut Standing {
    if all.len() >= MAX_STANDINGS && !all.contains_key(&who) {
        let mut times: Vec<_> = all.values().map(|standing| standing.used).collect();
        let (_, quarter, _) = times.select_nth_unstable(MAX_STANDINGS / 4);
        let quarter = *quarter;
        all.retain(|_, standing| {
            standing.used > quarter && now.since(standing.used) < STANDING_MEMORY
        });
    }
    all.entry(who).or_insert(Standing::new(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Duration = Duration::from_millis(60);

    fn peer(port: u16) -> PeerKey {
        (([44, 0, 0, 1], port).into(), Identity([port.to_be_bytes()[1]; 32]))
    }

    fn now() -> Instant {
        Instant::from_micros(1_000_000)
    }

    #[test]
    fn near_and_fast_peers_come_before_far_slow_and_failing_ones() {
        let mut standings = Standings::default();
        let ms = Duration::from_millis;
        let dealings: [(u16, &[Dealing]); 5] = [
            (1, &[Dealing::Answered(ms(5)), Dealing::Sent(10_000_000, ms(1_000))]),
            (2, &[Dealing::Answered(ms(50))]),
            (4, &[Dealing::Answered(ms(5)), Dealing::Sent(100_000, ms(1_000))]),
            (5, &[Dealing::Failed, Dealing::Failed, Dealing::Failed, Dealing::Answered(ms(200))]),
            (6, &[Dealing::Wrong, Dealing::Answered(ms(1))]),
        ];
        for (port, dealings) in dealings {
            dealings.iter().for_each(|dealing| standings.learn(now(), peer(port), *dealing));
        }
        let mut order = [6, 5, 4, 3, 2, 1];
        order.sort_by_key(|port| standings.cost(now(), peer(*port), USUAL));
        assert_eq!(order, [1, 2, 3, 4, 5, 6], "3 is unknown");
    }

    #[test]
    fn faults_shut_a_peer_out_for_longer_each_time_and_are_forgiven() {
        let mut standings = Standings::default();
        let mut shunned_for = |dealing| {
            standings.learn(now(), peer(1), dealing);
            let after =
                |seconds: &u64| !standings.shuns(now() + Duration::from_secs(*seconds), peer(1));
            (0..10_000).find(after).unwrap()
        };
        let first = shunned_for(Dealing::Failed);
        assert_eq!(first, PEER_PENALTY.as_secs());
        let later: Vec<_> = (0..3).map(|_| shunned_for(Dealing::Failed)).collect();
        assert!(later.is_sorted() && later[2] > first, "{later:?}");
        assert_eq!(shunned_for(Dealing::Answered(USUAL)), 0, "it answers well again");
        let wrong = shunned_for(Dealing::Wrong);
        assert!(wrong > 2 * later[2]);
        assert_eq!(shunned_for(Dealing::Answered(USUAL)), wrong, "that makes no lie good");
        let much_later = now() + 20 * FORGIVEN_BY_HALF;
        assert!(standings.cost(much_later, peer(1), USUAL) < USUAL + Duration::from_millis(1));
    }

    #[test]
    fn a_liar_is_known_at_any_port_and_others_are_not_taken_for_it() {
        let mut standings = Standings::default();
        let ((addr, liar), (other_addr, other)) = (peer(1), peer(2));
        standings.learn(now(), (addr, liar), Dealing::Wrong);
        assert!(standings.shuns(now(), (addr, liar)) && standings.shuns(now(), (other_addr, liar)));
        assert!(standings.cost(now(), (other_addr, liar), USUAL) > USUAL);
        assert!(!standings.shuns(now(), (addr, other)));
        assert!(standings.distrusts(now(), liar) && !standings.distrusts(now(), other));
        // Anybody may say that another is where it is not.
        standings.learn(now(), (addr, other), Dealing::Failed);
        assert!(standings.shuns(now(), (addr, other)));
        assert!(!standings.shuns(now(), (other_addr, other)));
    }

    #[test]
    fn many_that_find_out_at_once_are_no_more_than_one() {
        let mut standings = Standings::default();
        for _ in 0..10_000 {
            standings.learn(now(), peer(1), Dealing::Wrong);
            standings.learn(now(), peer(1), Dealing::Failed);
        }
        assert!(standings.shuns(now(), peer(1)));
        assert!(!standings.shuns(now() + STANDING_MEMORY, peer(1)), "it is forgiven all the same");
    }

    #[test]
    fn who_is_late_once_may_have_a_slow_origin() {
        let mut standings = Standings::default();
        let mut late = |now, state, waited| {
            let pointer = Pointer { holder: contact(), state, length: None, root: None };
            standings.blame(now, &pointer, Duration::from_secs(waited), false);
            standings.shuns(now, key(&contact()))
        };
        assert!(!late(now(), State::Receiving, 10));
        let then = |minutes: u64, turn: u64| now() + Duration::from_secs(60 * minutes + 10 * turn);
        let again = [0, 1, 2].map(|turn| late(then(20, turn), State::Receiving, 10));
        assert_eq!(again, [false, false, true]);
        assert!(late(then(40, 0), State::Whole, 3), "it should have had it");
        let again = [0, 1, 2].map(|turn| late(then(60, turn), State::Whole, 0));
        assert_eq!(again, [false; 3], "it had no time");
    }

    fn contact() -> Contact {
        let (addr, identity) = peer(7400);
        let services = coralline_overlay::Services::PROXY;
        Contact { identity, addr, slot: 0, peer_port: addr.port(), services }
    }

    #[test]
    fn it_remembers_the_latest_and_no_more_than_it_may() {
        let mut standings = Standings::default();
        let mut time = now();
        for n in 0..u32::try_from(3 * MAX_STANDINGS).unwrap() {
            time = time + Duration::from_millis(1);
            let mut identity = [0; 32];
            identity[..4].copy_from_slice(&n.to_be_bytes());
            let peer = (peer(1).0, Identity(identity));
            standings.learn(time, peer, Dealing::Failed);
            standings.learn(time, peer, Dealing::Wrong);
            assert!(standings.peers.len() <= MAX_STANDINGS);
            assert!(standings.liars.len() <= MAX_STANDINGS && standings.shuns(time, peer));
        }
        assert!(standings.peers.len() > MAX_STANDINGS / 2);
    }

    proptest! {
        /// Whatever happens in whatever order: no panic, no negative time, and all is forgiven.
        #[test]
        fn whatever_happens_is_forgiven(
            dealings in prop::collection::vec((0..5_u8, 0..100_000_u64), 0..200),
        ) {
            let (mut standings, mut time) = (Standings::default(), now());
            for (kind, number) in dealings {
                time = time + Duration::from_millis(number);
                let dealing = match kind {
                    0 => Dealing::Answered(Duration::from_millis(number)),
                    1 => Dealing::Sent(number * number, Duration::from_micros(number)),
                    2 => Dealing::Late(0.3),
                    3 => Dealing::Failed,
                    _ => Dealing::Wrong,
                };
                standings.learn(time, peer(1), dealing);
                prop_assert!(!standings.shuns(time + STANDING_MEMORY, peer(1)));
                prop_assert!(standings.cost(time, peer(1), USUAL) < Duration::from_secs(600));
            }
        }
    }
}
