//! What is kept on disk: responses in append-only segments, checked octet by octet.

mod directory;
mod disk;
mod evict;
#[cfg(test)]
mod faulty;
mod fill;
mod ghosts;
mod hash;
mod health;
mod index;
mod layout;
pub mod limits;
mod line;
mod object;
mod record;
mod recover;
mod shared;
mod stats;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

pub use directory::OpenError;
pub use disk::{Disk, Options};
pub use health::Health;
pub use object::{Missing, Object};
pub use stats::Stats;
pub use writer::{Refused, SliceWriter, Writer};
