//! What may be wrong with a stream.

/// Why a stream is not read on. Nothing that came before is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It does not have the form of such a stream: who sent it is at fault.
    #[error("malformed")]
    Malformed,
    /// A signature is not that of the signer: who sent it is at fault.
    #[error("a signature does not verify")]
    Signature,
    /// Content is not what was signed: who sent it is at fault.
    #[error("the content is not what was signed")]
    Content,
    /// The signer has signed two things that cannot both be: the signer is at fault.
    #[error("the signer contradicts itself")]
    Contradiction,
    /// It is about something else than what was asked for: who sent it is at fault.
    #[error("another response than was asked for")]
    Other,
    /// It ended before its end: who sent it may be at fault, or the connection. May be tried again.
    #[error("it broke off")]
    Truncated,
}
