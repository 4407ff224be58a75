//! What is kept on disk: responses in append-only segments, checked octet by octet.

mod ghosts;
mod hash;
mod health;
mod index;
mod layout;
mod line;
mod record;
pub mod limits;
pub use health::Health;
