//! What a peer sends: content that is verified before anybody else sees it.

use std::time::Duration;

use bytes::Bytes;
use coralline_receipt::{Event, Receipt, Wrong};
use coralline_sources::{Dealing, PeerKey};
use tokio::time::timeout;

use crate::body::next_piece;
use crate::proving::{PARTIAL, Proving};
use crate::reason::{Failure, Reason};
use crate::standing::Known;
use crate::upstream::Counted;

/// A body with its proof, on its way here.
pub(crate) struct ProvedBody {
    incoming: Counted,
    proving: Proving,
    /// Octets of the content, where that is known: of the whole, also where only a part of it comes.
    length: Option<u64>,
    /// The receipt, once it is there.
    receipt: Option<Receipt>,
    peer: PeerKey,
    standings: Known,
}

impl ProvedBody {
    pub(crate) fn new(
        incoming: Counted,
        proving: Proving,
        peer: PeerKey,
        standings: Known,
    ) -> Self {
        Self { incoming, proving, length: None, receipt: None, peer, standings }
    }

    pub(crate) fn proving(&self) -> &Proving {
        &self.proving
    }

    /// What it proves goes on with what `proving` has proved so far.
    pub(crate) fn go_on_with(&mut self, proving: &Proving) {
        proving.replace_by(&self.proving);
        self.proving = proving.clone();
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// It is a part with a receipt of its own.
    pub(crate) fn is_alone(&self) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| receipt.subject.status == PARTIAL)
    }

    /// What it began with.
    pub(crate) fn said(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// The receipt, which comes first, and all of it within `patience`.
    pub(crate) async fn receipt(&mut self, patience: Duration) -> Result<Receipt, Failure> {
        let first = timeout(patience, self.event(patience)).await;
        match first.unwrap_or_else(|_| Err(self.silent(patience)))? {
            Some(Event::Receipt(receipt)) => {
                let head = receipt.head;
                self.length = receipt.subject.length.or(head.whole.then_some(head.size));
                self.receipt = Some(*receipt.clone());
                Ok(*receipt)
            }
            _ => Err(self.fail(Wrong::Malformed)),
        }
    }

    /// The next octets; nothing at the end, which is the end of all. What is not verified within `stall` counts
    /// as silence, whatever came.
    pub(crate) async fn next(&mut self, stall: Duration) -> Option<Result<Bytes, Failure>> {
        match timeout(stall, self.content(stall)).await {
            Ok(content) => content.transpose(),
            Err(_) => Some(Err(self.silent(stall))),
        }
    }

    async fn content(&mut self, stall: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.event(stall).await? {
                Some(Event::Content(octets)) => {
                    self.incoming.count(octets.len());
                    return Ok(Some(octets));
                }
                // The same content goes on by another's word.
                Some(Event::Receipt(_)) => {}
                Some(Event::Done) => {}
                None => return Ok(None),
            }
        }
    }

    async fn event(&mut self, stall: Duration) -> Result<Option<Event>, Failure> {
        let mut octets = None;
        loop {
            match self.proving.decode(octets.take()) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(wrong) => return Err(self.fail(wrong)),
            }
            octets = match next_piece(self.incoming.uncounted(), stall).await {
                Some(Ok(octets)) => Some(octets),
                Some(Err(failure)) => return Err(failure),
                None => {
                    let ended = self.proving.handle_end();
                    return ended.map(|()| None).map_err(|wrong| self.fail(wrong));
                }
            };
        }
    }

    fn silent(&self, patience: Duration) -> Failure {
        let detail = format!("the peer at {} proved nothing for {patience:?}", self.peer.0);
        Failure::new(Reason::HttpResponseTimeout, detail)
    }

    fn fail(&self, wrong: Wrong) -> Failure {
        let reason = match wrong {
            Wrong::Truncated => Reason::HttpResponseIncomplete,
            _ => Reason::HttpProtocolError,
        };
        // Who broke off is judged by whoever waited; and what was fetched another time is as true.
        if !matches!(wrong, Wrong::Truncated | Wrong::Other) {
            self.standings.learn(self.peer, Dealing::Wrong);
        }
        Failure::new(reason, format!("the peer at {} is wrong: {wrong}", self.peer.0))
    }
}
