//! Making room: a segment at a time.

use crate::index::{Entry, Place};
use crate::layout::Verdict;
use crate::limits::COPY_SHARE;
use crate::line::{Kind, Queue};
use crate::record::{Head, SUM, check_block};
use crate::shared::{ReadFailure, Shared, Writing, files, slices};
use crate::storage::{read_full, write_full};
use crate::writer::Refused;

/// Why a record was not copied.
enum NotCopied {
    /// It could not be read; others may.
    Unread,
    /// It could not be written; others cannot either.
    Unwritten,
}

impl Shared {
    /// Evicts until one more segment may be opened.
    pub(crate) fn make_room(&self, writing: &mut Writing) -> Result<(), Refused> {
        if !writing.undeleted.is_empty() {
            self.delete_again(writing)?;
        }
        // Each turn takes a segment away and adds at most a share of one, after one turn for each that
        // only moves from probation to main.
        let turns = (2 + COPY_SHARE as usize) * (writing.layout.count() + 2);
        for _ in 0..turns {
            let records = self.index().len() + u64::from(writing.layout.geometry.records);
            if !writing.layout.is_full() && records <= self.max_records {
                return Ok(());
            }
            let Some(victim) = writing.layout.victim() else { break };
            self.evict(writing, victim)?;
        }
        Err(Refused::Paused)
    }

    /// Evicts a segment: what was read of it is copied, the rest goes.
    fn evict(&self, writing: &mut Writing, victim: u32) -> Result<(), Refused> {
        // With little capacity it may be the one that is being filled: no copy may go there.
        writing.layout.close(victim);
        let members = self.index().members(victim);
        let Verdict { kept, mut gone, remembered } = writing.layout.judge(victim, members);
        let mut kept = kept.into_iter();
        for (id, entry) in kept.by_ref() {
            match self.copy(writing, id, entry) {
                Ok(()) => {}
                Err(NotCopied::Unread) => gone.push((id, entry)),
                Err(NotCopied::Unwritten) => {
                    gone.push((id, entry));
                    break;
                }
            }
        }
        gone.extend(kept);
        self.index().remove_segment(victim);
        for (id, entry) in gone.into_iter().filter(|(_, entry)| entry.kind().is_head()) {
            if remembered {
                self.ghosts().insert(id);
            }
            self.tell(entry);
        }
        writing.layout.remove(victim);
        if self.delete(writing, victim) { Ok(()) } else { Err(Refused::Failed) }
    }

    /// Tells that an object has gone; its slices go with it.
    fn tell(&self, entry: Entry) {
        self.counts.evicted.add(1);
        let Ok((head, ..)) = self.read_head(entry.place(), false) else { return };
        (self.evicted)(&head.key, &head.meta);
        if let Some(length) = head.length.filter(|_| entry.kind() == Kind::Sliced) {
            self.drop_slices(&head.key, head.version, slices(length, self.slice));
        }
    }

    /// Copies a record to the main queue, if it is as it was written. `entry` has its old place, and
    /// the hits that it keeps.
    fn copy(&self, writing: &mut Writing, id: u64, entry: Entry) -> Result<(), NotCopied> {
        let Place { segment, offset, length } = entry.place();
        let octets = self.read_whole(entry.place()).map_err(|failure| {
            match failure {
                ReadFailure::Gone => {}
                ReadFailure::Damaged => self.counts.damaged.add(1),
                ReadFailure::Io(_) => self.counts.read_errors.add(1),
            }
            NotCopied::Unread
        })?;
        let mut place = writing.layout.reserve(Queue::Main, length);
        if place.is_none() {
            self.open_segment(writing, Queue::Main).map_err(|_| NotCopied::Unwritten)?;
            place = writing.layout.reserve(Queue::Main, length);
        }
        let place = place.ok_or(NotCopied::Unwritten)?;
        debug_assert_ne!((segment, offset), (place.segment, place.offset), "elsewhere");
        let (file, offset) = (files(place.segment).0, u64::from(place.offset));
        if let Err(error) = write_full(&*self.storage, file, &octets, offset) {
            self.write_failed(&error);
            return Err(NotCopied::Unwritten);
        }
        let copy = Entry::new(place, entry.kind()).with_hits(entry.hits());
        // The old one needs no mark: its file is about to go.
        self.publish(writing, id, copy).map_err(|_| NotCopied::Unwritten)?;
        self.counts.copied.add(u64::from(length));
        Ok(())
    }

    /// Reads a whole record and checks all of it.
    fn read_whole(&self, place: Place) -> Result<Vec<u8>, ReadFailure> {
        let mut octets = vec![0; place.length as usize];
        let file = files(place.segment).0;
        read_full(&*self.storage, file, &mut octets, u64::from(place.offset))?;
        let head = Head::decode(self.seed, &octets).ok_or(ReadFailure::Damaged)?;
        let start = Head::needs(&octets).ok_or(ReadFailure::Damaged)?;
        let seed = self.seed.block_seed(&head.key, head.version, head.slice);
        let blocks = octets.get(start..).unwrap_or_default().chunks((self.block + SUM) as usize);
        for (block, number) in blocks.zip(0..) {
            check_block(seed, number, block.to_vec()).ok_or(ReadFailure::Damaged)?;
        }
        Ok(octets)
    }
}
