//! A stream in, content that is what its signer says out.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use ed25519_dalek::VerifyingKey;

use crate::frame::{END, PAIR, RECEIPT, RUN, SIGNATURE, TREE, TREE_FIELDS};
use crate::limits::{GROUP, MAX_RECEIPT, MAX_RUN};
use crate::proof::PartialProof;
use crate::receipt::{Receipt, TreeHead, key, take};
use crate::span::Span;
use crate::tree::{Group, Hash, Pair, groups, merge, middle, root};
use crate::wrong::Wrong;

/// Reads a stream. No octet comes out before it is verified; a wrong one is an error as soon as its group
/// is complete, and nothing comes out after. It holds one group, or what is under one running signature;
/// the path to it; and for [`Span::Rest`] the proof of all that came, to serve it on.
///
/// Give it octets, then poll it until it wants more.
pub struct Decoder {
    span: Span,
    at: u64,
    state: State,
    input: Input,
    held: Held,
}

/// What is known of the content.
enum Held {
    Nothing,
    /// It is gone on with: the stream has to be about the same.
    Before(PartialProof),
    /// All of it up to here.
    All(PartialProof),
    /// This part alone.
    Part {
        receipt: Receipt,
        signer: VerifyingKey,
        digest: Hash,
    },
}

enum State {
    /// The kind of a frame and, of the first two kinds, its length.
    Frame,
    Receipt(usize),
    Run(usize),
    TreeFields,
    Tree(Box<Walk>),
    End,
    Done,
    Wrong(Wrong),
}

/// Where in a tree frame it stands.
struct Walk {
    head: TreeHead,
    end: u64,
    /// What is still to come, the next one last, with what has to stand for it.
    stack: Vec<(Range<u64>, Hash)>,
    /// The nodes above the next group.
    path: Vec<Pair>,
}

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first: what it is about. Whether that is what was asked for, and the signer one to be believed,
    /// is for the caller to say before anything else is used. Another one later on is of the same content,
    /// which goes on under another's word: whoever signed before was lost.
    Receipt(Box<Receipt>),
    /// Content, following on what came before.
    Content(Bytes),
    /// All of it was there.
    Done,
}

impl Decoder {
    /// Reads all of a content, or a slice of it alone.
    #[must_use]
    pub fn new(span: Span) -> Self {
        let input = Input::default();
        Self { span, at: span.from(), state: State::Frame, input, held: Held::Nothing }
    }

    /// Goes on where another stream broke off: with `Span::Rest(proof.size())`, from anybody who has the
    /// same.
    #[must_use]
    pub fn resume(proof: PartialProof) -> Self {
        let span = Span::Rest(proof.size());
        Self { held: Held::Before(proof), ..Self::new(span) }
    }

    /// Takes in the next octets of the stream, when the last are used up.
    pub fn handle_octets(&mut self, octets: Bytes) {
        debug_assert!(self.input.piece.is_empty(), "drained before the next change");
        if !matches!(self.state, State::Wrong(_)) {
            self.input.piece = octets;
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Wrong::Truncated`] if that was too early; what was wrong before.
    pub fn handle_end(&self) -> Result<(), Wrong> {
        match self.state {
            State::Done => Ok(()),
            State::Wrong(wrong) => Err(wrong),
            _ => Err(Wrong::Truncated),
        }
    }

    /// The next event; nothing if it takes more octets.
    ///
    /// # Errors
    /// [`Wrong`], now and ever after.
    pub fn poll(&mut self) -> Result<Option<Event>, Wrong> {
        let result = self.step_until_event();
        if let Err(wrong) = result {
            self.state = State::Wrong(wrong);
            self.input = Input::default();
        }
        result
    }

    /// Where it stands in the content: the next octet that will come.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The proof of all that came, with which it can be served on while more comes; nothing before
    /// the receipt, and for a slice.
    #[must_use]
    pub fn proof(&self) -> Option<&PartialProof> {
        match &self.held {
            Held::All(proof) => Some(proof),
            Held::Nothing | Held::Before(_) | Held::Part { .. } => None,
        }
    }

    /// The same, to keep, or to go on with after the stream broke off.
    #[must_use]
    pub fn into_proof(self) -> Option<PartialProof> {
        match self.held {
            Held::All(proof) | Held::Before(proof) => Some(proof),
            Held::Nothing | Held::Part { .. } => None,
        }
    }

    fn step_until_event(&mut self) -> Result<Option<Event>, Wrong> {
        loop {
            let stood = self.input.left();
            match self.step()? {
                Some(event) => return Ok(Some(event)),
                // No step goes on without octets, and none of them is empty.
                None if self.input.left() == stood => return Ok(None),
                None => {}
            }
        }
    }

    fn step(&mut self) -> Result<Option<Event>, Wrong> {
        match self.state {
            State::Frame if self.is_complete() => {
                if let Held::All(proof) = &self.held
                    && !proof.is_consistent()
                {
                    return Err(Wrong::Contradiction);
                }
                self.state = State::Done;
                Ok(Some(Event::Done))
            }
            State::Frame => {
                let Some(kind) = self.input.first() else { return Ok(None) };
                let numbered = matches!(kind, RECEIPT | RUN);
                let Some(head) = self.input.take(if numbered { 5 } else { 1 }) else {
                    return Ok(None);
                };
                self.state = frame(kind, &head[1..], &self.held)?;
                Ok(None)
            }
            State::Receipt(length) => {
                let Some(octets) = self.input.take(length) else { return Ok(None) };
                let receipt = Receipt::decode(&octets)?;
                self.begin(receipt.clone())?;
                Ok(Some(Event::Receipt(Box::new(receipt))))
            }
            State::Run(length) => {
                let Some(mut octets) = self.input.take(length + SIGNATURE) else { return Ok(None) };
                let signature = octets.split_off(length);
                let Held::All(proof) = &mut self.held else { return Err(Wrong::Malformed) };
                let signature = signature.as_ref().try_into().map_err(|_| Wrong::Malformed)?;
                proof.run(&octets, false, signature)?;
                self.at = proof.size();
                self.state = State::Frame;
                Ok(Some(Event::Content(octets)))
            }
            State::End => {
                let Some(octets) = self.input.take(SIGNATURE) else { return Ok(None) };
                let Held::All(proof) = &mut self.held else { return Err(Wrong::Malformed) };
                let signature = octets.as_ref().try_into().map_err(|_| Wrong::Malformed)?;
                proof.run(&[], true, signature)?;
                self.state = State::Frame;
                Ok(None)
            }
            State::TreeFields => {
                let Some(octets) = self.input.take(TREE_FIELDS) else { return Ok(None) };
                self.state = State::Tree(Box::new(self.begin_tree(&octets)?));
                Ok(None)
            }
            State::Tree(_) => self.step_in_tree(),
            State::Wrong(wrong) => Err(wrong),
            State::Done if self.input.left() > 0 => Err(Wrong::Malformed),
            State::Done => Ok(None),
        }
    }

    fn begin(&mut self, receipt: Receipt) -> Result<(), Wrong> {
        receipt.verify()?;
        match &mut self.held {
            Held::Nothing if self.span.is_rest() => {
                let mut proof = PartialProof::of(receipt.clone())?;
                proof.go_on_under(receipt)?;
                self.held = Held::All(proof);
            }
            Held::Nothing => {
                let (signer, digest) = (key(&receipt.subject)?, receipt.subject.digest());
                self.held = Held::Part { receipt, signer, digest };
            }
            Held::All(proof) if proof.receipt().subject == receipt.subject => {
                return Err(Wrong::Malformed);
            }
            Held::Before(proof) | Held::All(proof) => proof.go_on_under(receipt)?,
            Held::Part { .. } => return Err(Wrong::Malformed),
        }
        self.held = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Before(proof) => Held::All(proof),
            held => held,
        };
        self.state = State::Frame;
        Ok(())
    }

    /// All that was asked for is here.
    fn is_complete(&self) -> bool {
        let ends = |head: &TreeHead| head.whole && self.at >= head.size;
        match &self.held {
            Held::All(proof) => ends(&proof.receipt().head),
            Held::Part { receipt, .. } => self.at >= self.span.end() || ends(&receipt.head),
            Held::Nothing | Held::Before(_) => false,
        }
    }

    fn begin_tree(&mut self, mut fields: &[u8]) -> Result<Walk, Wrong> {
        let head = TreeHead::decode(&mut fields).ok_or(Wrong::Malformed)?;
        let end = u64::from_le_bytes(take(&mut fields).ok_or(Wrong::Malformed)?);
        let good = end > self.at
            && end <= head.size
            && end <= self.span.end()
            && (end == head.size || end.is_multiple_of(GROUP));
        if !good {
            return Err(Wrong::Malformed);
        }
        match &mut self.held {
            Held::All(proof) => proof.verify(&head)?,
            Held::Part { receipt, .. } if receipt.head == head => {}
            Held::Part { receipt, signer, digest } => {
                head.verify(signer, digest)?;
                if !head.fits(&receipt.subject) {
                    return Err(Wrong::Contradiction);
                }
                receipt.head = head;
            }
            Held::Nothing | Held::Before(_) => return Err(Wrong::Malformed),
        }
        let stack = vec![(0..groups(head.size), head.root)];
        Ok(Walk { head, end, stack, path: Vec::new() })
    }

    fn step_in_tree(&mut self) -> Result<Option<Event>, Wrong> {
        let State::Tree(walk) = &mut self.state else { return Ok(None) };
        let Some((over, expected)) = walk.stack.last().cloned() else { return Ok(None) };
        let top = over == (0..groups(walk.head.size));
        if over.end - over.start > 1 {
            let Some(octets) = self.input.take(PAIR) else { return Ok(None) };
            let mut rest = &octets[..];
            let pair = take(&mut rest).zip(take(&mut rest)).ok_or(Wrong::Malformed)?;
            let held = match &self.held {
                Held::All(proof) => Some(proof),
                _ => None,
            };
            walk.descend(over, expected, top, pair, (self.at, held))?;
            return Ok(None);
        }
        let end = (over.end * GROUP).min(walk.end);
        let length = usize::try_from(end - self.at).map_err(|_| Wrong::Malformed)?;
        let Some(octets) = self.input.take(length) else { return Ok(None) };
        let group = match &self.held {
            Held::All(proof) => proof.extended(&octets),
            _ => Group::alone(over.start, &octets),
        };
        if group.hash(top) != expected {
            return Err(Wrong::Content);
        }
        walk.stack.pop();
        walk.path.retain(|pair| pair.over.contains(&over.start));
        if let Held::All(proof) = &mut self.held {
            proof.extend(group, &walk.head, &walk.path);
        }
        self.at = end;
        if end == walk.end {
            self.state = State::Frame;
        }
        Ok(Some(Event::Content(octets)))
    }
}

impl Walk {
    /// Checks the two nodes below one, and goes to those of them that have content to come.
    fn descend(
        &mut self,
        over: Range<u64>,
        expected: Hash,
        top: bool,
        (left, right): (Hash, Hash),
        (at, held): (u64, Option<&PartialProof>),
    ) -> Result<(), Wrong> {
        let found = if top { root(&left, &right) } else { merge(&left, &right) };
        if found != expected {
            return Err(Wrong::Content);
        }
        let middle = middle(&over);
        self.stack.pop();
        if middle * GROUP < self.end {
            self.stack.push((middle..over.end, right));
        }
        if middle * GROUP > at {
            self.stack.push((over.start..middle, left));
        } else if held.is_some_and(|held| !held.agrees(over.start..middle, &left)) {
            // It is about other octets than those that are here.
            return Err(Wrong::Contradiction);
        }
        self.path.retain(|pair| pair.over.contains(&over.start));
        self.path.push(Pair { over, left, right });
        Ok(())
    }
}

/// What follows a frame's kind and, where it has one, its length.
fn frame(kind: u8, length: &[u8], held: &Held) -> Result<State, Wrong> {
    let begun = matches!(held, Held::All(_) | Held::Part { .. });
    let another = !matches!(held, Held::Part { .. });
    let length = length.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    let length = usize::try_from(length).map_err(|_| Wrong::Malformed)?;
    match kind {
        RECEIPT if another && (1..=MAX_RECEIPT).contains(&length) => Ok(State::Receipt(length)),
        RUN if begun && (1..=MAX_RUN).contains(&(length as u64)) => Ok(State::Run(length)),
        TREE if begun => Ok(State::TreeFields),
        END if begun => Ok(State::End),
        _ => Err(Wrong::Malformed),
    }
}

/// Octets that came, and are not used yet: a piece, and before it what was too short for a step.
#[derive(Default)]
struct Input {
    held: BytesMut,
    piece: Bytes,
}

impl Input {
    fn left(&self) -> usize {
        self.held.len() + self.piece.len()
    }

    fn first(&self) -> Option<u8> {
        self.held.first().or(self.piece.first()).copied()
    }

    /// So many octets, or nothing until they are there. Those of one piece are not copied.
    fn take(&mut self, count: usize) -> Option<Bytes> {
        if self.held.is_empty() && self.piece.len() >= count {
            return Some(self.piece.split_to(count));
        }
        if self.held.capacity() < count {
            self.held.reserve(count - self.held.len());
        }
        let more = count.saturating_sub(self.held.len()).min(self.piece.len());
        self.held.extend_from_slice(&self.piece.split_to(more));
        (self.held.len() >= count).then(|| self.held.split_to(count).freeze())
    }
}
