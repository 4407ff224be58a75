//! Requests in flight: which answer belongs to which, when to ask again, and when to give up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::contact::{Contact, Identity};
use crate::id::Key;
use crate::limits::{MAX_CALLS, MAX_TIMEOUT, MAX_UPKEEP_CALLS};
use crate::output::QueryId;
use crate::time::Instant;

/// The requests in flight, by number.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Boxed: a map keeps room for eleven even when it is empty.
    open: BTreeMap<u64, Box<Call>>,
    deadlines: BTreeSet<(Instant, u64)>,
    upkeep: usize,
}

/// One request, sent a few times at the most.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) to: SocketAddr,
    /// Who is asked; none for a seed, which is met by its answer.
    pub(crate) contact: Option<Contact>,
    pub(crate) payload: Vec<u8>,
    pub(crate) purpose: Purpose,
    /// When it was sent first.
    pub(crate) sent: Instant,
    pub(crate) attempts: u8,
    pub(crate) most: u8,
    timeout: Duration,
    deadline: Instant,
}

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A step of a query.
    Query(QueryId),
    /// Liveness.
    Upkeep,
    /// A copy or a confirmation, for which nobody waits.
    Tell,
    /// A way into the network.
    Join,
    /// Who is in a cluster nearby, or near in the id space.
    Explore,
    /// Who is in a bucket.
    Sample,
    /// A message to the whole network, for this bucket, and how many of it have been told.
    Broadcast { message: Key, bucket: u8, tries: u8 },
}

/// What a deadline brought.
#[derive(Debug)]
pub(crate) enum Late {
    /// Send it once more.
    Repeat(Call),
    /// It will not be answered.
    Failed(Call),
}

impl Calls {
    /// Whether one more fits.
    pub(crate) fn has_room(&self, purpose: Purpose) -> bool {
        let is_query = matches!(purpose, Purpose::Query(_));
        self.open.len() < MAX_CALLS && (is_query || self.upkeep < MAX_UPKEEP_CALLS)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// Whether this node already waits for an answer from `addr`.
    pub(crate) fn is_asking(&self, addr: SocketAddr) -> bool {
        self.open.values().any(|call| call.to == addr)
    }

    /// Notes a request that is sent at `now` and should be answered within `timeout`.
    pub(crate) fn open(&mut self, now: Instant, number: u64, timeout: Duration, call: Opening) {
        let Opening { to, contact, payload, purpose, most } = call;
        let deadline = now + timeout;
        self.deadlines.insert((deadline, number));
        self.upkeep += usize::from(!matches!(purpose, Purpose::Query(_)));
        let (sent, attempts) = (now, 1);
        let call = Call { to, contact, payload, purpose, sent, attempts, most, timeout, deadline };
        self.open.insert(number, Box::new(call));
    }

    /// Takes the request that this answer is to, if it comes from where the request went.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        addr: SocketAddr,
        identity: &Identity,
    ) -> Option<Call> {
        let call = self.open.get(&number)?;
        let is_it = call.to == addr && call.contact.is_none_or(|c| c.identity == *identity);
        if is_it { self.close(number).map(|call| *call) } else { None }
    }

    /// The next request that is late at `now`.
    pub(crate) fn late(&mut self, now: Instant) -> Option<Late> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        let call = self.open.get_mut(&number).expect("each deadline belongs to an open call");
        if call.attempts >= call.most {
            return self.close(number).map(|call| Late::Failed(*call));
        }
        call.attempts += 1;
        call.timeout = (call.timeout * 2).min(MAX_TIMEOUT);
        call.deadline = now + call.timeout;
        let (deadline, repeat) = (call.deadline, Call::clone(call));
        self.deadlines.pop_first();
        self.deadlines.insert((deadline, number));
        Some(Late::Repeat(repeat))
    }

    /// Takes one of the requests to an address that cannot be reached.
    pub(crate) fn unreachable(&mut self, addr: SocketAddr) -> Option<Call> {
        let number = *self.open.iter().find(|(_, call)| call.to == addr)?.0;
        self.close(number).map(|call| *call)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn close(&mut self, number: u64) -> Option<Box<Call>> {
        let call = self.open.remove(&number)?;
        self.deadlines.remove(&(call.deadline, number));
        self.upkeep -= usize::from(!matches!(call.purpose, Purpose::Query(_)));
        Some(call)
    }
}

/// What is to be sent, to whom, for whom.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) to: SocketAddr,
    pub(crate) contact: Option<Contact>,
    pub(crate) payload: Vec<u8>,
    pub(crate) purpose: Purpose,
    /// How often it is sent.
    pub(crate) most: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_ATTEMPTS;

    fn ms(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn opening(port: u16) -> Opening {
        let (contact, payload, purpose, most) = (None, vec![1], Purpose::Join, MAX_ATTEMPTS);
        Opening { to: to(port), contact, payload, purpose, most }
    }

    #[test]
    fn asked_twice_and_then_given_up() {
        let mut calls = Calls::default();
        calls.open(ms(0), 7, Duration::from_millis(300), opening(1));
        assert!(calls.late(ms(299)).is_none());
        assert!(matches!(calls.late(ms(300)), Some(Late::Repeat(_))));
        assert!(calls.late(ms(300)).is_none());
        assert_eq!(calls.next_deadline(), Some(ms(900)));
        assert!(matches!(calls.late(ms(900)), Some(Late::Failed(_))));
        assert_eq!(calls.next_deadline(), None);
        assert_eq!(calls.upkeep, 0);
    }

    #[test]
    fn only_who_was_asked_may_answer() {
        let mut calls = Calls::default();
        let identity = Identity([1; 32]);
        calls.open(ms(0), 7, Duration::from_millis(300), opening(1));
        assert!(calls.answered(8, to(1), &identity).is_none());
        assert!(calls.answered(7, to(2), &identity).is_none());
        assert!(calls.answered(7, to(1), &identity).is_some());
        assert!(calls.answered(7, to(1), &identity).is_none(), "once");
    }

    #[test]
    fn upkeep_leaves_room_for_queries() {
        let mut calls = Calls::default();
        let mut number = 0;
        while calls.has_room(Purpose::Upkeep) {
            calls.open(ms(0), number, MAX_TIMEOUT, opening(1));
            number += 1;
        }
        assert_eq!(calls.open.len(), MAX_UPKEEP_CALLS);
        assert!(calls.has_room(Purpose::Query(QueryId(1))));
    }
}
