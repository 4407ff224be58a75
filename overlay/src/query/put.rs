//! The way back of a put, and whether it was right to turn.

use std::time::Duration;

use crate::level::Level;
use crate::output::Outcome;
use crate::pointer::Pointer;
use crate::query::{Action, Query};

impl Query {
    /// Stores at the nearest `copies` that accept.
    pub(super) fn next_of_put(&mut self, pointer: &Pointer, ttl: Duration) -> Action {
        if self.copies + self.waiting.len() < self.enough(self.rules.copies)
            && let Some(to) = self.next_target()
        {
            self.waiting.insert(to.id());
            return Action::Ask(to, self.store(pointer, ttl, false));
        }
        if self.waiting.is_empty() && self.lookup.has_met_a_crowd() && !self.is_in_a_crowd() {
            // They called themselves loaded, took nothing and had nothing to show.
            self.lookup.doubt();
            self.targets = None;
            return self.next();
        }
        match self.waiting.is_empty() {
            false => Action::Wait,
            true if self.level != Level::GLOBAL => Action::Widen,
            true => Action::End(Some(self.stored())),
        }
    }

    /// Whether a put was right to end at loaded nodes: this node is itself one, or a node took it or
    /// showed what it has.
    pub(crate) fn is_in_a_crowd(&self) -> bool {
        self.lookup.has_met_a_crowd() && (self.is_crowd || !self.closed.is_empty())
    }

    pub(super) fn stored(&self) -> Outcome {
        let copies = self.copies + self.nearer_copies;
        Outcome::Stored { copies: u8::try_from(copies).unwrap_or(u8::MAX) }
    }
}
