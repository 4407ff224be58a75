//! What is kept on disk: responses in append-only segments, checked octet by octet.

mod hash;
mod line;
mod record;
pub mod limits;
