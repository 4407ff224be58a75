//! Asking ahead: members of clusters at other levels than that of the search.

use crate::contact::Contact;
use crate::id::NodeId;
use crate::level::Level;
use crate::lookup::Lookup;
use crate::query::{Kind, Query};
use crate::wire::Answer;

/// Somebody who was asked ahead and has not answered.
#[derive(Debug)]
pub(super) struct Peek {
    pub(super) contact: Contact,
    pub(super) level: Level,
    pub(super) is_late: bool,
}

impl Query {
    /// Lets a claim ask these members of nearer clusters too. Only the nearest is waited for: what the
    /// others know comes before the decision of the root, or is not worth its wait. A get asks those of
    /// wider clusters than that of its start, so that it need not wait for them one after the other.
    pub(crate) fn peek(&mut self, members: Vec<(Contact, Level)>) {
        if matches!(self.kind, Kind::Claim(..)) {
            self.awaited = members.first().map(|(contact, _)| contact.id());
        }
        self.peeks = members.into();
    }

    /// A node has one store for all levels: who has answered at one is not asked again at the next.
    pub(super) fn go_on_from(&mut self, before: &Lookup) {
        before.answered().for_each(|contact| self.lookup.credit(*contact));
        for (contact, level, named) in &self.peeked {
            self.lookup.credit(*contact);
            if *level == self.level {
                self.lookup.extend(named);
            }
        }
        for Peek { contact, is_late, .. } in std::mem::take(&mut self.peeking).into_values() {
            self.lookup.adopt(contact, is_late);
        }
    }

    /// Takes the answer of one who was asked ahead; gives back what belongs to the search.
    pub(super) fn on_peeked(&mut self, from: &NodeId, answer: Answer) -> Option<Answer> {
        let Some(Peek { contact, level, .. }) = self.peeking.remove(from) else {
            return Some(answer);
        };
        match answer {
            Answer::Nodes(nodes) => {
                self.met_at(from, level, nodes.values, 1);
                self.peeked.push((contact, level, nodes.closer));
                None
            }
            Answer::Refused(_) => None,
            other => Some(other),
        }
    }
}
