//! The files as the rest of the crate sees them: numbered pairs, and a clock. [`Directory`] is the real
//! one; tests have one that fails and stops where they say.
//!
//! [`Directory`]: crate::directory::Directory

use std::io::{self, ErrorKind};
use std::time::Duration;

/// One of the two files of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Records.
    Data,
    /// Lines that say where they are.
    Index,
}

/// A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File {
    pub(crate) segment: u32,
    pub(crate) part: Part,
}

/// Where files are. Each call may fail; a read or a write may do less than it was asked.
pub(crate) trait Storage: Send + Sync {
    /// All files with their lengths in octets.
    fn list(&self) -> io::Result<Vec<(File, u64)>>;
    /// Makes an empty file, which was not there.
    fn create(&self, file: File) -> io::Result<()>;
    /// Reads from an offset; [`ErrorKind::NotFound`] if there is no such file.
    fn read_at(&self, file: File, octets: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes to a file that is there.
    fn write_at(&self, file: File, octets: &[u8], offset: u64) -> io::Result<usize>;
    /// Returns when what was written would survive a loss of power.
    fn sync(&self, file: File) -> io::Result<()>;
    /// Returns when what was deleted would stay so after a loss of power.
    fn sync_names(&self) -> io::Result<()>;
    /// Deletes a file; fine if it is not there.
    fn delete(&self, file: File) -> io::Result<()>;
    /// The time since some moment in the past.
    fn now(&self) -> Duration;
}

/// Reads until `octets` is full.
pub(crate) fn read_full(
    storage: &dyn Storage,
    file: File,
    mut octets: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !octets.is_empty() {
        match storage.read_at(file, octets, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                octets = octets.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `octets`.
pub(crate) fn write_full(
    storage: &dyn Storage,
    file: File,
    mut octets: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !octets.is_empty() {
        match storage.write_at(file, octets, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                octets = octets.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
