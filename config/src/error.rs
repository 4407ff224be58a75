//! What is wrong with a configuration, one line each, so that an operator can go and mend it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is a default, or it concerns the configuration as a whole.
    Default,
    /// In the file, at a line that counts from 1; 0 is the file as a whole.
    File {
        /// The file as it was named to us.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// In a variable of the environment, of this name.
    Environment(String),
    /// In a `--set` flag.
    Flag,
}

/// One mistake of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was made.
    pub place: Place,
    /// The key as written in the file, such as `cache.memory`; empty when no key is concerned.
    pub key: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line: 0 } => write!(f, "{}: ", path.display())?,
            Place::File { path, line } => write!(f, "{}:{line}: ", path.display())?,
            Place::Environment(name) => return write!(f, "{name}: {}", self.message),
            Place::Flag => f.write_str("--set ")?,
            Place::Default => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All mistakes that were found: those of the file by line, then the environment, then the flags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Errors(Vec<Mistake>);

impl Errors {
    pub(crate) fn new(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes)
    }

    /// The mistakes, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}
