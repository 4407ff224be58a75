//! A body and its proof in, a stream out.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::{END, RECEIPT, RUN, TREE};
use crate::limits::{GROUP, MAX_RUN, SLICE};
use crate::proof::Provable;
use crate::receipt::{Receipt, TreeHead};
use crate::span::Span;
use crate::tree::{View, groups, middle};

/// Makes a stream for one receiver. It holds no content: it says which octets go where.
///
/// Poll it until it waits, [`Self::offer`] what can be proved then, and poll again.
#[derive(Debug)]
pub struct Encoder {
    span: Span,
    at: u64,
    parts: VecDeque<Step>,
    /// The receiver knows the head of the whole.
    told: bool,
    ended: bool,
}

/// One step of a stream.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These octets are to be sent.
    Octets(Bytes),
    /// These octets of the content are to be sent; tell [`Encoder::sent`] of all that were.
    Content(Range<u64>),
    /// More has to be offered first.
    Wait,
    /// That was all.
    End,
}

impl Encoder {
    /// Begins a stream of what is proved by this receipt or a later one for the same subject.
    #[must_use]
    pub fn new(receipt: &Receipt, span: Span) -> Self {
        let parts = VecDeque::from([introduction(receipt)]);
        Self { span, at: span.from(), parts, told: receipt.head.whole, ended: false }
    }

    /// The next step.
    pub fn poll(&mut self) -> Step {
        match self.parts.front() {
            Some(Step::Content(range)) => Step::Content(range.clone()),
            Some(_) => self.parts.pop_front().unwrap_or(Step::Wait),
            None if self.ended => Step::End,
            None => Step::Wait,
        }
    }

    /// Nothing is there to be sent until more is offered.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.parts.is_empty() && !self.ended
    }

    /// The same content goes on under the word of another, with which what is offered from now on is proved.
    /// Changes nothing, and is false, while there is something to send, and for a slice: who has that alone
    /// cannot tell that both mean the same content.
    pub fn go_on_under(&mut self, receipt: &Receipt) -> bool {
        let may = self.is_waiting() && self.span.is_rest();
        if may {
            self.parts.push_back(introduction(receipt));
            self.told = receipt.head.whole;
        }
        may
    }

    /// So many octets of the content that [`Step::Content`] named were sent.
    pub fn sent(&mut self, octets: u64) {
        let Some(Step::Content(range)) = self.parts.front_mut() else { return };
        range.start = range.end.min(range.start + octets);
        if range.is_empty() {
            self.parts.pop_front();
        }
    }

    /// What can be proved now. Changes nothing while there is something to send.
    pub fn offer(&mut self, provable: Provable<'_>) {
        let Provable { head, view, size } = provable;
        if self.ended || !self.parts.is_empty() {
            return;
        }
        let all = head.whole && self.at >= head.size;
        if all || self.at >= self.span.end() {
            self.ended = true;
            if all && self.span.is_rest() && !self.told {
                let frame = [&[END], &head.signature[..]].concat();
                self.parts.push_back(Step::Octets(frame.into()));
            }
            return;
        }
        // Who has nothing of a group before cannot go on in the midst of it.
        let last = head.whole && size == head.size;
        let cut = if self.span.is_rest() || last { 0 } else { size % GROUP };
        let size = (size - cut).min(self.span.end());
        if self.at >= size {
            return;
        }
        let short = size - self.at <= MAX_RUN && size == head.size;
        if short && !head.whole && self.span.is_rest() {
            return self.run(head);
        }
        let end = (self.at / SLICE + 1) * SLICE;
        self.tree(head, view, end.min(size));
    }

    fn run(&mut self, head: &TreeHead) {
        let content = self.at..head.size;
        let mut frame = BytesMut::with_capacity(5);
        frame.put_u8(RUN);
        frame.put_u32_le(u32::try_from(content.end - content.start).expect("within MAX_RUN"));
        self.parts.push_back(Step::Octets(frame.freeze()));
        self.at = content.end;
        self.parts.push_back(Step::Content(content));
        self.parts.push_back(Step::Octets(Bytes::copy_from_slice(&head.signature)));
    }

    fn tree(&mut self, head: &TreeHead, view: View<'_>, end: u64) {
        let mut plan =
            Plan { content: self.at..end, view, octets: BytesMut::new(), parts: VecDeque::new() };
        plan.octets.put_u8(TREE);
        plan.octets.put_slice(&head.encode());
        plan.octets.put_u64_le(end);
        let known = plan.walk(0..groups(head.size));
        debug_assert!(known.is_some(), "what is proved here can be proved to others");
        if known.is_some() {
            self.parts = plan.parts;
            self.at = end;
            self.told |= head.whole;
        }
    }
}

fn introduction(receipt: &Receipt) -> Step {
    let octets = receipt.encode();
    let mut frame = BytesMut::with_capacity(5 + octets.len());
    frame.put_u8(RECEIPT);
    frame.put_u32_le(u32::try_from(octets.len()).expect("a receipt is within MAX_RECEIPT"));
    frame.put_slice(&octets);
    Step::Octets(frame.freeze())
}

/// The nodes and the content of a tree frame, in order.
struct Plan<'a> {
    content: Range<u64>,
    view: View<'a>,
    octets: BytesMut,
    parts: VecDeque<Step>,
}

impl Plan<'_> {
    /// Nothing if a node is not known.
    fn walk(&mut self, over: Range<u64>) -> Option<()> {
        let (start, end) = (over.start * GROUP, over.end * GROUP);
        if end <= self.content.start || start >= self.content.end {
            return Some(());
        }
        if over.end - over.start > 1 {
            let (left, right) = self.view.children(&over)?;
            self.octets.put_slice(&left);
            self.octets.put_slice(&right);
            let middle = middle(&over);
            self.walk(over.start..middle)?;
            return self.walk(middle..over.end);
        }
        if !self.octets.is_empty() {
            self.parts.push_back(Step::Octets(self.octets.split().freeze()));
        }
        let part = start.max(self.content.start)..end.min(self.content.end);
        self.parts.push_back(Step::Content(part));
        Some(())
    }
}
