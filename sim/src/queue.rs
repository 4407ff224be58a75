//! What will happen, in the order of time, and of its announcement where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use coralline_overlay::Instant;

/// A priority queue that moves small keys alone; what happens stays in its slot until then.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    order: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    announced: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), announced: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, at: Instant, happening: T) {
        self.announced += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(happening);
        self.order.push(Reverse((at, self.announced, slot)));
    }

    /// The next, unless it is later than `until`.
    pub(crate) fn pop(&mut self, until: Instant) -> Option<(Instant, T)> {
        let Reverse((at, ..)) = self.order.peek()?;
        if *at > until {
            return None;
        }
        let Reverse((at, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        Some((at, self.slots[slot].take().expect("each slot is named by one key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_and_then_by_announcement() {
        let mut queue = Queue::default();
        let at = Instant::from_micros;
        for (micros, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd')] {
            queue.push(at(micros), name);
        }
        assert_eq!(queue.pop(at(2)), None);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(at(9))).map(|(_, name)| name).collect();
        assert_eq!(order, ['b', 'd', 'a', 'c']);
    }
}
