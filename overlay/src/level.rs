//! The levels of the hierarchy: L0 is the whole world, each further one a nearer cluster.

use std::fmt;

/// A level: 0 is global; a larger number is a nearer, smaller cluster (Coral's L1, L2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u8);

impl Level {
    /// The one cluster that everybody is in.
    pub const GLOBAL: Self = Self(0);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}
