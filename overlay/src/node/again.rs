//! Puts that are made once more: what a newcomer puts in its first seconds goes astray if those near
//! the key are newcomers too and do not know each other yet, as after a mass restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::except::Except;
use crate::id::Key;
use crate::limits::{AGAIN_AFTER, AGAIN_WITHIN, MAX_AGAIN, YOUNG_FOR};
use crate::node::Overlay;
use crate::output::QueryId;
use crate::pointer::Pointer;
use crate::query::Kind;
use crate::time::Instant;

/// What is put again, once each.
#[derive(Debug, Default)]
pub(super) struct Again {
    puts: BTreeMap<Key, (Pointer, Instant)>,
    /// When the next is due, and the pause after it.
    pub(super) at: Option<Instant>,
    pause: Duration,
    /// Those under way, of whose end the application hears nothing.
    running: BTreeSet<QueryId>,
}

impl Again {
    /// Whether the query that has ended is one of these.
    pub(super) fn ended(&mut self, id: QueryId) -> bool {
        self.running.remove(&id)
    }
}

impl Overlay {
    /// The application starts a query.
    pub(super) fn note_put(&mut self, now: Instant, key: Key, kind: &Kind) {
        match kind {
            Kind::Withdraw => _ = self.again.puts.remove(&key),
            Kind::Put(pointer, ttl)
                if !self.upkeep.is_older(now, YOUNG_FOR) && self.again.puts.len() < MAX_AGAIN =>
            {
                self.again.puts.insert(key, (*pointer, now + *ttl));
                if self.again.at.is_none() {
                    self.again.at = Some(now + self.jittered(AGAIN_AFTER));
                    self.again.pause = Duration::ZERO;
                }
            }
            _ => {}
        }
    }

    /// Makes the next of them.
    pub(super) fn put_again(&mut self, now: Instant) {
        if self.again.pause.is_zero() {
            let count = u32::try_from(self.again.puts.len()).unwrap_or(u32::MAX);
            self.again.pause = AGAIN_WITHIN / count.max(1);
        }
        let next = self.again.puts.pop_first();
        self.again.at = (!self.again.puts.is_empty()).then(|| now + self.again.pause);
        if let Some((key, (pointer, until))) = next.filter(|(_, (_, until))| *until > now) {
            let kind = Kind::Put(pointer, until.since(now));
            self.again.running.insert(QueryId(self.started + 1));
            self.ask(now, key, kind, Except::default());
        }
    }
}
