//! What is known of peers from dealing with them: how soon they answer, how fast they send, how often they
//! fail. It says whom to ask first, and whom not at all for a while; and it is forgiven in time.

use std::net::SocketAddr;
use std::time::Duration;

use coralline_overlay::Identity;
use moka::sync::Cache;
use prometheus::IntCounter;
use tokio::time::Instant;

use crate::limits::{FORGIVEN_BY_HALF, MAX_STANDINGS, PEER_PENALTY, STANDING_MEMORY};

/// A peer: where its content is, and who has to be there. Nobody gets another into disrepute: what is said to
/// be where it is not fails there, and nowhere else.
pub(crate) type PeerKey = (SocketAddr, Identity);

/// What came of asking a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Dealing {
    /// Its answer began after this time.
    Answered(Duration),
    /// It sent so many octets in this time, which was its own: nobody else held it up.
    Sent(u64, Duration),
    /// It was waited for in vain, and may have been waiting for a slow origin itself.
    Late,
    /// It could not be reached, did not answer in time, or broke off.
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
}

/// The share of a new measurement in an average, as in the smoothed round trip of RFC 6298.
const SHARE: f64 = 1.0 / 8.0;
/// Faults that a wrong answer counts for.
const WRONG: f64 = 8.0;
/// And one that was late: who is so twice in a row may have a slow origin, who is so three times is left alone.
const LATE: f64 = 0.5;
/// Most that are counted: many transfers may find out at once. Twice as many shut out for no longer.
const MAX_FAULTS: f64 = 2.0 * WRONG;
/// What one fault costs in the order of peers: as much as an answer later by this.
const FAULT_COST: Duration = Duration::from_millis(200);
/// Octets whose sending counts in the order of peers, beside the beginning of the answer.
const TYPICAL: f64 = 65_536.0;

impl Standing {
    const fn new(now: Instant) -> Self {
        Self { answers: None, rate: None, faults: 0.0, at: now, shunned_until: None }
    }

    fn faults(&self, now: Instant) -> f64 {
        let halves = (now - self.at).as_secs_f64() / FORGIVEN_BY_HALF.as_secs_f64();
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
        match dealing {
            Dealing::Answered(after) => {
                let mean = mean(self.answers.map(|time| time.as_secs_f64()), after.as_secs_f64());
                self.answers = Some(Duration::from_secs_f64(mean));
                self.shunned_until = None;
            }
            Dealing::Sent(octets, time) if time.is_zero() || octets == 0 => {}
            Dealing::Sent(octets, time) => {
                self.rate = Some(mean(self.rate, octets as f64 / time.as_secs_f64()));
            }
            Dealing::Late => self.add_faults(now, LATE),
            Dealing::Failed => self.add_faults(now, 1.0),
            Dealing::Wrong => self.add_faults(now, WRONG),
        }
    }

    fn cost(&self, now: Instant, usual: Duration) -> Duration {
        let sending = self.rate.map_or(0.0, |rate| TYPICAL / rate.max(1.0));
        let sending = Duration::from_secs_f64(sending.min(60.0));
        self.answers.unwrap_or(usual) + sending + FAULT_COST.mul_f64(self.faults(now))
    }
}

/// Those of all peers that were dealt with lately. Cheap to share; bounded.
pub(crate) struct Standings {
    peers: Cache<PeerKey, Standing>,
    /// Those that were wrong, wherever they were. What else they do does not make it good.
    liars: Cache<Identity, Standing>,
    wrong: IntCounter,
}

impl Standings {
    /// Counts each time that one was wrong.
    pub(crate) fn new(wrong: IntCounter) -> Self {
        let of_peers = Cache::builder().max_capacity(MAX_STANDINGS).time_to_idle(STANDING_MEMORY);
        let of_liars = Cache::builder().max_capacity(MAX_STANDINGS).time_to_idle(STANDING_MEMORY);
        Self { peers: of_peers.build(), liars: of_liars.build(), wrong }
    }

    /// Learns from a dealing.
    pub(crate) fn learn(&self, now: Instant, peer: PeerKey, dealing: Dealing) {
        match dealing {
            Dealing::Wrong => {
                self.wrong.inc();
                learn(&self.liars, now, peer.1, dealing);
            }
            _ => learn(&self.peers, now, peer, dealing),
        }
    }

    /// It failed a while ago, or was wrong a longer while ago: nobody asks it now.
    pub(crate) fn shuns(&self, now: Instant, peer: PeerKey) -> bool {
        let standings = [self.peers.get(&peer), self.liars.get(&peer.1)];
        let mut until = standings.into_iter().flatten().filter_map(|known| known.shunned_until);
        until.any(|until| now < until)
    }

    /// The time that a small answer of this peer is expected to take, with its faults counted in; of one
    /// that is not known, what is `usual` where it is.
    pub(crate) fn cost(&self, now: Instant, peer: PeerKey, usual: Duration) -> Duration {
        let wrong = self.liars.get(&peer.1).map_or(0.0, |standing| standing.faults(now));
        let cost = self.peers.get(&peer).map_or(usual, |standing| standing.cost(now, usual));
        cost + FAULT_COST.mul_f64(wrong)
    }
}

fn learn<K>(standings: &Cache<K, Standing>, now: Instant, who: K, dealing: Dealing)
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
{
    standings.entry(who).and_upsert_with(|known| {
        let mut standing = known.map_or(Standing::new(now), moka::Entry::into_value);
        standing.learn(now, dealing);
        standing
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(60);

    fn peer(port: u16) -> PeerKey {
        (([44, 0, 0, 1], port).into(), Identity([port.to_be_bytes()[1]; 32]))
    }

    fn wrong() -> IntCounter {
        IntCounter::new("wrong", "wrong").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn near_and_fast_peers_come_before_far_slow_and_failing_ones() {
        let (standings, now) = (Standings::new(wrong()), Instant::now());
        let ms = Duration::from_millis;
        let dealings: [(u16, &[Dealing]); 5] = [
            (1, &[Dealing::Answered(ms(5)), Dealing::Sent(10_000_000, ms(1_000))]),
            (2, &[Dealing::Answered(ms(50))]),
            (4, &[Dealing::Answered(ms(5)), Dealing::Sent(100_000, ms(1_000))]),
            (5, &[Dealing::Failed, Dealing::Failed, Dealing::Failed, Dealing::Answered(ms(200))]),
            (6, &[Dealing::Wrong, Dealing::Answered(ms(1))]),
        ];
        for (port, dealings) in dealings {
            dealings.iter().for_each(|dealing| standings.learn(now, peer(port), *dealing));
        }
        let mut order = [6, 5, 4, 3, 2, 1];
        order.sort_by_key(|port| standings.cost(now, peer(*port), USUAL));
        assert_eq!(order, [1, 2, 3, 4, 5, 6], "3 is unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn faults_shut_a_peer_out_for_longer_each_time_and_are_forgiven() {
        let (standings, now) = (Standings::new(wrong()), Instant::now());
        let shunned_for = |dealing| {
            standings.learn(now, peer(1), dealing);
            let after =
                |seconds: &u64| !standings.shuns(now + Duration::from_secs(*seconds), peer(1));
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
        let much_later = now + 20 * FORGIVEN_BY_HALF;
        assert!(standings.cost(much_later, peer(1), USUAL) < USUAL + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_liar_is_known_at_any_port_and_others_are_not_taken_for_it() {
        let (standings, now) = (Standings::new(wrong()), Instant::now());
        let ((addr, liar), (other_addr, other)) = (peer(1), peer(2));
        standings.learn(now, (addr, liar), Dealing::Wrong);
        assert!(standings.shuns(now, (addr, liar)) && standings.shuns(now, (other_addr, liar)));
        assert!(standings.cost(now, (other_addr, liar), USUAL) > USUAL);
        assert!(!standings.shuns(now, (addr, other)));
        // Anybody may say that another is where it is not.
        standings.learn(now, (addr, other), Dealing::Failed);
        assert!(standings.shuns(now, (addr, other)) && !standings.shuns(now, (other_addr, other)));
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_find_out_at_once_are_no_more_than_one() {
        let (standings, now) = (Standings::new(wrong()), Instant::now());
        for _ in 0..10_000 {
            standings.learn(now, peer(1), Dealing::Wrong);
            standings.learn(now, peer(1), Dealing::Failed);
        }
        assert!(standings.shuns(now, peer(1)));
        assert!(!standings.shuns(now + STANDING_MEMORY, peer(1)), "it is forgiven all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_once_may_have_a_slow_origin() {
        let (standings, mut now) = (Standings::new(wrong()), Instant::now());
        let late = |now| {
            standings.learn(now, peer(1), Dealing::Late);
            standings.shuns(now, peer(1))
        };
        assert!(!late(now));
        now += Duration::from_secs(600);
        let again = [0, 1, 2].map(|turn| late(now + Duration::from_secs(10 * turn)));
        assert_eq!(again, [false, false, true]);
    }
}
