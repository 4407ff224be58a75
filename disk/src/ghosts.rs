//! Keys that were evicted unread: whoever is asked for again so soon was turned out too early.

/// Fingerprints in a table of a fixed size; a new one takes the place of whatever was there.
#[derive(Debug)]
pub(crate) struct Ghosts(Vec<u32>);

impl Ghosts {
    pub(crate) fn new(slots: usize) -> Self {
        Self(vec![0; slots])
    }

    pub(crate) fn insert(&mut self, id: u64) {
        let (slot, print) = self.locate(id);
        if let Some(slot) = self.0.get_mut(slot) {
            *slot = print;
        }
    }

    /// Whether the id was among them; it is not any more.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let (slot, print) = self.locate(id);
        let found = self.0.get_mut(slot).filter(|slot| **slot == print);
        found.map(|slot| *slot = 0).is_some()
    }

    fn locate(&self, id: u64) -> (usize, u32) {
        let slot = (id >> 32) % self.0.len().max(1) as u64;
        let print = u32::try_from(id & u64::from(u32::MAX)).unwrap_or_default();
        // Zero is an empty slot.
        (usize::try_from(slot).unwrap_or_default(), print | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::nth;

    #[test]
    fn they_are_remembered_once_and_forgotten_in_time() {
        let mut ghosts = Ghosts::new(1024);
        let ids: Vec<_> = (0..10_000).map(|n| nth(1, n)).collect();
        ids.iter().for_each(|id| ghosts.insert(*id));
        let among =
            |ghosts: &mut Ghosts, ids: &[u64]| ids.iter().filter(|id| ghosts.remove(**id)).count();
        assert!(among(&mut ghosts, &ids[..5_000]) < 100);
        let late = among(&mut ghosts, &ids[9_488..]);
        assert!((350..=512).contains(&late), "most of the last 512: {late}");
        assert_eq!(among(&mut ghosts, &ids[9_488..]), 0, "once");
        Ghosts::new(0).insert(7);
        assert!(!Ghosts::new(0).remove(7));
    }
}
