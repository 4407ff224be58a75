//! Messages to the whole network as they are sent: signed, with their time, so that nobody speaks for
//! another and nothing old is told again. Without I/O.
//!
//! ```text
//! payload  identity(32) time_us(8) kind(1) content signature(64)
//! ```
//! The time is the sender's, in microseconds since 1970, and no two messages of a sender have the
//! same: it is their sequence as well. The signature (Ed25519) is over all that stands before it.

use std::collections::BTreeSet;

use crate::contact::Identity;
use crate::id::Key;
use crate::keys::{Keys, verify_broadcast};
use crate::limits::{BROADCAST_WINDOW, BROADCASTS_PER_ORIGIN, MAX_BROADCAST, MAX_OPENED};
use crate::load::Load;
use crate::stats::BroadcastStats;
use crate::time::Instant;

/// Octets around the content.
const FRAME: usize = 32 + 8 + 1 + 64;

/// Octets of the content of a message to the whole network.
pub const MAX_CONTENT: usize = MAX_BROADCAST - FRAME;

/// A message to the whole network, its signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Who sent it. Whether they may is for the application to say.
    pub from: Identity,
    /// When, in microseconds since 1970, by the sender's clock.
    pub time_us: u64,
    /// What it is about.
    pub kind: u8,
    /// What it says.
    pub content: Vec<u8>,
}

/// Why a message is neither shown nor passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is too short.
    Malformed,
    /// Its time is more than [`BROADCAST_WINDOW`] away from this node's.
    Stale,
    /// It was here before.
    Repeated,
    /// The sender has not signed it.
    Forged,
    /// The sender has sent too many of late, or all senders together.
    Limited,
}

/// Signs this node's messages, and opens those of others.
#[derive(Debug)]
pub(crate) struct Seal {
    keys: Keys,
    /// Whose they are.
    pub(crate) own: Identity,
    /// The time of this node's latest message.
    last: u64,
    /// Times and senders of what was opened, as long as it could be repeated.
    opened: BTreeSet<(u64, Identity)>,
    origins: Load,
    pub(crate) stats: BroadcastStats,
}

impl Seal {
    pub(crate) fn new(keys: Keys) -> Self {
        let origins = Load::new(BROADCASTS_PER_ORIGIN);
        let (opened, stats) = (BTreeSet::new(), BroadcastStats::default());
        let own = keys.identity();
        Self { keys, own, last: 0, opened, origins, stats }
    }

    /// A payload of this node; none if it has sent too many of late, or the content has more than
    /// [`MAX_CONTENT`] octets. `unix_us` is the time of day, `now` the core's.
    pub(crate) fn sign(
        &mut self,
        now: Instant,
        unix_us: u64,
        kind: u8,
        content: &[u8],
    ) -> Option<Vec<u8>> {
        let own = Key::of_name(&self.own.0);
        if content.len() > MAX_CONTENT || !self.origins.passes(now, &own) {
            return None;
        }
        self.stats.sent += 1;
        self.last = unix_us.max(self.last + 1);
        let mut payload = Vec::with_capacity(FRAME + content.len());
        payload.extend(self.own.0);
        payload.extend(self.last.to_be_bytes());
        payload.push(kind);
        payload.extend(content);
        payload.extend(self.keys.sign_broadcast(&payload));
        Some(payload)
    }

    /// The message in a payload of another node.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        unix_us: u64,
        payload: &[u8],
    ) -> Result<Broadcast, Refused> {
        let opened = self.open_uncounted(now, unix_us, payload);
        let stats = &mut self.stats;
        *match &opened {
            Ok(_) => &mut stats.delivered,
            Err(Refused::Malformed) => &mut stats.malformed,
            Err(Refused::Stale) => &mut stats.stale,
            Err(Refused::Repeated) => &mut stats.repeated,
            Err(Refused::Forged) => &mut stats.forged,
            Err(Refused::Limited) => &mut stats.limited,
        } += 1;
        opened
    }

    fn open_uncounted(
        &mut self,
        now: Instant,
        unix_us: u64,
        payload: &[u8],
    ) -> Result<Broadcast, Refused> {
        let (signed, signature) = payload.split_last_chunk().ok_or(Refused::Malformed)?;
        let (from, rest) = signed.split_first_chunk().ok_or(Refused::Malformed)?;
        let (time, rest) = rest.split_first_chunk().ok_or(Refused::Malformed)?;
        let (kind, content) = rest.split_first().ok_or(Refused::Malformed)?;
        let (from, time_us) = (Identity(*from), u64::from_be_bytes(*time));
        let window = u64::try_from(BROADCAST_WINDOW.as_micros()).expect("it is minutes");
        if time_us.abs_diff(unix_us) > window {
            return Err(Refused::Stale);
        }
        self.opened.retain(|(time, _)| time.saturating_add(window) >= unix_us);
        if self.opened.contains(&(time_us, from)) {
            return Err(Refused::Repeated);
        }
        if !verify_broadcast(&from, signed, signature) {
            return Err(Refused::Forged);
        }
        // Only now: a forger must not use up what another may send.
        if self.opened.len() >= MAX_OPENED || !self.origins.passes(now, &Key::of_name(&from.0)) {
            return Err(Refused::Limited);
        }
        self.opened.insert((time_us, from));
        Ok(Broadcast { from, time_us, kind: *kind, content: content.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some day.
    const DAY: u64 = 1_790_000_000_000_000;

    fn seal(seed: u8) -> Seal {
        Seal::new(Keys::from_seed(&[seed; 32]))
    }

    fn now() -> Instant {
        Instant::from_micros(1)
    }

    #[test]
    fn it_is_opened_once_and_in_time() {
        let (mut from, mut to) = (seal(1), seal(2));
        let payload = from.sign(now(), DAY, 7, b"content").unwrap();
        let window = u64::try_from(BROADCAST_WINDOW.as_micros()).unwrap();
        for at in [DAY - window - 1, DAY + window + 1] {
            assert_eq!(to.open(now(), at, &payload), Err(Refused::Stale));
        }
        let message = to.open(now(), DAY + window, &payload).unwrap();
        assert_eq!((message.kind, &message.content[..]), (7, &b"content"[..]));
        assert_eq!(message.from, from.keys.identity());
        for at in [DAY - window, DAY, DAY + window] {
            assert_eq!(to.open(now(), at, &payload), Err(Refused::Repeated));
        }
        let next = from.sign(now(), DAY, 7, b"content").unwrap();
        assert!(to.open(now(), DAY, &next).is_ok(), "the same again is another message");
        assert_eq!(from.sign(now(), DAY, 7, &[0; MAX_CONTENT + 1]), None);
        assert_eq!(from.sign(now(), DAY, 7, &[0; MAX_CONTENT]).unwrap().len(), MAX_BROADCAST);
    }

    #[test]
    fn no_octet_may_change_and_a_forger_uses_up_nothing() {
        let (mut from, mut to) = (seal(1), seal(2));
        let payload = from.sign(now(), DAY, 7, b"content").unwrap();
        for at in 0..payload.len() {
            let mut forged = payload.clone();
            forged[at] ^= 1;
            let refused = to.open(now(), DAY, &forged).unwrap_err();
            assert!(matches!(refused, Refused::Forged | Refused::Stale), "{at}: {refused:?}");
        }
        assert!(to.open(now(), DAY, &payload).is_ok());
    }

    #[test]
    fn talkers_are_cut_short_one_by_one() {
        let mut to = seal(9);
        let mut heard = |seed: u8| {
            let mut from = seal(seed);
            (0..2 * BROADCASTS_PER_ORIGIN as u64)
                .filter_map(|at| {
                    // Signed by one who ignores his own limit.
                    from.origins = Load::new(1);
                    from.sign(now(), DAY + at, 1, b"x")
                })
                .filter(|payload| to.open(now(), DAY, payload).is_ok())
                .count()
        };
        assert_eq!((heard(1), heard(2)), (BROADCASTS_PER_ORIGIN, BROADCASTS_PER_ORIGIN));
        let mut own = seal(1);
        let sent = (0..999).filter(|_| own.sign(now(), DAY, 1, b"x").is_some()).count();
        assert_eq!(sent, BROADCASTS_PER_ORIGIN);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        let mut to = seal(9);
        let other = |at: u64| (DAY + at, Identity([1; 32]));
        to.opened = (0..MAX_OPENED as u64).map(other).collect();
        let payload = seal(1).sign(now(), DAY, 1, b"x").unwrap();
        assert_eq!(to.open(now(), DAY, &payload), Err(Refused::Limited));
        let later = DAY + 2 * u64::try_from(BROADCAST_WINDOW.as_micros()).unwrap();
        let payload = seal(1).sign(now(), later, 1, b"x").unwrap();
        assert!(to.open(now(), later, &payload).is_ok());
        assert_eq!(to.opened.len(), 1);
    }

    proptest! {
        #[test]
        fn any_octets_are_refused(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(seal(1).open(now(), DAY, &payload).is_err());
        }
    }
}
