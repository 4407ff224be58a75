//! How the program ends: exit codes as in sysexits(3), and one line that says what to do.

use std::fmt;
use std::process::ExitCode;

/// Why the program ends. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// The command line makes no sense (EX_USAGE).
    Usage = 64,
    /// A port is in use, or an address is not of this machine (EX_UNAVAILABLE).
    Unavailable = 69,
    /// A part of the program ended by itself (EX_SOFTWARE).
    Software = 70,
    /// State cannot be kept (EX_CANTCREAT).
    CannotCreate = 73,
    /// The configuration is wrong (EX_CONFIG).
    Config = 78,
    /// A second signal came before the first was served, as a shell reports SIGINT.
    Interrupted = 130,
}

/// An end other than success.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: Code,
    /// What happened and what to do about it; printed after `coralline: `.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with its message.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coralline: {}", self.message)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
