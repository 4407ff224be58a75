//! One round of asking: those that have all of it first, then those that are soonest expected to answer, and
//! another as well where one has nothing or takes longer than usual.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use coralline_overlay::{Contact, Instant, Level, Pointer, Services, State};

use crate::limits::{
    HEDGE_AFTER, LEAST_PATIENCE, MAX_PEER_TRIES, MAX_PEERS_AT_ONCE, MAX_SENT, PEER_HEAD_TIMEOUT,
    USUAL_FAR, USUAL_NEAR,
};
use crate::standing::{PeerKey, Standings, key};

/// Asks some of those whom the index has named. Poll it, tell it of each answer, and poll again.
#[derive(Debug, Clone)]
pub struct Asking {
    /// And whether another has named it, and not the index.
    order: VecDeque<(Pointer, bool)>,
    seen: BTreeSet<PeerKey>,
    sent: usize,
    under_way: usize,
    /// When one more is asked, whatever comes of those under way.
    next_at: Instant,
    /// By when one of them is to have begun its answer.
    deadline: Instant,
    later: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// One is to be asked.
    Ask {
        /// Which.
        pointer: Pointer,
        /// Another of those that were asked has named it.
        sent: bool,
        /// How long it may take to begin.
        patience: Duration,
    },
    /// Answers are to be waited for; at this time it is to be polled again.
    Wait(Option<Instant>),
    /// Nobody has given anything.
    End {
        /// One of them is worth asking again.
        later: bool,
    },
}

/// What one of them has said, if that is not what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing of use.
    Nothing,
    /// Nothing now; it is worth asking again.
    Later,
}

/// What an answer is expected to take of a peer that nobody has dealt with, by the level at which it was found.
#[must_use]
pub fn usual(level: Level) -> Duration {
    if level == Level::GLOBAL { USUAL_FAR } else { USUAL_NEAR }
}

impl Asking {
    /// Begins with those of `holders`, found at `level`, that may be asked; gives the others as well. Pointers
    /// are hearsay, so `may` says whether this node would go to an address at all.
    #[must_use]
    pub fn new(
        now: Instant,
        deadline: Instant,
        (holders, level): (&[Pointer], Level),
        standings: &Standings,
        may: impl Fn(SocketAddr) -> bool,
    ) -> (Self, Vec<Pointer>) {
        let (mut order, useless): (Vec<Pointer>, Vec<_>) =
            holders.iter().copied().partition(|pointer| {
                let peer = key(&pointer.holder);
                may(peer.0) && !standings.shuns(now, peer)
            });
        let usual = usual(level);
        order.sort_by_cached_key(|pointer| {
            let cost = standings.cost(now, key(&pointer.holder), usual);
            (pointer.state != State::Whole, cost)
        });
        order.truncate(MAX_PEER_TRIES);
        let seen = BTreeSet::new();
        let order = order.into_iter().map(|pointer| (pointer, false)).collect();
        (Self { order, seen, sent: 0, under_way: 0, next_at: now, deadline, later: false }, useless)
    }

    /// What is to be done now.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Next {
        let left = self.deadline.since(now) >= LEAST_PATIENCE;
        let more = left && !self.order.is_empty() && self.under_way < MAX_PEERS_AT_ONCE;
        if more && now >= self.next_at {
            let (pointer, sent) = self.order.pop_front().expect("there are more");
            self.under_way += 1;
            self.next_at = now + HEDGE_AFTER;
            self.seen.insert(key(&pointer.holder));
            let patience = self.patience(now, pointer.state);
            return Next::Ask { pointer, sent, patience };
        }
        match self.under_way {
            0 => Next::End { later: self.later },
            _ => Next::Wait(more.then_some(self.next_at)),
        }
    }

    /// One of them has said this, and the next is to be asked.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        self.under_way = self.under_way.saturating_sub(1);
        self.later |= answer == Answer::Later;
        self.next_at = now;
    }

    /// One of them has named others, which are asked after those that the index has named; [`MAX_SENT`] of them
    /// at the most, and none that was asked before. Who comes because another sent it may be given more.
    pub fn handle_named(
        &mut self,
        now: Instant,
        named: &[PeerKey],
        standings: &Standings,
        may: impl Fn(SocketAddr) -> bool,
    ) {
        for peer in named {
            let good = self.sent < MAX_SENT && may(peer.0) && !standings.shuns(now, *peer);
            if good && self.seen.insert(*peer) {
                self.sent += 1;
                self.order.push_back((receiving(*peer), true));
            }
        }
    }

    /// Who is receiving may be waiting for the origin's first octet itself.
    fn patience(&self, now: Instant, state: State) -> Duration {
        let left = self.deadline.since(now);
        match state {
            State::Whole => left.min(PEER_HEAD_TIMEOUT),
            State::Receiving => left,
        }
    }
}

/// One of whom another has said that it is getting it.
#[must_use]
pub fn receiving((addr, identity): PeerKey) -> Pointer {
    let (peer_port, services) = (addr.port(), Services::default());
    let holder = Contact { identity, addr, slot: 0, peer_port, services };
    Pointer { holder, state: State::Receiving, length: None, root: None }
}

#[cfg(test)]
mod tests {
    use coralline_overlay::Identity;

    use super::*;
    use crate::standing::Dealing;

    fn holder(at: u8, state: State) -> Pointer {
        let holder = Contact {
            identity: Identity([at; 32]),
            addr: ([44, 0, 0, at], 7400).into(),
            slot: 0,
            peer_port: 7400,
            services: Services::PROXY,
        };
        Pointer { holder, state, length: None, root: None }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn asked(next: Next) -> u8 {
        match next {
            Next::Ask { pointer, .. } => pointer.holder.identity.0[0],
            other => panic!("{other:?}"),
        }
    }

    fn begin(holders: &[Pointer], standings: &Standings) -> (Asking, Vec<Pointer>) {
        Asking::new(at(0), at(10_000), (holders, Level::GLOBAL), standings, |_| true)
    }

    #[test]
    fn the_whole_comes_first_then_the_fast_and_liars_never() {
        let mut standings = Standings::default();
        let all: Vec<_> = [State::Receiving, State::Whole, State::Whole, State::Whole]
            .into_iter()
            .zip(1..)
            .map(|(state, n)| holder(n, state))
            .collect();
        standings.learn(at(0), key(&all[1].holder), Dealing::Wrong);
        standings.learn(at(0), key(&all[3].holder), Dealing::Answered(Duration::from_millis(9)));
        let (mut asking, useless) = begin(&all, &standings);
        assert_eq!(useless, [all[1]]);
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(asked(asking.poll(at(0))));
            asking.handle_answer(at(0), Answer::Nothing);
        }
        assert_eq!(order, [4, 3, 1]);
        assert_eq!(asking.poll(at(0)), Next::End { later: false });
    }

    #[test]
    fn a_second_is_asked_where_the_first_is_late_and_no_third_beside_them() {
        let standings = Standings::default();
        let all = [1, 2, 3].map(|n| holder(n, State::Whole));
        let (mut asking, _) = begin(&all, &standings);
        asked(asking.poll(at(0)));
        let hedge = at(0) + HEDGE_AFTER;
        assert_eq!(asking.poll(at(1)), Next::Wait(Some(hedge)));
        asked(asking.poll(hedge));
        assert_eq!(asking.poll(at(5_000)), Next::Wait(None));
        asking.handle_answer(at(5_000), Answer::Later);
        asked(asking.poll(at(5_000)));
        asking.handle_answer(at(5_000), Answer::Nothing);
        assert_eq!(asking.poll(at(5_000)), Next::Wait(None));
        asking.handle_answer(at(5_000), Answer::Nothing);
        assert_eq!(asking.poll(at(5_000)), Next::End { later: true });
    }

    #[test]
    fn no_more_are_asked_than_may_be_and_nobody_where_one_may_not_go() {
        let standings = Standings::default();
        let all: Vec<_> = (1..=8).map(|n| holder(n, State::Whole)).collect();
        let (asking, _) = begin(&all, &standings);
        assert_eq!(asking.order.len(), MAX_PEER_TRIES);
        let named = (&all[..], Level::GLOBAL);
        let (mut asking, useless) = Asking::new(at(0), at(9), named, &standings, |_| false);
        assert_eq!((asking.poll(at(0)), useless.len()), (Next::End { later: false }, 8));
    }

    #[test]
    fn those_that_were_named_come_last_once_and_not_for_ever() {
        let mut standings = Standings::default();
        let liar = key(&holder(9, State::Receiving).holder);
        standings.learn(at(0), liar, Dealing::Wrong);
        let (mut asking, _) = begin(&[1, 2].map(|n| holder(n, State::Whole)), &standings);
        asked(asking.poll(at(0)));
        asking.handle_answer(at(0), Answer::Nothing);
        let named: Vec<_> = (1..100).map(|n| key(&holder(n, State::Whole).holder)).collect();
        for _ in 0..2 {
            asking.handle_named(at(0), &named, &standings, |_| true);
        }
        let mut order = Vec::new();
        while let Next::Ask { pointer, sent, .. } = asking.poll(at(0)) {
            order.push((pointer.holder.identity.0[0], sent));
            asking.handle_answer(at(0), Answer::Nothing);
        }
        assert_eq!(order[..4], [(2, false), (2, true), (3, true), (4, true)]);
        assert!(!order.contains(&(9, true)) && order.len() == 1 + MAX_SENT, "{order:?}");
    }

    #[test]
    fn nobody_is_asked_when_it_is_too_late_to_answer() {
        let (mut asking, _) =
            begin(&[1, 2].map(|n| holder(n, State::Whole)), &Standings::default());
        asked(asking.poll(at(0)));
        asking.handle_answer(at(9_900), Answer::Nothing);
        assert_eq!(asking.poll(at(9_900)), Next::End { later: false });
    }

    #[test]
    fn who_has_all_of_it_gets_less_patience() {
        let standings = Standings::default();
        for (state, expect) in [(State::Whole, PEER_HEAD_TIMEOUT.as_secs()), (State::Receiving, 10)]
        {
            let (mut asking, _) = begin(&[holder(1, state)], &standings);
            let Next::Ask { patience, .. } = asking.poll(at(0)) else { panic!("it is asked") };
            assert_eq!(patience.as_secs(), expect);
        }
    }
}
