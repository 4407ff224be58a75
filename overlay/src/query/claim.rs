//! A claim: who decides it, and who gets copies.

use std::time::Duration;

use crate::contact::Contact;
use crate::id::NodeId;
use crate::output::Outcome;
use crate::pointer::Pointer;
use crate::query::{Action, Query};

impl Query {
    /// Who has granted the claim and is the nearest as far as is known here. One who has not heard
    /// of a nearer one is not believed: another claim may have met that one.
    pub(super) fn decider(&self) -> Option<NodeId> {
        self.granted.keys().find(|id| self.lookup.is_nearest(id)).copied()
    }

    /// The node has decided for us; the nearest others get copies. It is told again if it was not
    /// sure of our address: its answer has reached us there, so what we say now proves it.
    pub(super) fn claimed_at(&mut self, decider: &NodeId) {
        let provisional = self.granted.get(decider).is_some_and(|provisional| *provisional);
        let is_it = |contact: &&Contact| contact.id() == *decider;
        self.confirm = self.lookup.answered().find(is_it).filter(|_| provisional).copied();
        self.outcome = Some(Outcome::Claimed);
        self.copies = 1;
        let next = self.lookup.hopeful().filter(|contact| contact.id() != *decider);
        self.targets = Some(next.take(self.rules.copies - 1).copied().collect());
    }

    /// One node decides: the nearest that can. Its word given, the next nearest get copies. Mostly
    /// it has decided when the search met it; if none felt entitled to, the nearest that answered
    /// is told to.
    pub(super) fn next_of_claim(&mut self, pointer: &Pointer, ttl: Duration) -> Action {
        if let Some(to) = self.confirm.take() {
            return Action::Tell(to, self.store(pointer, ttl, true));
        }
        match &self.outcome {
            Some(Outcome::Claimed) if self.copies < self.rules.copies => {
                self.copies += 1;
                match self.next_target() {
                    Some(to) => Action::Tell(to, self.store(pointer, ttl, false)),
                    None => Action::End(self.outcome.take()),
                }
            }
            Some(_) => Action::End(self.outcome.take()),
            None if !self.waiting.is_empty() => Action::Wait,
            None => match self.next_target() {
                Some(to) if self.granted.contains_key(&to.id()) => {
                    self.claimed_at(&to.id());
                    self.next_of_claim(pointer, ttl)
                }
                Some(to) => {
                    self.waiting.insert(to.id());
                    Action::Ask(to, self.store(pointer, ttl, true))
                }
                // An index without room must not keep a page from its reader.
                None => Action::End(Some(Outcome::Claimed)),
            },
        }
    }
}
